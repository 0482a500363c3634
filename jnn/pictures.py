"""A picture of handwriting, as a photo or a scan, to the images that MNIST holds.

`normalise` makes of a picture of one digit what a network trained on MNIST expects, by the rules that MNIST was made by
(LeCun et al., 1998): scaled to fit 20x20 pixels with its proportions kept, its centre of mass in the middle of 28x28.
`find` gives the box of each digit in a picture of several, and `digits` both:

    boxes, xs = pictures.digits(photo)
    probabilities = activations.softmax(jax.vmap(functools.partial(mlp.logits, hidden=relu), (None, 0))(params, xs))

They run on the host, on NumPy arrays, since what is connected to what depends on the values of the pixels.

A picture is [H, W], or [H, W, channels] with grey, grey and alpha, RGB or RGBA, of any dtype. Unsigned integers of 8
and 16 bits are fractions of their largest value, and numbers in [0, 1] brightnesses; others are scaled from their own
range to that. What is transparent is white. Ink may be dark on light or light on dark, but must cover less than half of
the picture, otherwise the paper is taken for the ink. The light may fall off across it, and a shadow may fall on it;
what covers most of a side of the picture, such as a table beside the paper, is left out. Ruled lines are ignored where
they are less than a quarter as dark as the ink. Digits that touch each other, or a frame, are not separated.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike as Like
from jaxtyping import Float, Int, Shaped

from jnn import _checks, _paper

Picture = Shaped[Like, "H W *channels"]
"""[H, W], or [H, W, channels] with 1 to 4 channels, of any real dtype."""

SIDE = 28
"""The side of MNIST's images, in pixels."""

FIT = 20
"""The side of the square that a digit is scaled to fit, in pixels."""

FAINT = _paper.FAINT
"""Ink above this is part of a stroke; fainter ink counts only beside one."""

STRONG = 0.5
"""A stroke must have some ink above this, otherwise it is dropped."""

BESIDE = 0.03
"""Ink is beside a stroke up to this distance, as a fraction of the digit's size; so wide are gaps that are closed."""

LARGEST = 1500
"""The longest side that is not reduced, in pixels: larger pictures are averaged over squares of pixels."""

MOST = 1000
"""The largest number of separate strokes."""

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_NEIGHBOURS = np.ones((3, 3), bool)


class Digits(NamedTuple):
    """The digits in a picture, line by line from the top, each line from the left."""

    boxes: Int[np.ndarray, "K 4"]
    """The first row and column of each, and those behind its last ones: top, left, bottom, right."""
    xs: Float[np.ndarray, "K 784"]
    """Each as MNIST has it."""


def normalise(picture: Picture) -> Float[np.ndarray, "784"]:
    """The picture of one digit as MNIST has it, 28x28 pixels in a row, 0 for paper and 1 for ink.

    All ink, except specks, is scaled to fit 20x20 pixels, its proportions kept, and moved by whole pixels until its
    centre of mass is in the middle. Each pixel is the mean over its area, interpolated in enlarged pictures, and the
    darkest is 1. Specks are no longer than a quarter of the typical stroke.

    Raises ValueError for a picture of another shape, with NaN or infinity, or without ink, or with more than `MOST`
    separate strokes; TypeError for what is no array of real numbers.
    """
    shown = ink(picture)
    parts, boxes = _parts(shown)
    return _cut(shown, np.minimum(parts, 1), _union(boxes), 1)


def find(picture: Picture) -> Int[np.ndarray, "K 4"]:
    """The boxes of the digits in the picture, [top, left, bottom, right] in pixels, in reading order.

    Raises as `normalise` does.
    """
    return digits(picture).boxes


def digits(picture: Picture) -> Digits:
    """The boxes of the digits in the picture, in reading order, and each digit as `normalise` gives it.

    A digit is connected ink. The parts of a broken stroke are joined, as are a bar and what is close below it, and
    specks are dropped. Ink of a neighbour inside a box is left out. Raises as `normalise` does.
    """
    shown = ink(picture)
    parts, boxes = _parts(shown)
    owner = _joined(parts, boxes)
    owners = np.concatenate([[-1], owner])[parts]
    boxes = np.array([_union(boxes[owner == i]) for i in range(owner.max() + 1)])
    order = _reading_order(boxes)
    xs = np.stack([_cut(shown, owners, boxes[i], i) for i in order])
    height, width = np.shape(picture)[:2]
    return Digits(np.minimum(boxes[order] * _step(np.shape(picture)), [height, width, height, width]), xs)


