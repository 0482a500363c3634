"""The page in which the figures of the notes move: one file, for a browser without a network connection.

`html` joins its parts: `page.html` and the panels' texts, `style.css`, `ui.js`, and for each panel two files: its
mathematics in `maths/`, which knows of no document, and what shows it in `panels/`. The last panel is made of the same
parts as `read`'s page to draw on. In the page, `maths` has the functions of each panel, and `figures` what each shows.
"""

from pathlib import Path

import jax
import jinja2
import numpy as np
from latex2mathml.converter import convert

from experiments.common import Net
from experiments.read.page import network
from jnn import mlp

PANELS = {
    "perceptron": "Perceptron to sigmoid",
    "backprop": "Backpropagation by hand",
    "slow_start": "Slow start",
    "softmax": "Softmax and L2",
    "universal": "Steps, rectangles, towers",
    "gradients": "Vanishing and exploding",
    "lstm": "An LSTM cell",
    "digit": "Draw a digit",
}
"""The panels and their titles, in the order of the notes."""

FOLDER = Path(__file__).parent


def html(counter: Net, params: mlp.Params, sure: float) -> str:
    """The whole page.

    `counter` is the LSTM whose memory it shows, with the four symbols of `counting`, and `params` and `sure` are those
    of the network that reads digits, as `read.page.network` takes them.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([FOLDER, FOLDER.parent / "read"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["mathml"] = _mathml
    parts = {
        "panels": PANELS,
        "source": _source,
        "units": len(counter.cell.rem.b),
        "network": network(params, sure),
        "counter": jax.tree.map(_numbers, _names(counter)),
    }
    return environment.get_template("page.html").render(parts)


def _source(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8").strip()


def _mathml(tex: str) -> str:
    return convert(tex, display="block")


def _names(counter: Net) -> dict[str, dict[str, np.ndarray]]:
    layers = {**counter.cell._asdict(), "out": counter.out}
    return {name: layer._asdict() for name, layer in layers.items()}


def _numbers(values: np.ndarray) -> list[float]:
    """Rounded to six digits, which take half the space."""
    return np.vectorize(lambda value: float(f"{value:.6g}"), otypes=[float])(values).tolist()
