"""Pictures of digits of several kinds, each with the digit that it shows, and as a network sees them."""

import functools
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy import ndimage

from experiments.read import specimens
from jnn import data, pictures


class Seen(NamedTuple):
    """Pictures as the network sees them, and the digits that they show; zeros where no ink was found."""

    xs: Float[np.ndarray, "N 784"]
    labels: Int[np.ndarray, " N"]


Pictures = list[tuple[Callable[[], np.ndarray], int]]
"""What makes each picture, and the digit that it shows."""


def normalised(images: Pictures) -> Seen:
    """Each picture as the network sees it."""

    def one(make: Callable[[], np.ndarray]) -> np.ndarray:
        try:
            return pictures.normalise(make())
        except ValueError:  # without ink
            return np.zeros(784, np.float32)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        xs = np.stack(list(pool.map(one, [make for make, _ in images])))
    return Seen(xs, np.array([label for _, label in images]))


def scans(images: data.Split, dark: Sequence[bool] = (True, False)) -> Pictures:
    """The embedded digits at eight times their size, by cubic interpolation, dark on light and light on dark."""

    def enlarged(x: np.ndarray, dark: bool) -> UInt8[np.ndarray, "64 64"]:
        large = np.clip(255 * np.asarray(ndimage.zoom(x.reshape(8, 8), 8, order=3)), 0, 255).astype(np.uint8)
        return 255 - large if dark else large

    every = zip(*map(np.asarray, images), strict=True)
    return [(functools.partial(enlarged, x, each), int(label)) for x, label in every for each in dark]


def written(count: int) -> Pictures:
    """Digits as the project draws them."""

    def one(i: int) -> np.ndarray:
        return specimens.written(i % 10, np.random.default_rng(i))

    return [(functools.partial(one, i), i % 10) for i in range(count)]


def photos(images: data.Split) -> Pictures:
    """A photo of each image, every second one light on dark."""

    def taken(i: int, x: np.ndarray) -> np.ndarray:
        return specimens.photo(x.reshape(28, 28), np.random.default_rng(i), dark=i % 2 == 0)

    return [
        (functools.partial(taken, i, x), int(label))
        for i, (x, label) in enumerate(zip(*map(np.asarray, images), strict=True))
    ]


def in_fonts(texts: Sequence[str], sizes: Sequence[int]) -> Pictures:
    """Each text in each font and size; the label of a letter is -1."""
    drawn = enumerate(itertools.product(texts, specimens.fonts(), sizes))
    return [
        (
            functools.partial(specimens.printed, text, font, size, np.random.default_rng(i)),
            int(text) if text.isdigit() else -1,
        )
        for i, (text, font, size) in drawn
    ]


def empty(count: int) -> Pictures:
    """Blank pictures and noise, in turns."""

    def made(i: int) -> np.ndarray:
        rng = np.random.default_rng(i)
        return np.full((80, 60), rng.integers(256), np.uint8) if i % 2 else rng.integers(256, size=(80, 60))

    return [(functools.partial(made, i), -1) for i in range(count)]
