"""Figures in one style, regardless of the user's settings."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

STYLE: Any = {
    "axes.grid": True,
    "axes.prop_cycle": "cycler(color=['0072B2', 'D55E00', '009E73', 'CC79A7', 'E69F00', '56B4E9'])",  # Okabe and Ito
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "savefig.dpi": 100,
}
"""One style for all figures, in colours that colour-blind readers can tell apart."""


def drawn(draw: Callable[[Figure], None]) -> Figure:
    """A figure in this style, filled by `draw`. Ticks on an axis of epochs are whole numbers."""
    with _styled():
        figure = _StyledFigure()
        draw(figure)
        for axes in figure.axes:
            locator = axes.xaxis.get_major_locator()
            if axes.get_xlabel().startswith("epoch") and isinstance(locator, MaxNLocator):
                locator.set_params(integer=True)
    return figure


@contextlib.contextmanager
def _styled() -> Iterator[None]:
    """Applies the style to matplotlib's defaults, regardless of the user's matplotlibrc.

    Characters that the font lacks are drawn as boxes, without a warning.
    """
    with style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


class _StyledFigure(Figure):
    """Applies the style again when it is rendered: ticks and the colours C0, C1, ... are resolved only then."""

    def __init__(self) -> None:
        super().__init__()
        _StyledCanvas(self)

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        with _styled():
            super().savefig(*args, **kwargs)


class _StyledCanvas(FigureCanvasAgg):
    def print_figure(self, *args: Any, **kwargs: Any) -> Any:  # which notebooks call
        with _styled():
            return super().print_figure(*args, **kwargs)
