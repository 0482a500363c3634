"""From ink to digits: connected strokes, joined, in reading order, each as MNIST holds it."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jnn.pictures import paper
from jnn.pictures.paper import FAINT, STRONG
from jnn.pictures.photo import Picture, ink, reduction, seen

SIDE = 28
"""The side of MNIST's images, in pixels."""

FIT = 20
"""The side of the square that a digit is scaled to fit, in pixels."""

BESIDE = 0.03
"""Ink is beside a stroke up to this distance, as a fraction of the digit's size; so wide are gaps that are closed."""

MOST = 1000
"""The largest number of separate strokes."""

HOLES = 8
"""Ink as long as the picture, with more holes than this, is no digit but thick lines through digits."""

_NEIGHBOURS = np.ones((3, 3), bool)


class Digits(NamedTuple):
    """The digits in a picture, line by line from the top, each line from the left.

    Attributes:
      boxes: The box of each digit: top, left, bottom, right, the last two exclusive.
      xs: Each digit as an MNIST image.
    """

    boxes: Int[np.ndarray, "K 4"]
    xs: Float[np.ndarray, "K 784"]


class Page(NamedTuple):
    """The digits in a picture, their lines, and the ink that was left out.

    Attributes:
      boxes: The boxes of the digits, as in `Digits`.
      xs: The digits as MNIST images.
      lines: The line of each digit, from 0.
      sheet: Whether the picture shows a sheet of paper on a darker table; everything beside it is left out.
      left_out: The boxes of "frames" around digits, thin "lines", filled "spots", and "specks".
    """

    boxes: Int[np.ndarray, "K 4"]
    xs: Float[np.ndarray, "K 784"]
    lines: Int[np.ndarray, " K"]
    sheet: bool
    left_out: dict[str, Int[np.ndarray, "M 4"]]


def normalise(picture: Picture) -> Float[np.ndarray, "784"]:
    """Turns the picture of one digit into an MNIST image: a row of 28x28 pixels, 0 for paper and 1 for ink.

    All ink, except specks, is scaled to fit 20x20 pixels with its proportions kept, and moved by whole pixels until its
    centre of mass is in the middle. Each pixel is the mean over its area, interpolated in enlarged pictures, and the
    darkest is 1. Specks are no longer than a quarter of the typical stroke.

    Args:
      picture: The picture.

    Example:
      >>> picture = np.full((90, 60), 255, np.uint8)
      >>> picture[20:70, 28:34] = 0
      >>> pictures.normalise(picture).reshape(28, 28)[:, 14].round(1).tolist() == [0.0] * 4 + [1.0] * 20 + [0.0] * 4
      True
    """
    shown = ink(picture)
    parts, boxes, _ = _parts(shown, alone=True)
    return _cut(shown, np.minimum(parts, 1), _union(boxes), 1)


def find(picture: Picture) -> Int[np.ndarray, "K 4"]:
    """Finds the boxes of the digits in a picture, in reading order: the first result of `digits`.

    Args:
      picture: The picture.

    Returns:
      The top, left, bottom and right of each box in pixels, the last two exclusive.

    Example:
      >>> picture = np.full((90, 200), 255, np.uint8)
      >>> picture[20:70, 30:36] = picture[20:70, 90:96] = 0
      >>> pictures.find(picture).tolist()
      [[20, 30, 70, 36], [20, 90, 70, 96]]
    """
    return digits(picture).boxes


def digits(picture: Picture) -> Digits:
    """Finds the digits in a picture: their boxes, in reading order, and each digit as `normalise` returns it.

    A digit is connected ink. The parts of a broken stroke are joined, as are a bar and the ink close below it or to its
    left, and specks are dropped. Ink of a neighbour inside a box is left out.

    Args:
      picture: The picture.

    Example:
      >>> picture = np.full((90, 200), 255, np.uint8)
      >>> picture[20:70, 30:36] = picture[20:70, 90:96] = 0
      >>> boxes, xs = pictures.digits(picture)
      >>> boxes.shape, xs.shape
      ((2, 4), (2, 784))
    """
    return Digits(*page(picture)[:2])


