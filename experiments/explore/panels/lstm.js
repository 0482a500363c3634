const {unroll, gradients, force, counter} = maths.lstm;
const root = element("figure-lstm"), params = JSON.parse(element("counter").textContent), ALPHABET = "aXb", GATES = ["rem", "save", "focus"];
const indices = text => [...text].map(letter => ALPHABET.indexOf(letter === "x" ? "X" : letter)).filter(i => i >= 0);

const usual = indices("aaaaaaaaXbbbbbbbb"), cells = root.querySelector('[name="unit"]');
cells.setAttribute("value", counter(unroll(params, usual), usual) + 1); // the default

figure("lstm", s => {
  const unit = s.unit - 1, text = indices(s.text), symbols = text.length ? text : [0], n = symbols.length, ts = range(n).map(t => t + 1);
  const forced = GATES.filter(gate => s[gate] !== "free");
  const now = forced.reduce((some, gate) => force(some, gate, unit, s[gate] === "open"), params);
  const trace = unroll(now, symbols), back = gradients(now, trace, unit), of = name => trace.map(step => step[name][unit]);
  const [ltm, wm] = [of("ltm"), of("wm")], norms = back.map(({ltm, wm}) => Math.hypot(...ltm, ...wm));
  const width = {x: [0.5, Math.max(n, 8) + 0.5]}, most = Math.max(1, ...ltm.map(Math.abs)) * 1.08;

  chart(element("memory"), {...width, y: [Math.min(...ltm, ...wm) < 0 ? -most : 0, Math.max(...ltm, ...wm) > 0 ? most : 0.1], ylabel: `ltm and wm of cell ${unit + 1}`})
    .line(ts, wm, "orange thin").line(ts, ltm, "blue").dots(ts, ltm, "blue", n > 40 ? 2 : 3)
    .words(ts.at(-1), ltm.at(-1), "ltm", "blue symbol", n > 0.9 * Math.max(n, 8) ? -22 : 8, -8)
    .done(`The long-term memory of cell ${unit + 1} ends at ${format(ltm.at(-1))} after ${n} symbols`);

  const rows = [["rem", of("rem")], ["ltm′", of("candidate")], ["save", of("save")], ["focus", of("focus")]];
  const gates = chart(element("gates"), {...width, y: [0, rows.length + 2], axes: false, gutter: true});
  const [zero, up, down] = [colour("zero"), colour("blue"), colour("orange")];
  rows.forEach(([name, values], i) => {
    const y = rows.length + 1 - i;
    gates.words(0.5, y + 0.35, name, "symbol", -40);
    values.forEach((value, t) => gates.cell(t + 0.5, t + 1.5, y, y + 0.9, mix(zero, value < 0 ? down : up, Math.abs(value)).map(Math.round)));
  });
  const wide = gates.X(2) - gates.X(1), middle = wide > 11 ? -4 : -3;
  gates.words(0.5, 1.3, "input", "symbol", -40).words(0.5, 0.3, "next", "symbol", -40);
  trace.forEach(({expects}, t) => {
    const next = expects.indexOf(Math.max(...expects)), wrong = symbols[t] > 0 && t + 1 < n && next !== symbols[t + 1];
    if (wide > 5.5) gates.words(t + 1, 1.3, ALPHABET[symbols[t]], "letter", middle).words(t + 1, 0.3, next === 3 ? "·" : ALPHABET[next], wrong ? "letter orange" : "letter quiet", middle);
  });
  gates.done(`Gates and candidate of cell ${unit + 1} for each symbol, and the symbol that the network expects next`);

  const decades = norms.map(v => Math.log10(Math.max(v, 1e-20))), floor = Math.min(-1, Math.floor(Math.min(...decades)));
  chart(element("back"), {x: [-0.5, Math.max(n, 8) + 0.5], y: [10 ** floor, 10 ** Math.max(1, Math.ceil(Math.max(...decades)))], log: true, xlabel: "t", ylabel: `‖∂ ltm_T / ∂ (ltmₜ, wmₜ)‖`.replace("_T", "ₜ₌ₙ")})
    .line([0, ...ts], norms.map(v => Math.max(v, 1e-20)), "pink").dots([0, ...ts], norms.map(v => Math.max(v, 1e-20)), "pink", n > 40 ? 2 : 3)
    .done(`The derivative of the last long-term memory of cell ${unit + 1} by the first memories has the norm ${format(norms[0])}`);

  const {expects} = trace.at(-1), next = expects.indexOf(Math.max(...expects));
  const count = symbols.reduce((sum, symbol) => sum + (symbol === 0) - (symbol === 2), 0);
  readout(root.querySelector("dl"), [
    ["a’s minus b’s", String(count).replace("-", "−")], ["last ltm", ltm.at(-1), "blue"], ["last wm", wm.at(-1), "orange"],
    ["gradient at t = 0", norms[0], "pink"], ["expects next", next === 3 ? "the end" : ALPHABET[next]], ["with probability", expects[next]],
  ]);
  figures.lstm.literals = {
    symbols: `[${symbols.join(", ")}]`, units: ltm && params.rem.b.length, index: unit,
    forced: forced.map(gate => `\nW, U, b = cell.${gate}\ncell = cell._replace(${gate}=lstm.Gate(W.at[${unit}].set(0), U.at[${unit}].set(0), b.at[${unit}].set(${s[gate] === "open" ? 40 : -40})))`).join(""),
  };
  return [ltm, norms];
});
element("longer").addEventListener("click", () => {
  const {text} = state(figures.lstm), n = Math.min(29, (text.match(/a/g) ?? []).length + 1);
  change("lstm", {text: `${"a".repeat(n)}X${"b".repeat(n)}`});
});
