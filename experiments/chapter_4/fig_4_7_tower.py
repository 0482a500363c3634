"""Figure 4.7: a tower over a rectangle of the plane, from four steps and an output neuron with bias -3h/2.

Without its bias, the output neuron's weighted input has three levels: 0, h and, inside the rectangle alone, 2h.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments import common, runner
from jnn import mlp, universal


@dataclass(frozen=True)
class Config:
    """The notes' rectangle."""

    quick: ClassVar[dict[str, Any]] = {"points": 40}

    lower: tuple[float, float] = (1.0, -2.0)
    """The lower corner of the rectangle."""
    upper: tuple[float, float] = (2.0, 0.0)
    """The upper corner."""
    margin: float = 1.0
    """Width of the picture around the rectangle."""
    points: int = 120
    """Cells of the picture along each axis."""


ARRAYS = {
    "x": ("points", "the first coordinates"),
    "y": ("points", "the second coordinates"),
    "tower": ("points points", "the output of the tower, over x and y"),
    "level": ("points points", "its weighted input without the bias, divided by h"),
    "bias_over_h": ("", "the bias of the output neuron, divided by h"),
    "on_faces": ("4", "the output at the centre of each side of the rectangle"),
    "at_corners": ("4", "the output at each corner of the rectangle"),
}


def compute(config: Config) -> dict[str, Any]:
    """The tower and its weighted input over the plane, at the centres of the faces, and at the corners."""
    net = universal.tower(config.lower, config.upper)
    h = net[1].w[0, 0]
    logits = jax.vmap(lambda x: mlp.logits(net, x)[0])
    output = jax.vmap(lambda x: mlp.forward(net, x)[0])
    (x1, y1), (x2, y2) = config.lower, config.upper
    shares = (np.arange(config.points) + 0.5) / config.points
    x, y = (
        low - config.margin + (high - low + 2 * config.margin) * shares
        for low, high in zip(config.lower, config.upper, strict=True)
    )
    grid = jnp.asarray(np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2), jnp.float32)
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    return {
        "x": x,
        "y": y,
        "tower": output(grid).reshape(config.points, config.points),
        "level": (logits(grid) / h + 1.5).reshape(config.points, config.points),
        "bias_over_h": net[1].b[0] / h,
        "on_faces": output(jnp.array([(x1, middle[1]), (x2, middle[1]), (middle[0], y1), (middle[0], y2)])),
        "at_corners": output(jnp.array([(x1, y1), (x1, y2), (x2, y1), (x2, y2)])),
    }


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """1 inside and 0 outside; 2h inside and at most h outside; faces and corners."""
    in_x, in_y = (
        (arrays[axis] > low) & (arrays[axis] < high)
        for axis, low, high in zip("xy", config.lower, config.upper, strict=True)
    )
    inside = np.outer(in_x, in_y)
    return {
        "the tower is 1 inside the rectangle, to 1e-6": np.all(arrays["tower"][inside] >= 1 - 1e-6),
        "the tower is 0 outside, to 1e-6": np.all(arrays["tower"][~inside] <= 1e-6),
        "without the bias the weighted input is 2h inside, to 0.001 h": np.allclose(
            arrays["level"][inside], 2, atol=1e-3
        ),
        "without the bias it is at most h outside, to 0.001 h": np.all(arrays["level"][~inside] <= 1 + 1e-3),
        "the bias is -3h/2": arrays["bias_over_h"] == -1.5,
        "the tower is 1/2 on the faces and 0 at the corners": (
            np.allclose(arrays["on_faces"], 0.5, atol=1e-6) and np.allclose(arrays["at_corners"], 0, atol=1e-6)
        ),
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """The tower, and the levels of its weighted input that the bias separates."""
    figure.set_size_inches(10, 4.2)
    panels = (("tower", r"$\sigma(z)$", (0, 0.5, 1)), ("level", "$z/h$ without the bias, which cuts at 3/2", (0, 1, 2)))
    both: Any = [figure.add_subplot(1, 2, i, projection="3d") for i in (1, 2)]
    for axes, (name, title, ticks) in zip(both, panels, strict=True):
        common.draw_surface(axes, arrays["x"], arrays["y"], arrays[name], linewidth=0)
        axes.set(xlabel="$x$", ylabel="$y$", title=title, zticks=ticks)
        for k, ticks_of in enumerate((axes.set_xticks, axes.set_yticks)):
            low, high = config.lower[k], config.upper[k]
            ticks_of([low - config.margin, low, high, high + config.margin])
        axes.set_box_aspect((3, 4, 2.4), zoom=1.05)
        axes.view_init(elev=32, azim=-125)
    (x1, y1), (x2, y2) = config.lower, config.upper
    both[1].plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], 1.5, color="C1", linewidth=2, zorder=10)