def page(picture: Picture) -> Page:
    """Finds the digits in a picture as `digits` does, with their lines and the ink that was left out.

    Args:
      picture: The picture.

    Example:
      >>> picture = np.full((90, 200), 255, np.uint8)
      >>> picture[20:70, 30:36] = picture[20:70, 90:96] = picture[75:79, 20:180] = 0
      >>> found = pictures.page(picture)
      >>> found.lines.tolist(), {name: len(boxes) for name, boxes in found.left_out.items() if len(boxes)}
      ([0, 0], {'lines': 1})
    """
    shown, sheet = seen(picture)
    parts, boxes, left_out = _parts(shown)
    owner = _joined(parts, boxes)
    owners = np.concatenate([[-1], owner])[parts]
    boxes = np.array([_union(boxes[owner == i]) for i in range(owner.max() + 1)])
    lines = _lines(boxes)
    order = [i for line in lines for i in line]
    xs = np.stack([_cut(shown, owners, boxes[i], i) for i in order])
    step, limits = reduction(np.shape(picture)), np.tile(np.shape(picture)[:2], 2)
    return Page(
        np.minimum(boxes[order] * step, limits),
        xs,
        np.repeat(np.arange(len(lines)), [len(line) for line in lines]),
        sheet,
        {name: np.minimum(each * step, limits) for name, each in left_out.items()},
    )


def _parts(
    shown: Float[np.ndarray, "h w"], *, alone: bool = False
) -> tuple[Int[np.ndarray, "h w"], Int[np.ndarray, "K 4"], dict[str, Int[np.ndarray, "M 4"]]]:
    """Connected ink, numbered from 1, the box of each piece, and the boxes of what is left out."""
    labels, count = paper.ndimage().label(shown > FAINT, _NEIGHBOURS)
    strong = np.bincount(labels[shown > STRONG], minlength=count + 1)[1:] > 0
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    found = paper.ndimage().find_objects(labels)
    boxes = np.array([[y.start, x.start, y.stop, x.stop] for y, x in found]).reshape(-1, 4)
    sides = np.max(boxes[:, 2:] - boxes[:, :2], axis=1)
    border = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    around = np.max([np.bincount(line, minlength=count + 1)[1:] / len(line) for line in border], axis=0) > 0.8
    if np.any(strong & ~around & (sides > min(shown.shape) / 20)):
        strong &= ~around  # a table whose grain is taken for writing, or the dark beside the paper
    left_out = _no_digits(labels, boxes, areas, strong, alone)
    kept = np.flatnonzero(strong & ~np.any(list(left_out.values()), axis=0))
    if len(kept) > MOST:
        raise ValueError(f"picture must show at most {MOST} separate strokes, got {len(kept)}")
    if any(_holes(labels[_slices(boxes[i])] == i + 1) > HOLES for i in kept[sides[kept] > 0.9 * min(shown.shape)]):
        raise ValueError("picture must show digits beside lines as thick as strokes, got such lines through them")
    renumbered = np.zeros(count + 1, int)
    renumbered[kept + 1] = np.arange(1, len(kept) + 1)
    return renumbered[labels], boxes[kept], {name: boxes[strong & some] for name, some in left_out.items()}


def _no_digits(
    labels: Int[np.ndarray, "h w"],
    boxes: Int[np.ndarray, "K 4"],
    areas: Int[np.ndarray, " K"],
    strong: Bool[np.ndarray, " K"],
    alone: bool,
) -> dict[str, Bool[np.ndarray, " K"]]:
    """Which pieces of ink are frames, lines, spots and specks, by what is typical; beside one digit only specks."""
    sides, narrow = (side(boxes[:, 2:] - boxes[:, :2], axis=1) for side in (np.max, np.min))
    frames = np.zeros_like(strong) if alone else _frames(labels, boxes, strong & (sides >= 8))
    others = strong & ~frames
    typical = _weighted_median(sides[others], narrow[others])
    at_border = np.any(np.abs(boxes - [0, 0, *labels.shape]) < typical / 20, axis=1) & (narrow < typical / 5)
    lines = at_border | ((sides > 1.5 * typical) & (areas < sides * typical / 8))
    spots = (areas > 0.74 * narrow * sides) & (narrow > 0.6 * sides) & (sides >= typical / 4)
    fine = (sides >= min(labels.shape) / 30) & (areas < sides**2 / 2)  # a small digit, not a speck
    specks = (sides < typical / 4) & ~fine
    if alone or not np.any(others & ~lines & ~spots & ~specks):  # all that there is
        lines = spots = np.zeros_like(strong)
    kinds = {"frames": frames, "lines": lines, "spots": spots, "specks": specks}
    return {name: each & ~np.any(list(kinds.values())[:i], axis=0) for i, (name, each) in enumerate(kinds.items())}


