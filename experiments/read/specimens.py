"""Pictures of digits to read: in fonts, on synthetic photos, drawn with a pen, and a sheet of printed and drawn ones.

Fonts are those that matplotlib brings; everything else is drawn here.
"""

import functools
import io
import itertools
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import ft2font
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

PHOTO = (600, 800)
"""Height and width of a synthetic photo."""


Stroke = tuple[tuple[float, float], ...]

_EIGHT = (
    *((0.75, 0.12), (0.45, 0), (0.25, 0.2), (0.5, 0.45), (0.78, 0.75), (0.5, 1), (0.2, 0.8), (0.5, 0.47)),
    *((0.72, 0.25), (0.7, 0.08)),
)
STROKES: tuple[tuple[tuple[Stroke, ...], ...], ...] = (
    ((((0.55, 0), (0.2, 0.15), (0.1, 0.55), (0.3, 0.95), (0.65, 0.95), (0.85, 0.5), (0.75, 0.12), (0.5, 0)),),),
    (
        (((0.3, 0.25), (0.55, 0), (0.55, 0), (0.52, 0.5), (0.5, 1)),),
        (((0.1, 0.5), (0.6, 0), (0.6, 0), (0.58, 0.5), (0.56, 1)),),  # a long flag
        (((0.25, 0.3), (0.55, 0), (0.55, 0), (0.55, 0.5), (0.55, 1)), ((0.25, 1), (0.85, 0.98))),  # a foot
        (((0.5, 0), (0.5, 1)),),
        (((0.12, 0.2), (0.58, 0), (0.58, 0), (0.58, 0.5), (0.58, 1)),),  # a flat flag
        (((0.2, 0.2), (0.45, 0.13), (0.6, 0), (0.6, 0), (0.6, 0.5), (0.6, 1)), ((0.3, 1), (0.9, 1))),
    ),
    (
        (((0.15, 0.25), (0.4, 0), (0.75, 0.15), (0.65, 0.5), (0.15, 0.98), (0.15, 0.98), (0.5, 0.95), (0.88, 0.97)),),
        (
            (
                *((0.15, 0.2), (0.45, 0), (0.75, 0.2), (0.5, 0.65), (0.2, 0.95), (0.1, 0.85), (0.3, 0.8), (0.6, 0.95)),
                *((0.9, 0.9),),
            ),
        ),  # a loop
    ),
    (
        (((0.2, 0.08), (0.6, 0), (0.75, 0.2), (0.4, 0.45), (0.4, 0.45), (0.8, 0.6), (0.7, 0.93), (0.15, 0.95)),),
        (((0.15, 0), (0.8, 0), (0.8, 0), (0.4, 0.42), (0.4, 0.42), (0.8, 0.6), (0.7, 0.93), (0.15, 0.95)),),  # flat
    ),
    (
        (((0.35, 0.02), (0.1, 0.6), (0.1, 0.6), (0.9, 0.58)), ((0.66, 0.3), (0.6, 1))),
        (((0.65, 1), (0.65, 0), (0.65, 0), (0.08, 0.65), (0.08, 0.65), (0.95, 0.65)),),  # closed
        (((0.65, 1), (0.65, 0), (0.65, 0), (0.05, 0.7), (0.05, 0.7), (0.95, 0.7)), ((0.4, 1), (0.9, 1))),  # with a foot
        (((0.6, 0), (0.1, 0.66), (0.1, 0.66), (0.95, 0.62)), ((0.66, 0.36), (0.6, 1))),  # a long diagonal
        (((0.55, 0), (0.12, 0.72), (0.12, 0.72), (0.8, 0.7)), ((0.88, 0.35), (0.56, 1))),  # a low bar
        (((0.2, 0.05), (0.18, 0.45), (0.35, 0.58), (0.75, 0.5)), ((0.75, 0.1), (0.72, 0.5), (0.7, 1))),  # round
    ),
    (
        (((0.3, 0.02), (0.22, 0.42), (0.22, 0.42), (0.7, 0.45), (0.75, 0.85), (0.15, 0.97)), ((0.3, 0.02), (0.8, 0))),
        (((0.85, 0.02), (0.3, 0.05), (0.22, 0.42), (0.65, 0.42), (0.78, 0.75), (0.5, 1), (0.12, 0.92)),),  # one stroke
    ),
    (
        (((0.65, 0), (0.3, 0.3), (0.15, 0.75), (0.45, 1), (0.8, 0.78), (0.6, 0.52), (0.2, 0.68)),),
        (((0.75, 0.05), (0.4, 0.1), (0.15, 0.5), (0.25, 0.95), (0.65, 0.98), (0.8, 0.7), (0.5, 0.5), (0.2, 0.65)),),
    ),
    (
        (((0.1, 0.05), (0.85, 0.02), (0.85, 0.02), (0.6, 0.45), (0.4, 1)),),
        (((0.1, 0.05), (0.85, 0.02), (0.85, 0.02), (0.6, 0.45), (0.4, 1)), ((0.25, 0.5), (0.85, 0.47))),  # a bar
        (((0.1, 0.18), (0.1, 0.02), (0.1, 0.02), (0.85, 0.02), (0.85, 0.02), (0.6, 0.45), (0.5, 1)),),  # a serif
    ),
    ((_EIGHT,), (_EIGHT[::-1],)),
    (
        (((0.75, 0.2), (0.45, 0.02), (0.2, 0.28), (0.45, 0.5), (0.75, 0.2), (0.75, 0.2), (0.68, 0.6), (0.6, 1)),),
        (
            (
                *((0.78, 0.2), (0.45, 0.02), (0.2, 0.25), (0.45, 0.48), (0.78, 0.2), (0.78, 0.2), (0.78, 0.7)),
                *((0.5, 1), (0.15, 0.9)),
            ),
        ),  # a curved tail
    ),
)
"""The ways in which a pen draws each digit: strokes through points (x, y) of the unit square, y downwards.

A point that stands twice is a corner. The first way is the plainest.
"""


