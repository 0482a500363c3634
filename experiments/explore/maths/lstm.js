// Equations (5.1) to (5.6), and backpropagation through time as in jnn's `lstm.unroll`.
// Parameters: {rem: {W, U, b}, save, focus, ltm}, and out: {w, b} for a linear layer that reads wm.

const {sigmoid} = maths.perceptron,
  {softmax} = maths.softmax;

const product = (matrix, x) => matrix.map(row => row.reduce((sum, m, k) => sum + m * x[k], 0));
const weighted = ({W, U, b}, x, wm) => {
  const [fromInput, fromMemory] = [product(W, x), product(U, wm)];
  return b.map((b_i, i) => fromInput[i] + fromMemory[i] + b_i);
};

function step(params, {ltm, wm}, x) {
  const rem = weighted(params.rem, x, wm).map(sigmoid); // (5.1)
  const candidate = weighted(params.ltm, x, wm).map(Math.tanh); // (5.2)
  const save = weighted(params.save, x, wm).map(sigmoid); // (5.3)
  const next = ltm.map((old, i) => rem[i] * old + save[i] * candidate[i]); // (5.4)
  const focus = weighted(params.focus, x, wm).map(sigmoid); // (5.5)
  return {rem, save, focus, candidate, ltm: next, wm: next.map((value, i) => focus[i] * Math.tanh(value))}; // (5.6)
}

/** The gates and memories after every input, and what the network then expects next; inputs are indices of symbols. */
function unroll(params, symbols) {
  const zero = params.rem.b.map(() => 0),
    p = params.rem.W[0].length;
  let state = {ltm: zero, wm: zero};
  return symbols.map(symbol => {
    state = step(
      params,
      state,
      Array.from({length: p}, (_, i) => Number(i === symbol)),
    );
    return {
      ...state,
      expects: softmax(
        product(params.out.w, state.wm).map((z, i) => z + params.out.b[i]),
        1,
      ),
    };
  });
}

/** The derivatives of the last ltm of this unit by every memory, t = 0, ..., T: [{ltm, wm}, ...]. */
function gradients(params, trace, unit) {
  const zero = params.rem.b.map(() => 0),
    gates = ["rem", "save", "focus", "ltm"];
  let back = {ltm: zero.map((_, i) => Number(i === unit)), wm: zero};
  const found = [back];
  for (let t = trace.length - 1; t >= 0; t--) {
    const {rem, save, focus, candidate, ltm} = trace[t],
      before = trace[t - 1]?.ltm ?? zero;
    const dltm = back.ltm.map((d, i) => d + back.wm[i] * focus[i] * (1 - Math.tanh(ltm[i]) ** 2));
    const dz = {
      rem: rem.map((q, i) => dltm[i] * before[i] * q * (1 - q)),
      save: save.map((q, i) => dltm[i] * candidate[i] * q * (1 - q)),
      focus: focus.map((q, i) => back.wm[i] * Math.tanh(ltm[i]) * q * (1 - q)),
      ltm: candidate.map((q, i) => dltm[i] * save[i] * (1 - q * q)),
    };
    const wm = zero.map((_, k) =>
      gates.reduce((sum, gate) => sum + params[gate].U.reduce((s, row, i) => s + row[k] * dz[gate][i], 0), 0),
    );
    back = {ltm: dltm.map((d, i) => d * rem[i]), wm};
    found.unshift(back);
  }
  return found;
}

/** The parameters with this gate of this unit always open, or shut: sigma(40) is 1 and sigma(-40) 0 to 17 digits. */
function force(params, gate, unit, open) {
  const {W, U, b} = params[gate],
    without = rows => rows.map((row, i) => (i === unit ? row.map(() => 0) : row));
  return {
    ...params,
    [gate]: {W: without(W), U: without(U), b: b.map((b_i, i) => (i !== unit ? b_i : open ? 40 : -40))},
  };
}

/** The unit whose ltm best counts the a's minus the b's over this sequence, by its correlation. */
function counter(trace, symbols) {
  let sum = 0;
  const counts = symbols.map(symbol => (sum += symbol === 0 ? 1 : symbol === 2 ? -1 : 0));
  const centred = values => values.map(v => v - values.reduce((a, b) => a + b, 0) / values.length);
  const dot = (one, other) => one.reduce((s, v, i) => s + v * other[i], 0);
  const correlation = unit => {
    const [x, y] = [centred(trace.map(({ltm}) => ltm[unit])), centred(counts)];
    return Math.abs(dot(x, y)) / Math.sqrt(dot(x, x) * dot(y, y) || 1);
  };
  const all = trace[0].ltm.map((_, unit) => correlation(unit));
  return all.indexOf(Math.max(...all));
}

maths.lstm = {unroll, gradients, force, counter};
