"""How what was found on a page stands: lines, words, and small marks that are signs and no digits."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from jnn import pictures

GAP = 0.75
"""A gap between two words is at least this wide, as a fraction of the height of the digits beside it."""

Word = tuple[int | str, ...]
"""The numbers of digits, and signs, from the left."""


class Layout(NamedTuple):
    """Which of the found pieces are digits, and how these and signs stand."""

    digits: Int[np.ndarray, " D"]
    """The numbers of those pieces."""
    lines: tuple[tuple[Word, ...], ...]
    """The lines from the top, each a row of words, in which digits are numbered in the order of `digits`."""


def layout(page: pictures.Page) -> Layout:
    """The words of a page: a point, a comma and a minus stand among the digits where they are clear."""
    digits: list[int] = []
    lines = []
    for line in range(page.lines.max() + 1):
        pieces = np.flatnonzero(page.lines == line)
        signs = [_sign(page.boxes[i], page.boxes[pieces[pieces != i]]) for i in pieces]
        entries: list[tuple[np.ndarray, int | str]] = []
        for i, sign in zip(pieces.tolist(), signs, strict=True):
            entries.append((page.boxes[i], sign or len(digits)))
            digits += [] if sign else [i]
        kept = page.boxes[pieces[[not sign for sign in signs]]]
        marks = np.concatenate([page.left_out["specks"], page.left_out["spots"]])
        entries += [(box, ".") for box in marks if _is_point(box, kept)]
        lines.append(_words(sorted(entries, key=lambda entry: entry[0][1]), kept))
    return Layout(np.array(digits, int), tuple(lines))


def _words(entries: list[tuple[np.ndarray, int | str]], digits: Int[np.ndarray, "K 4"]) -> tuple[Word, ...]:
    words: list[list[int | str]] = [[]]
    height, right = np.median(digits[:, 2] - digits[:, 0]), np.inf
    for box, entry in entries:
        if box[1] - right > GAP * height:
            words.append([])
        words[-1].append(entry)
        right = box[3]
    return tuple(map(tuple, words))


def _sign(box: Int[np.ndarray, "4"], others: Int[np.ndarray, "K 4"]) -> str:
    """The sign that a piece is among the others of its line, or nothing."""
    heights = others[:, 2] - others[:, 0]
    if not len(others) or heights.max() > 2.5 * np.median(heights):  # of mixed sizes: it may be a small digit
        return ""
    height, base = np.median(heights), np.median(others[:, 2])
    top, left, bottom, right = box
    high, wide = (bottom - top) / height, (right - left) / height
    if wide > 2 * high and high < 0.25 and 0.2 < wide < 1 and 0.25 < (base - (top + bottom) / 2) / height < 0.75:
        return "-"
    low = top > base - 0.4 * height
    if low and max(high, wide) < 0.2:
        return "."
    return "," if low and high < 0.55 and wide < min(0.35, 0.8 * high) and bottom > base + 0.08 * height else ""


def _is_point(box: Int[np.ndarray, "4"], digits: Int[np.ndarray, "K 4"]) -> bool:
    """Whether a mark stands at the foot of a line, close to digits on both sides."""
    height, base = np.median(digits[:, 2] - digits[:, 0]), np.median(digits[:, 2])
    top, left, bottom, right = box
    before, behind = left - digits[:, 3], digits[:, 1] - right
    near = np.any((before > 0) & (before < height)) and np.any((behind > 0) & (behind < height))
    round_ = 0.5 < (bottom - top) / (right - left) < 2
    return bool(near and round_ and 0.07 < (bottom - top) / height < 0.3 and -0.2 < (bottom - base) / height < 0.2)


def fragments(page: pictures.Page, digits: Int[np.ndarray, " K"]) -> Bool[np.ndarray, " K"]:
    """Which may be parts: close to a digit more than twice as high, or to a speck that is no point at its foot."""
    boxes, specks = page.boxes[digits], page.left_out["specks"]
    heights = (boxes[:, 2] - boxes[:, 0])[:, None]
    of_others = (2 * heights < heights.T) & (_apart(boxes, boxes) < heights.T / 4)
    near = (_apart(boxes, specks) < heights / 4) & (specks[:, 2] < boxes[:, 2:3] - heights / 4)
    large = np.max(specks[:, 2:] - specks[:, :2], axis=1) > heights / 12
    return np.any(of_others, axis=1) | np.any(near & large, axis=1)


def _apart(one: Int[np.ndarray, "K 4"], other: Int[np.ndarray, "M 4"]) -> Int[np.ndarray, "K M"]:
    """The distances of boxes, along an axis."""
    gaps = np.maximum(one[:, None, :2] - other[:, 2:], other[:, :2] - one[:, None, 2:])
    return gaps.max(axis=-1)


def crosses(xs: Float[np.ndarray, "K 784"]) -> Bool[np.ndarray, " K"]:
    """Which are like + or x, for which the network was given no name: 0.2 % of the fours in MNIST are, too."""
    return np.array([_is_cross(x.reshape(pictures.SIDE, pictures.SIDE)) for x in xs], bool)


def _is_cross(x: Float[np.ndarray, "28 28"]) -> bool:
    rows, columns = (np.flatnonzero((x > 0.3).any(axis=axis)) for axis in (1, 0))
    tight = x[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if not 0.5 < tight.shape[0] / tight.shape[1] < 2:
        return False
    image = Image.fromarray(np.uint8(255 * tight)).resize((20, 20), Image.Resampling.BILINEAR)
    blocks = np.asarray(image, np.float32)[[*range(6), *range(7, 13), *range(14, 20)]] / 255
    blocks = blocks[:, [*range(6), *range(7, 13), *range(14, 20)]].reshape(3, 6, 3, 6).mean(axis=(1, 3))
    corners, sides, middle = blocks[::2, ::2], blocks.ravel()[[1, 3, 5, 7]], blocks[1, 1]
    return bool(middle > 0.2 and (corners.max() < 0.15 < 1.6 * sides.min() or sides.max() < 0.15 < 1.6 * corners.min()))
