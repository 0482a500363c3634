// What every panel shares: the state in inputs and the address, drawing once a frame, charts.

const maths = {}; // of each panel, without the DOM: the tests compare it with jnn
const figures = {}; // by name: its element, its inputs, what it draws and the result that its call of jnn computes

const element = (id, inside = document) => inside.querySelector(`[data-id="${id}"]`) ?? document.getElementById(id);
const range = n => Array.from({length: n}, (_, i) => i);
const linspace = (low, high, n) => range(n).map(i => low + ((high - low) * i) / (n - 1));
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

const raised = power => [...String(power)].map(c => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻").join("");

/** A number to read, with about three digits. */
function format(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "–" : value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  let text;
  if (size !== 0 && (size < 0.001 || size >= 100000)) {
    const [digits, power] = size.toExponential(1).split("e");
    text = `${digits}·10${raised(Number(power))}`;
  } else {
    text = size.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3);
  }
  return (value < 0 ? "−" : "") + text;
}

/** A number as short as it is, such as the value of a slider. */
const short = value => String(Number(value.toFixed(6))).replace("-", "−");

// State: the values of the inputs of a figure

function value(input) {
  if (input.type === "checkbox") return Number(input.checked);
  if (input.type !== "range" && input.type !== "number") return input.value;
  const given = clamp(Number(input.value), Number(input.min), Number(input.max));
  return "log" in input.dataset ? Number((10 ** given).toPrecision(3)) : given;
}

const raw = input => (input.type === "checkbox" ? String(Number(input.checked)) : input.value);

function assign(input, text) {
  if (input.type === "checkbox") input.checked = text === "1";
  else if (input.tagName === "SELECT")
    input.value = [...input.options].some(option => option.value === text) ? text : input.initial;
  else if (input.type === "range" || input.type === "number")
    input.value = Number.isFinite(parseFloat(text)) ? text : input.initial;
  else input.value = text;
}

/** A figure, whose `draw(state)` shows it and returns what the call of jnn beside it computes. */
function figure(name, draw) {
  const root = element(`figure-${name}`),
    code = root.querySelector(".call code");
  const inputs = [...root.querySelectorAll("[name]")];
  for (const input of inputs) {
    input.initial = raw(input);
    input.addEventListener("input", () => changed(figures[name]));
    if (input.matches(".scrub")) scrub(input);
  }
  root
    .querySelector(".reset")
    ?.addEventListener("click", () => change(name, Object.fromEntries(inputs.map(i => [i.name, i.initial]))));
  figures[name] = {name, root, inputs, draw, code, template: code?.textContent, panel: root.closest(".panel").id};
}

const state = ({inputs}) => Object.fromEntries(inputs.map(input => [input.name, value(input)]));

/** Sets some of a figure's inputs; what they cannot hold is rounded and bounded by the browser. */
function change(name, values) {
  for (const input of figures[name].inputs) {
    if (!(input.name in values)) continue;
    const text = values[input.name];
    assign(input, "log" in input.dataset && typeof text === "number" ? String(Math.log10(text)) : String(text));
  }
  changed(figures[name]);
}

/** A number that is dragged sideways, besides typed and moved by arrow keys. */
function scrub(input) {
  let from = null;
  input.addEventListener("pointerdown", event => {
    from = {x: event.clientX, value: value(input)};
    input.setPointerCapture(event.pointerId);
  });
  input.addEventListener("pointermove", event => {
    if (!from || !input.hasPointerCapture(event.pointerId) || Math.abs(event.clientX - from.x) < 3) return;
    const step = Number(input.step),
      moved = from.value + Math.round((event.clientX - from.x) / 4) * step;
    input.value = Number(clamp(moved, Number(input.min), Number(input.max)).toFixed(6));
    input.dispatchEvent(new Event("input"));
  });
  for (const type of ["pointerup", "pointercancel"]) input.addEventListener(type, () => (from = null));
}

// Frames: whatever has changed is drawn once before the next one

const dirty = new Set();
let frame = 0,
  saving = 0,
  current = null;

function changed(one) {
  dirty.add(one);
  frame ||= requestAnimationFrame(show);
  clearTimeout(saving);
  saving = setTimeout(save, 200); // browsers refuse many changes of the address in a row
}

function show() {
  frame = 0;
  for (const one of dirty) {
    if (one.panel !== current) continue;
    const now = state(one);
    for (const input of one.inputs) {
      const shown = input.type === "range" && input.parentElement.querySelector(".value");
      if (!shown) continue;
      shown.textContent = short(now[input.name]);
      if ("log" in input.dataset) input.setAttribute("aria-valuetext", shown.textContent);
    }
    one.result = one.draw(now);
    if (one.code)
      one.code.textContent = one.template.replace(
        /\{(\w+)\}/g,
        (_, name) => one.literals?.[name] ?? literal(one, name, now[name]),
      );
    dirty.delete(one);
  }
}

