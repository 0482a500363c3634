"""The figure of the report."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.device.report import Row
from experiments.runner import figures


def drawn(parts: Mapping[str, Sequence[Row]]) -> Figure:
    """The errors of the gradients, the curves on host and device, and the shares of the device's rates."""
    return figures.drawn(lambda figure: _draw(figure, parts))


def _draw(figure: Figure, parts: Mapping[str, Sequence[Row]]) -> None:
    figure.set_size_inches(12, 8)
    axes = figure.subplot_mosaic([["errors", "curves"], ["shares", "shares"]], height_ratios=(1, 1.3))
    errors, curves, shares = (axes[name] for name in ("errors", "curves", "shares"))
    _errors(errors, parts.get("gradients", ()))
    _curves(curves, [row for row in parts.get("curves", ()) if row["epoch"]])
    _shares(shares, [row for row in parts.get("speed", ()) if row.get("of product")])


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
    places = np.arange(len(rows))
    for i, rate in enumerate(("product", "copy")):
        values = [row[f"of {rate}"] for row in rows]
        axes.barh(places + 0.2 - 0.4 * i, values, 0.4, label=f"of the rate of a large {rate}")
    axes.set_yticks(places, [row["what"] for row in rows], fontsize="small")
    axes.invert_yaxis()
    axes.set(title="share of what the device reaches", xscale="log", xlim=(1e-5, 2))
    axes.legend(loc="lower right")
