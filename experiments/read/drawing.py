"""The figure of what was read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from experiments.read.reader import Reading, answers
from experiments.runner import figures

SHOWN = 60
"""The digits of one picture that the figure shows."""

COLUMNS = 5
"""The digits side by side in the figure."""


def figure(readings: Sequence[Reading], sure: float) -> Figure:
    """Each picture with its digits in boxes and, beside it, what the network saw of each and its outputs."""
    return figures.drawn(lambda figure: _draw(figure, readings, sure))


def _draw(figure: Figure, readings: Sequence[Reading], sure: float) -> None:
    rows = [max(2, -(-min(SHOWN, len(reading.xs)) // COLUMNS)) for reading in readings]
    shapes = [reading.picture.shape for reading in readings]
    heights = [max(0.6 * n, min(8, 5.3 * h / w)) + 0.4 for n, (h, w, *_) in zip(rows, shapes, strict=True)]
    figure.set_size_inches(12, sum(heights))
    stacked = np.ravel(np.asarray(figure.subfigures(len(rows), 1, height_ratios=heights), object))
    for part, reading, n in zip(stacked, readings, rows, strict=True):
        shown, seen = part.subfigures(1, 2, width_ratios=(1, 1.2))
        _draw_picture(shown, reading, sure)
        _draw_digits(seen.subplots(), reading, sure, n)


def _draw_picture(figure: SubFigure, reading: Reading, sure: float) -> None:
    axes = figure.subplots()
    height, width = reading.picture.shape[:2]
    step = max(1, max(height, width) // 1000)
    axes.imshow(_shown(reading.picture[::step, ::step]), cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    for (top, left, bottom, right), answer in zip(reading.boxes, answers(reading, sure), strict=True):
        colour = "C1" if "?" in answer else "C0"
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=colour, linewidth=1)
        label = axes.text(left, top, answer, color="white", fontsize="small", ha="left", va="bottom")
        label.set_bbox({"facecolor": colour, "edgecolor": "none", "pad": 1})
    axes.set(xlim=(0, width), ylim=(height, 0), anchor="N")
    axes.set_axis_off()
    axes.set_title(Path(reading.name).name, fontsize="medium", parse_math=False)


def _shown(picture: np.ndarray) -> np.ndarray:
    """Grey [H, W] or colours [H, W, 3], from 0 to 1, on white."""
    pixels = picture.reshape(*picture.shape[:2], -1) / (255 if picture.dtype == np.uint8 else max(1, np.max(picture)))
    if pixels.shape[2] in (2, 4):
        pixels = 1 + pixels[..., -1:] * (pixels[..., :-1] - 1)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _draw_digits(axes: Axes, reading: Reading, sure: float, rows: int) -> None:
    every = zip(reading.xs[:SHOWN], reading.outputs, answers(reading, sure), strict=False)
    for i, (x, outputs, answer) in enumerate(every):
        left, bottom = 3 * (i % COLUMNS), -1.4 * (i // COLUMNS)
        colour = "C1" if "?" in answer else "C0"
        axes.imshow(x.reshape(28, 28), cmap="Greys", vmin=0, vmax=1, extent=(left, left + 1, bottom, bottom + 1))
        places = left + 1.2 + 0.14 * np.arange(10)
        axes.bar(places, outputs, width=0.11, bottom=bottom, color=colour)
        axes.plot([places[0] - 0.07, places[-1] + 0.07], [bottom, bottom], color="0.7", linewidth=0.8)
        top = int(outputs.argmax())
        axes.text(places[top], bottom + outputs[top] + 0.03, str(top), ha="center", va="bottom", fontsize="small")
    axes.set(xlim=(-0.1, 3 * COLUMNS - 0.2), ylim=(-1.4 * (rows - 1) - 0.1, 1.35), aspect="equal", anchor="N")
    axes.set_axis_off()
    more = f" (the first {SHOWN} of {len(reading.xs)})" if len(reading.xs) > SHOWN else ""
    axes.set_title(f"what the network saw, and its outputs 0 to 9{more}", fontsize="medium")
