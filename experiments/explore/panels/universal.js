const {step, rectangle, nielsen, through, approximate, tower} = maths.universal;

const first = element("figure-rectangle"),
  svg = first.querySelector("svg");

figure("rectangle", ({w, h, s1, s2, x}) => {
  const near = [s1, s2].flatMap(s => linspace(-8, 8, 33).map(t => s + t / w)); // where the steps rise
  const xs = [...linspace(-0.1, 1.1, 241), ...near.filter(x => x > -0.1 && x < 1.1)].sort((a, b) => a - b);
  const a = rectangle(x, s1, s2, w, h);
  const shown = chart(svg, {x: [-0.1, 1.1], y: [0, 1], xlabel: "x", ylabel: "output"});
  shown
    .area(
      xs,
      xs.map(x => rectangle(x, s1, s2, w, h)),
      "orange",
    )
    .line(
      xs,
      xs.map(x => step(x, s1, w)),
      "blue thin",
    )
    .line(
      xs,
      xs.map(x => step(x, s2, w)),
      "blue thin dashed",
    )
    .line(
      xs,
      xs.map(x => rectangle(x, s1, s2, w, h)),
      "orange",
    )
    .handle(x, a, "orange")
    .words(s1, 1, "s₁", "symbol", -6, -8)
    .words(s2, 1, "s₂", "symbol", -6, -8)
    .done(`At x = ${format(x)} the rectangle network puts out ${format(a)}`);
  readout(first.querySelector("dl"), [
    ["a₁", step(x, s1, w), "blue"],
    ["a₂", step(x, s2, w), "blue"],
    ["output", a, "orange"],
    ["bias b₁", -s1 * w],
    ["bias b₂", -s2 * w],
  ]);
  return [a];
});

// The drawn function is a text of two digits for each of its values, in hundredths.

const POINTS = 65,
  second = element("figure-approximate"),
  paper = second.querySelector("svg"),
  grid = linspace(0, 1, 401);
const drawnValues = text => (/^\d{130}$/.test(text) ? text.match(/../g).map(v => Number(v) / 100) : null);
let sheet,
  last = null;

figure("approximate", ({bins, at, kind, drawn}) => {
  const values = drawnValues(drawn),
    f = values ? through(values) : nielsen,
    soft = kind === "soft";
  const net = approximate(f, bins, soft),
    a = net.output(at),
    xs = soft ? grid : [];
  // Sharp ones rise within a pixel.
  const curve = soft ? xs.map(net.output) : net.heights.flatMap(height => [height, height]);
  if (!soft) net.heights.forEach((_, i) => xs.push(i / bins, (i + 1) / bins));
  sheet = chart(paper, {x: [0, 1], y: [0, 1], xlabel: "x", ylabel: "f(x)"});
  net.heights.forEach((height, i) => sheet.bar(i / bins, (i + 1) / bins, 0, height, "light"));
  sheet
    .line(grid, grid.map(f))
    .line(xs, curve, "orange")
    .handle(at, a, "orange")
    .done(
      `A network of ${bins} bins; at x = ${format(at)} it puts out ${format(a)} where the function is ${format(f(at))}`,
    );
  const inner = range(bins * 8).map(i => (Math.floor(i / 8) + ((i % 8) + 0.5) / 8) / bins);
  const errors = inner.map(x => Math.abs(net.output(x) - f(x)));
  readout(second.querySelector("dl"), [
    ["network", a, "orange"],
    ["function", f(at)],
    ["largest error", Math.max(...errors)],
    ["error, rms", Math.sqrt(errors.reduce((s, e) => s + e * e, 0) / errors.length)],
    ["neurons", `${bins + 1} + ${bins} + 1`],
  ]);
  figures.approximate.literals = {
    soft: soft ? "True" : "False",
    f: values
      ? `values = jnp.array(${python(values)})\ndef f(x):\n    return jnp.interp(x[0], jnp.linspace(0, 1, 65), values)`
      : "def f(x):\n    (x,) = x\n    return 0.2 + 0.4 * x**2 + 0.3 * x * jnp.sin(15 * x) + 0.05 * jnp.cos(50 * x)",
  };
  return [a];
});
drag(paper, (event, begins) => {
  const {drawn} = state(figures.approximate),
    values = drawnValues(drawn) ?? linspace(0, 1, POINTS).map(nielsen);
  const [x, y] = sheet.unit(event),
    here = [clamp(Math.round(x * (POINTS - 1)), 0, POINTS - 1), clamp(y, 0, 0.99)];
  const from = begins || !last ? here : last,
    count = Math.abs(here[0] - from[0]);
  for (let k = 0; k <= count; k++) {
    // every point that the finger passed
    const share = count ? k / count : 1;
    values[Math.round(from[0] + share * (here[0] - from[0]))] = from[1] + share * (here[1] - from[1]);
  }
  last = here;
  change("approximate", {
    drawn: values.map(v => String(Math.round(100 * clamp(v, 0, 0.99))).padStart(2, "0")).join(""),
  });
});
element("nielsen").addEventListener("click", () => change("approximate", {drawn: ""}));

