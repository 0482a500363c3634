"""Exercise 1.2: sigmoid neurons become perceptrons as all weights and biases grow, unless some w.x + b is 0.

Random networks of perceptrons, each with a fixed input, are compared with the same networks of sigmoid neurons whose
weights and biases are all multiplied by c. In the networks that fail, the first perceptron's bias makes its w.x + b
exactly 0.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments import common, runner
from jnn import mlp, perceptron
from jnn.activations import sigmoid, step

SHOWN = 40
"""The number of networks of each kind whose distances are drawn."""


@dataclass(frozen=True)
class Config(common.Seeded):
    quick: ClassVar[dict[str, Any]] = {"networks": 40}

    sizes: tuple[int, ...] = (5, 8, 6, 1)
    """Neurons in each layer."""
    networks: int = 1000
    """Random networks, each with an input."""
    doublings: int = 20
    """Doublings of c, which starts at 1: powers of two do not change the rounding of the sums."""


def network(key: Key[Array, ""], sizes: tuple[int, ...]) -> tuple[mlp.Params, Float[Array, " n_in"]]:
    """Parameters from N(0, 1) and a fixed input of zeros and ones."""
    params_key, x_key = jax.random.split(key)
    params = mlp.init(params_key, sizes, weights=mlp.unit_normal, biases=mlp.unit_normal)
    return params, jax.random.bernoulli(x_key, 0.5, sizes[:1]).astype(jnp.float32)


def failing(params: mlp.Params, x: Float[Array, " n_in"]) -> mlp.Params:
    """The network with w.x + b = 0 for its first perceptron, whose weights are rounded to make the sum exact."""
    first, *rest = params
    w = first.w.at[0].set(jnp.round(first.w[0]))
    return (first._replace(w=w, b=first.b.at[0].set(-w[0] @ x)), *rest)


def smallest_input(params: mlp.Params, x: Float[Array, " n_in"]) -> Float[Array, ""]:
    """The least |w.x + b| of any perceptron in the network."""
    layers = range(1, len(params) + 1)
    return jnp.min(jnp.abs(jnp.concatenate([mlp.logits(params[:l], x, hidden=step) for l in layers])))


ARRAYS = {
    "c": ("c", "the factors of all weights and biases"),
    "distances": ("networks c", "the distance of each network's output from its perceptrons' output"),
    "margins": ("networks", "the least |w.x + b| of any perceptron in the network"),
    "first_neurons": ("networks c", "the output of the first sigmoid neuron where w.x + b = 0"),
    "first_perceptrons": ("networks", "the output of the perceptron with w.x + b = 0"),
    "failing_distances": ("networks c", "the distances where w.x + b = 0 for the first perceptron"),
}


def compute(config: Config) -> dict[str, Any]:
    """For each network and each c the distance of its output from the perceptrons', and the neuron that fails."""
    keys = jax.random.split(jax.random.key(config.seed), config.networks)
    return study(keys, 2.0 ** jnp.arange(config.doublings + 1), sizes=config.sizes)


@partial(jax.jit, static_argnames="sizes")
def study(keys: Key[Array, " networks"], cs: Float[Array, " c"], *, sizes: tuple[int, ...]) -> dict[str, Any]:
    """The results of `compute` for a network from each key and for each c."""
    params, x = jax.vmap(partial(network, sizes=sizes))(keys)

    def distances(params: mlp.Params, x: Array) -> Array:
        sigmoids = jax.vmap(lambda c: mlp.forward(perceptron.scale(params, c), x))(cs)
        return jnp.max(jnp.abs(sigmoids - perceptron.forward(params, x)[None]), axis=1)

    def first_neuron(params: mlp.Params, x: Array) -> Array:
        return jax.vmap(lambda c: sigmoid(mlp.logits(perceptron.scale(params[:1], c), x))[0])(cs)

    stuck = jax.vmap(failing)(params, x)
    return {
        "c": cs,
        "distances": jax.vmap(distances)(params, x),
        "margins": jax.vmap(smallest_input)(params, x),
        "first_neurons": jax.vmap(first_neuron)(stuck, x),
        "first_perceptrons": jax.vmap(lambda params, x: perceptron.forward(params[:1], x)[0])(stuck, x),
        "failing_distances": jax.vmap(distances)(stuck, x),
    }


def claims(_: Config, arrays: runner.Arrays) -> runner.Claims:
    """The limit, and its exception."""
    settled = arrays["margins"] * arrays["c"][-1] > 100
    return {
        "at the largest c, networks with c |w.x + b| > 100 everywhere are perceptrons to 1e-6": (
            np.any(settled) and np.all(arrays["distances"][settled, -1] < 1e-6)
        ),
        "these are more than 99 % of the networks, or all networks but one": np.sum(~settled)
        <= max(1, 0.01 * len(settled)),
        "where w.x + b = 0 the sigmoid neuron stays at 1/2 for every c": np.all(arrays["first_neurons"] == 0.5),
        "where w.x + b = 0 the perceptron gives 0": np.all(arrays["first_perceptrons"] == 0),
        "some of these networks never give the output of the perceptrons": (
            np.mean(arrays["failing_distances"][:, -1] > 0.4) > 0.02
        ),
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """The fraction of networks near their perceptrons as c grows, and single networks."""
    left, right = common.panels(figure, (9, 3.6), 1, 2)
    for name, label, colour in (
        ("distances", r"all $w \cdot x + b \neq 0$", "C0"),
        ("failing_distances", r"$w \cdot x + b = 0$ for one perceptron", "C1"),
    ):
        left.semilogx(arrays["c"], 100 * np.mean(arrays[name] < 0.01, axis=0), color=colour, label=label, linewidth=2)
        for curve in arrays[name][:SHOWN]:
            right.loglog(arrays["c"], np.maximum(curve, 1e-12), color=colour, alpha=0.6, linewidth=0.8)
    left.set(xlabel="$c$", ylabel="networks / %", ylim=(0, 103), title="outputs within 0.01 of the perceptrons'")
    right.set(xlabel="$c$", xlim=(1, 3000), ylim=(1e-9, 2))
    right.set_title(f"distances of {min(SHOWN, config.networks)} networks of each kind")
    left.legend(loc="lower right")
