// Equations (2.1) to (2.9) with the quadratic cost. A network is [[w, b], ...], with rows w[j] for the neurons j.

const {sigmoid} = maths.perceptron;
const prime = z => sigmoid(z) * (1 - sigmoid(z));
const sum = values => values.reduce((a, b) => a + b, 0);

/** zs: [z^2, ..., z^L]. as: [a^1, ..., a^L]. */
function feedforward(net, x) {
  const zs = [],
    as = [x];
  for (const [w, b] of net) {
    zs.push(w.map((row, j) => sum(row.map((w_jk, k) => w_jk * as.at(-1)[k])) + b[j]));
    as.push(zs.at(-1).map(sigmoid));
  }
  return {zs, as};
}

const cost = (a, y) => sum(a.map((a_j, j) => (y[j] - a_j) ** 2)) / 2;

/** [delta^2, ..., delta^L]. */
function errors(net, zs, a, y) {
  const deltas = [zs.at(-1).map((z, j) => (a[j] - y[j]) * prime(z))]; // (2.1)
  for (let l = net.length - 2; l >= 0; l--) {
    const [w] = net[l + 1],
      [after] = deltas;
    deltas.unshift(zs[l].map((z, j) => sum(after.map((delta_k, k) => w[k][j] * delta_k)) * prime(z))); // (2.3)
  }
  return deltas;
}

/** Everything in the order of section 2.2; gradients as the network: [[dC/dw, dC/db], ...]. */
function backprop(net, x, y) {
  const {zs, as} = feedforward(net, x),
    deltas = errors(net, zs, as.at(-1), y);
  const gradients = deltas.map((delta, l) => [delta.map(d => as[l].map(a => a * d)), delta]); // (2.8), (2.7)
  return {zs, as, cost: cost(as.at(-1), y), deltas, gradients};
}

/** w - eta dC/dw and b - eta dC/db. */
const descend = (net, gradients, eta) =>
  net.map(([w, b], l) => {
    const [dw, db] = gradients[l];
    return [w.map((row, j) => row.map((w_jk, k) => w_jk - eta * dw[j][k])), b.map((b_j, j) => b_j - eta * db[j])];
  });

maths.backprop = {backprop, descend};
