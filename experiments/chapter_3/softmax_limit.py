"""Exercise 3.3: where softmax gets its name. As c grows its output becomes one-hot, or 1/k each for k that tie.

For many random layers of weighted inputs: with a unique maximum the distance from one-hot falls like exp(-c gap), where
gap is the difference of the two largest; with several equal maxima the notes' limit needs this correction.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments import common, runner
from jnn import activations


@dataclass(frozen=True)
class Config(common.Seeded):
    quick: ClassVar[dict[str, Any]] = {"layers": 50, "cs": 40}

    layers: int = 500
    """Random layers of weighted inputs."""
    neurons: int = 5
    """Neurons J of each layer."""
    largest: runner.NotNegative = 200.0
    """The largest c."""
    cs: int = 120
    """Number of values of c, from 0.001 on, evenly spaced on a logarithmic scale."""
    ties: tuple[int, ...] = (1, 2, 3)
    """Numbers of neurons that share the largest weighted input."""


ARRAYS = {
    "c": ("c", "the factors of the weighted inputs"),
    "a_*": ("c neurons", "the softmax outputs of the first layer, with so many equal largest inputs"),
    "gap_*": ("layers", "the difference of the largest and the next weighted input"),
    "distance_*": ("c layers", "the largest distance of an output from its limit"),
}


def compute(config: Config) -> dict[str, Any]:
    """The outputs at every c, and their distance from the limit: 1/k for the k largest, 0 for the others."""
    if config.neurons <= max(config.ties):
        raise ValueError(f"neurons must be greater than every number of ties, got {config.neurons} and {config.ties}")
    cs = jnp.geomspace(1e-3, config.largest, config.cs)
    z = jnp.sort(jax.random.normal(jax.random.key(config.seed), (config.layers, config.neurons)), axis=1)[:, ::-1]
    found: dict[str, Any] = {"c": cs}
    for k in config.ties:
        tied = z.at[:, :k].set(z[:, :1])
        a = jax.vmap(lambda c, tied=tied: activations.softmax(tied, c))(cs)
        limit = jnp.where(jnp.arange(config.neurons) < k, 1 / k, 0)
        found |= {
            f"a_{k}": a[:, 0],
            f"gap_{k}": tied[:, 0] - tied[:, k],
            f"distance_{k}": jnp.max(jnp.abs(a - limit[None, None]), axis=-1),
        }
    return found


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """The limits for large and small c, and the rate of convergence."""
    found = {}
    cs = arrays["c"][:, None]
    for k in config.ties:
        gap, distance = arrays[f"gap_{k}"][None], arrays[f"distance_{k}"]
        limit = "one-hot" if k == 1 else f"1/{k} for each of the {k} largest"
        bound = (config.neurons - k) * np.exp(-cs * gap) / k + 2e-6
        found[f"the limit is {limit}: never further away than (J - {k}) exp(-c gap) / {k}"] = (
            np.all(distance <= bound) and np.median(distance[-1]) < 1e-5
        )
        at = (distance > 1e-5) & (cs * gap > 4)
        slope = np.log(distance[at]) / (cs * gap)[at]
        found[f"with {k} largest, ln distance / (c gap) is -1 within the width of ln J / (c gap)"] = np.all(
            np.abs(slope + 1) < np.log(config.neurons * k) / (cs * gap)[at] + 0.02
        )
    uniform = np.abs(arrays[f"a_{config.ties[0]}"][0] - 1 / config.neurons).max()
    found["for small c every neuron has 1/J"] = uniform < 0.005
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """One layer's outputs without and with a tie, and the distances of all layers."""
    left, right, distances = common.panels(figure, (10, 3.5), 1, 3)
    first, second = config.ties[0], config.ties[min(1, len(config.ties) - 1)]
    for axes, k in ((left, first), (right, second)):
        for j in range(config.neurons):
            axes.plot(arrays["c"], arrays[f"a_{k}"][:, j], color=f"C{j}", linewidth=2 if j < k else 1.2)
        title = "a unique largest $z$" if k == 1 else f"{k} largest $z$, equal"
        axes.set(xscale="log", xlabel="$c$", ylabel="$a_j$", title=title, ylim=(-0.02, 1.02))
    right.axhline(1 / second, color="black", linewidth=0.8, linestyle=":")
    for i, k in enumerate(config.ties):
        product = arrays["c"][:, None] * arrays[f"gap_{k}"][None]
        shown = (arrays[f"distance_{k}"] > 1e-6) & (product < 16)
        label = "unique" if k == 1 else f"{k} equal"
        distances.plot(product[shown], arrays[f"distance_{k}"][shown], ".", color=f"C{i}", markersize=1.5, label=label)
    line = np.array([2.0, 13.0])
    distances.plot(line, np.exp(-line), color="black", linewidth=1, linestyle="--", label=r"$e^{-c\,gap}$")
    distances.set(yscale="log", xlabel="$c$ gap", title="distance from the limit, all layers", ylim=(1e-6, 1.5))
    distances.legend(fontsize="small", markerscale=6)