def ink(picture: Picture) -> Float[np.ndarray, "h w"]:
    """How much ink is where: 0 on the paper, 1 in the strokes. Uneven light is taken out, and either polarity found.

    The light is a quadratic in the row and the column, fitted to the paper; where medians of parts of the picture
    separate ink and paper better, it is these. [h, w] is [H, W] divided by a whole number, so that it is at most
    `LARGEST`; what rows and columns remain are cut off. Raises as `normalise` does.
    """
    ndimage, grey = _paper.ndimage(), _grey(picture)
    paper = _paper.paper(grey)
    above = grey - paper
    smooth = ndimage.uniform_filter(above, 3) if min(grey.shape) > _paper.SMALL else above
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
    full = np.median(strokes) if len(strokes) else smooth.max()
    return np.clip(depth / full, 0, 1)


def _grey(picture: Any) -> Float[np.ndarray, "h w"]:
    """The brightness, from 0 to 1, of a picture that is reduced where it is large."""
    _checks.array("picture", picture)
    pixels = np.asarray(picture)
    if (pixels.dtype != bool and not jnp.issubdtype(pixels.dtype, jnp.number)) or np.iscomplexobj(pixels):
        raise TypeError(f"picture must be an array of real numbers, got dtype {pixels.dtype}")
    if pixels.ndim not in (2, 3) or min(pixels.shape[:2]) < 2 or not 1 <= (*pixels.shape, 1)[2] <= 4:
        raise ValueError(
            f"picture must have shape [H, W] or [H, W, channels], with at least 2x2 pixels and 1 to 4 channels, "
            f"got {pixels.shape}"
        )
    largest = {"b1": 1, "u1": 255, "u2": 65535}.get(pixels.dtype.str[1:])
    step = _step(pixels.shape)
    if step > 1:
        pixels = _block_means(pixels, step)
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


