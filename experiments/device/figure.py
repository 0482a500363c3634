"""The figure of the report."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import common
from experiments.device.rows import Row
from experiments.runner import figures


def drawn(parts: Mapping[str, Sequence[Row]]) -> Figure:
    """The errors of the gradients, the curves on host and device, and the shares of the device's rates."""
    return figures.drawn(lambda figure: _draw(figure, parts))


def _draw(figure: Figure, parts: Mapping[str, Sequence[Row]]) -> None:
    above, below = common.parts(figure, (12, 8), 2, 1, height_ratios=(1, 1.3))
    errors, curves = above.subplots(1, 2)
    _errors(errors, parts.get("gradients", ()))
    _curves(curves, [row for row in parts.get("curves", ()) if row["epoch"]])
    _shares(below.subplots(), [row for row in parts.get("speed", ()) if row.get("of product")])


def _errors(axes: Axes, rows: Sequence[Row]) -> None:
    for i, precision in enumerate(("default", "highest", "bfloat16")):
        error = np.array([row[f"{precision}: error"] for row in rows])
        share = np.array([row[f"{precision}: of bound"] for row in rows])
        axes.semilogy(error, "o", color=f"C{i}", markersize=3, label=precision)
        axes.semilogy(error / share, color=f"C{i}", linewidth=0.8)
    axes.set(title="gradients: errors of the leaves, and their bounds (lines)", xlabel="leaf", ylabel="relative error")
    axes.legend(loc="center right")


def _curves(axes: Axes, rows: Sequence[Row]) -> None:
    epochs = [row["epoch"] for row in rows]
    axes.semilogy(epochs, [row["device"] for row in rows], label="cost on the device")
    axes.semilogy(epochs, [row["host"] for row in rows], "--", label="cost on the host")
    if any(row["apart"] for row in rows):
        axes.semilogy(epochs, [row["apart"] for row in rows], label="largest difference so far")
    axes.set(title="the same training on host and device", xlabel="epoch")
    axes.legend()


def _shares(axes: Axes, rows: Sequence[Row]) -> None:
    places = range(len(rows))
    for rate, marker in ("product", "o"), ("copy", "s"):
        label = f"share of the rate of a large {rate}"
        axes.semilogx([row[f"of {rate}"] for row in rows], places, marker, markersize=5, label=label)
    axes.set_yticks(places, [row["what"] for row in rows], fontsize="small")
    axes.invert_yaxis()
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
