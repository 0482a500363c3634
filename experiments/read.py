"""Read the handwritten digits in pictures, such as photos from a phone.

Prints one line for each file: the digits line by line, each with the network's probability; a digit below the
confidence that was chosen on validation data has a question mark. The figure shows each picture with what was found in
it, and for each digit the 28x28 pixels that the network saw beside its ten outputs, so that you see whether the picture
or the network is to blame. The network was trained on MNIST (`python -m experiments handwriting` trains it).
"""

import dataclasses
import functools
import json
import struct
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import tyro
from jaxtyping import Array, Float, Int, Shaped
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments import runner
from experiments.runner import files
from jnn import activations, convert, data, mlp, pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

MOST_PIXELS = 100_000_000
"""The largest number of pixels of a picture."""

PICTURES = 12
"""The pictures that the figure shows."""

SHOWN = 60
"""The digits of one picture that the figure shows."""

COLUMNS = 5
"""The digits side by side in the figure."""

SHEET = "the project's sheet"
"""What the picture is called that is read without a file."""


@dataclasses.dataclass(frozen=True)
class Config:
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Pictures: PNG, JPEG, and what else Pillow reads. Without any, a sheet that jnn draws."""
    weights: Path = data.READER
    """The network, in a safetensors file that `python -m experiments handwriting --weights` wrote."""
    page: bool = False
    """Write <out>/read/page.html instead, on which you draw digits and watch the network read them."""
    out: Path = Path("out")
    """Folder for the results, which go into its folder read."""


class Network(NamedTuple):
    """A network that reads digits, and the least probability of an answer that is sure."""

    params: mlp.Params
    sure: float


class Reading(NamedTuple):
    """What was found in one picture: K digits."""

    name: str
    picture: Shaped[np.ndarray, "H W *channels"]
    boxes: Int[np.ndarray, "K 4"]
    xs: Float[np.ndarray, "K 784"]
    outputs: Float[np.ndarray, "K 10"]


def main(args: Sequence[str] | None = None) -> int:
    """Read pictures, with the flags `args`, by default those of the command line. Returns the exit code."""
    start = time.perf_counter()
    runner.cache_compilations()
    with runner.report_mistakes() as outcome:
        config = runner.parse(Config, "read", __doc__, args)
        outcome.code = run(config, start)
    return outcome.code


def run(config: Config, start: float) -> int:
    """Read the pictures, or write the page; `start` is when the command began. Returns the exit code."""
    if config.page and config.files:
        raise ValueError("the page reads what is drawn on it: name no pictures with --page")
    network = load_network(config.weights)
    folder = runner.Settings(config.out).out / "read"
    if config.page:
        from experiments import page  # late, as it loads what reading does not need

        files.write(folder / "page.html", page.html(*network))
        print(f"open {folder / 'page.html'} in a browser, on a phone too")
        return 0
    readings, mistakes = [], 0
    for path in config.files or (None,):
        try:
            reading = read(network, *((SHEET, _sheet()) if path is None else (str(path), load_picture(path))))
        except (ValueError, OSError) as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            mistakes += 1
        else:
            print(line(reading, network.sure), flush=True)
            readings.append(reading)
    if not readings:
        return 2
    if any(np.any(reading.outputs.max(axis=1) < network.sure) for reading in readings):
        print(f"?: not sure, the largest output is below {100 * network.sure:.0f} %")
    arrays = {
        "picture": np.repeat(np.arange(len(readings)), [len(reading.xs) for reading in readings]),
        **{name: np.concatenate([getattr(r, name) for r in readings]) for name in ("boxes", "xs", "outputs")},
    }
    with files.room(folder) as taken:
        taken.close()  # there is room
        with files.put(folder, arrays) as scratch:
            found = {"files": [describe(reading, network.sure) for reading in readings]}
            result = {**found, "seconds": time.perf_counter() - start, **runner.machine()}
            (scratch / "result.json").write_text(json.dumps(result, indent=2) + "\n")
            figure(readings[:PICTURES], network.sure).savefig(scratch / "figure.png", metadata={"Software": None})
    print(f"see {folder / 'figure.png'}")
    return 2 if mistakes else 0


def load_network(path: Path = data.READER) -> Network:
    """The network in the file. Raises FileNotFoundError, or ValueError if it is no network that reads digits."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file with --weights")
    params, about = convert.load(path), convert.metadata(path)
    layers = isinstance(params, tuple) and all(isinstance(layer, mlp.Layer) for layer in params)
    if not layers or mlp.sizes(params)[:: len(params)] != (784, 10) or "sure" not in about:
        raise ValueError(f"{path} must hold a network that python -m experiments handwriting --weights wrote")
    return Network(jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params), about["sure"])