// The surface of figure 4.7, seen from the side; the farthest cells are painted first.

const third = element("figure-tower"),
  canvas = third.querySelector("canvas"),
  SIDE = 32;
const lower = [1, -2],
  upper = [2, 0],
  spread = linspace(0, 1, SIDE + 1);

figure("tower", ({share, h3: h, w3: w, p, q, turn}) => {
  const output = (x, y) => tower([x, y], lower, upper, w, h, share),
    a = output(p, q);
  const ratio = Math.min(2, devicePixelRatio),
    {width, height} = size(canvas);
  if (canvas.width !== Math.round(width * ratio))
    Object.assign(canvas, {width: Math.round(width * ratio), height: Math.round(height * ratio)});
  const context = canvas.getContext("2d"),
    [c, s] = [Math.cos((turn * Math.PI) / 180), Math.sin((turn * Math.PI) / 180)];
  const unit = Math.min(width / 1.5, height / 1.25),
    places = (u, v, z) => {
      const [x, y] = [u - 0.5, v - 0.5],
        across = c * x - s * y,
        deep = s * x + c * y;
      return [width / 2 + unit * across, height * 0.63 - unit * (0.42 * deep + 0.5 * z), deep];
    };
  const heights = spread.map(u => spread.map(v => output(5 * u - 1, 5 * v - 4)));
  const points = spread.map((u, i) => spread.map((v, j) => places(u, v, heights[i][j])));
  const cells = range(SIDE * SIDE).map(k => [Math.floor(k / SIDE), k % SIDE]);
  cells.sort(([i, j], [m, n]) => points[m][n][2] + points[m + 1][n + 1][2] - points[i][j][2] - points[i + 1][j + 1][2]);
  const [low, high] = [colour("card"), colour("blue")];
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.lineWidth = 0.5;
  context.strokeStyle = `rgb(${colour("line")})`;
  for (const [i, j] of cells) {
    const corners = [points[i][j], points[i + 1][j], points[i + 1][j + 1], points[i][j + 1]];
    const level = (heights[i][j] + heights[i + 1][j] + heights[i + 1][j + 1] + heights[i][j + 1]) / 4;
    const shade = clamp(
      1 + 0.3 * (heights[i + 1][j] - heights[i][j]) - 0.15 * (heights[i][j + 1] - heights[i][j]),
      0.7,
      1,
    );
    context.beginPath();
    corners.forEach(([x, y], k) => (k ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.closePath();
    context.fillStyle = `rgb(${mix(low, high, 0.06 + 0.94 * level).map(v => Math.round(v * shade))})`;
    context.fill();
    context.stroke();
  }
  const [x, y] = places((p + 1) / 5, (q + 4) / 5, a);
  context.beginPath();
  context.arc(x, y, 5, 0, 2 * Math.PI);
  context.fillStyle = `rgb(${colour("orange")})`;
  context.fill();
  canvas.setAttribute("aria-label", `The output over the plane; at (${format(p)}, ${format(q)}) it is ${format(a)}`);
  readout(third.querySelector("dl"), [
    ["output at the point", a, "orange"],
    ["inside", output(1.5, -1), "blue"],
    ["on the cross", output(1.5, 0.6)],
    ["outside", output(3, 0.6)],
  ]);
  return [a];
});
