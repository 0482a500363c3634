"""Reads the digits in pictures: the network, the files, and what the network makes of them."""

import functools
import warnings
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments.read import layout
from experiments.read.layout import Word
from jnn import activations, convert, data, mlp, pictures

MOST_PIXELS = 100_000_000
"""The largest number of pixels of a picture."""

SHEET = "the project's sheet"
"""What the picture is called that is read without a file."""

STEADY = 0.94
"""An answer is uncertain if its mean probability, over the digit and its shifts by a pixel, is below this.

Of 20,000 of MNIST's training images, 0.5 in 1,000 are misread at or above this level, and 2.4 % are below it. With 0.8
for the digit as it stands, which `Network.sure` asks for as well, 1.7 in 1,000 are misread.
"""

MORE_CERTAIN = 1.0
"""A picture is turned where that raises the sum of the logarithms of the largest outputs by more than this."""

TURNS = {1: "90 degrees to the left", 2: "180 degrees", 3: "90 degrees to the right"}
"""What quarter turns to the left are called."""


class Network(NamedTuple):
    """A network that reads digits, and the least probability of an answer that is not uncertain."""

    params: mlp.Params
    sure: float


class Reading(NamedTuple):
    """What was found in one picture: K digits."""

    name: str
    picture: Shaped[np.ndarray, "H W *channels"]
    """As it was read: turned upright."""
    boxes: Int[np.ndarray, "K 4"]
    xs: Float[np.ndarray, "K 784"]
    outputs: Float[np.ndarray, "K 10"]
    doubtful: Bool[np.ndarray, " K"]
    """Which are uncertain whatever the outputs are: they may be no digits, or a shift changes the answer."""
    lines: tuple[tuple[Word, ...], ...]
    """The lines of words, in which digits are numbers from 0 to K - 1, and signs are letters."""
    turns: int
    """Quarter turns to the left that made the picture upright."""
    remarks: tuple[str, ...]
    """What the reader should know: that the picture was turned, or what was left out."""


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
    no picture, that is cut off or that has more than `MOST_PIXELS` pixels, and for whatever its decoder raises.
    """
    if path.is_dir():
        raise IsADirectoryError("is a folder: name the pictures in it")
    if not path.exists():
        raise FileNotFoundError("does not exist")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            too_large = image.width * image.height > MOST_PIXELS
            if not too_large:
                return _pixels(image)
            size = f"{image.width} x {image.height}"
    except Image.DecompressionBombError as error:
        raise ValueError(f"must have at most {MOST_PIXELS:,} pixels: reduce it ({error})") from error
    except UnidentifiedImageError as error:
        raise ValueError("is no picture that Pillow reads, such as PNG or JPEG (save HEIC as JPEG)") from error
    except Exception as error:  # decoders raise errors of any kind, RuntimeError and NotImplementedError among them
        raise ValueError(f"cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error
    raise ValueError(f"must have at most {MOST_PIXELS:,} pixels, got {size}: reduce it")


def _pixels(image: Image.Image) -> Shaped[np.ndarray, "H W *channels"]:
    image.getexif()
    image.info.pop("exif", None)  # what it says of the turn was read; Pillow would write the rest anew, or fail
    ImageOps.exif_transpose(image, in_place=True)
    if "transparency" in image.info:
        return np.asarray(image.convert("RGBA"))
    if image.mode in ("1", "L", "LA", "RGB", "RGBA", "F", "I") or image.mode.startswith("I;16"):
        return np.asarray(image)
    return np.asarray(image.convert("RGBA" if image.mode in ("P", "PA", "La", "RGBa") else "RGB"))


def read(
    network: Network, name: str, picture: Shaped[np.ndarray, "H W *channels"], turns: int | None = None
) -> Reading:
    """The digits in a picture, and the network's outputs.

    The picture is turned by `turns` quarter turns to the left first; if that is None, by as many as make the network
    more certain of the digits. Raises ValueError if there is no ink in it.
    """
    upright = np.rot90(picture, turns or 0)
    page = pictures.page(upright)
    if turns is None and (better := _better_turn(network, page.xs)):
        turns, upright = better, np.rot90(picture, better)
        page = pictures.page(upright)
    digits, lines = layout.layout(page)
    boxes, xs = page.boxes[digits], page.xs[digits]
    outputs = _outputs(network, xs)
    unsteady = _shifted(network, xs, outputs) < STEADY
    doubtful = layout.crosses(xs) | layout.fragments(page, digits) | unsteady
    return Reading(name, upright, boxes, xs, outputs, doubtful, lines, turns or 0, _remarks(page, turns or 0))


def _shifted(network: Network, xs: Float[np.ndarray, "K 784"], outputs: Float[np.ndarray, "K 10"]) -> np.ndarray:
    """The mean probability of each answer, over the digit and its shifts by a pixel to any side."""
    images = xs.reshape(-1, pictures.SIDE, pictures.SIDE)
    shifts = [np.roll(images, shift, axis).reshape(xs.shape) for shift in (-1, 1) for axis in (1, 2)]
    mean = np.mean([outputs, *(_outputs(network, each) for each in shifts)], axis=0)
    return mean[np.arange(len(xs)), outputs.argmax(axis=1)]


def _remarks(page: pictures.Page, turns: int) -> tuple[str, ...]:
    remarks = ["a sheet on a darker table: what is beside it was left out"] if page.sheet else []
    if turns % 4:
        remarks.append(f"turned by {TURNS[turns % 4]}")
    left_out = [
        f"{len(page.left_out[name])} {name}" for name in ("frames", "lines", "spots") if len(page.left_out[name])
    ]
    if left_out:
        remarks.append(f"left out: {', '.join(left_out)}")
    return tuple(remarks)


def _better_turn(network: Network, xs: Float[np.ndarray, "K 784"]) -> int:
    """The quarter turns to the left after which the network is clearly more certain of at least three digits."""
    if len(xs) < 3:
        return 0
    images = xs.reshape(-1, pictures.SIDE, pictures.SIDE)
    turned = [np.rot90(images, turns, (1, 2)).reshape(xs.shape) for turns in range(4)]
    certain = [np.sum(np.log(_outputs(network, each).max(axis=1))) for each in turned]
    best = int(np.argmax(certain))
    return best if certain[best] > certain[0] + MORE_CERTAIN else 0


def _outputs(network: Network, xs: Float[np.ndarray, "K 784"]) -> Float[np.ndarray, "K 10"]:
    room = 2 ** max(3, (len(xs) - 1).bit_length())  # so that a few programs serve all numbers of digits
    padded = np.concatenate([xs, np.zeros((room - len(xs), 784), np.float32)])
    return np.asarray(probabilities(network.params, padded))[: len(xs)]


@jax.jit
def probabilities(params: mlp.Params, xs: Float[Array, "N 784"]) -> Float[Array, "N 10"]:
    """The network's outputs."""
    logits = functools.partial(mlp.logits, hidden=activations.relu)
    return activations.softmax(jax.vmap(logits, in_axes=(None, 0))(params, xs))


def answers(reading: Reading, sure: float) -> list[str]:
    """Each digit, with a question mark if it is uncertain."""
    uncertain = (reading.outputs.max(axis=1) < sure) | reading.doubtful
    return [f"{p.argmax()}{'?' * bool(each)}" for p, each in zip(reading.outputs, uncertain, strict=True)]


def texts(reading: Reading, sure: float) -> list[list[str]]:
    """The words of each line, such as "12", "-3.5" and "4?7"."""
    digits = answers(reading, sure)
    return [["".join(e if isinstance(e, str) else digits[e] for e in word) for word in line] for line in reading.lines]


def line(reading: Reading, sure: float) -> str:
    """The name, the lines, and how certain each digit is, in percent: "photo.jpg: 31 / 4?   100, 98.7, 45.1 %"."""
    found = " / ".join(map(" ".join, texts(reading, sure)))
    percent = ", ".join(f"{100 * p:.3g}" for p in reading.outputs.max(axis=1))
    remarks = f"   ({'; '.join(reading.remarks)})" if reading.remarks else ""
    return f"{reading.name}: {found}   {percent} %{remarks}"


def printable(name: str) -> str:
    """A file's name with escapes for what no terminal shows, such as bytes that are no UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)