def load_picture(path: Path) -> Shaped[np.ndarray, "H W *channels"]:
    """The pixels of the picture in a file, upright as its EXIF data says; of several, the first.

    Raises FileNotFoundError if there is no such file, IsADirectoryError for a folder, and ValueError for a file that is
    no picture, that is cut off or that has more than `MOST_PIXELS` pixels.
    """
    if path.is_dir():
        raise IsADirectoryError("is a folder: name the pictures in it")
    if not path.exists():
        raise FileNotFoundError("does not exist")
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(path) as image,
        ):
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(
                    f"must have at most {MOST_PIXELS:,} pixels, got {image.width} x {image.height}: reduce it"
                )
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode in ("1", "L", "LA", "RGB", "RGBA", "F", "I", "I;16"):
                return np.asarray(image)
            return np.asarray(image.convert("RGBA" if image.mode in ("P", "PA", "La", "RGBa") else "RGB"))
    except Image.DecompressionBombError as error:
        raise ValueError(f"must have at most {MOST_PIXELS:,} pixels: reduce it ({error})") from error
    except UnidentifiedImageError as error:
        raise ValueError("is no picture that Pillow reads, such as PNG or JPEG (save HEIC as JPEG)") from error
    except (OSError, SyntaxError, EOFError, struct.error) as error:
        raise ValueError(f"cannot be read: {error}") from error


def read(network: Network, name: str, picture: Shaped[np.ndarray, "H W *channels"]) -> Reading:
    """The digits in a picture, and the network's outputs. Raises ValueError if there is no ink in it."""
    boxes, xs = pictures.digits(picture)
    room = 2 ** max(3, (len(xs) - 1).bit_length())  # so that a few programs serve all numbers of digits
    outputs = probabilities(network.params, np.concatenate([xs, np.zeros((room - len(xs), 784), np.float32)]))
    return Reading(name, picture, boxes, xs, np.asarray(outputs)[: len(xs)])


@jax.jit
def probabilities(params: mlp.Params, xs: Float[Array, "N 784"]) -> Float[Array, "N 10"]:
    """The network's outputs."""
    logits = functools.partial(mlp.logits, hidden=activations.relu)
    return activations.softmax(jax.vmap(logits, in_axes=(None, 0))(params, xs))


def line(reading: Reading, sure: float) -> str:
    """The name, the digits and how sure each is, in percent: "photo.jpg: 3 1 4?  100, 98.7, 45.1 %"."""
    found = " ".join(answers(reading, sure))
    return f"{reading.name}: {found}   {', '.join(f'{100 * p:.3g}' for p in reading.outputs.max(axis=1))} %"


def answers(reading: Reading, sure: float) -> list[str]:
    """Each digit, with a question mark if it is not sure."""
    return [f"{p.argmax()}{'?' * bool(p.max() < sure)}" for p in reading.outputs]


def describe(reading: Reading, sure: float) -> dict[str, Any]:
    """For `result.json`."""
    return {
        "name": reading.name,
        "answers": answers(reading, sure),
        "confidence": reading.outputs.max(axis=1).tolist(),
        "boxes": reading.boxes.tolist(),
    }