def _frames(
    labels: Int[np.ndarray, "h w"], boxes: Int[np.ndarray, "K 4"], large: Bool[np.ndarray, " K"]
) -> Bool[np.ndarray, " K"]:
    """Of the large pieces of ink, those in whose holes there are others, more than a third as high as the hole."""
    frames, some = np.zeros_like(large), np.flatnonzero(large)
    for i in some:
        top, left, bottom, right = boxes[i]
        within = some[np.all(boxes[some, :2] > (top, left), axis=1) & np.all(boxes[some, 2:] < (bottom, right), axis=1)]
        if not len(within):
            continue
        holes, _ = paper.ndimage().label(labels[_slices(boxes[i])] != i + 1)
        outside = np.unique([*holes[0], *holes[-1], *holes[:, 0], *holes[:, -1]])
        heights = [0, *(y.stop - y.start for y, _ in paper.ndimage().find_objects(holes))]
        for j in within:
            row = boxes[j, 0]
            hole = holes[row - top, np.argmax(labels[row, left:right] == j + 1)]
            frames[i] |= hole not in outside and 3 * (boxes[j, 2] - row) > heights[hole]
    return frames


def _holes(piece: Bool[np.ndarray, "h w"]) -> int:
    """The holes in a piece of ink that are not tiny."""
    labels, _ = paper.ndimage().label(~piece)
    return int(np.sum(np.bincount(labels.ravel())[1:] > labels.size / 2000))


def _slices(box: Int[np.ndarray, "4"]) -> tuple[slice, slice]:
    return slice(box[0], box[2]), slice(box[1], box[3])


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
    flag = (  # a bar at the upper right of a stroke, such as that of a 5
        (2 * heights < widths)
        & (2 * heights < heights[:, None])
        & (2 * (bottom - top[:, None]) < heights[:, None])
        & (along > -0.2 * typical)
        & (left > left[:, None])
        & (across > -0.2 * typical)
    )
    ndimage, reach = paper.ndimage(), max(3, 2 * round(BESIDE * _weighted_median(sides, areas)) + 1)
    islands, _ = ndimage.label(ndimage.maximum_filter(parts > 0, reach), _NEIGHBOURS)
    island = np.zeros(len(boxes) + 1, int)
    island[parts] = islands
    island = island[1:]
    together = stacked | flag | flag.T | (island[:, None] == island)
    owner = np.arange(len(boxes))
    while np.any(owner != (least := np.where(together, owner, len(owner)).min(axis=1))):
        owner = least
    return np.unique(owner, return_inverse=True)[1]


def _lines(boxes: Int[np.ndarray, "K 4"]) -> list[list[int]]:
    """The lines: to each belong digits whose middle is within the height of its nearest digit, and marks just below."""
    lines: list[list[int]] = []
    for i in np.argsort(boxes[:, 0] + boxes[:, 2]).tolist():
        middle = (boxes[i, 0] + boxes[i, 2]) / 2
        for line in lines:
            away = np.abs(boxes[line][:, [1, 3]].sum(axis=1) - boxes[i, [1, 3]].sum())
            top, bottom = boxes[line[np.argmin(away)], [0, 2]]
            comma = 2 * (boxes[i, 2] - boxes[i, 0]) < bottom - top
            if top <= middle < bottom + comma * (bottom - top) / 3:
                line.append(i)
                break
        else:
            lines.append([i])
    return [sorted(line, key=lambda i: boxes[i, 1]) for line in lines]


def _cut(
    shown: Float[np.ndarray, "h w"], owners: Int[np.ndarray, "h w"], box: Int[np.ndarray, "4"], i: int
) -> Float[np.ndarray, "784"]:
    """The ink in the box that belongs to i, with what is beside it, as MNIST has it."""
    top, left, bottom, right = box
    reach = max(1, round(BESIDE * max(bottom - top, right - left)))
    region = (slice(max(0, top - reach), bottom + reach), slice(max(0, left - reach), right + reach))
    digit = shown[region] * paper.ndimage().maximum_filter(owners[region] == i, 2 * reach + 1)
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
