"""Equations (2.9): the gradient by hand is the gradient by autodiff, over random networks, costs and activations.

The mean gradient of a mini-batch is computed in four ways: the mean over `jax.vmap` of the one-example form by hand;
the matrix form by hand, which trains; the mean over `jax.vmap` of `jax.grad`; and `jax.grad` of the mean cost, the
reference for the other three.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments import common, runner
from jnn import activations, backprop, costs, mlp
from jnn.activations import Activation
from jnn.costs import Cost

COSTS = (
    costs.quadratic,
    costs.quadratic_with(activations.identity),
    costs.quadratic_with(activations.tanh),
    costs.cross_entropy,
    costs.log_likelihood,
    costs.huber,
    costs.absolute,
    costs.hinge,
)
HIDDEN = (
    activations.sigmoid,
    activations.tanh,
    activations.relu,
    activations.leaky_relu,
    activations.elu,
    activations.softplus,
    activations.silu,
    activations.gelu,
    activations.identity,
)
WAYS = ("one example by hand, vmap", "matrix form by hand", "vmap of jax.grad")
BOUND = {"float64": 1e-12, "float32": 1e-5}


@dataclass(frozen=True)
class Config(common.Seeded):
    quick: ClassVar[dict[str, Any]] = {"networks": 5, "deepest": 3}

    networks: int = 20
    """Random architectures; costs and hidden activations alternate."""
    deepest: int = 5
    """The largest number of layers of weights."""
    widest: int = 40
    """The largest number of neurons in a layer."""
    batch: int = 12
    """The largest number of examples in a mini-batch."""


class Case(NamedTuple):
    """One network to check."""

    sizes: tuple[int, ...]
    cost: Cost
    hidden: Activation
    m: int


ARRAYS = {
    "depths": ("networks", "the number of layers of weights of each network"),
    "float64": ("networks ways", "the relative error of each way in float64"),
    "float32": ("networks ways", "the relative error of each way in float32"),
    "largest_relative_error_*": ("", "the largest of these errors in this dtype"),
}


def compute(config: Config) -> dict[str, Any]:
    """The relative error of each way for each network, [networks, 3] in each dtype."""
    draws = np.random.default_rng(config.seed)
    cases = [_case(draws, config, i) for i in range(config.networks)]
    inputs = [_inputs(draws, case) for case in cases]
    found: dict[str, Any] = {"depths": [len(case.sizes) - 1 for case in cases]}
    for dtype in BOUND:
        with jax.enable_x64(dtype == "float64"):
            found[dtype] = [
                _relative_errors(case, *jax.tree.map(partial(jnp.asarray, dtype=dtype), arrays))
                for case, arrays in zip(cases, inputs, strict=True)
            ]
        found[f"largest_relative_error_{dtype}"] = np.max(found[dtype])
    return found


def claims(_: Config, arrays: runner.Arrays) -> runner.Claims:
    """All four agree, to the rounding of the dtype."""
    return {
        f"{way} equals jax.grad of the mean cost to {bound:g} in {dtype}": np.all(arrays[dtype][:, i] <= bound)
        for dtype, bound in BOUND.items()
        for i, way in enumerate(WAYS)
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """The relative errors, network by network, beside the rounding unit of each dtype."""
    scatter = np.random.default_rng(config.seed)
    for axes, dtype in zip(common.panels(figure, (9, 3.6), 1, 2), BOUND, strict=True):
        epsilon = np.finfo(dtype).eps
        for i, way in enumerate(WAYS):
            depths = arrays["depths"] + 0.22 * (i - 1) + scatter.uniform(-0.07, 0.07, len(arrays["depths"]))
            axes.scatter(depths, np.maximum(arrays[dtype][:, i], epsilon / 50), s=12, alpha=0.7, label=way)
        axes.axhline(epsilon, color="black", linewidth=1, linestyle="--")
        axes.axhline(BOUND[dtype], color="black", linewidth=1)
        axes.set(yscale="log", xlabel="layers of weights, $L - 1$", title=dtype, ylim=(epsilon / 200, 5 * BOUND[dtype]))
        axes.set_xticks(range(1, config.deepest + 1))
        axes.set_xlim(0.45, config.deepest + 0.55)
        levels = {"claimed": (BOUND[dtype], -11), "rounding unit": (epsilon, 6), "no error at all": (epsilon / 50, -11)}
        for text, (y, above) in levels.items():
            axes.annotate(text, (0.5, y), xytext=(0, above), textcoords="offset points", fontsize="small")
    figure.axes[0].set_ylabel("largest error / largest gradient")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)


def _case(draws: np.random.Generator, config: Config, i: int) -> Case:
    return Case(
        sizes=tuple(draws.integers(1, config.widest + 1, size=draws.integers(2, config.deepest + 2)).tolist()),
        cost=COSTS[i % len(COSTS)],
        hidden=HIDDEN[i % len(HIDDEN)],
        m=int(draws.integers(1, config.batch + 1)),
    )


def _inputs(draws: np.random.Generator, case: Case) -> tuple[mlp.Params, np.ndarray, np.ndarray]:
    """Parameters, xs, and ys that suit every cost: positive, with a sum of 1. NumPy draws them without compiling."""
    params = tuple(
        mlp.Layer(jnp.asarray(draws.normal(size=(n_out, n_in)) / np.sqrt(n_in)), jnp.asarray(draws.normal(size=n_out)))
        for n_in, n_out in pairwise(case.sizes)
    )
    ys = draws.dirichlet(np.ones(case.sizes[-1]), size=case.m)
    return params, draws.normal(size=(case.m, case.sizes[0])), ys


@partial(jax.jit, static_argnames="case")
def _relative_errors(
    case: Case, params: mlp.Params, xs: Float[Array, "m n_in"], ys: Float[Array, "m n_out"]
) -> Float[Array, "3"]:
    """For each way, the largest difference to jax.grad of the mean cost over its largest entry, in the worst leaf."""

    def cost_of(params: mlp.Params, x: Float[Array, " n_in"], y: Float[Array, " n_out"]) -> Float[Array, ""]:
        return case.cost.value(mlp.logits(params, x, hidden=case.hidden), y)

    def mean_cost(params: mlp.Params) -> Float[Array, ""]:
        return jnp.mean(jax.vmap(cost_of, in_axes=(None, 0, 0))(params, xs, ys))

    def mean_of_vmap(value_and_grad: Any) -> mlp.Params:
        _, grads = jax.vmap(value_and_grad, in_axes=(None, 0, 0))(params, xs, ys)
        return jax.tree.map(lambda g: jnp.mean(g, axis=0), grads)

    by_hand = partial(backprop.value_and_grad, cost=case.cost, hidden=case.hidden)
    matrix = partial(backprop.minibatch_value_and_grad, cost=case.cost, hidden=case.hidden)
    ways = (mean_of_vmap(by_hand), matrix(params, xs, ys)[1], mean_of_vmap(jax.value_and_grad(cost_of)))
    reference = jax.grad(mean_cost)(params)

    def relative(a: Array, b: Array) -> Array:
        apart, scale = jnp.max(jnp.abs(a - b)), jnp.max(jnp.abs(b))
        return jnp.where(apart == 0, 0.0, apart / scale)

    return jnp.stack([jnp.max(jnp.stack(jax.tree.leaves(jax.tree.map(relative, way, reference)))) for way in ways])
