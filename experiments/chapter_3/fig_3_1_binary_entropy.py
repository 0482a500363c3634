"""Figure 3.1 and exercise 3.1: the binary entropy, which is the minimum of the cross-entropy.

For a desired output y inside (0, 1) the cross-entropy is minimal at a = y, where its value is H(y), not 0. For y = 0
and y = 1 there is no stationary point: it falls all the way to the boundary.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments import common, runner
from jnn import costs


@dataclass(frozen=True)
class Config:
    quick: ClassVar[dict[str, Any]] = {"points": 201, "steps": 60}

    ys: Annotated[tuple[float, ...], runner.AtLeast(0)] = (0.0, 0.1, 0.3, 0.5, 1.0)
    """Desired outputs whose cross-entropy to draw."""
    points: Annotated[int, runner.AtLeast(11)] = 2001
    """Points of a curve."""
    steps: int = 100
    """Newton steps towards each minimum."""


def minimum(y: jax.Array, steps: int) -> jax.Array:
    """The weighted input that minimises the cross-entropy, by Newton steps of at most 1."""

    def step(z: jax.Array, _: Any) -> tuple[jax.Array, None]:
        slope = costs.cross_entropy.delta(z, y)
        curvature = jnp.exp(jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z))
        return z - jnp.clip(slope / curvature, -1, 1), None

    return jax.lax.scan(step, jnp.zeros_like(y), length=steps)[0]


ARRAYS = {
    "a": ("points", "the outputs a, evenly spaced in [0, 1]; also the desired outputs y of H"),
    "H": ("points", "the binary entropy H(y), in nats"),
    "C": ("ys inside", "the cross-entropy at each a inside (0, 1), for each desired output of the config"),
    "least_a": ("inside", "the output that minimises the cross-entropy, for each y inside (0, 1)"),
    "least_C": ("inside", "the minimum of the cross-entropy, for each y inside (0, 1)"),
    "largest_H": ("", "the largest value of H"),
}


def compute(config: Config) -> dict[str, Any]:
    """H(y); C(a) for some y; and the minimum of C over a for every y inside (0, 1), from a common start."""
    a = jnp.linspace(0, 1, config.points)
    inside = a[1:-1]
    z = jnp.log(inside) - jnp.log1p(-inside)

    def cost(y: jax.Array, z: jax.Array) -> jax.Array:
        return costs.cross_entropy.value(z[:, None], jnp.broadcast_to(y, z.shape)[:, None])

    best = minimum(inside, config.steps)
    return {
        "a": a,
        "H": costs.binary_entropy(a),
        "C": jax.vmap(cost, in_axes=(0, None))(jnp.array(config.ys), z),
        "least_a": jax.nn.sigmoid(best),
        "least_C": costs.cross_entropy.value(best[:, None], inside[:, None]),
        "largest_H": jnp.max(costs.binary_entropy(a)),
    }


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """The figure's shape, and exercise 3.1."""
    entropy, a = arrays["H"], arrays["a"]
    edges = [i for i, y in enumerate(config.ys) if y in (0, 1)]
    return {
        "H is ln 2 at y = 1/2 and nowhere larger": (
            abs(entropy.max() - np.log(2)) < 1e-6 and a[np.argmax(entropy)] == 0.5
        ),
        "H is 0 at both ends": entropy[0] == 0 == entropy[-1],
        "H is symmetric": np.allclose(entropy, entropy[::-1], atol=1e-6),
        "H is concave": np.all(np.diff(entropy[:: max(1, len(a) // 100)], n=2) < 0),
        "the cross-entropy is minimal at a = y": np.allclose(arrays["least_a"], a[1:-1], atol=1e-5),
        "its minimum is H(y)": np.allclose(arrays["least_C"], entropy[1:-1], atol=1e-5),
        "for y = 0 and y = 1 it falls to the boundary": all(
            np.all(np.diff(arrays["C"][i]) * (1 if config.ys[i] == 0 else -1) > 0) and arrays["C"][i].min() < 0.01
            for i in edges
        ),
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """H on the left; on the right C over a, with its minima on H."""
    entropy, costs_axes = common.panels(figure, (9, 3.6), 1, 2, width_ratios=(1, 1.2))
    a = arrays["a"]
    entropy.plot(a, arrays["H"], linewidth=2)
    entropy.axhline(np.log(2), color="black", linewidth=0.8, linestyle=":")
    entropy.text(0.02, np.log(2) - 0.01, r"$\ln 2$", va="top")
    entropy.set(xlabel="$y$", ylabel="$H(y)$ / nats", title="figure 3.1: the binary entropy", ylim=(0, 0.75))
    costs_axes.plot(a, arrays["H"], color="black", linewidth=1, linestyle="--", label="$H$: minima")
    for i, y in enumerate(config.ys):
        costs_axes.plot(a[1:-1], arrays["C"][i], color=f"C{i}", label=f"$y = {y:g}$")
        if 0 < y < 1:
            costs_axes.plot(y, np.interp(y, a, arrays["H"]), "o", color=f"C{i}")
    costs_axes.set(xlabel="$a$", ylabel="$C$ / nats", title="the cross-entropy for fixed $y$", ylim=(0, 2))
    costs_axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
