// Chapter 4: steps, rectangles, approximations of functions of one variable, towers.

const {sigmoid} = maths.perceptron;

/** sigma(w (x - s)): weight w, bias -s w. */
const step = (x, s, w) => sigmoid(w * x - s * w);

/** sigma(h a_1 - h a_2 - h/2), figure 4.2. */
const rectangle = (x, s1, s2, w, h) => sigmoid(h * step(x, s1, w) - h * step(x, s2, w) - h / 2);

/** Nielsen's function. */
const nielsen = x => 0.2 + 0.4 * x ** 2 + 0.3 * x * Math.sin(15 * x) + 0.05 * Math.cos(50 * x);

/** The function through values at equal distances on [0, 1]. */
function through(values) {
  const n = values.length - 1;
  return x => {
    const i = Math.min(Math.floor(x * n), n - 1),
      share = x * n - i;
    return values[i] + share * (values[i + 1] - values[i]);
  };
}

/** The network of figure 4.4 on [0, 1]; soft as `universal.approximate(..., soft=True)`. */
function approximate(f, bins, soft) {
  const w = soft ? 4 * bins : 2 ** Math.ceil(Math.log2(1000 * bins)),
    h = soft ? 16 : 128;
  const knots = Array.from({length: bins + 1}, (_, i) => i / bins);
  const heights = knots.slice(1).map((s, i) => f((knots[i] + s) / 2));
  const indicators = x => {
    const a = knots.map(s => step(x, s, w));
    return heights.map((_, i) => sigmoid(h * a[i] - h * a[i + 1] - h / 2));
  };
  return {heights, indicators, output: x => indicators(x).reduce((sum, a, i) => sum + heights[i] * a, 0)};
}

/** Figure 4.6 with the bias -share h; at share = 3/2 it is a tower. */
function tower([x, y], [x1, y1], [x2, y2], w, h, share) {
  return sigmoid(h * (step(x, x1, w) - step(x, x2, w) + step(y, y1, w) - step(y, y2, w)) - share * h);
}

maths.universal = {step, rectangle, nielsen, through, approximate, tower};
