// Section 5.1.

const {sigmoid} = maths.perceptron;

const activations = {
  sigmoid: [sigmoid, z => sigmoid(z) * (1 - sigmoid(z))],
  tanh: [Math.tanh, z => (1 - Math.tanh(z)) * (1 + Math.tanh(z))],
  relu: [z => Math.max(0, z), z => (z > 0 ? 1 : 0)],
};

/** The linear chain: its output, and the gradient of (y - output)^2 / 2 by every weight; weights[l] = [w_1, w_2]. */
function chain(weights, x, y) {
  const product = (some, i) => some.reduce((p, w) => p * w[i], 1);
  const output = product(weights, 0) * x[0] + product(weights, 1) * x[1];
  const gradient = weights.map((_, l) =>
    x.map((x_i, i) => (output - y) * x_i * product(weights.slice(0, l), i) * product(weights.slice(l + 1), i)),
  );
  const back = [...weights.keys(), weights.length].map(l =>
    [0, 1].map(i => (output - y) * product(weights.slice(l), i)),
  );
  return {output, gradient, back}; // back[l]: the derivative by what layer l + 1 is given
}

/** Numbers from N(0, 1), the same for the same seed: the generator mulberry32, by pairs as Box and Muller. */
function normals(seed, count) {
  let s = Math.imul(seed + 1, 0x9e3779b9);
  const uniform = () => {
    s = (s + 0x6d2b79f5) | 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const found = new Float64Array(count);
  for (let k = 0; k < count; k += 2) {
    const r = Math.sqrt(-2 * Math.log(1 - uniform())),
      angle = 2 * Math.PI * uniform();
    found[k] = r * Math.cos(angle);
    if (k + 1 < count) found[k + 1] = r * Math.sin(angle);
  }
  return found;
}

/** The norms of dC/da^l for l = 0, ..., L in a^l = act(g/sqrt(n) w^l a^(l-1)), where C is the sum of the last a.
 * `random` holds a^0, then the matrices, row by row. */
function flow(name, random, n, layers, g) {
  const [act, prime] = activations[name],
    scale = g / Math.sqrt(n),
    zs = [];
  let a = random.subarray(0, n);
  for (let l = 0; l < layers; l++) {
    const z = new Float64Array(n),
      from = n + l * n * n;
    for (let j = 0; j < n; j++) {
      for (let k = 0; k < n; k++) z[j] += scale * random[from + j * n + k] * a[k];
    }
    zs.push(z);
    a = z.map(act);
  }
  let back = new Float64Array(n).fill(1);
  const norms = [Math.hypot(...back)];
  for (let l = layers - 1; l >= 0; l--) {
    const before = new Float64Array(n),
      from = n + l * n * n;
    for (let j = 0; j < n; j++) {
      const delta = back[j] * prime(zs[l][j]);
      for (let k = 0; k < n; k++) before[k] += scale * random[from + j * n + k] * delta;
    }
    back = before;
    norms.unshift(Math.hypot(...back));
  }
  return norms;
}

maths.gradients = {activations, chain, normals, flow};