def drawn(digit: int, rng: np.random.Generator | None = None, way: int = 0) -> list[Float[np.ndarray, "points 2"]]:
    """The strokes of a digit as lines through points (x, y) near the unit square; with `rng`, by an unsteady hand."""
    strokes = [np.array(points) for points in STROKES[digit][way]]
    if rng is not None:
        slant, turn, wide = rng.normal(0.1, 0.12), rng.normal(0, 0.08), rng.uniform(0.75, 1.1)
        change = np.array([[wide * np.cos(turn), -np.sin(turn)], [np.sin(turn) - slant, np.cos(turn)]])
        strokes = [(points - 0.5) @ change + 0.5 for points in strokes]
        moved: dict[tuple[float, ...], np.ndarray] = {}
        strokes = [
            np.array([p + moved.setdefault(tuple(p), rng.normal(0, 0.02, 2)) for p in points]) for points in strokes
        ]
    return [_smooth(points) for points in strokes]


def written(digit: int, rng: np.random.Generator) -> UInt8[np.ndarray, "160 160"]:
    """A digit in black on white, in any of its ways, by a pen of any width, or a nib whose bars are thinner."""
    pen, width, stretch = rng.uniform(4, 24), rng.uniform(45, 75), max(1.0, rng.uniform(0, 3))
    picture = Image.new("L", (160, round(160 * stretch)), 255)
    draw = ImageDraw.Draw(picture)
    for stroke in drawn(digit, rng, int(rng.integers(len(STROKES[digit])))):
        _line(draw, [(x, y) for x, y in (40 + stroke * (width, 80)) * (1, stretch)], 0, pen)
    return np.asarray(picture.resize((160, 160)))


def _line(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: Any, pen: float) -> None:
    """A line with round ends and joints."""
    draw.line(points, colour, round(pen))
    for x, y in points:
        draw.ellipse([x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2], colour)


