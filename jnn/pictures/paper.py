"""The brightness of the paper behind the ink of a picture, for `jnn.pictures`."""

import functools
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

FAINT = 0.25
"""Ink above this is part of a stroke; fainter ink counts only beside one."""

STRONG = 0.5
"""A stroke must have some ink above this, otherwise it is dropped."""

NARROW = 16
"""Ink is narrower than the shorter side of the picture by this factor; what is wider is a shadow, or a large digit."""

SMALL = 64
"""Pictures whose shorter side is at most this, in pixels, are taken to be without noise and in even light."""

SHARP = 0.6
"""The edge of a sheet on a table takes this fraction of its height within three pixels of a picture of 300."""


def ndimage() -> Any:
    """`scipy.ndimage`, late, as its import takes a fifth of a second."""
    from scipy import ndimage

    return ndimage


def paper(grey: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The quadratic in the row and the column that most of the picture is near to, or one brightness."""
    sample = _sample(grey)
    if min(grey.shape) <= SMALL:
        return np.full_like(grey, _majority(sample))
    return _quadratic(grey, sample)


def envelope(grey: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """What is left of the picture where all that is narrower than `NARROW` allows is taken out: paper and shadows.

    A grey closing where the ink is dark, and an opening where it is light; it follows the edge of a shadow exactly.
    """
    filters, side = ndimage(), min(grey.shape) // NARROW | 1
    sample = _sample(grey)
    away = sample - filters.median_filter(sample, 13)
    dark = np.sum(np.minimum(0, away) ** 2) > np.sum(np.maximum(0, away) ** 2)
    smooth = filters.uniform_filter(grey, 3) * (1 if dark else -1)
    wide = filters.maximum_filter(np.pad(smooth, side, "edge"), side)  # shadows go on beside the picture
    closed = filters.minimum_filter(wide, side)[side:-side, side:-side]
    closed = closed - np.median((closed - smooth)[::4, ::4])  # the largest of many noisy pixels is too large
    return closed if dark else -closed


def sheet(grey: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"] | None:
    """Where a sheet of paper lies on a darker table: a light rectangle, around which there is no writing."""
    filters, step = ndimage(), -(-max(grey.shape) // 300)
    if min(grey.shape) <= SMALL:
        return None
    small = block_means(grey, step)
    closed = filters.grey_closing(small, 9)
    light = small >= otsu(closed)[0]  # a closing would fill the corners of the table
    labels, _ = filters.label(light)
    inside = filters.binary_fill_holes(labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]))
    table, share = ~inside, np.mean(inside)
    border = np.concatenate([table[0], table[-1], table[:, 0], table[:, -1]])
    if not 0.08 < share < 0.98 or np.mean(border) < 0.2 or np.mean(light[table]) > 0.05:
        return None
    written = (closed - small) > 0.3 * closed
    away = (filters.binary_erosion(part, iterations=3) for part in (inside, table))  # from the edge
    here, there = (np.sum(written & part) / max(1, np.sum(part)) for part in away)
    paper, beside = np.median(closed[inside]), np.median(closed[table])
    rise = (filters.maximum_filter(small, 3) - filters.minimum_filter(small, 3))[
        inside & filters.binary_dilation(table)
    ]
    shaded = np.median(rise) < SHARP * (paper - beside) or beside > 0.6 * paper
    if shaded or there > max(0.02, here / 4) or _rectangular(inside) < 0.88:
        return None
    mask = np.zeros(grey.shape, bool)
    within = filters.binary_erosion(inside, iterations=2, border_value=1)
    mask[: small.shape[0] * step, : small.shape[1] * step] = within.repeat(step, axis=0).repeat(step, axis=1)
    return mask


def _rectangular(region: Bool[np.ndarray, "h w"]) -> float:
    """The area of a region as a fraction of the smallest rectangle around it, in any turn."""
    rows, columns = np.nonzero(region & ~ndimage().binary_erosion(region))
    angles = np.deg2rad(np.arange(0, 90, 3))[:, None]
    sides = (
        np.ptp(a * np.cos(angles) + b * np.sin(angles), axis=1) + 1 for a, b in ((rows, columns), (columns, -rows))
    )
    return float(np.sum(region) / np.min(np.prod(list(sides), axis=0)))


def thick(ink: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Where the ink is wider than `NARROW` allows."""
    filters, side = ndimage(), min(ink.shape) // NARROW | 1
    return filters.minimum_filter(ink, side) if min(ink.shape) > SMALL else np.zeros_like(ink)


def fit(above: Float[np.ndarray, "h w"]) -> float:
    """How well what is above or below the paper falls into two classes, from 0 to 1."""
    return otsu(block_means(above, 3))[1]


def _sample(grey: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "y x"]:
    """The means of squares of pixels, 64 or more along the shorter side."""
    return block_means(grey, max(1, min(grey.shape) // 64))


def _quadratic(grey: Float[np.ndarray, "h w"], sample: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "h w"]:
    """The quadratic in row and column that most of the picture is near to; even light where that is less than 60 %."""
    terms, values = np.kron(*map(_powers, sample.shape)), sample.ravel()
    found = np.full_like(values, np.median(values))
    near, coefficients = np.zeros_like(values, bool), np.zeros(9)
    for _ in range(30):
        away = np.abs(values - found)
        before, near = near, away <= max(2.5 * np.median(away), 0.01)
        if np.array_equal(before, near):
            break
        coefficients = np.linalg.lstsq(terms[near], values[near], rcond=None)[0]
        found = terms @ coefficients
    if not _plausible(values - found, float(np.ptp(values))):
        return np.full_like(grey, _majority(sample))
    if np.ptp(found) < 0.02:  # an even light, exactly
        return np.full_like(grey, np.median(values[near]))
    rows, columns = (_powers(n).astype(grey.dtype) for n in grey.shape)
    return rows @ coefficients.reshape(3, 3).astype(grey.dtype) @ columns.T


def _plausible(away: Float[np.ndarray, " n"], contrast: float) -> bool:
    """Whether most of the picture is near to the paper, and the rest either darker or lighter."""
    darker, lighter = (np.sum(np.maximum(0, a - contrast / 8) ** 2) for a in (-away, away))
    near = np.mean(np.abs(away) < contrast / 8)
    return bool(near > 0.6 and 4 * min(darker, lighter) < max(darker, lighter))


def _majority(sample: Float[np.ndarray, "y x"]) -> float:
    """The brightness of the paper if it is even: of two classes, that which has more of the border and the whole."""
    light = sample > otsu(sample)[0]
    border = np.ones_like(light)
    border[1:-1, 1:-1] = False
    paper = light if np.mean(light) + np.mean(light[border]) > 1 else ~light
    return float(np.median(sample[paper]))


def otsu(sample: Float[np.ndarray, "*n"]) -> tuple[float, float]:
    """The threshold of two classes with the largest variance between them, and its share of all (Otsu, 1979)."""
    values = np.sort(sample, axis=None).astype(np.float64)
    n = np.arange(1, len(values))
    below = np.cumsum(values)[:-1]
    between = (below * len(values) - n * values.sum()) ** 2 / (n * (len(values) - n))
    i = int(np.argmax(between))
    return float(values[i] + values[i + 1]) / 2, float(between[i] / len(values) ** 2 / max(values.var(), 1e-12))


def _powers(n: int) -> Float[np.ndarray, "n 3"]:
    return ((np.arange(n) + 0.5) / n * 2 - 1)[:, None] ** np.arange(3)


def block_means(pixels: np.ndarray, step: int) -> np.ndarray:
    """The means of blocks of step x step pixels: of 12 million pixels, six times as fast as a mean over two axes."""
    height, width = (n // step * step for n in pixels.shape[:2])
    with np.errstate(over="ignore"):
        rows = functools.reduce(np.add, (pixels[i:height:step].astype(np.float32) for i in range(step)))
        return functools.reduce(np.add, (rows[:, i:width:step] for i in range(step))) / step**2