def _block_means(pixels: np.ndarray, step: int) -> np.ndarray:
    """The means of blocks of step x step pixels: of 12 million pixels, eight times as fast as a mean over two axes."""
    height, width = (n // step * step for n in pixels.shape[:2])
    with np.errstate(over="ignore"):
        rows = pixels[:height:step].astype(np.float32)
        for i in range(1, step):
            rows += pixels[i:height:step]
        sums = rows[:, :width:step].copy()
        for i in range(1, step):
            sums += rows[:, i:width:step]
    return sums / step**2


def _step(shape: tuple[int, ...]) -> int:
    return min(*shape[:2], -(-max(shape[:2]) // LARGEST))


def _parts(shown: Float[np.ndarray, "h w"]) -> tuple[Int[np.ndarray, "h w"], Int[np.ndarray, "K 4"]]:
    """Connected ink, numbered from 1, without specks, and the box of each."""
    labels, count = _paper.ndimage().label(shown > FAINT, _NEIGHBOURS)
    strong = np.bincount(labels[shown > STRONG], minlength=count + 1)[1:] > 0
    boxes = _boxes(labels)
    sides = np.max(boxes[:, 2:] - boxes[:, :2], axis=1)
    border = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    around = np.max([np.bincount(line, minlength=count + 1)[1:] / len(line) for line in border], axis=0) > 0.8
    if np.any(strong & ~around & (sides > min(shown.shape) / 20)):
        strong &= ~around  # a table, or the dark beside the paper
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    typical = _weighted_median(sides[strong], areas[strong])
    kept = np.flatnonzero(strong & (sides >= typical / 4))
    if len(kept) > MOST:
        raise ValueError(f"picture must show at most {MOST} separate strokes, got {len(kept)}")
    renumbered = np.zeros(count + 1, int)
    renumbered[kept + 1] = np.arange(1, len(kept) + 1)
    return renumbered[labels], boxes[kept]


def _boxes(labels: Int[np.ndarray, "h w"]) -> Int[np.ndarray, "K 4"]:
    return np.array([[y.start, x.start, y.stop, x.stop] for y, x in _paper.ndimage().find_objects(labels)]).reshape(
        -1, 4
    )


def _union(boxes: Int[np.ndarray, "K 4"]) -> Int[np.ndarray, "4"]:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    shares = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(shares, shares[-1] / 2)])


def _joined(parts: Int[np.ndarray, "h w"], boxes: Int[np.ndarray, "K 4"]) -> Int[np.ndarray, " K"]:
    """For each part the number of its digit, from 0."""
    top, left, bottom, right = boxes.T
    heights, widths = bottom - top, right - left
    sides, areas = np.maximum(heights, widths), heights * widths
    across = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    along = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
    beside = np.array([_weighted_median(sides[near], areas[near]) for near in along > 0])
    typical = np.maximum(beside[:, None], beside)
    tall = np.maximum(bottom[:, None], bottom) - np.minimum(top[:, None], top)
    stacked = (
        (across >= np.minimum(widths[:, None], widths) / 2)
        & (along <= np.minimum(heights[:, None], heights) / 4)
        & (along >= -0.3 * typical)
        & (tall <= 1.4 * typical)
    )
    ndimage, reach = _paper.ndimage(), max(3, 2 * round(BESIDE * _weighted_median(sides, areas)) + 1)
    islands, _ = ndimage.label(ndimage.maximum_filter(parts > 0, reach), _NEIGHBOURS)
    island = np.zeros(len(boxes) + 1, int)
    island[parts] = islands
    island = island[1:]
    together = stacked | (island[:, None] == island)
    owner = np.arange(len(boxes))
    while np.any(owner != (least := np.where(together, owner, len(owner)).min(axis=1))):
        owner = least
    return np.unique(owner, return_inverse=True)[1]


def _reading_order(boxes: Int[np.ndarray, "K 4"]) -> list[int]:
    """Line by line: a digit whose middle is within the height of the nearest digit of a line belongs to it."""
    lines: list[list[int]] = []
    for i in np.argsort(boxes[:, 0] + boxes[:, 2]).tolist():
        middle = (boxes[i, 0] + boxes[i, 2]) / 2
        for line in lines:
            away = np.abs(boxes[line][:, [1, 3]].sum(axis=1) - boxes[i, [1, 3]].sum())
            top, bottom = boxes[line[np.argmin(away)], [0, 2]]
            if top <= middle < bottom:
                line.append(i)
                break
        else:
            lines.append([i])
    return [i for line in lines for i in sorted(line, key=lambda i: boxes[i, 1])]


def _cut(
    shown: Float[np.ndarray, "h w"], owners: Int[np.ndarray, "h w"], box: Int[np.ndarray, "4"], i: int
) -> Float[np.ndarray, "784"]:
    """The ink in the box that belongs to i, with what is beside it, as MNIST has it."""
    top, left, bottom, right = box
    reach = max(1, round(BESIDE * max(bottom - top, right - left)))
    region = (slice(max(0, top - reach), bottom + reach), slice(max(0, left - reach), right + reach))
    digit = shown[region] * _paper.ndimage().maximum_filter(owners[region] == i, 2 * reach + 1)
    rows, columns = (np.flatnonzero(np.any(digit > FAINT, axis=axis)) for axis in (1, 0))
    digit = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float64)
    scale = FIT / max(digit.shape)
    total = digit.sum()
    centre = [digit.sum(axis=1 - axis) @ (np.arange(n) + 0.5) / total * scale for axis, n in enumerate(digit.shape)]
    offset = [math.ceil(SIDE / 2 - at) for at in centre]  # MNIST's middle is the pixel in row and column 14
    down, along = (_weights(n, scale, start) for n, start in zip(digit.shape, offset, strict=True))
    small = down @ digit @ along.T
    return (small / small.max()).astype(np.float32).ravel()


def _weights(n: int, scale: float, start: int) -> Float[np.ndarray, "28 n"]:
    """What each of n pixels gives to each of MNIST's 28, of which the first is at `start`: the share of its area.

    Of enlarged pictures, the linear interpolation.
    """
    wide = max(1, 1 / scale)
    middle = (np.arange(SIDE) + 0.5 - start) / scale
    i = np.arange(n)
    low = np.maximum(i, middle[:, None] - wide / 2)
    high = np.minimum(i + 1, middle[:, None] + wide / 2)
    return np.maximum(0, high - low) / wide
