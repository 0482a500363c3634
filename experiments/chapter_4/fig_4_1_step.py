"""Figure 4.1: a sigmoid neuron with a large weight is a step, whose position its bias sets.

The neuron sigma(w x + b) with b = -s w passes 1/2 at x = s and rises from 0.01 to 0.99 over a width of 2 ln(99) / w.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments import common, runner
from jnn import mlp, universal


@dataclass(frozen=True)
class Config:
    """The weights and the steps; the largest weight is the notes' w = 1000."""

    quick: ClassVar[dict[str, Any]] = {"points": 201}

    weights: tuple[float, ...] = (5.0, 20.0, 100.0, 1000.0)
    """Weights w of the steps at s."""
    s: float = 0.4
    """Position of these steps."""
    steps: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    """Positions of the steps with the largest weight."""
    points: int = 2001
    """Values of x in [0, 1]."""


def output(s: float, w: float, x: Array) -> Float[Array, " points"]:
    """The neuron that steps up at s, for each x."""
    return jax.vmap(mlp.forward, in_axes=(None, 0))(universal.step(s, w), x[:, None])[:, 0]


ARRAYS = {
    "x": ("points", "the inputs"),
    "by_weight": ("weights points", "the output of the neuron with each weight"),
    "by_step": ("steps points", "the output of the neuron with each position of the step"),
    "at_the_rise": ("weights 3", "the output at the start, the middle and the end of the rise"),
}


def compute(config: Config) -> dict[str, Any]:
    """The curves of both panels, and each weight's output at s and at both ends of its rise."""
    x = jnp.linspace(0, 1, config.points)
    rises = [config.s + jnp.log(99.0) / w * jnp.array([-1, 0, 1]) for w in config.weights]
    return {
        "x": x,
        "by_weight": jnp.stack([output(config.s, w, x) for w in config.weights]),
        "by_step": jnp.stack([output(s, max(config.weights), x) for s in config.steps]),
        "at_the_rise": jnp.stack([output(config.s, w, rise) for w, rise in zip(config.weights, rises, strict=True)]),
    }


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """The position and the width of the steps, and their distance from a true step."""
    distance, below = np.abs(arrays["x"] - config.s), arrays["x"] < config.s
    apart = np.where(below, arrays["by_weight"], 1 - arrays["by_weight"])
    bound = np.exp(-np.array(config.weights)[:, None] * distance)
    crossings = np.array([np.interp(0.5, curve, arrays["x"]) for curve in arrays["by_step"]])
    return {
        "every neuron rises from 0.01 to 0.99 over 2 ln(99) / w around s": np.allclose(
            arrays["at_the_rise"], (0.01, 0.5, 0.99), atol=1e-3
        ),
        "the difference from a true step is at most exp(-w |x - s|)": np.all(apart <= bound + 1e-6),
        "the bias -s w puts the step at s": np.allclose(crossings, config.steps, atol=1 / config.points),
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """One panel for the weights, one for the biases."""
    left, right = common.panels(figure, (9, 3.4), 1, 2, sharey=True)
    for w, curve in zip(config.weights, arrays["by_weight"], strict=True):
        left.plot(arrays["x"], curve, label=f"$w = {w:g},\\ b = {-config.s * w:g}$")
    for s, curve in zip(config.steps, arrays["by_step"], strict=True):
        right.plot(arrays["x"], curve)
        right.text(s - 0.01, 0.5, f"$b = {-s * max(config.weights):g}$", ha="right", va="center", rotation=90)
    left.set(title=f"the weight sets the slope, at $s = -b/w = {config.s:g}$", xlabel="$x$")
    left.set_ylabel(r"$\sigma(w x + b)$")
    right.set(title=f"the bias sets the position, with $w = {max(config.weights):g}$", xlabel="$x$")
    left.legend(loc="lower right")
