"""From a photo to ink: brightness, the light taken out, either polarity."""

import contextlib

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike as Like
from jaxtyping import Bool, Float, Int, Shaped

from jnn._internal import checks
from jnn.pictures import paper as papers

Picture = Shaped[Like, "H W *channels"]
"""[H, W], or [H, W, channels] with 1 to 4 channels, of any real dtype."""

LARGEST = 1500
"""The longest side that is not reduced, in pixels: larger pictures are averaged over squares of pixels."""

LINE = 0.15
"""Ink above this that runs from edge to edge is a printed line."""

LONG = 0.9
"""A printed line covers at least this fraction of the picture."""

STEP = 8
"""A printed line rises or falls by at most one pixel in this many."""

WIDER = 1.5
"""A stroke is wider than a line through it by this factor."""

THIN = 0.02
"""A printed line is thinner than this fraction of the picture, divided by `WIDER`."""

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def ink(picture: Picture) -> Float[np.ndarray, "h w"]:
    """Returns the ink in a picture, 0 on the paper and 1 in the strokes, without uneven light, for either polarity.

    The light is a quadratic in the row and the column, fitted to the paper; under a shadow, it is a morphological
    closing of the picture. If there is a sheet on a table, only the sheet counts.

    Args:
      picture: The picture.

    Returns:
      The ink, whose shape [h, w] is [H, W] divided by the whole number that makes it at most `LARGEST`. Remaining rows
      and columns are cut off.

    Example:
      >>> picture = np.full((90, 60), 255, np.uint8)
      >>> picture[20:70, 28:34] = 0
      >>> shown = pictures.ink(picture)
      >>> float(shown[40, 30]), abs(float(shown[5, 5]))
      (1.0, 0.0)
    """
    return seen(picture)[0]


def seen(picture: Picture) -> tuple[Float[np.ndarray, "h w"], bool]:
    """The ink, and whether it is that of a sheet on a table."""
    grey = _grey(picture)
    sheet = papers.sheet(grey)
    if sheet is None:
        return _ink(grey), False
    rows, columns = (np.flatnonzero(sheet.any(axis=axis)) for axis in (1, 0))
    region = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    part, on_sheet = grey[region], sheet[region]
    shown = np.zeros_like(grey)
    shown[region] = _ink(np.where(on_sheet, part, np.median(part[on_sheet]))) * on_sheet
    return shown, True


