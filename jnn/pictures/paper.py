"""The brightness of the paper behind the ink of a picture, for `jnn.pictures`."""

from typing import Any

import numpy as np
from jaxtyping import Float

FAINT = 0.25
"""Ink above this is part of a stroke; fainter ink counts only beside one."""

LOCAL = 13
"""The side of the squares whose median is the paper where the light is not smooth, in 64ths of the picture."""

SMALL = 64
"""Pictures whose shorter side is at most this, in pixels, are taken to be without noise and in even light."""

_QUADRATIC = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0))  # powers of the row and the column


def ndimage() -> Any:
    """`scipy.ndimage`, late, as its import takes a fifth of a second."""
    from scipy import ndimage

    return ndimage


def paper(grey: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Under a smooth light or, where that does not separate ink and paper as well, the median around each place.

    The medians follow the edge of a shadow, and that of paper on a table.
    """
    (y, height), (x, width) = ((-(-n // 64), n // -(-n // 64)) for n in grey.shape)
    blocks = grey[: y * height, : x * width].reshape(height, y, width, x)[:, :: 1 + y // 6, :, :: 1 + x // 6]
    sample = np.median(blocks.swapaxes(1, 2).reshape(height, width, -1), axis=-1)
    if min(grey.shape) <= SMALL:
        return np.full_like(grey, _majority(sample))
    smooth, filters = _quadratic(grey, sample), ndimage()
    rows, columns = map(_interpolation, grey.shape, (y, x), sample.shape)
    local = (rows @ filters.median_filter(sample, LOCAL) @ columns.T).astype(grey.dtype)
    thirds = tuple(n // 3 * 3 for n in grey.shape)
    squares = ((grey - each)[: thirds[0], : thirds[1]].reshape(-1, 3, thirds[1] // 3, 3) for each in (smooth, local))
    fits, fits_locally = (_otsu(each.mean(axis=(1, 3)))[1] for each in squares)
    away = np.abs(grey - smooth)
    border = np.concatenate([away[0], away[-1], away[:, 0], away[:, -1]])
    surrounded = np.mean(border > FAINT * np.max(away)) > 0.28
    return local if fits_locally > fits + 0.1 or (surrounded and fits_locally > 0.85) else smooth


def _interpolation(n: int, block: int, blocks: int) -> Float[np.ndarray, "n blocks"]:
    """The weights of the blocks' values at each of n pixels: linear between the middles of blocks."""
    at = np.clip((np.arange(n) + 0.5) / block - 0.5, 0, blocks - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(blocks)))


def _quadratic(grey: Float[np.ndarray, "h w"], sample: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "h w"]:
    """The quadratic in row and column that most of the picture is near to; even light where that is less than 60 %."""
    (rows, columns), values = map(_powers, sample.shape), sample.ravel()
    fit = np.stack([np.outer(rows[:, i], columns[:, j]).ravel() for i, j in _QUADRATIC], axis=1)
    found = np.full_like(values, np.median(values))
    near, coefficients = np.zeros_like(values, bool), np.zeros(len(_QUADRATIC))
    for _ in range(30):
        away = np.abs(values - found)
        before, near = near, away <= max(2.5 * np.median(away), 0.01)
        if np.array_equal(before, near):
            break
        some = fit[near]
        coefficients = np.linalg.lstsq(some.T @ some, some.T @ values[near], rcond=None)[0]
        found = fit @ coefficients
    if not _plausible(values - found, float(np.ptp(values))):
        return np.full_like(grey, _majority(sample))
    if np.ptp(found) < 0.02:  # an even light, exactly
        return np.full_like(grey, np.median(values[near]))
    matrix = np.zeros((3, 3), grey.dtype)
    matrix[tuple(zip(*_QUADRATIC, strict=True))] = coefficients
    rows, columns = (_powers(n).astype(grey.dtype) for n in grey.shape)
    return rows @ matrix @ columns.T


def _plausible(away: Float[np.ndarray, " n"], contrast: float) -> bool:
    """Whether most of the picture is near to the paper, and the rest either darker or lighter."""
    darker, lighter = (np.sum(np.maximum(0, a - contrast / 8) ** 2) for a in (-away, away))
    near = np.mean(np.abs(away) < contrast / 8)
    return bool(near > 0.6 and 4 * min(darker, lighter) < max(darker, lighter))


def _majority(sample: Float[np.ndarray, "y x"]) -> float:
    """The brightness of the paper if it is even: of two classes, that which has more of the border and the whole."""
    light = sample > _otsu(sample)[0]
    border = np.ones_like(light)
    border[1:-1, 1:-1] = False
    paper = light if np.mean(light) + np.mean(light[border]) > 1 else ~light
    return float(np.median(sample[paper]))


def _otsu(sample: Float[np.ndarray, "y x"]) -> tuple[float, float]:
    """The threshold of two classes with the largest variance between them, and its share of all (Otsu, 1979)."""
    values = np.sort(sample, axis=None).astype(np.float64)
    n = np.arange(1, len(values))
    below = np.cumsum(values)[:-1]
    between = (below * len(values) - n * values.sum()) ** 2 / (n * (len(values) - n))
    i = int(np.argmax(between))
    return float(values[i] + values[i + 1]) / 2, float(between[i] / len(values) ** 2 / max(values.var(), 1e-12))


def _powers(n: int) -> Float[np.ndarray, "n 3"]:
    return ((np.arange(n) + 0.5) / n * 2 - 1)[:, None] ** np.arange(3)