@functools.cache
def fonts() -> tuple[Path, ...]:
    """The fonts of matplotlib that have digits: those whose shapes for "0" to "9" have the names of digits."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return tuple(path for path in sorted(folder.glob("*.ttf")) if _has_digits(ft2font.FT2Font(str(path))))


def printed(text: str, font: Path, size: int, rng: np.random.Generator) -> UInt8[np.ndarray, "H W"]:
    """Black letters of this size in pixels on white, off centre by up to their size."""
    face = ImageFont.truetype(str(font), size)
    left, top, right, bottom = face.getbbox(text)
    margins = rng.integers(size // 4, size, 4)
    width, height = (n + margins[i] + margins[i + 2] for i, n in enumerate((right - left, bottom - top)))
    picture = Image.new("L", (int(width), int(height)), 255)
    ImageDraw.Draw(picture).text((int(margins[0] - left), int(margins[1] - top)), text, 0, face)
    return np.asarray(picture)


def photo(
    digit: Float[np.ndarray, "28 28"], rng: np.random.Generator, *, dark: bool = True
) -> UInt8[np.ndarray, "600 800"]:
    """A photo of the digit at any place and of any size: light that falls off, a blurred lens, noise, and JPEG.

    The digit's 28 pixels become 60 to 560; the light falls to between 0.4 and 0.8 of its largest, to any side.
    """
    large = np.clip(np.asarray(ndimage.zoom(digit, rng.uniform(60, 560) / 28, order=3)), 0, 1)
    large = np.asarray(ndimage.gaussian_filter(large, rng.uniform(0.5, 2.5)))
    top, left = (int(rng.integers(0, n - m + 1)) for n, m in zip(PHOTO, large.shape, strict=True))
    ink = np.zeros(PHOTO, np.float32)
    ink[top : top + large.shape[0], left : left + large.shape[1]] = large
    low, high = rng.uniform(0.1, 0.3), rng.uniform(0.7, 0.95)
    reflected = high + (low - high) * ink if dark else low + (high - low) * ink
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in PHOTO)
    angle, falls, rounds = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.4), rng.uniform(0, 0.2)
    towards = (np.sin(angle) * y[:, None] + np.cos(angle) * x) / np.sqrt(2)
    light = 1 - falls * (1 + towards) / 2 - rounds * (y[:, None] ** 2 + x**2) / 2
    noise = np.float32(rng.uniform(0.005, 0.03)) * rng.standard_normal(PHOTO, np.float32)
    file = io.BytesIO()
    Image.fromarray(np.uint8(np.clip(255 * (reflected * light + noise), 0, 255))).save(
        file, "JPEG", quality=int(rng.integers(50, 95))
    )
    return np.asarray(Image.open(file))


def sheet(seed: int = 0) -> UInt8[np.ndarray, "700 1000 3"]:
    """Four lines of the digits 0 to 9 on white paper in uneven light: by ballpoint, pencil and felt pen, and in fonts.

    The hand's digits are those of `drawn`.
    """
    rng = np.random.default_rng(seed)
    height, width = 700, 1000
    page = Image.new("RGB", (width, height), (235, 233, 226))
    draw = ImageDraw.Draw(page)
    pens = (((35, 50, 130), 4), ((105, 105, 110), 7), ((25, 25, 25), 15))  # colour and width
    for line, (colour, pen) in enumerate(pens):
        for digit in range(10):
            size = rng.uniform(75, 110)
            corner = np.array([30 + 97 * digit, 35 + 165 * line]) + rng.uniform(0, 18, 2)
            for stroke in drawn(digit, rng):
                _line(draw, [(x, y) for x, y in corner + stroke * (0.75 * size, size)], colour, pen)
    for digit, font in enumerate(rng.choice(np.array(fonts(), object), 10, replace=False)):
        draw.text((45 + 97 * digit, 530), str(digit), (30, 30, 30), ImageFont.truetype(str(font), 85))
    y, x = np.linspace(0, 1, height), np.linspace(0, 1, width)
    light = 1.02 - 0.25 * x - 0.2 * y[:, None] ** 2
    seen = ndimage.gaussian_filter(np.asarray(page, float) * light[..., None], (0.8, 0.8, 0))
    return np.clip(seen + rng.normal(0, 0.5, (height, width, 1)), 0, 255).astype(np.uint8)


def _smooth(points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "m 2"]:
    """A curve through the points (Catmull and Rom, 1974), with corners where a point stands twice."""
    corners = [0, *(np.flatnonzero(np.all(points[1:] == points[:-1], axis=1)) + 1), len(points)]
    curves = []
    for start, stop in itertools.pairwise(corners):
        p = np.concatenate([points[start : start + 1], points[start:stop], points[stop - 1 : stop]])
        t = np.linspace(0, 1, 12)[:, None]
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
            bend = 2 * a - 5 * b + 4 * c - d + (3 * (b - c) + d - a) * t
            curves.append(b + t / 2 * (c - a + t * bend))
    return np.concatenate(curves)


def _has_digits(font: ft2font.FT2Font) -> bool:
    found = [font.get_char_index(ord("0") + digit) for digit in range(10)]
    return " ".join(map(font.get_glyph_name, found)) == "zero one two three four five six seven eight nine"
