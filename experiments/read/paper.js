// The paper to draw on, and what is shown of what `reading.js` makes of the drawing.

const shown = 12; // deciding neurons
const thick = 20; // of a stroke, in pixels of the canvas

const element = id => document.getElementById(id);
const paper = element("paper"), pen = paper.getContext("2d", {willReadFrequently: true});

// What a neuron looks for

const dark = matchMedia("(prefers-color-scheme: dark)");

function colour(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
}

/** Every neuron's weights as one picture, below one another on a canvas. */
function portraits() {
  const [zero, red, blue] = ["--zero", "--for", "--against"].map(colour);
  const canvas = Object.assign(document.createElement("canvas"), {width: side, height: side * neurons});
  const context = canvas.getContext("2d"), picture = context.createImageData(side, side * neurons);
  const full = 5 * Math.sqrt(sum(first.w.map(weight => weight * weight)) / first.w.length) || 1;
  first.w.forEach((weight, k) => {
    const towards = weight > 0 ? red : blue, strength = Math.min(1, Math.abs(weight) / full);
    const mixed = zero.map((from, i) => from + strength * (towards[i] - from));
    picture.data.set([...mixed, 255], 4 * k);
  });
  context.putImageData(picture, 0, 0);
  return canvas;
}

let pictures = portraits();

function place(context, j, x, y) {
  context.drawImage(pictures, 0, j * side, side, side, x, y, side, side);
}

// The page

const reader = window.reader = {
  image: null, outputs: null,
  get strokes() { return strokes; },
  set strokes(drawn) { strokes = drawn, soon(); },
};
const keys = {x: 140, y: 60, stroke: null}; // where the keyboard's pen is, and the stroke that it draws
let strokes = [], activations = null, waiting = 0;

/** An entry of the list with this id: what comes first in it, a bar and a number. */
function entry(list, first) {
  const item = document.createElement("li");
  item.innerHTML = `${first}<div class="track"><div class="bar"></div></div><span class="number"></span>`;
  element(list).append(item);
  return {item, bar: item.querySelector(".bar"), number: item.querySelector(".number")};
}

const results = Array.from({length: digits}, (_, digit) => entry("outputs", `<span>${digit}</span>`));
const deciders = Array.from({length: Math.min(shown, neurons)}, () =>
  entry("deciding", `<canvas width="${side}" height="${side}"></canvas>`));
element("count").textContent = neurons;

function draw() {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, paper.width, paper.height);
  Object.assign(pen, {strokeStyle: "#000", lineWidth: thick, lineCap: "round", lineJoin: "round"});
  for (const stroke of strokes) {
    pen.beginPath();
    pen.moveTo(...stroke[0]);
    for (const point of stroke) pen.lineTo(...point);
    pen.stroke();
    if (stroke.every(([x, y]) => x === stroke[0][0] && y === stroke[0][1])) { // a line without length is not drawn
      pen.fillStyle = "#000";
      pen.beginPath();
      pen.arc(...stroke[0], thick / 2, 0, 2 * Math.PI);
      pen.fill();
    }
  }
}

/** The ink at every pixel of the paper, from 0 to 1. */
function ink() {
  const {width, height} = paper, {data} = pen.getImageData(0, 0, width, height);
  const found = new Float64Array(width * height);
  for (let i = 0; i < found.length; i++) found[i] = 1 - data[4 * i] / 255;
  return found;
}

function showImage() {
  const context = element("image").getContext("2d"), picture = context.createImageData(side, side);
  reader.image?.forEach((value, k) => picture.data.set([0, 0, 0, 255 * value], 4 * k));
  context.putImageData(picture, 0, 0);
}

function showOutputs() {
  const {outputs} = reader, answer = outputs && largest(outputs);
  const uncertain = outputs !== null && outputs[answer] < network.sure;
  const text = uncertain ? "uncertain" : String(answer ?? "");
  if (element("answer").textContent !== text) element("answer").textContent = text; // read aloud when it changes
  element("answer").classList.toggle("uncertain", uncertain);
  results.forEach(({item, bar, number}, digit) => {
    item.classList.toggle("answer", digit === answer && !uncertain);
    bar.style.transform = `scaleX(${outputs ? outputs[digit] : 0})`;
    number.textContent = outputs ? `${Math.round(100 * outputs[digit])} %` : "";
  });
}

/** What each neuron adds to the weighted input of the largest output, for those that add or take away most. */
function deciding() {
  if (!reader.outputs) return [];
  const slope = slopes(largest(reader.outputs), activations);
  return Array.from(activations[0], (a, j) => ({j, adds: a * slope[j]}))
    .filter(({adds}) => adds !== 0)
    .sort((one, other) => Math.abs(other.adds) - Math.abs(one.adds))
    .slice(0, shown)
    .sort((one, other) => other.adds - one.adds);
}

