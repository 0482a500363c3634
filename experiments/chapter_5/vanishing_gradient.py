"""Section 5.1: on its way back through a deep net a gradient vanishes or explodes, layer by layer.

First the notes' linear chain, whose gradient with respect to a weight of the first layer is a product of one weight
from every other layer: with all weights w it is w^(L-1) times (y_hat - y) x_1. Then deep nets with random weights from
N(0, g^2/n), where each layer multiplies the gradient by w^T and by the derivative of its activation: at most 1/4 for
the sigmoid, at most 1 for tanh (exercise 5.1).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments import common, runner
from jnn import activations, gradient_flow
from jnn.activations import Activation

ACTIVATIONS = {
    "sigmoid": (activations.sigmoid, "C1", 1 / 4, "g/4"),
    "tanh": (activations.tanh, "C0", 1.0, "g"),
    "relu": (activations.relu, "C2", 2**-0.5, "g/sqrt(2)"),
}
"""Each activation with its colour and, for g = 1, the largest root mean square factor of a layer on a gradient."""

X = (0.6, 0.8)
"""The input of the chain."""


@dataclass(frozen=True)
class Config(common.Repeated):
    quick: ClassVar[dict[str, Any]] = {"depths": (1, 10, 30, 100), "seeds": 4}

    seeds: int = 20
    weights: tuple[float, ...] = (0.9, 1.0, 1.1)
    """The weight w of each chain, the same in all layers."""
    depths: tuple[int, ...] = (1, *range(5, 101, 5))
    """Numbers of layers L of the chains."""
    gains: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Values of g for the deep nets' weights from N(0, g^2/n)."""
    layers: int = 30
    """Layers of each deep net."""
    width: int = 32
    """Neurons n in each layer."""


def chain_gradients(w: Float[Array, " weights"], depth: int) -> Float[Array, " weights"]:
    """dL/dw_11^(1) divided by (y_hat - y) x_1, for the chains of L = `depth` layers all of whose weights are w."""

    def of_one(w: Float[Array, ""]) -> Float[Array, ""]:
        weights, x, y = jnp.broadcast_to(w, (depth, 2)), jnp.asarray(X, w.dtype), jnp.zeros((), w.dtype)
        return gradient_flow.chain_gradient(weights, x, y)[0, 0] / ((gradient_flow.chain(weights, x) - y) * x[0])

    return jax.jit(jax.vmap(of_one))(w)


def back_through(
    key: Key[Array, ""], gain: Float[Array, ""], *, activation: Activation, config: Config
) -> Float[Array, " L+1"]:
    """The norms of dC/da^l for a^l = activation(w^l a^(l-1)), from the input l = 0 to the last layer's l = L.

    C is the sum of the outputs, each times its own random sign.
    """
    weights_key, x_key, sign_key = jax.random.split(key, 3)
    weights = jax.random.normal(weights_key, (config.layers, config.width, config.width))
    x = jax.random.normal(x_key, (config.width,))
    signs = jax.random.rademacher(sign_key, (config.width,), x.dtype)
    inputs = gain / jnp.sqrt(config.width) * weights
    _, derivatives = gradient_flow.flow(lambda a, w: activation(w @ a), x, inputs, lambda a: signs @ a)
    return gradient_flow.norms(derivatives)


ARRAYS = {
    "chains": ("weights depths", "dL/dw_11^(1) / ((y_hat - y) x_1) of the chain with each weight and depth"),
    **{
        name: ("gains seeds layers", f"the norm of the gradient at each layer, from 0 to L, of deep nets with {name}")
        for name in ACTIVATIONS
    },
}


def compute(config: Config) -> dict[str, Any]:
    """The chains' gradients by depth, and the deep nets' by layer, [gains, seeds, L+1] for each activation."""
    chains = [chain_gradients(jnp.array(config.weights), depth) for depth in config.depths]
    keys, gains = jax.random.split(jax.random.key(config.seed), config.seeds), jnp.array(config.gains)
    found: dict[str, Any] = {"chains": jnp.stack(chains, axis=1)}
    for name, (activation, *_) in ACTIVATIONS.items():
        nets = jax.vmap(partial(back_through, activation=activation, config=config), in_axes=(0, None))
        found[name] = jax.jit(jax.vmap(nets, in_axes=(None, 0)))(keys, gains)
    return found


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """The products of section 5.1, and the advantage of tanh that exercise 5.1 suggests."""
    w, depths, gains = (np.array(values) for values in (config.weights, config.depths, config.gains))
    layers = min(20, config.layers)
    falls = {name: arrays[name][..., -1] / arrays[name][..., -1 - layers] for name in ACTIVATIONS}
    found = {
        "the chain's gradient with respect to w^(1) is w^(L-1) (y_hat - y) x_1": np.allclose(
            arrays["chains"], w[:, None] ** (depths - 1), rtol=1e-5, atol=0
        ),
        f"g <= 1: every sigmoid net's gradient falls by at least 10^8 over {layers} layers": np.all(
            falls["sigmoid"][gains <= 1] >= 1e8
        ),
        f"g = 1: every tanh net's gradient changes by less than 10^2 over {layers} layers": np.all(
            np.abs(np.log10(falls["tanh"][gains == 1])) < 2
        ),
        f"g > 1: over {layers} layers the gradient grows with tanh, in the geometric mean over nets": np.all(
            np.mean(np.log(falls["tanh"][gains > 1]), axis=1) < 0
        ),
        "with the same weights, every net's gradient falls less with tanh than with the sigmoid": np.all(
            falls["tanh"] < falls["sigmoid"]
        ),
    }
    for name, (_, _, bound, words) in ACTIVATIONS.items():
        factors = np.exp(np.mean(np.log(arrays[name][..., 0] / arrays[name][..., -1]), axis=1) / config.layers)
        found[f"{name}: a layer multiplies the gradient by at most {words}, in the geometric mean over nets"] = np.all(
            factors <= bound * gains
        )
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """The chains, and for each gain the medians of the deep nets within their range."""
    chain, *nets = common.panels(figure, (9, 5.6), 2, (len(config.gains) + 2) // 2)
    for i, (w, gradients) in enumerate(zip(config.weights, arrays["chains"], strict=True)):
        chain.semilogy(config.depths, gradients, "o-", color=f"C{i + 3}", markersize=3, label=f"$w = {w:g}$")
    chain.set(title="the linear chain, all weights $w$", xlabel="layers $L$")
    chain.set_ylabel(r"$\partial L / \partial w_{11}^{(1)}\ /\ (\hat y - y)\, x_1$")
    chain.legend(loc="upper left")
    l = np.arange(config.layers + 1)
    smallest = min(arrays[name].min() for name in ACTIVATIONS)
    for i, (axes, gain) in enumerate(zip(nets, config.gains, strict=False)):
        for name, (_, colour, *_) in ACTIVATIONS.items():
            norms = arrays[name][i]
            axes.fill_between(l, norms.min(axis=0), norms.max(axis=0), color=colour, alpha=0.2, linewidth=0)
            axes.semilogy(l, np.median(norms, axis=0), color=colour, linewidth=2, label=name)
        axes.set(title=f"deep nets, $w^l$ from $N(0, g^2/n)$ with $g = {gain:g}$", xlabel="layer $l$")
        axes.set(ylabel=r"$\|\partial C / \partial a^l\|$", ylim=(smallest / 10, 1e8))
        axes.legend(loc="lower right")
