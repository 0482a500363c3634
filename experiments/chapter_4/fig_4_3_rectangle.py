"""Figure 4.3: two steps and an output neuron form the indicator of an interval, sigma(h a_1 - h a_2 - h/2).

The steps rise smoothly over a thousandth of the axis; the output neuron, with its own large h, makes them far sharper.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments import common, runner
from jnn import mlp, universal
from jnn.activations import sigmoid


@dataclass(frozen=True)
class Config:
    """The notes' weights."""

    quick: ClassVar[dict[str, Any]] = {"points": 1001}

    s1: float = 0.4
    """Position of the step up."""
    s2: float = 0.6
    """Position of the step down."""
    w: float = 10_000.0
    """Weights w_1 = w_2 of the steps."""
    h: float = 10_000.0
    """The weights of the output neuron are h and -h, and its bias is -h/2."""
    points: int = 2001
    """Values of x."""


ARRAYS = {
    "x": ("points", "the inputs over [0, 1]"),
    "output": ("points", "the output at x"),
    "steps": ("2 points", "the outputs a_1 and a_2 of the hidden neurons at x"),
    "x_near": ("points", "inputs near s1, within ten times 1/w"),
    "output_near": ("points", "the output there"),
    "steps_near": ("2 points", "the outputs of the hidden neurons there"),
    "x_nearest": ("points", "inputs nearer to s1, within forty times 1/(w h)"),
    "output_nearest": ("points", "the output there"),
    "output_at_the_knots": ("2", "the output at s1 and s2"),
}


def compute(config: Config) -> dict[str, Any]:
    """The hidden and the output activations over [0, 1], near s1, and at both knots."""
    net = universal.rectangle(config.s1, config.s2, w=config.w, h=config.h)
    hidden = jax.vmap(lambda x: sigmoid(mlp.logits(net[:1], x)))
    output = jax.vmap(lambda x: mlp.forward(net, x)[0])
    x = jnp.linspace(0, 1, config.points)[:, None]
    near = config.s1 + jnp.linspace(-10, 10, config.points)[:, None] / config.w
    nearest = config.s1 + jnp.linspace(-40, 40, config.points)[:, None] / (config.w * config.h)
    return {
        "x": x[:, 0],
        "output": output(x),
        "steps": hidden(x).T,
        "x_near": near[:, 0],
        "output_near": output(near),
        "steps_near": hidden(near).T,
        "x_nearest": nearest[:, 0],
        "output_nearest": output(nearest),
        "output_at_the_knots": output(net[0].b[:, None] / -config.w),
    }


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """1 inside, 0 outside, in between at the ends, and sharper than the steps."""
    x, output = arrays["x"], arrays["output"]
    inside = (x > config.s1) & (x < config.s2)
    away = np.minimum(np.abs(x - config.s1), np.abs(x - config.s2)) > 1e-6

    def width(x: np.ndarray, curve: np.ndarray) -> float:
        rising = x[(curve > 0.01) & (curve < 0.99)]
        return float(np.ptp(rising)) if rising.size else np.nan

    sharp = width(arrays["x_nearest"], arrays["output_nearest"])
    smooth = width(arrays["x_near"], arrays["steps_near"][0])
    return {
        "the output is 1 for x in (s1, s2), to 1e-6": np.all(output[inside & away] >= 1 - 1e-6),
        "the output is 0 outside, to 1e-6": np.all(output[~inside & away] <= 1e-6),
        "at s1 and s2 the output is between 0 and 1": np.all(
            (arrays["output_at_the_knots"] > 0.01) & (arrays["output_at_the_knots"] < 0.99)
        ),
        "the output rises over less than a hundredth of its steps' width": 0 < 100 * sharp < smooth,
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """The rectangle with its two steps, and a close-up of one side."""
    whole, near = common.panels(figure, (9, 3.6), 1, 2, sharey=True)
    whole.fill_between(arrays["x"], arrays["output"], color="C0", alpha=0.15)
    whole.plot(arrays["x"], arrays["output"], label=r"$\sigma(h a_1 - h a_2 - h/2)$", linewidth=2)
    for i, curve in enumerate(arrays["steps"]):
        whole.plot(arrays["x"], curve, "--", color=f"C{i + 1}", label=f"$a_{i + 1}$")
    near.plot(1000 * (arrays["x_near"] - config.s1), arrays["output_near"], linewidth=2)
    near.plot(1000 * (arrays["x_near"] - config.s1), arrays["steps_near"][0], "--", color="C1")
    whole.set(xlabel="$x$", title=f"$w = {config.w:g}$, $h = {config.h:g}$")
    near.set(xlabel=r"$(x - s_1) \times 10^3$", title="its side at $s_1$", xticks=(-1, 0, 1))
    figure.legend(*whole.get_legend_handles_labels(), loc="outside lower center", ncols=3)
