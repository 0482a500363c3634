// Exercises 1.1 and 1.2.

const sigmoid = z => (z >= 0 ? 1 / (1 + Math.exp(-z)) : Math.exp(z) / (1 + Math.exp(z)));
const step = z => (z > 0 ? 1 : 0);

/** The outputs of a layer [[w_j1, w_j2, ...], ...], [b_j, ...]. */
const layer = (act, w, b, x) => w.map((row, j) => act(row.reduce((z, w_jk, k) => z + w_jk * x[k], b[j])));

/** The output of a network [[w, b], ...], of perceptrons or sigmoid neurons as `act` says. */
const forward = (act, net, x) => net.reduce((a, [w, b]) => layer(act, w, b, a), x);

const scale = (net, c) => net.map(([w, b]) => [w.map(row => row.map(w_jk => c * w_jk)), b.map(b_j => c * b_j)]);

/** Two perceptrons draw a line each, and the third is 1 between them. */
const band = b => [
  [
    [
      [1, 1],
      [-1, -1],
    ],
    [0.5, b],
  ],
  [[[1, 1]], [-1.5]],
];

maths.perceptron = {sigmoid, step, forward, scale, band};
