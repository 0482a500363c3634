const {sigmoid, deltas, learn, costs, entropy} = maths.slow_start;

const root = element("figure-learning"),
  svg = root.querySelector("svg"),
  steps = linspace(0, 300, 301);
let shown;

figure("learning", ({w, b, eta, step}) => {
  const slow = learn("quadratic", w, b, eta, 300),
    fast = learn("crossEntropy", w, b, eta, 300);
  shown = chart(svg, {x: [0, 300], y: [0, 1], xlabel: "step", ylabel: "output a"});
  shown
    .line([step, step], [0, 1], "faint dashed")
    .line(steps, slow, "orange")
    .line(steps, fast, "blue")
    .handle(step, slow[step], "orange")
    .handle(step, fast[step], "blue")
    .done(`Outputs after ${step} steps: ${format(slow[step])} and, with the cross-entropy, ${format(fast[step])}`);
  readout(root.querySelector("dl"), [
    ["a, quadratic", slow[step], "orange"],
    ["a, cross-entropy", fast[step], "blue"],
    ["∂C/∂w, quadratic", deltas.quadratic(slow[step], 0), "orange"],
    ["∂C/∂w, cross-entropy", deltas.crossEntropy(fast[step], 0), "blue"],
  ]);
  return [[slow[step]], [fast[step]]];
});
drag(svg, event => change("learning", {step: Math.round(shown.unit(event)[0])}));

const below = element("figure-entropy"),
  curve = below.querySelector("svg"),
  zs = linspace(-7, 7, 281),
  as = zs.map(sigmoid);
const ys = linspace(0, 1, 101);
let drawn;

figure("entropy", ({y, z}) => {
  const a = sigmoid(z),
    c = costs.crossEntropy(z, y),
    q = costs.quadratic(z, y);
  drawn = chart(curve, {x: [0, 1], y: [0, 3], xlabel: "a", ylabel: "cost C"});
  drawn
    .line(ys, ys.map(entropy), "green thin")
    .line(
      as,
      zs.map(z => costs.quadratic(z, y)),
      "orange",
    )
    .line(
      as,
      zs.map(z => costs.crossEntropy(z, y)),
      "blue",
    )
    .dots([y], [entropy(y)], "green", 5)
    .handle(a, q, "orange")
    .handle(a, c, "blue")
    .done(`At a = ${format(a)} the cross-entropy is ${format(c)}, and its least value ${format(entropy(y))}`);
  readout(below.querySelector("dl"), [
    ["output a", a],
    ["cross-entropy", c, "blue"],
    ["quadratic", q, "orange"],
    ["H(y)", entropy(y), "green"],
  ]);
  return [c, q, [entropy(y)]];
});
drag(curve, event => {
  const a = clamp(drawn.unit(event)[0], 0.002, 0.998);
  change("entropy", {z: Math.log(a / (1 - a))});
});
