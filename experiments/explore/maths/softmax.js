// Sections 3.2 and 3.3.1.

/** Softmax of c z. */
function softmax(z, c) {
  const most = Math.max(...z),
    e = z.map(z_j => Math.exp(c * (z_j - most))),
    total = e.reduce((a, b) => a + b, 0);
  return e.map(e_j => e_j / total);
}

/** Its limit as c grows: 1/k for each of k equal largest. */
function limit(z) {
  const most = Math.max(...z),
    ties = z.filter(z_j => z_j === most).length;
  return z.map(z_j => (z_j === most ? 1 / ties : 0));
}

/** The Hessian Q diag(lambda) Q^T, whose first eigenvector is at this angle in degrees. */
function hessian(lambda, degrees) {
  const [c, s] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)],
    off = (lambda[0] - lambda[1]) * c * s;
  return [
    [lambda[0] * c * c + lambda[1] * s * s, off],
    [off, lambda[0] * s * s + lambda[1] * c * c],
  ];
}

/** w~ = (H + alpha I)^-1 H w*, (3.12). */
function solve([[a, b], [, d]], w, alpha) {
  const [u, v] = [a * w[0] + b * w[1], b * w[0] + d * w[1]],
    determinant = (a + alpha) * (d + alpha) - b * b;
  return [((d + alpha) * u - b * v) / determinant, ((a + alpha) * v - b * u) / determinant];
}

const shrinkage = (lambda, alpha) => lambda / (lambda + alpha);

maths.softmax = {softmax, limit, hessian, solve, shrinkage};
