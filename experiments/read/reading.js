// What the network reads in a drawing, without the document; `network` is what `page.network` returns.

const {sizes, side, fit, faint, strong, beside, parameters} = network;
const [pixels, neurons] = sizes, digits = sizes.at(-1);

const sum = values => values.reduce((a, b) => a + b, 0);
const largest = values => values.indexOf(Math.max(...values));

// The network

function half(bits) {
  const sign = bits >> 15 ? -1 : 1, exponent = bits >> 10 & 31, fraction = (bits & 1023) / 1024;
  return sign * (exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14);
}

function decode(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float64Array.from({length: bytes.length / 2}, (_, i) => half(view.getUint16(2 * i, true)));
}

function layers() {
  const values = decode(parameters);
  let at = 0;
  const next = n => values.subarray(at, at += n);
  return sizes.slice(1).map((n, i) => ({w: next(n * sizes[i]), b: next(n)}));
}

const [first, ...others] = layers();

const weighted = ({w, b}, a) => b.map((z, j) => {
  for (let k = 0; k < a.length; k++) z += w[j * a.length + k] * a[k];
  return z;
});
const relu = z => z.map(value => Math.max(0, value));

function softmax(z) {
  const most = Math.max(...z), e = z.map(value => Math.exp(value - most)), total = sum(e);
  return e.map(value => value / total);
}

/** The activations of every layer of neurons. */
function forward(image) {
  const found = [relu(weighted(first, image))];
  for (const layer of others) {
    const z = weighted(layer, found.at(-1));
    found.push(layer === others.at(-1) ? softmax(z) : relu(z));
  }
  return found;
}

/** The derivative of an output's weighted input by each activation of the first layer: backpropagation. */
function slopes(digit, activations) {
  let delta = Array.from({length: digits}, (_, i) => Number(i === digit));
  for (let l = others.length - 1; l >= 0; l--) {
    const {w} = others[l], n = sizes[l + 1], after = delta;
    delta = Array.from({length: n}, (_, k) => l && !activations[l][k] ? 0 : sum(after.map((d, j) => d * w[j * n + k])));
  }
  return delta;
}

// The image that the network sees

/** For each row of the image, or column, the pixels of the drawing that it covers, and their shares in it. */
function shares(masses, scale) {
  const centre = sum(masses.map((mass, i) => mass * (i + 0.5))) / sum(masses) * scale;
  const start = Math.ceil(side / 2 - centre), wide = Math.max(1, 1 / scale);
  return Array.from({length: side}, (_, at) => {
    const middle = (at + 0.5 - start) / scale, found = [];
    for (let i = 0; i < masses.length; i++) {
      const share = (Math.min(i + 1, middle + wide / 2) - Math.max(i, middle - wide / 2)) / wide;
      if (share > 0) found.push([i, share]);
    }
    return found;
  });
}

/** The connected pieces of what is darker than `faint`: their numbers at each pixel, from 1, and of each its bounds. */
function pieces(ink, width, height) {
  const numbers = new Int32Array(width * height), found = [];
  for (let start = 0; start < numbers.length; start++) {
    if (numbers[start] || ink[start] <= faint) continue;
    const piece = {left: width, right: 0, top: height, bottom: 0, area: 0, most: 0}, open = [start];
    found.push(piece);
    numbers[start] = found.length;
    while (open.length) {
      const i = open.pop(), x = i % width, y = (i - x) / width;
      piece.left = Math.min(piece.left, x), piece.right = Math.max(piece.right, x + 1);
      piece.top = Math.min(piece.top, y), piece.bottom = Math.max(piece.bottom, y + 1);
      piece.area++, piece.most = Math.max(piece.most, ink[i]);
      for (let v = Math.max(0, y - 1); v < Math.min(height, y + 2); v++) {
        for (let u = Math.max(0, x - 1); u < Math.min(width, x + 2); u++) {
          const k = v * width + u;
          if (!numbers[k] && ink[k] > faint) numbers[k] = found.length, open.push(k);
        }
      }
    }
  }
  return {numbers, found};
}

/** Which pieces are no specks: those not far shorter than what is typical, and what is as thin as a small digit. */
function strokesAmong(found, width, height) {
  const sized = found.map(piece => {
    const sides = [piece.right - piece.left, piece.bottom - piece.top];
    return {...piece, long: Math.max(...sides), narrow: Math.min(...sides), solid: piece.most > strong};
  });
  const ordered = sized.filter(({solid}) => solid).sort((one, other) => one.long - other.long);
  let half = sum(ordered.map(({narrow}) => narrow)) / 2;
  const typical = ordered.find(({narrow}) => (half -= narrow) <= 0)?.long;
  return sized.map(({long, area, solid}) =>
    solid && (long >= typical / 4 || long >= Math.min(width, height) / 30 && area < long * long / 2));
}

const halfEven = x => x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);

/** A drawing as MNIST has its digits, 28x28 pixels in a row from 0 to 1, or null if there is no ink. */
function normalised(drawn, width, height) {
  const {numbers, found} = pieces(drawn, width, height), kept = strokesAmong(found, width, height);
  const some = found.filter((_, i) => kept[i]);
  if (!some.length) return null;
  let [left, top] = ["left", "top"].map(name => Math.min(...some.map(piece => piece[name])));
  let [right, bottom] = ["right", "bottom"].map(name => Math.max(...some.map(piece => piece[name])));
  const reach = Math.max(1, halfEven(beside * Math.max(right - left, bottom - top)));
  const near = new Uint8Array(width * height), ink = new Float64Array(width * height); // of the strokes and beside them
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const from = y * width;
      if (kept[numbers[from + x] - 1]) near.fill(1, from + Math.max(0, x - reach), from + Math.min(width, x + reach + 1));
    }
    for (let x = 0; x < width; x++) {
      if (!near[y * width + x]) continue;
      for (let v = Math.max(0, y - reach); v < Math.min(height, y + reach + 1); v++) ink[v * width + x] = drawn[v * width + x];
    }
  }
  for (let y = Math.max(0, top - reach); y < Math.min(height, bottom + reach); y++) {
    for (let x = Math.max(0, left - reach); x < Math.min(width, right + reach); x++) {
      if (ink[y * width + x] <= faint) continue;
      left = Math.min(left, x), right = Math.max(right, x + 1);
      top = Math.min(top, y), bottom = Math.max(bottom, y + 1);
    }
  }

  const rows = new Float64Array(bottom - top), columns = new Float64Array(right - left);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      rows[y - top] += ink[y * width + x];
      columns[x - left] += ink[y * width + x];
    }
  }
  const scale = fit / Math.max(rows.length, columns.length);
  const down = shares(rows, scale), along = shares(columns, scale);
  const image = new Float64Array(pixels);
  for (let k = 0; k < pixels; k++) {
    for (const [y, high] of down[Math.floor(k / side)]) {
      for (const [x, wide] of along[k % side]) image[k] += high * wide * ink[(top + y) * width + left + x];
    }
  }
  const most = Math.max(...image);
  return image.map(value => value / most);
}
