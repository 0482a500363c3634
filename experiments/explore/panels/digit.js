const paper = element("paper"),
  strokes = element("figure-digit").querySelector('[name="strokes"]');

/** A stroke as text: two letters for each of x + 100 and y + 100, without points close to the one before. */
function encode(points) {
  const kept = points.filter(
    ([x, y], i) => i === 0 || i === points.length - 1 || Math.hypot(x - points[i - 1][0], y - points[i - 1][1]) > 1.5,
  );
  return kept
    .flat()
    .map(v =>
      Math.round(clamp(v, -100, 1195) + 100)
        .toString(36)
        .padStart(2, "0"),
    )
    .join("");
}

const decode = text =>
  range(Math.floor(text.length / 4)).map(i =>
    [0, 2].map(k => (parseInt(text.slice(4 * i + k, 4 * i + k + 2), 36) || 0) - 100),
  );
const written = () => reader.strokes.map(encode).join(".");

figure("digit", ({strokes: text}) => {
  if (text !== written())
    reader.strokes = text
      .split(".")
      .map(decode)
      .filter(stroke => stroke.length);
  return reader.outputs && Array.from(reader.outputs);
});
paper.addEventListener("input", () => {
  if (strokes.value !== written()) change("digit", {strokes: written()});
});