function showDeciding() {
  const found = deciding(), most = Math.max(...found.map(({adds}) => Math.abs(adds)));
  element("about").textContent = reader.outputs ? `the ${largest(reader.outputs)}` : "the answer";
  deciders.forEach(({item, bar, number}, i) => {
    const {j, adds} = found[i] ?? {adds: 0}, context = item.querySelector("canvas").getContext("2d");
    item.className = adds > 0 ? "for" : adds < 0 ? "against" : "";
    context.clearRect(0, 0, side, side);
    if (adds) place(context, j, 0, 0);
    bar.style.transform = `scaleX(${adds && adds / most})`;
    number.textContent = adds ? `${adds > 0 ? "+" : "−"}${Math.abs(adds).toFixed(2)}` : "";
  });
}

function showAll() {
  const canvas = element("all"), context = canvas.getContext("2d"), gap = 2;
  const rows = Math.ceil(neurons / Math.max(1, Math.ceil(canvas.clientWidth / 27)));
  const columns = Math.ceil(neurons / rows);
  const width = columns * (side + gap) - gap, height = rows * (side + gap) - gap;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  context.clearRect(0, 0, width, height);
  const active = activations?.[0], most = active ? Math.max(...active) : 0;
  for (let j = 0; j < neurons; j++) {
    context.globalAlpha = !active ? 1 : active[j] ? 0.3 + 0.7 * active[j] / most : 0.12;
    place(context, j, j % columns * (side + gap), Math.floor(j / columns) * (side + gap));
  }
}

function update() {
  waiting = 0;
  draw();
  reader.image = strokes.length ? normalised(ink(), paper.width, paper.height) : null;
  activations = reader.image && forward(reader.image);
  reader.outputs = activations && activations.at(-1);
  element("hint").hidden = strokes.length > 0;
  element("keys").hidden = element("nib").hidden = document.activeElement !== paper || !paper.matches(":focus-visible");
  element("nib").className = keys.stroke ? "down" : "";
  Object.assign(element("nib").style, {left: `${keys.x / paper.width * 100}%`, top: `${keys.y / paper.height * 100}%`});
  element("undo").disabled = element("clear").disabled = !strokes.length;
  showImage();
  showOutputs();
  showDeciding();
  showAll();
  paper.dispatchEvent(new Event("input"));
}

const soon = () => waiting ||= requestAnimationFrame(update);

function point(event) {
  const box = paper.getBoundingClientRect();
  return [(event.clientX - box.left) * paper.width / box.width, (event.clientY - box.top) * paper.height / box.height];
}

let drawing = null, kind = ""; // the pointer that draws

paper.addEventListener("pointerdown", event => {
  const palm = drawing !== null && event.pointerType === "pen" && kind !== "pen"; // it rests where the pen writes
  if (drawing !== null && !palm || event.button) return;
  if (palm) strokes.pop();
  [drawing, kind] = [event.pointerId, event.pointerType];
  paper.setPointerCapture(drawing);
  strokes.push([point(event)]);
  soon();
});
paper.addEventListener("pointermove", event => {
  if (event.pointerId !== drawing) return;
  const moves = event.getCoalescedEvents?.() ?? [];
  strokes.at(-1).push(...(moves.length ? moves : [event]).map(point));
  soon();
});
// Else the browser may take a fast stroke for a fling, and swallow the next tap, as it does to stop one.
paper.addEventListener("touchstart", event => event.preventDefault());
for (const name of ["pointerup", "pointercancel"]) {
  paper.addEventListener(name, event => {
    if (event.pointerId === drawing) drawing = null;
  });
}

function clear() {
  strokes = [];
  drawing = keys.stroke = null;
  soon();
}

function undo() {
  strokes.pop();
  drawing = keys.stroke = null;
  soon();
}

// The pen that the keyboard moves

const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

paper.addEventListener("keydown", event => {
  if (event.key === " ") {
    keys.stroke = keys.stroke ? null : [[keys.x, keys.y]];
    if (keys.stroke) strokes.push(keys.stroke);
  } else if (event.key in arrows) {
    const step = event.shiftKey ? 2 : 10, inside = value => Math.max(10, Math.min(270, value));
    keys.x = inside(keys.x + step * arrows[event.key][0]);
    keys.y = inside(keys.y + step * arrows[event.key][1]);
    keys.stroke?.push([keys.x, keys.y]);
  } else {
    return;
  }
  event.preventDefault();
  soon();
});
for (const name of ["focus", "blur"]) {
  paper.addEventListener(name, () => {
    keys.stroke = null;
    soon();
  });
}

element("clear").addEventListener("click", clear);
element("undo").addEventListener("click", undo);
addEventListener("keydown", event => {
  if (!paper.checkVisibility()) return;
  if (event.key === "Escape") clear();
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") {
    event.preventDefault();
    undo();
  }
});
dark.addEventListener("change", () => {
  pictures = portraits();
  soon();
});
new ResizeObserver(soon).observe(element("all"));
update();
