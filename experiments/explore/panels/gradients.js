const {activations, chain, normals, flow} = maths.gradients;

const first = element("figure-chain"),
  svg = first.querySelector("svg"),
  X = [0.6, 0.8];

/** Bounds of a logarithmic axis around these values. */
const decades = (values, least, most) => {
  const sizes = values.filter(v => v > 0 && Number.isFinite(v)).map(Math.log10);
  return [
    10 ** Math.max(-300, Math.min(least, Math.floor(Math.min(...sizes)))),
    10 ** Math.min(300, Math.max(most, Math.ceil(Math.max(...sizes)))),
  ];
};

figure("chain", ({depth, u, v}) => {
  const {output, gradient, back} = chain(
      range(depth).map(() => [u, v]),
      X,
      0,
    ),
    layers = range(depth + 1);
  const [one, two] = [0, 1].map(i => back.map(row => Math.max(1e-300, Math.abs(row[i]))));
  const shown = chart(svg, {
    x: [0, Math.max(depth, 2)],
    y: decades([...one, ...two], -2, 1),
    log: true,
    xlabel: "layer l",
    ylabel: "|∂L/∂xᵢ⁽ˡ⁾|",
  });
  const dots = depth <= 40 ? 2.6 : 1.6;
  shown
    .line(layers, one, "blue")
    .dots(layers, one, "blue", dots)
    .line(layers, two, "orange")
    .dots(layers, two, "orange", dots)
    .done(`Back through ${depth} layers the gradients are ${back[0].map(format).join(" and ")}`);
  readout(first.querySelector("dl"), [
    ["ŷ", output],
    ["∂L/∂w₁₁⁽¹⁾", gradient[0][0], "blue"],
    ["∂L/∂w₂₂⁽¹⁾", gradient[0][1], "orange"],
  ]);
  return gradient[0];
});

const N = 16,
  MOST = 40,
  second = element("figure-random"),
  picture = second.querySelector("svg");
const random = range(8).map(seed => normals(seed + 1, N + MOST * N * N));

figure("random", ({act, g, layers, seed}) => {
  const all = random.map(numbers => flow(act, numbers, N, layers, g)),
    mine = all[seed - 1],
    ls = range(layers + 1);
  const shown = chart(picture, {
    x: [0, Math.max(layers, 2)],
    y: decades(all.flat(), -2, 2),
    log: true,
    xlabel: "layer l",
    ylabel: "‖∂C/∂aˡ‖",
  });
  for (const norms of all)
    shown.line(
      ls,
      norms.map(v => Math.max(v, 1e-300)),
      "faint other",
    );
  shown
    .line(
      ls,
      mine.map(v => Math.max(v, 1e-300)),
      "blue",
    )
    .done(
      `From layer ${layers} to the input the gradient's norm goes from ${format(mine.at(-1))} to ${format(mine[0])}`,
    );
  const factor = (mine[0] / mine.at(-1)) ** (1 / layers);
  readout(second.querySelector("dl"), [
    ["at the input", mine[0], "blue"],
    ["at the output", mine.at(-1)],
    ["factor for a layer", factor],
  ]);
  return mine;
});

const third = element("figure-tanh"),
  curve = third.querySelector("svg"),
  zs = linspace(-4, 4, 201);
let shown;

figure("tanh", ({z}) => {
  const [tanh, slope] = activations.tanh,
    [sigmoid, small] = activations.sigmoid;
  shown = chart(curve, {x: [-4, 4], y: [-1, 1], xlabel: "z"});
  shown
    .line(zs, zs.map(tanh), "blue thin")
    .line(zs, zs.map(slope), "blue")
    .line(zs, zs.map(sigmoid), "orange thin")
    .line(zs, zs.map(small), "orange")
    .words(4, 1, "tanh", "blue symbol", -34, 18)
    .words(4, 0.88, "σ", "orange symbol", -60, 26)
    .words(-1, slope(-1), "tanh′", "blue symbol", -48, 0)
    .words(-2, small(-2), "σ′", "orange symbol", -20, -6)
    .handle(z, slope(z), "blue")
    .handle(z, small(z), "orange")
    .done(
      `At z = ${format(z)} the derivative of tanh is ${format(slope(z))} and that of the sigmoid ${format(small(z))}`,
    );
  readout(third.querySelector("dl"), [
    ["tanh′(z)", slope(z), "blue"],
    ["σ′(z)", small(z), "orange"],
  ]);
  return [slope(z), small(z)];
});
drag(curve, event => change("tanh", {z: shown.unit(event)[0]}));