def _ink(grey: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The ink in a picture of paper alone."""
    depth, full = _depth(grey, papers.paper(grey))
    step = 3 if min(grey.shape) > 3 * papers.SMALL else 1
    thick = papers.thick(depth[::step, ::step] > LINE * full)
    if np.mean(thick) > 0.01:
        with contextlib.suppress(ValueError):  # nothing but thick ink
            other, other_full = _depth(grey, papers.envelope(grey))
            left = np.mean(papers.thick(other[::step, ::step] > LINE * other_full)) / np.mean(thick)
            faint = np.median(depth[::step, ::step][thick]) / np.quantile(depth, 0.998)
            better = papers.fit(other) - papers.fit(depth)
            at_border = np.any(thick[[0, -1]]) or np.any(thick[:, [0, -1]])
            least = -1 if faint < 0.75 else -0.05 if at_border and faint < 0.97 else 0 if faint < 0.88 else 0.03
            strokes = np.any(other > papers.STRONG * other_full)  # else a thick stroke is taken for a shadow
            if strokes and left < 1 / 3 and better > least:
                depth, full = other, other_full
    return np.clip(_without_lines(depth / full), 0, 1)


def _without_lines(shown: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Without printed lines: of what runs from edge to edge, only what is thicker than the line is left."""
    if min(shown.shape) <= papers.SMALL:
        return shown
    lines = [(line, axis) for line, axis in ((_line(shown), 0), (_line(shown.T).T, 1)) if np.any(line)]
    if not lines:
        return shown
    ink = shown > LINE
    for _ in range(2):  # where lines cross, they are thin only without one another
        ink &= ~np.any([line & ~_thick(ink, line, axis) for line, axis in lines], axis=0)
    left = np.where(ink, shown, np.minimum(shown, LINE))
    return left if np.any(left > papers.STRONG) else shown


def _line(shown: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """What runs from left to right, and up or down by at most one pixel in `STEP`."""
    width = shown.shape[1]
    ahead = np.add.reduceat(shown, range(0, width, STEP), axis=1).T / STEP > LINE
    length = _length(ahead) + _length(ahead[::-1])[::-1]
    line = (length > LONG * len(ahead)).T.repeat(STEP, axis=1)[:, :width]
    return papers.ndimage().maximum_filter1d(line, 3, 0) & (shown > LINE)


def _length(ahead: Bool[np.ndarray, "n m"]) -> Int[np.ndarray, "n m"]:
    """The length of the longest path to each pixel from the first row, by steps to the next row's three nearest."""
    length = np.zeros((len(ahead), ahead.shape[1] + 2), np.int16)
    for i, row in enumerate(ahead):
        before = length[i - 1]
        best = np.maximum(np.maximum(before[:-2], before[2:]), before[1:-1])
        length[i, 1:-1] = (best + 1) * row
    return length[:, 1:-1]


def _thick(ink: Bool[np.ndarray, "h w"], line: Bool[np.ndarray, "h w"], axis: int) -> Bool[np.ndarray, "h w"]:
    """Which ink is wider across a line than the line is."""
    filters, ends = papers.ndimage(), np.diff(line, axis=axis, prepend=False, append=False)
    wide = np.median(2 * np.sum(line, axis=axis) / np.maximum(2, np.sum(ends, axis=axis)))
    side = round(WIDER * wide) | 1
    if side > min(ink.shape) * THIN:
        return ink
    return filters.maximum_filter1d(filters.minimum_filter1d(ink, side, axis), side, axis)


def _depth(grey: Float[np.ndarray, "h w"], paper: Float[np.ndarray, "h w"]) -> tuple[Float[np.ndarray, "h w"], float]:
    """The fraction of the paper's light that is missing, or added by light ink, and how much that is in a stroke."""
    above = grey - paper
    smooth = papers.ndimage().uniform_filter(above, 3) if min(grey.shape) > papers.SMALL else above
    some = (slice(None, None, 1 + n // 300) for n in grey.shape)
    noise = 1.5 * np.median(np.abs(above - smooth)[*some])
    floor = max(0.04, 6 * noise)
    marks = smooth[np.abs(smooth) > floor]
    darker, lighter = (np.sum((np.abs(a) - floor) ** 2) for a in (marks[marks < 0], marks[marks > 0]))
    if not len(marks):
        raise ValueError(
            f"picture must show ink on paper: its contrast must be above {floor:.2g} of white, "
            f"got {np.abs(smooth).max():.2g}"
        )
    light = np.maximum(paper, 0.05) * (-1 if darker > lighter else 1)  # ink changes any light by the same factor
    depth, smooth = above / light, smooth / light
    half = smooth.max() / 2
    strokes = depth[(smooth > half) & (depth > half)]
    return depth, float(np.median(strokes)) if len(strokes) else float(smooth.max())


def reduction(shape: tuple[int, ...]) -> int:
    return min(*shape[:2], -(-max(shape[:2]) // LARGEST))


def _grey(picture: Picture) -> Float[np.ndarray, "h w"]:
    """The brightness, from 0 to 1, of a picture that is reduced where it is large."""
    checks.unlisted("picture", picture)
    pixels = np.asarray(picture)
    if (pixels.dtype != bool and not jnp.issubdtype(pixels.dtype, jnp.number)) or np.iscomplexobj(pixels):
        raise TypeError(f"picture must be an array of real numbers, got dtype {pixels.dtype}")
    if pixels.ndim not in (2, 3) or min(pixels.shape[:2]) < 2 or not 1 <= (*pixels.shape, 1)[2] <= 4:
        raise ValueError(
            f"picture must have shape [H, W] or [H, W, channels], with at least 2x2 pixels and 1 to 4 channels, "
            f"got {pixels.shape}"
        )
    largest = {"b1": 1, "u1": 255, "u2": 65535}.get(pixels.dtype.str[1:])
    step = reduction(pixels.shape)
    if step > 1:
        pixels = papers.block_means(pixels, step)
    with np.errstate(over="ignore"):
        pixels = pixels.astype(np.float32)
    least, most = pixels.min(), pixels.max()
    if not np.isfinite(least + most):
        raise ValueError("picture must have finite pixels, got NaN or infinity")
    if largest is None and (least < 0 or most > 1):
        pixels, largest = pixels - least, most - least
    pixels = pixels / (largest or 1)
    colours = pixels.reshape(*pixels.shape[:2], -1)
    alpha = colours.shape[2] in (2, 4)
    solid = colours[..., : colours.shape[2] - alpha]
    grey = solid @ _LUMINANCE if solid.shape[2] == 3 else solid[..., 0]
    if not alpha:
        return grey
    on_white = grey * colours[..., -1] + 1 - colours[..., -1]
    return on_white if np.ptp(on_white) > 0.02 else 1 - colours[..., -1]  # white ink on nothing
