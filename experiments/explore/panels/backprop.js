const {backprop, descend} = maths.backprop;
const root = element("figure-backprop"),
  svg = root.querySelector("svg"),
  stages = [...element("stages").children];
const input = name => root.querySelector(`[name="${name}"]`);

const unpack = s => [
  [[1, 2, 3].map(j => [s[`w2${j}1`], s[`w2${j}2`]]), [1, 2, 3].map(j => s[`b2${j}`])],
  [[[s.w311, s.w312, s.w313]], [s.b31]],
];

/** Puts an input, or writes words, with its middle at this place of the picture. */
function put(name, x, y) {
  Object.assign(input(name).style, {left: `${x}px`, top: `${y}px`});
}

figure("backprop", s => {
  const net = unpack(s),
    x = [s.x1, s.x2],
    {zs, as, cost, deltas, gradients} = backprop(net, x, [s.y]);
  const picture = chart(svg, {x: [0, 1], y: [0, 1], axes: false}),
    {width, height} = picture;
  // Three columns of neurons, and between them the weights, none below another's line.
  const columns = [0.07, 0.51, 0.88].map(share => share * width),
    rows = [[0.32, 0.64], [0.12, 0.44, 0.76], [0.44]];
  const place = (l, j) => [columns[l], rows[l][j] * height],
    parts = [];
  const words = (x, y, text, kind = "") =>
    parts.push(`<text text-anchor="middle" class="${kind}" x="${x.toFixed(1)}" y="${y.toFixed(1)}">${text}</text>`);
  const stage = s.stage,
    two = v => v.toFixed(2).replace("-", "−"),
    small = v => (Math.abs(v) < 0.0005 && v ? format(v) : v.toFixed(3).replace("-", "−"));
  net.forEach(([w], l) =>
    w.forEach((row, j) =>
      row.forEach((w_jk, k) => {
        const [x1, y1] = place(l, k),
          [x2, y2] = place(l + 1, j),
          share = l ? 0.47 : 0.66;
        const [u, v] = [x1 + share * (x2 - x1), y1 + share * (y2 - y1)];
        const [sign, thick] = [w_jk < 0 ? "orange" : "blue", 0.6 + 1.6 * Math.min(2.5, Math.abs(w_jk))];
        parts.unshift(
          `<path class="line edge ${sign}" style="stroke-width:${thick.toFixed(2)}" d="M${x1} ${y1}L${x2} ${y2}"/>`,
        );
        if (stage >= 7) {
          parts.push(`<rect class="plate" x="${u - 25}" y="${v + 10}" width="50" height="16" rx="3"/>`);
          words(u, v + 22, small(gradients[l][0][j][k]), "pink");
        }
        put(`w${l + 2}${j + 1}${k + 1}`, u, v);
      }),
    ),
  );
  rows.forEach((column, l) =>
    column.forEach((_, j) => {
      const [u, v] = place(l, j),
        known = stage >= [0, 2, 3][l];
      parts.push(`<circle class="neuron" cx="${u}" cy="${v}" r="21"/>`);
      if (l === 0) {
        put(`x${j + 1}`, u, v);
        return;
      }
      if (known) words(u, v + 4, two(as[l][j]), "value");
      put(`b${l + 1}${j + 1}`, u, v + 34);
      if (stage >= l * 2 - 1) words(u, v - 27, `z ${two(zs[l - 1][j])}`, "quiet");
      if (stage >= 7 - l) words(u, v + 60, `δ ${small(deltas[l - 1][j])}`, "pink");
    }),
  );
  const [u, v] = place(2, 0);
  put("y", u, v + 0.3 * height);
  words(u, v + 0.3 * height - 17, "target y", "quiet");
  if (stage >= 4) words(u, v + 0.3 * height + 30, `C = ${small(cost)}`, "value");
  svg.innerHTML = parts.join("");
  svg.setAttribute("aria-label", `The output is ${format(as[2][0])}, the cost ${format(cost)}`);
  stages.forEach((item, i) => {
    item.className = i + 1 === stage ? "now" : i + 1 > stage ? "later" : "";
    if (i + 1 === stage) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  });
  const after = descend(net, gradients, s.eta);
  readout(root.querySelector("dl"), [
    ["output a", as[2][0], "blue"],
    ["cost C", cost],
    ["C after a step", backprop(after, x, [s.y]).cost, "green"],
  ]);
  const [[w2, b2], [w3, b3]] = net;
  figures.backprop.literals = Object.fromEntries(
    Object.entries({w2, b2, w3, b3, x}).map(([name, values]) => [name, python(values)]),
  );
  return [cost, gradients];
});

element("descend").addEventListener("click", () => {
  const s = state(figures.backprop),
    net = unpack(s),
    {gradients} = backprop(net, [s.x1, s.x2], [s.y]),
    found = {};
  descend(net, gradients, s.eta).forEach(([w, b], l) => {
    w.forEach((row, j) => row.forEach((w_jk, k) => (found[`w${l + 2}${j + 1}${k + 1}`] = Number(w_jk.toFixed(4)))));
    b.forEach((b_j, j) => (found[`b${l + 2}${j + 1}`] = Number(b_j.toFixed(4))));
  });
  change("backprop", found);
});
