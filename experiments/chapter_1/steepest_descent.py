"""Exercise 1.4: among all steps of a given length, the step against the gradient lowers the cost the most.

The cost is the quadratic cost of a network on handwritten digits. For steps dv of length epsilon, by the formula and
along many random directions, the experiment computes grad C . dv, to which the exercise's claim refers, and the true
change of C, which approaches this product as epsilon falls.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from experiments import common, runner
from jnn import backprop, data, mlp, perceptron


@dataclass(frozen=True)
class Config(common.Seeded):
    quick: ClassVar[dict[str, Any]] = {"directions": 500, "changes": 40}

    directions: int = 20_000
    """Random directions to multiply with the gradient, for each number of dimensions."""
    dimensions: tuple[int, ...] = (2, 10, 100)
    """Numbers of parameters that move, the last of the network; then all of them."""
    changes: int = 1000
    """Random directions along which to compute the cost itself."""
    examples: int = 100
    """Digits in the mean of the cost."""
    shortest: runner.NotNegative = 0.01
    """Length of the shortest step."""
    longest: runner.NotNegative = 10.0
    """Length of the longest step."""


def directions(key: Key[Array, ""], count: int, m: int) -> Float[Array, "count m"]:
    """Random steps of length 1, uniform over all directions."""
    dv = jax.random.normal(key, (count, m))
    return dv / jnp.linalg.norm(dv, axis=1, keepdims=True)


@partial(jax.jit, static_argnames="count")
def products(key: Key[Array, ""], gradient: Float[Array, " m"], count: int) -> tuple[Array, Array]:
    """The products grad C . dv / |grad C| along random directions [count], and along the formula's."""
    unit = gradient / jnp.linalg.norm(gradient)
    return directions(key, count, len(gradient)) @ unit, perceptron.steepest_step(gradient, 1.0) @ unit


ARRAYS = {
    "dimensions": ("dimensions", "the numbers of parameters that move"),
    "products": ("dimensions directions", "grad C . dv / (epsilon |grad C|) along each random direction"),
    "products_of_the_formula": ("dimensions", "the same along the step that the formula gives"),
    "length_of_the_formula": ("", "the length of the formula's step, divided by epsilon"),
    "lengths": ("lengths", "the lengths epsilon of the steps"),
    "changes": ("changes lengths", "the change of C / (epsilon |grad C|) along each random direction"),
    "change_by_the_formula": ("lengths", "the same along the step that the formula gives"),
}


def compute(config: Config) -> dict[str, Any]:
    """Products with the gradient and changes of the cost, over epsilon |grad C|."""
    params_key, *keys = jax.random.split(jax.random.key(config.seed), 3 + len(config.dimensions))
    (xs, labels), _ = data.digits()
    xs, ys = xs[: config.examples], data.one_hot(labels[: config.examples], 10)
    params = mlp.init(params_key, (xs.shape[1], 30, 10))
    cost, gradient = jax.jit(backprop.minibatch_value_and_grad)(params, xs, ys)
    flat, unravel = ravel_pytree(gradient)
    lengths = jnp.logspace(jnp.log10(config.shortest), jnp.log10(config.longest), 31)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None))
    @partial(jax.vmap, in_axes=(None, 0))
    def change(dv: Float[Array, " m"], epsilon: Float[Array, ""]) -> Float[Array, ""]:
        moved = jax.tree.map(jnp.add, params, unravel(epsilon * dv))
        return (backprop.minibatch_value_and_grad(moved, xs, ys)[0] - cost) / (epsilon * jnp.linalg.norm(flat))

    best = ravel_pytree(perceptron.steepest_step(gradient, 1.0))[0]
    dimensions = (*config.dimensions, flat.size)
    found = [products(key, flat[-m:], config.directions) for key, m in zip(keys[1:], dimensions, strict=True)]
    random, formula = zip(*found, strict=True)
    return {
        "dimensions": dimensions,
        "products": random,
        "products_of_the_formula": formula,
        "length_of_the_formula": jnp.linalg.norm(best),
        "lengths": lengths,
        "changes": change(jax.jit(directions, static_argnums=(1, 2))(keys[0], config.changes, flat.size), lengths),
        "change_by_the_formula": change(best[None], lengths)[0],
    }


def claims(_: Config, arrays: runner.Arrays) -> runner.Claims:
    """The formula's length and product; no random step does better; the limit of short steps."""
    return {
        "the formula's step has length epsilon": abs(arrays["length_of_the_formula"] - 1) < 1e-5,
        "in each number of dimensions its product with the gradient is -epsilon |grad C|": np.all(
            abs(arrays["products_of_the_formula"] + 1) < 1e-5
        ),
        "no random step of that length has a smaller product": np.all(
            arrays["products"].min(axis=1) >= arrays["products_of_the_formula"] - 1e-5
        ),
        "the shortest step by the formula changes C by -epsilon |grad C|, to 1 %": (
            abs(arrays["change_by_the_formula"][0] + 1) < 0.01
        ),
        "along no random direction does the shortest step lower C as much": np.all(
            arrays["changes"][:, 0] > arrays["change_by_the_formula"][0]
        ),
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """The products by the number of dimensions, and the changes of the cost by the length of the step."""
    left, right = common.panels(figure, (9, 3.8), 1, 2)
    places = np.arange(len(arrays["dimensions"]))
    for body in left.violinplot(list(arrays["products"]), places, widths=0.8, showextrema=False)["bodies"]:
        body.set(color="C0", alpha=0.5)
    left.plot(places, arrays["products"].min(axis=1), "v", color="C0", label=f"best of {config.directions:,} random")
    left.axhline(-1, color="C1", linewidth=2, label=r"$\Delta v = -\epsilon \nabla C / \|\nabla C\|$")
    left.set_xticks(places, [f"{m:,}" for m in arrays["dimensions"]])
    left.set(xlabel="parameters that move", ylabel=r"$\nabla C \cdot \Delta v \;/\; \epsilon \|\nabla C\|$")
    left.set(ylim=(-1.1, 1.5))
    left.legend(loc="upper right")
    low, high = arrays["changes"].min(axis=0), arrays["changes"].max(axis=0)
    right.fill_between(
        arrays["lengths"], low, high, color="C0", alpha=0.4, label=f"{config.changes:,} random directions"
    )
    right.semilogx(arrays["lengths"], arrays["change_by_the_formula"], color="C1", linewidth=2, label="the formula")
    right.set(xlabel=r"$\epsilon$", ylabel=r"$\Delta C \;/\; \epsilon \|\nabla C\|$", ylim=(-1.1, 1.5))
    right.legend(loc="upper left")