/** Numbers as Python has them: of floats, unless an input counts. */
const python = given =>
  Array.isArray(given)
    ? `[${given.map(python).join(", ")}]`
    : Number.isInteger(given)
      ? given.toFixed(1)
      : String(given);
const literal = ({inputs}, name, given) =>
  inputs.find(input => input.name === name).step === "1" ? String(given) : python(given);

// The address: #panel?name=value&..., without what is at its default

function address(panel) {
  const query = new URLSearchParams();
  for (const {inputs} of Object.values(figures).filter(one => one.panel === panel)) {
    for (const input of inputs) if (raw(input) !== input.initial) query.set(input.name, raw(input));
  }
  return `#${panel}${query.size ? `?${query}` : ""}`;
}

function save() {
  const link = address(current);
  if (location.hash !== link) history.replaceState(null, "", link);
  document.querySelector(`.panels a[data-panel="${current}"]`).href = link;
}

function restore() {
  const [name, query] = location.hash.slice(1).split("?"),
    links = [...document.querySelectorAll(".panels a")];
  clearTimeout(saving);
  current = (links.find(link => link.dataset.panel === name) ?? links[0]).dataset.panel;
  const given = new URLSearchParams(query);
  for (const section of document.querySelectorAll(".panel")) section.hidden = section.id !== current;
  for (const link of links)
    link.dataset.panel === current ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  for (const one of Object.values(figures).filter(({panel}) => panel === current)) {
    for (const input of one.inputs) assign(input, given.get(input.name) ?? input.initial);
    changed(one);
  }
  document.title = `${document.querySelector(`#title-${current}`).textContent} – jnn`;
}

function redraw() {
  colours.clear();
  Object.values(figures)
    .filter(({panel}) => panel === current)
    .forEach(changed);
}

