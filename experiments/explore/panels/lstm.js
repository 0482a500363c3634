const {unroll, gradients, force, counter} = maths.lstm;
const root = element("figure-lstm"),
  params = JSON.parse(element("counter").textContent),
  ALPHABET = "aXb",
  GATES = ["rem", "save", "focus"];
const indices = text => [...text].map(letter => ALPHABET.indexOf(letter === "x" ? "X" : letter)).filter(i => i >= 0);

const usual = indices("aaaaaaaaXbbbbbbbb"),
  cells = root.querySelector('[name="unit"]');
cells.setAttribute("value", counter(unroll(params, usual), usual) + 1); // the default

/** The lines of Python that force a gate of a unit. */
const written = (gate, unit, open) => `
W, U, b = cell.${gate}
forced = lstm.Gate(W.at[${unit}].set(0), U.at[${unit}].set(0), b.at[${unit}].set(${open ? 40 : -40}))
cell = cell._replace(${gate}=forced)`;

/** The long-term and the working memory of a unit after every symbol. */
function showMemory(ts, ltm, wm, unit, x) {
  const most = Math.max(1, ...ltm.map(Math.abs)) * 1.08;
  const y = [Math.min(...ltm, ...wm) < 0 ? -most : 0, Math.max(...ltm, ...wm) > 0 ? most : 0.1];
  chart(element("memory"), {x, y, ylabel: `ltm and wm of cell ${unit + 1}`})
    .line(ts, wm, "orange thin")
    .line(ts, ltm, "blue")
    .dots(ts, ltm, "blue", ts.length > 40 ? 2 : 3)
    .words(ts.at(-1), ltm.at(-1), "ltm", "blue symbol", ts.length > 7 ? -22 : 8, -8)
    .done(`The long-term memory of cell ${unit + 1} ends at ${format(ltm.at(-1))} after ${ts.length} symbols`);
}

/** A row of colours for each gate and the candidate, and below them the symbols and what is expected next. */
function showGates(rows, symbols, expected, unit, x) {
  const gates = chart(element("gates"), {x, y: [0, rows.length + 2], axes: false, gutter: true});
  const [zero, up, down] = [colour("zero"), colour("blue"), colour("orange")];
  rows.forEach(([name, values], i) => {
    const y = rows.length + 1 - i;
    gates.words(0.5, y + 0.35, name, "symbol", -40);
    values.forEach((value, t) => {
      const shade = mix(zero, value < 0 ? down : up, Math.abs(value)).map(Math.round);
      gates.cell(t + 0.5, t + 1.5, y, y + 0.9, shade);
    });
  });
  gates.words(0.5, 1.3, "input", "symbol", -40).words(0.5, 0.3, "next", "symbol", -40);
  if (gates.X(2) - gates.X(1) > 5.5) {
    expected.forEach((next, t) => {
      const wrong = symbols[t] > 0 && t + 1 < symbols.length && next !== symbols[t + 1];
      gates.words(t + 1, 1.3, ALPHABET[symbols[t]], "letter", -4);
      gates.words(t + 1, 0.3, ALPHABET[next] ?? "·", wrong ? "letter orange" : "letter quiet", -4);
    });
  }
  gates.done(`Gates and candidate of cell ${unit + 1} for each symbol, and the symbol that the network expects next`);
}

/** The norm of the derivative of the last memory by the memories at every time. */
function showGradient(norms, last) {
  const ts = range(norms.length);
  const values = norms.map(v => Math.max(v, 1e-20));
  const powers = values.map(Math.log10);
  const y = [10 ** Math.min(-1, Math.floor(Math.min(...powers))), 10 ** Math.max(1, Math.ceil(Math.max(...powers)))];
  chart(element("back"), {x: [-0.5, last], y, log: true, xlabel: "t", ylabel: "‖∂ ltmₜ₌ₙ / ∂ (ltmₜ, wmₜ)‖"})
    .line(ts, values, "pink")
    .dots(ts, values, "pink", ts.length > 40 ? 2 : 3)
    .done(`The derivative of the last memory by the first memories has the norm ${format(norms[0])}`);
}

figure("lstm", s => {
  const unit = s.unit - 1;
  const text = indices(s.text).slice(0, 60);
  const symbols = text.length ? text : [0];
  const forced = GATES.filter(gate => s[gate] !== "free");
  const now = forced.reduce((some, gate) => force(some, gate, unit, s[gate] === "open"), params);
  const trace = unroll(now, symbols);
  const of = name => trace.map(step => step[name][unit]);
  const [ltm, wm] = [of("ltm"), of("wm")];
  const norms = gradients(now, trace, unit).map(({ltm, wm}) => Math.hypot(...ltm, ...wm));
  const expected = trace.map(({expects}) => expects.indexOf(Math.max(...expects)));
  const last = Math.max(symbols.length, 8) + 0.5;

  const ts = symbols.map((_, t) => t + 1);
  showMemory(ts, ltm, wm, unit, [0.5, last]);
  const rows = Object.entries({rem: "rem", "ltm′": "candidate", save: "save", focus: "focus"});
  showGates(
    rows.map(([name, gate]) => [name, of(gate)]),
    symbols,
    expected,
    unit,
    [0.5, last],
  );
  showGradient(norms, last);
  const count = symbols.reduce((sum, symbol) => sum + (symbol === 0) - (symbol === 2), 0);
  readout(root.querySelector("dl"), [
    ["a’s minus b’s", short(count)],
    ["last ltm", ltm.at(-1), "blue"],
    ["last wm", wm.at(-1), "orange"],
    ["gradient at t = 0", norms[0], "pink"],
    ["expects next", ALPHABET[expected.at(-1)] ?? "the end"],
    ["with probability", Math.max(...trace.at(-1).expects)],
  ]);
  figures.lstm.literals = {
    symbols: `[${symbols.join(", ")}]`,
    units: params.rem.b.length,
    index: unit,
    forced: forced.map(gate => written(gate, unit, s[gate] === "open")).join(""),
  };
  return [ltm, norms];
});
element("longer").addEventListener("click", () => {
  const {text} = state(figures.lstm),
    n = Math.min(29, (text.match(/a/g) ?? []).length + 1);
  change("lstm", {text: `${"a".repeat(n)}X${"b".repeat(n)}`});
});