def figure(readings: Sequence[Reading], sure: float) -> "Figure":
    """Each picture with its digits in boxes and, beside it, what the network saw of each and its outputs."""
    from experiments.runner import figures  # late: the answers need no matplotlib

    return figures.drawn(lambda figure: _draw(figure, readings, sure))


def _draw(figure: "Figure", readings: Sequence[Reading], sure: float) -> None:
    rows = [max(2, -(-min(SHOWN, len(reading.xs)) // COLUMNS)) for reading in readings]
    shapes = [reading.picture.shape for reading in readings]
    heights = [max(0.6 * n, min(8, 5.3 * h / w)) + 0.4 for n, (h, w, *_) in zip(rows, shapes, strict=True)]
    figure.set_size_inches(12, sum(heights))
    stacked = np.ravel(np.asarray(figure.subfigures(len(rows), 1, height_ratios=heights), object))
    for part, reading, n in zip(stacked, readings, rows, strict=True):
        shown, seen = part.subfigures(1, 2, width_ratios=(1, 1.2))
        _draw_picture(shown, reading, sure)
        _draw_digits(seen.subplots(), reading, sure, n)


def _draw_picture(figure: "SubFigure", reading: Reading, sure: float) -> None:
    axes = figure.subplots()
    height, width = reading.picture.shape[:2]
    step = max(1, max(height, width) // 1000)
    axes.imshow(_shown(reading.picture[::step, ::step]), cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    for (top, left, bottom, right), answer in zip(reading.boxes, answers(reading, sure), strict=True):
        colour = "C1" if "?" in answer else "C0"
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=colour, linewidth=1)
        label = axes.text(left, top, answer, color="white", fontsize="small", ha="left", va="bottom")
        label.set_bbox({"facecolor": colour, "edgecolor": "none", "pad": 1})
    axes.set(xlim=(0, width), ylim=(height, 0), anchor="N")
    axes.set_axis_off()
    axes.set_title(Path(reading.name).name, fontsize="medium")


def _shown(picture: np.ndarray) -> np.ndarray:
    """Grey [H, W] or colours [H, W, 3], from 0 to 1, on white."""
    pixels = picture.reshape(*picture.shape[:2], -1) / (255 if picture.dtype == np.uint8 else max(1, np.max(picture)))
    if pixels.shape[2] in (2, 4):
        pixels = 1 + pixels[..., -1:] * (pixels[..., :-1] - 1)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _draw_digits(axes: "Axes", reading: Reading, sure: float, rows: int) -> None:
    for i, (x, outputs) in enumerate(zip(reading.xs[:SHOWN], reading.outputs, strict=False)):
        left, bottom = 3 * (i % COLUMNS), -1.4 * (i // COLUMNS)
        colour = "C1" if outputs.max() < sure else "C0"
        axes.imshow(x.reshape(28, 28), cmap="Greys", vmin=0, vmax=1, extent=(left, left + 1, bottom, bottom + 1))
        places = left + 1.2 + 0.14 * np.arange(10)
        axes.bar(places, outputs, width=0.11, bottom=bottom, color=colour)
        axes.plot([places[0] - 0.07, places[-1] + 0.07], [bottom, bottom], color="0.7", linewidth=0.8)
        top = int(outputs.argmax())
        axes.text(places[top], bottom + outputs[top] + 0.03, str(top), ha="center", va="bottom", fontsize="small")
    axes.set(xlim=(-0.1, 3 * COLUMNS - 0.2), ylim=(-1.4 * (rows - 1) - 0.1, 1.35), aspect="equal", anchor="N")
    axes.set_axis_off()
    more = f" (the first {SHOWN} of {len(reading.xs)})" if len(reading.xs) > SHOWN else ""
    axes.set_title(f"what the network saw, and its outputs 0 to 9{more}", fontsize="medium")


def _sheet() -> np.ndarray:
    from experiments import specimens

    return specimens.sheet()


if __name__ == "__main__":
    raise SystemExit(main())