function start() {
  addEventListener("hashchange", () => {
    restore();
    scrollTo(0, 0);
    document.querySelector(`#title-${current}`).focus({preventScroll: true});
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  restore();
}

// Charts

const colours = new Map();

/** A colour of the style sheet as [r, g, b]. */
function colour(name) {
  if (!colours.has(name)) {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    colours.set(
      name,
      [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16)),
    );
  }
  return colours.get(name);
}

const mix = (one, other, share) => one.map((from, i) => from + share * (other[i] - from));

function ticks(low, high, count) {
  const rough = (high - low) / count,
    power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find(times => times * power >= rough - 1e-12) * power;
  return range(Math.floor((high + 1e-9 * step) / step) - Math.ceil((low - 1e-9 * step) / step) + 1).map(i =>
    Number(((Math.ceil((low - 1e-9 * step) / step) + i) * step).toPrecision(10)),
  );
}

const sizes = new WeakMap();
const observer = new ResizeObserver(entries => {
  const seen = entries.filter(({contentRect}) => contentRect.width); // not those of hidden panels
  for (const {
    target,
    contentRect: {width, height},
  } of seen) {
    const before = sizes.get(target);
    if (before.width !== width || before.height !== height) (sizes.set(target, {width, height}), redraw());
  }
});

/** The size of a picture, without laying the page out for every frame. */
function size(picture) {
  if (!sizes.has(picture)) {
    const {width, height} = picture.getBoundingClientRect();
    sizes.set(picture, {width: Math.max(120, width), height: Math.max(90, height)});
    observer.observe(picture);
  }
  return sizes.get(picture);
}

/** What is drawn into an <svg>: axes over x and y, and then lines, dots and words in their units; `done` shows it. */
function chart(svg, {x, y, xlabel = "", ylabel = "", log = false, axes = true, gutter = false}) {
  const {width, height} = size(svg);
  const [left, right, top, bottom] = axes ? [44, 12, 24, xlabel ? 36 : 20] : gutter ? [44, 12, 2, 2] : [2, 2, 2, 2];
  const w = width - left - right,
    h = height - top - bottom;
  const level = log ? Math.log10 : v => v;
  const X = v => left + ((v - x[0]) / (x[1] - x[0])) * w;
  const Y = v => top + (1 - (level(v) - level(y[0])) / (level(y[1]) - level(y[0]))) * h;
  const parts = [],
    at = v => v.toFixed(1);
  const add = text => (parts.push(text), made);
  const points = (xs, ys) => "M" + xs.map((v, i) => `${at(X(v))} ${at(clamp(Y(ys[i]), -1e4, 1e4))}`).join("L");
  const rect = (from, to, low, high, look) => {
    const [x, y] = [X(from), Y(high)];
    return add(`<rect ${look} x="${at(x)}" y="${at(y)}" width="${at(X(to) - x)}" height="${at(Y(low) - y)}"/>`);
  };
  const tick = (x, y, anchor, text) =>
    `<text class="tick" text-anchor="${anchor}" x="${at(x)}" y="${at(y)}">${text}</text>`;
  const made = {
    X,
    Y,
    width,
    height,
    unit: event => {
      const {left: l, top: t} = svg.getBoundingClientRect();
      return [
        x[0] + ((event.clientX - l - left) / w) * (x[1] - x[0]),
        y[0] + (1 - (event.clientY - t - top) / h) * (y[1] - y[0]),
      ];
    },
    line: (xs, ys, kind = "") => add(`<path class="line ${kind}" d="${points(xs, ys)}"/>`),
    area: (xs, ys, kind = "") =>
      add(`<path class="area ${kind}" d="${points([xs[0], ...xs, xs.at(-1)], [y[0], ...ys, y[0]])}Z"/>`),
    dots: (xs, ys, kind = "", r = 3) =>
      add(xs.map((v, i) => `<circle class="dot ${kind}" cx="${at(X(v))}" cy="${at(Y(ys[i]))}" r="${r}"/>`).join("")),
    handle: (u, v, kind = "") => add(`<circle class="handle ${kind}" cx="${at(X(u))}" cy="${at(Y(v))}" r="7"/>`),
    bar: (from, to, low, high, kind = "") =>
      rect(from, to, Math.min(low, high), Math.max(low, high), `class="column ${kind}"`),
    cell: (from, to, low, high, rgb) => rect(from, to, low, high, `fill="rgb(${rgb})"`),
    words: (u, v, text, kind = "", dx = 0, dy = 0) =>
      add(`<text class="${kind}" x="${at(X(u) + dx)}" y="${at(Y(v) + dy)}">${text}</text>`),
    done: label => {
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("aria-label", label);
      svg.innerHTML = parts.join("");
      return made;
    },
  };
  if (axes) {
    const powers = range(Math.floor(level(y[1])) - Math.ceil(level(y[0])) + 1).map(i => Math.ceil(level(y[0])) + i);
    const every = Math.ceil(powers.length / 6);
    const marks = log
      ? powers.filter(p => p % every === 0).map(p => [10 ** p, p === 0 ? "1" : `10${raised(p)}`])
      : ticks(...y, Math.max(2, Math.min(5, h / 40))).map(v => [v, short(v)]);
    for (const [v, text] of marks) {
      add(`<path class="grid" d="M${left} ${at(Y(v))}h${at(w)}"/>${tick(left - 7, Y(v) + 4, "end", text)}`);
    }
    for (const v of ticks(...x, Math.min(6, w / 55))) {
      add(`<path class="grid" d="M${at(X(v))} ${top}v${at(h)}"/>${tick(X(v), top + h + 16, "middle", short(v))}`);
    }
    add(`<text class="axis" text-anchor="middle" x="${at(left + w / 2)}" y="${at(top + h + 32)}">${xlabel}</text>`);
    add(`<text class="axis" x="${left - 38}" y="13">${ylabel}</text>`);
  }
  return made;
}

/** Calls `move(event)` while a pointer is held down on the target. */
function drag(target, move) {
  target.addEventListener("pointerdown", event => {
    if (event.button) return;
    target.setPointerCapture(event.pointerId);
    move(event, true);
  });
  target.addEventListener("pointermove", event => target.hasPointerCapture(event.pointerId) && move(event, false));
}

/** Fills a canvas of n x n pixels with `pixel(u, v)`, an [r, g, b], for u and v from 0 to 1 rightwards and upwards. */
function heat(canvas, n, pixel) {
  if (canvas.width !== n) canvas.width = canvas.height = n;
  const context = canvas.getContext("2d"),
    picture = context.createImageData(n, n);
  for (let k = 0; k < n * n; k++) {
    picture.data.set(pixel(((k % n) + 0.5) / n, 1 - (Math.floor(k / n) + 0.5) / n), 4 * k);
    picture.data[4 * k + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

/** Shows names and values as a list: [[name, value, kind], ...]. */
function readout(list, entries) {
  list.innerHTML = entries
    .map(
      ([name, text, kind = ""]) =>
        `<div class="${kind}"><dt>${name}</dt><dd>${typeof text === "number" ? format(text) : text}</dd></div>`,
    )
    .join("");
}
