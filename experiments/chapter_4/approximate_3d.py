"""Section 4.3, three variables: towers over boxes of space, whose output neurons have the bias -5h/2.

f(x) = sin(3 x_1) cos(2 x_2) + x_3 sin(2 x_1 x_2) on [-1, 1]^3, seen in slices of constant x_3.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm

from experiments import common, runner
from experiments.chapter_4.approximate_2d import evaluate
from jnn import universal


@dataclass(frozen=True)
class Config(common.Seeded):
    quick: ClassVar[dict[str, Any]] = {"bins": (4, 6, 8), "points": 32}

    bins: tuple[int, ...] = (4, 6, 8, 12, 16, 24)
    """Bins along each axis."""
    slices: tuple[float, ...] = (-0.85, 0.1, 0.95)
    """Values of x_3 in the slices."""
    points: int = 96
    """Points along each axis of a slice."""
    scattered: int = 20_000
    """Random points that measure the error."""


@jax.jit
def f(x: Float[Array, "3"]) -> Float[Array, ""]:
    """A smooth function that depends on each of its three variables."""
    return jnp.sin(3 * x[0]) * jnp.cos(2 * x[1]) + x[2] * jnp.sin(2 * x[0] * x[1])


ARRAYS = {
    "f": ("slices points points", "f in each slice of constant x_3, over x_1 and x_2"),
    "network_*": ("slices points points", "the output of the network with so many bins along each axis"),
    "sup": ("bins", "the sup error of each network"),
    "rms": ("bins", "the root-mean-square error of each network"),
    "bounds": ("bins", "half a cell's diagonal times the largest slope of f"),
    "bias_over_h": ("", "the bias of the indicators, divided by their weight h"),
    "rate": ("", "the slope of ln(rms error) over ln(bins)"),
}


def compute(config: Config) -> dict[str, Any]:
    """Slices of f and of each network, and the errors by the number of bins."""
    if len(config.bins) < 2:
        raise ValueError(f"bins must have at least two sizes, got {config.bins}")
    ends = 2 * (np.arange(config.points) + 0.5) / config.points - 1
    x3, x1, x2 = np.meshgrid(config.slices, ends, ends, indexing="ij")
    slices = jnp.asarray(np.stack([x1, x2, x3], axis=-1).reshape(-1, 3), jnp.float32)
    shape = (len(config.slices), config.points, config.points)
    draws = np.random.default_rng(config.seed)
    found: dict[str, Any] = {"f": jax.vmap(f)(slices).reshape(shape), "sup": [], "rms": [], "bounds": []}
    slope = jnp.max(jnp.linalg.norm(jax.vmap(jax.grad(f))(jnp.asarray(draws.uniform(-1, 1, (200_000, 3)))), axis=1))
    for bins in config.bins:
        net = universal.approximate(f, (-1.0,) * 3, (1.0,) * 3, bins)
        cells = draws.integers(0, bins, (config.scattered, 3)) + draws.uniform(0.025, 0.975, (config.scattered, 3))
        points = jnp.asarray(2 * cells / bins - 1, jnp.float32)
        error = jnp.abs(evaluate(net, points)[:, 0] - jax.vmap(f)(points))
        found["sup"].append(jnp.max(error))
        found["rms"].append(jnp.sqrt(jnp.mean(error**2)))
        found["bounds"].append(slope * np.sqrt(3) / bins)
        found[f"network_{bins}"] = evaluate(net, slices).reshape(shape)
        found["bias_over_h"] = net[1].b[0] / jnp.max(net[1].w)
    found["rate"] = np.polyfit(np.log(config.bins), np.log(found["rms"]), 1)[0]
    return found


def claims(_: Config, arrays: runner.Arrays) -> runner.Claims:
    """The bias, the bound from the modulus of continuity, and first order."""
    return {
        "the bias of the indicators is -5h/2": arrays["bias_over_h"] == -2.5,
        "no error exceeds half a cell's diagonal times the largest slope of f": np.all(
            arrays["sup"] <= arrays["bounds"]
        ),
        "the rms error decays at first order: a rate of -1 +- 0.1": abs(arrays["rate"] + 1) < 0.1,
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """A row for each slice: f, a coarse and a fine network; and the decay of the error."""
    left, right = common.parts(figure, (9, 5.4), 1, 2, width_ratios=(1.75, 1))
    shown = (config.bins[len(config.bins) // 2 - 1], config.bins[-1])
    names = ("f", *(f"network_{bins}" for bins in shown))
    titles = ("$f$", *(f"${bins}^3$ cells" for bins in shown))
    colours = CenteredNorm(halfrange=float(np.max(np.abs(arrays["f"]))))
    axes_grid = left.subplots(len(config.slices), 3, sharex=True, sharey=True, squeeze=False)
    for i, x3 in enumerate(config.slices):
        for axes, name, title in zip(axes_grid[i], names, titles, strict=True):
            image = axes.imshow(arrays[name][i].T, origin="lower", extent=(-1, 1, -1, 1), cmap="PuOr", norm=colours)
            image.set_interpolation("nearest")
            axes.set(title=title if i == 0 else "", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
            axes.grid(visible=False)
        axes_grid[i, 0].set_ylabel(f"$x_3 = {x3:g}$\n$x_2$")
    for axes in axes_grid[-1]:
        axes.set_xlabel("$x_1$")
    left.colorbar(ScalarMappable(colours, "PuOr"), ax=axes_grid, shrink=0.6)
    decay = right.subplots()
    for norm, marker in (("sup", "o"), ("rms", "s")):
        decay.loglog(config.bins, arrays[norm], marker, label=f"{norm} error")
    decay.loglog(config.bins, arrays["bounds"], color="black", linewidth=1, label="bound on the sup error")
    decay.set(title=f"error away from the knots\n(rms: rate {arrays['rate']:.2f})", xlabel="bins along each axis")
    decay.set_xticks(config.bins, [str(bins) for bins in config.bins])
    decay.set_xticks([], minor=True)
    decay.legend(loc="lower left")
