const {softmax, limit, hessian, solve, shrinkage} = maths.softmax;

const bars = element("figure-softmax").querySelector("svg");

figure("softmax", s => {
  const z = [s.z1, s.z2, s.z3, s.z4],
    a = softmax(z, s.c),
    most = limit(z);
  const shown = chart(bars, {x: [0.4, 4.6], y: [0, 1], ylabel: "a"});
  a.forEach((a_j, i) => {
    const j = i + 1;
    shown
      .bar(j - 0.3, j + 0.3, 0, a_j, "blue")
      .line([j - 0.36, j + 0.36], [most[i], most[i]], "orange")
      .words(j, a_j, format(a_j), "", -15, a_j > 0.93 ? 18 : -8);
  });
  shown
    .words(4.6, 1, "c → ∞", "orange symbol", -48, -8)
    .done(`The outputs are ${a.map(format).join(", ")}; as c grows they become ${most.map(format).join(", ")}`);
  return a;
});
element("tie").addEventListener("click", () => {
  const names = ["z1", "z2", "z3", "z4"],
    s = state(figures.softmax),
    [first, second] = names.sort((m, n) => s[n] - s[m]);
  change("softmax", {[second]: s[first]});
});

const root = element("figure-ridge"),
  svg = root.querySelector("svg"),
  turn = linspace(0, 2 * Math.PI, 121);
const path = linspace(-4, 3, 141).map(power => 10 ** power);
let plane;

figure("ridge", ({alpha, l1, l2, angle, u, v}) => {
  const h = hessian([l1, l2], angle),
    w = [u, v],
    found = solve(h, w, alpha),
    limits = [-2.4, 2.4];
  const [c, s] = [Math.cos((angle * Math.PI) / 180), Math.sin((angle * Math.PI) / 180)],
    curve = path.map(alpha => solve(h, w, alpha));
  plane = chart(svg, {x: limits, y: limits, axes: false});
  plane.line(limits, [0, 0], "faint").line([0, 0], limits, "faint");
  for (const level of [0.05, 0.2, 0.45, 0.8, 1.25, 1.8]) {
    // where (w - w*)^T H (w - w*) / 2 is this
    const [p, q] = [l1, l2].map(l => Math.sqrt((2 * level) / l));
    plane.line(
      turn.map(t => u + p * Math.cos(t) * c - q * Math.sin(t) * s),
      turn.map(t => v + p * Math.cos(t) * s + q * Math.sin(t) * c),
      "orange thin level",
    );
  }
  const r = Math.hypot(...found);
  plane
    .line(
      turn.map(t => r * Math.cos(t)),
      turn.map(t => r * Math.sin(t)),
      "green thin dashed",
    )
    .line([u, u + 0.6 * c], [v, v + 0.6 * s])
    .line([u, u - 0.6 * s], [v, v + 0.6 * c])
    .words(u + 0.6 * c, v + 0.6 * s, "q₁", "symbol", 5, 4)
    .words(u - 0.6 * s, v + 0.6 * c, "q₂", "symbol", -16, 0)
    .line(
      curve.map(([x]) => x),
      curve.map(([, y]) => y),
      "blue",
    )
    .handle(u, v, "orange")
    .dots([found[0]], [found[1]], "blue", 6)
    .words(u, v, "w*", "symbol orange", 11, 18)
    .words(...found, "w̃", "symbol blue", -20, 4)
    .done(
      `The minimum is at ${found.map(format).join(", ")}, the one without regularisation at ${format(u)}, ${format(v)}`,
    );
  readout(root.querySelector("dl"), [
    ["w̃₁", found[0], "blue"],
    ["w̃₂", found[1], "blue"],
    ["λ₁/(λ₁ + α)", shrinkage(l1, alpha)],
    ["λ₂/(λ₂ + α)", shrinkage(l2, alpha)],
  ]);
  figures.ridge.literals = {hessian: python(h)};
  return found;
});
drag(svg, event => {
  const [x, y] = plane.unit(event);
  change("ridge", {u: x, v: y});
});
