// Section 3.1: one sigmoid neuron with the input 1, whose desired output is 0, and the costs of one output.

const {sigmoid} = maths.perceptron;

/** delta = dC/dz of each cost. */
const deltas = {
  quadratic: (a, y) => (a - y) * a * (1 - a),
  crossEntropy: (a, y) => a - y,
};

/** The outputs before and after each step of gradient descent on w and b, both with the gradient delta. */
function learn(cost, w, b, eta, steps) {
  const outputs = [sigmoid(w + b)];
  while (outputs.length <= steps) {
    const delta = deltas[cost](outputs.at(-1), 0);
    w -= eta * delta;
    b -= eta * delta;
    outputs.push(sigmoid(w + b));
  }
  return outputs;
}

const log1p = z => Math.max(0, z) + Math.log1p(Math.exp(-Math.abs(z))); // ln(1 + e^z)
const times = (y, value) => (y === 0 ? 0 : y * value);

/** C of an output a = sigma(z) where y is desired; no logarithm of a is taken. */
const costs = {
  quadratic: (z, y) => (y - sigmoid(z)) ** 2 / 2,
  crossEntropy: (z, y) => times(y, log1p(-z)) + times(1 - y, log1p(z)),
};

/** H(y), figure 3.1. */
const entropy = y => -times(y, Math.log(y)) - times(1 - y, Math.log1p(-y));

maths.slow_start = {sigmoid, deltas, learn, costs, entropy};
