const {sigmoid, step, forward, scale, band} = maths.perceptron;

const svg = element("figure-neuron").querySelector("svg"),
  xs = linspace(-2, 2, 401);
let shown;

figure("neuron", ({c, x, w, b}) => {
  const net = [[[[w]], [b]]],
    [a] = forward(sigmoid, scale(net, c), [x]),
    z = w * x + b;
  shown = chart(svg, {x: [-2, 2], y: [-0.05, 1.05], xlabel: "x", ylabel: "output"});
  const zero = w ? -b / w : NaN;
  if (Math.abs(zero) <= 2) {
    shown.line([zero, zero], [-0.05, 1.05], "faint dashed").words(zero, 0, "wx + b = 0", "symbol", w > 0 ? 6 : -76, -8);
    const [left, right] = w > 0 ? [0, 1] : [1, 0];
    shown.line([-2, zero], [left, left], "orange").line([zero, 2], [right, right], "orange");
  } else {
    shown.line([-2, 2], [step(b), step(b)], "orange");
  }
  shown
    .line(
      xs,
      xs.map(x => sigmoid(c * (w * x + b))),
      "blue",
    )
    .dots([x], [step(z)], "orange", 4.5)
    .handle(x, a, "blue")
    .done(`At x = ${format(x)} the sigmoid neuron puts out ${format(a)} and the perceptron ${step(z)}`);
  readout(element("figure-neuron").querySelector("dl"), [
    ["wx + b", z],
    ["sigmoid neuron", a, "blue"],
    ["perceptron", String(step(z)), "orange"],
  ]);
  return [a];
});
drag(svg, event => change("neuron", {x: shown.unit(event)[0]}));
element("zero").addEventListener("click", () => {
  const {w, b} = state(figures.neuron);
  const x = w ? Number(clamp(-b / w, -2, 2).toFixed(2)) : 0;
  change("neuron", {x, b: -(w * x)}); // the sum is then exactly 0
});

const root = element("figure-band"),
  top = root.querySelector("svg"),
  canvas = root.querySelector("canvas");
let plane;

figure("band", ({c2: c, x1, x2, b2}) => {
  const net = band(b2),
    scaled = scale(net, c),
    [a] = forward(sigmoid, scaled, [x1, x2]);
  const [p] = forward(step, net, [x1, x2]),
    [zero, blue] = [colour("zero"), colour("blue")];
  heat(canvas, 64, (u, v) => mix(zero, blue, 0.85 * forward(sigmoid, scaled, [4 * u - 2, 4 * v - 2])[0]));
  plane = chart(top, {x: [-2, 2], y: [-2, 2], axes: false});
  for (const at of [-0.5, b2]) plane.line([-2, 2], [at + 2, at - 2], "orange");
  plane
    .handle(x1, x2)
    .done(`At (${format(x1)}, ${format(x2)}) the sigmoid network puts out ${format(a)} and the perceptrons ${p}`);
  readout(root.querySelector("dl"), [
    ["sigmoid neurons", a, "blue"],
    ["perceptrons", String(p), "orange"],
  ]);
  return [a];
});
drag(top, event => {
  const [x1, x2] = plane.unit(event);
  change("band", {x1, x2});
});
