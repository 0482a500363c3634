"""Reads the digits in pictures: the network, the files, and what the network makes of them."""

import functools
import struct
import warnings
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Shaped
from PIL import Image, ImageOps, UnidentifiedImageError

from jnn import activations, convert, data, mlp, pictures

MOST_PIXELS = 100_000_000
"""The largest number of pixels of a picture."""

SHEET = "the project's sheet"
"""What the picture is called that is read without a file."""


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


def answers(reading: Reading, sure: float) -> list[str]:
    """Each digit, with a question mark if it is not sure."""
    return [f"{p.argmax()}{'?' * bool(p.max() < sure)}" for p in reading.outputs]


def line(reading: Reading, sure: float) -> str:
    """The name, the digits and how sure each is, in percent: "photo.jpg: 3 1 4?  100, 98.7, 45.1 %"."""
    found = " ".join(answers(reading, sure))
    return f"{reading.name}: {found}   {', '.join(f'{100 * p:.3g}' for p in reading.outputs.max(axis=1))} %"
