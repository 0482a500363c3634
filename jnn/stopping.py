"""Early stopping (section 3.3.2): when a training ends, as pure state machines.

A `Criterion` is a pair of functions, `init(params)` and `update(state, params, error)`, which is called after every
epoch and returns the new state and whether to stop. `train.run` and `train.fit` take one as `stopping`; it works
under `jit`, and under `vmap` every member stops by itself.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from jaxtyping import ArrayLike as Like

from jnn import _checks


@jax.tree_util.register_static
@dataclass(frozen=True)
class Criterion:
    """init(params) -> state before the first epoch; update(state, params, error) -> (state, stop) after each.

    window: epochs that it looks back. needs_error: whether `update` looks at the error. Like a `Cost` it is a static
    pytree without leaves; the same arguments give the same criterion, so that programs are reused.
    """

    name: str
    window: int
    needs_error: bool
    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any], tuple[Any, Bool[Array, ""]]]

    def __repr__(self) -> str:
        return f"stopping.{self.name}"


class Errors(NamedTuple):
    """The lowest error so far, the epochs since then, and those left once the criterion is reached; -1 before."""

    lowest: Float[Array, ""]
    since: Int[Array, ""]
    left: Int[Array, ""]


class Weights(NamedTuple):
    """The parameters of the last epochs, each leaf with a leading axis [window], and the epochs so far."""

    last: Any
    epochs: Int[Array, ""]


def error_change(*, window: int = 10, further: int = 0) -> Criterion:
    """The error-change criterion (section 3.3.2): no error of the last `window` epochs is below the lowest before them.

    When that is first so, training goes on for `further` epochs, whatever they bring, and then stops. An error that
    is NaN is below nothing.

    Raises ValueError for a window below 1 or `further` below 0, TypeError where they are no whole numbers.
    """
    _checks.count("window", window)
    _checks.count("further", further, least=0)
    return _error_change(int(window), int(further))


@functools.cache
def _error_change(window: int, further: int) -> Criterion:
    def init(params: Any) -> Errors:
        del params
        return Errors(jnp.asarray(jnp.inf, float), jnp.full((), -1), jnp.full((), -1))

    def update(state: Errors, params: Any, error: Float[Like, ""]) -> tuple[Errors, Bool[Array, ""]]:
        del params
        dropped = jnp.less(error, state.lowest)
        since = jnp.where(dropped, 0, state.since + 1)
        reached = jnp.where(since >= window, further, -1)
        left = jnp.where(state.left >= 0, jnp.maximum(state.left - 1, 0), reached)
        return Errors(jnp.where(dropped, error, state.lowest), since, left), left == 0

    return Criterion(f"error_change(window={window}, further={further})", window, True, init, update)


def weight_change(rho: _checks.Scalar, *, window: int = 10, relative: bool = False) -> Criterion:
    """The weight-change criterion: max_i ||w_i^(t - window) - w_i^(t)|| <= rho, at an epoch t >= window.

    Section 3.3.2. The w_i are the leaves of the parameters, each layer's weights and each layer's biases, and the norm
    is the Euclidean one over all entries of a leaf; w^(0) are the parameters before the first epoch. With `relative`,
    the i-th norm is compared with rho ||w_i^(t)||: rho = 0.01 is one percent. Keeps `window` copies of the parameters.

    Raises ValueError for a window below 1 or a rho that is negative or not finite, TypeError where they are no such
    numbers.
    """
    _checks.count("window", window)
    _checks.amount("rho", rho)
    return _weight_change(float(rho), int(window), bool(relative))


@functools.cache
def _weight_change(rho: float, window: int, relative: bool) -> Criterion:
    def init(params: Any) -> Weights:
        def first(leaf: Any) -> Any:
            return jnp.zeros((window, *jnp.shape(leaf)), jnp.result_type(leaf)).at[0].set(leaf)

        return Weights(jax.tree.map(first, params), jnp.zeros((), int))

    def update(state: Weights, params: Any, error: Any) -> tuple[Weights, Bool[Array, ""]]:
        del error
        t = state.epochs + 1
        place = t % window  # where w^(t - window) stands, and w^(t) shall

        def still(old: Any, new: Any) -> Bool[Array, ""]:
            bound = rho * jnp.linalg.norm(new.ravel()) if relative else rho
            return jnp.linalg.norm((old[place] - new).ravel()) <= bound

        all_still = jax.tree.reduce(jnp.logical_and, jax.tree.map(still, state.last, params))
        last = jax.tree.map(lambda old, new: old.at[place].set(new), state.last, params)
        return Weights(last, t), all_still & (t >= window)

    return Criterion(f"weight_change({rho}, window={window}, relative={relative})", window, False, init, update)
