"""Early stopping (section 3.3.2): criteria as pure state machines, and the tracking of the best parameters.

A `Criterion` is a pair of functions, `init(params)` and `update(state, params, error)`, which is called after every
epoch and returns the new state and whether to stop. `train.run` and `train.fit` take one as `stopping`; it works under
`jit`, and under `vmap` each member stops independently. `start`, `observe` and `unless_stopped` are what they are
built from, for a training loop of your own.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jnn._internal import checks
from jnn._internal.named import Named
from jnn.typing import Evaluate, PyTree, Scalar


@jax.tree_util.register_static
@dataclass(frozen=True, repr=False)
class Criterion(Named):
    """init(params) -> state before the first epoch; update(state, params, error) -> (state, stop) after each.

    window: how many epochs it looks back. needs_error: whether `update` reads the error. Like a `Cost` it is a static
    pytree without leaves; equal arguments give the same criterion, so that compiled programs are reused. made_by: the
    function with the arguments that gives it again, by which it is pickled and which `help` describes.
    """

    window: int
    needs_error: bool
    init: Callable[[PyTree], PyTree]
    update: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, Bool[Array, ""]]]
    _described_by = "update"


class Errors(NamedTuple):
    """The lowest error so far, the epochs since then, and the epochs left once the criterion is met; -1 before."""

    lowest: Float[Array, ""]
    since: Int[Array, ""]
    left: Int[Array, ""]


class Weights(NamedTuple):
    """The parameters of the last epochs, each leaf with a leading axis [window], and the epochs so far."""

    last: PyTree
    epochs: Int[Array, ""]


def error_change(*, window: int = 10, further: int = 0) -> Criterion:
    """The error-change criterion (section 3.3.2): no error of the last `window` epochs is below the lowest before them.

    Once it is met, training continues for `further` epochs, whatever their errors, and then stops. An error of NaN
    never counts as an improvement.

    Raises ValueError for a window below 1 or `further` below 0, TypeError if they are not integers.
    """
    checks.count("window", window)
    checks.count("further", further, least=0)
    return _error_change(int(window), int(further))


@functools.cache
def _error_change(window: int, further: int) -> Criterion:
    def init(params: PyTree) -> Errors:
        del params
        return Errors(_no_error(), jnp.full((), -1), jnp.full((), -1))

    def update(state: Errors, params: PyTree, error: Float[ArrayLike, ""]) -> tuple[Errors, Bool[Array, ""]]:
        del params
        dropped = jnp.less(error, state.lowest)
        since = jnp.where(dropped, 0, state.since + 1)
        reached = jnp.where(since >= window, further, -1)
        left = jnp.where(state.left >= 0, jnp.maximum(state.left - 1, 0), reached)
        return Errors(jnp.where(dropped, error, state.lowest), since, left), left == 0

    name = f"error_change(window={window}, further={further})"
    made_by = functools.partial(error_change, window=window, further=further)
    return Criterion(name, window, True, init, update, made_by=made_by)


def weight_change(rho: Scalar, *, window: int = 10, relative: bool = False) -> Criterion:
    """The weight-change criterion: max_i ||w_i^(t - window) - w_i^(t)|| <= rho, at an epoch t >= window.

    Section 3.3.2. The w_i are the leaves of the parameters, each layer's weights and each layer's biases, and the norm
    is the Euclidean one over all entries of a leaf; w^(0) are the parameters before the first epoch. With `relative`,
    the i-th norm is compared with rho ||w_i^(t)||: rho = 0.01 is one percent. Keeps `window` copies of the parameters.

    Raises ValueError for a window below 1 or a rho that is negative or not finite, TypeError if they are not such
    numbers.
    """
    checks.count("window", window)
    checks.in_range("rho", rho)
    return _weight_change(float(rho), int(window), bool(relative))


@functools.cache
def _weight_change(rho: float, window: int, relative: bool) -> Criterion:
    def init(params: PyTree) -> Weights:
        def first(leaf: PyTree) -> PyTree:
            return jnp.zeros((window, *jnp.shape(leaf)), jnp.result_type(leaf)).at[0].set(leaf)

        return Weights(jax.tree.map(first, params), jnp.zeros((), int))

    def update(state: Weights, params: PyTree, error: PyTree) -> tuple[Weights, Bool[Array, ""]]:
        del error
        t = state.epochs + 1
        slot = t % window  # which holds w^(t - window), and receives w^(t)

        def still(old: PyTree, new: PyTree) -> Bool[Array, ""]:
            bound = rho * jnp.linalg.norm(new.ravel()) if relative else rho
            return jnp.linalg.norm((old[slot] - new).ravel()) <= bound

        all_still = jax.tree.reduce(jnp.logical_and, jax.tree.map(still, state.last, params))
        last = jax.tree.map(lambda old, new: old.at[slot].set(new), state.last, params)
        return Weights(last, t), all_still & (t >= window)

    name = f"weight_change({rho}, window={window}, relative={relative})"
    made_by = functools.partial(weight_change, rho, window=window, relative=relative)
    return Criterion(name, window, False, init, update, made_by=made_by)


class Tracker(NamedTuple):
    """What early stopping carries from epoch to epoch: the criterion's state, and the best parameters so far.

    active: whether training continues. epochs: how many were trained. best: the epoch, counted from 1, of the lowest
    error, whose parameters are kept; 0 is the start.
    """

    criterion: PyTree
    active: Bool[Array, "*members"]
    epochs: Int[Array, "*members"]
    best: Int[Array, "*members"]
    error: Float[Array, "*members"]
    params: PyTree


def check(criterion: Criterion | None, evaluate: Evaluate | None, epochs: int) -> None:
    """Raise ValueError for a window longer than `epochs`, or for a missing `evaluate` if the criterion needs it."""
    if criterion is None:
        return
    if criterion.window > epochs:
        raise ValueError(
            f"the window of {criterion} must be at most the number of epochs, got {criterion.window} and {epochs}: "
            "use a smaller window or more epochs"
        )
    if criterion.needs_error and evaluate is None:
        raise ValueError(f"{criterion} needs an error, got evaluate=None: pass evaluate=..., which returns it")


def start(criterion: Criterion | None, params: PyTree, *, members: bool = False) -> Tracker | None:
    """The tracker before the first epoch, of one training run or of members along a leading axis, if it may stop."""
    if criterion is None:
        return None
    if members:
        return jax.vmap(functools.partial(start, criterion))(params)
    zero = jnp.zeros((), int)
    return Tracker(criterion.init(params), jnp.asarray(True), zero, zero, _no_error(), params)


def observe(criterion: Criterion, tracker: Tracker, params: PyTree, metrics: PyTree) -> Tracker:
    """The tracker after one more epoch: ask the criterion, and keep the parameters if the error is the lowest so far.

    metrics: the error, a dict with one under "error", or None, which keeps the last parameters. Raises ValueError for
    metrics without an error.
    """
    error = None if metrics is None else _error(metrics)
    state, stop = criterion.update(tracker.criterion, params, error)
    epochs = tracker.epochs + 1
    if error is None:
        return Tracker(state, ~stop, epochs, epochs, tracker.error, params)
    better = error < tracker.error
    best, lowest, kept = jax.tree.map(
        functools.partial(jnp.where, better), (epochs, error, params), (tracker.best, tracker.error, tracker.params)
    )
    return Tracker(state, ~stop, epochs, best, lowest, kept)


def unless_stopped(
    criterion: Criterion | None,
    train: Callable[[PyTree], tuple[PyTree, PyTree, PyTree]],
    state: PyTree,
    tracker: Tracker,
) -> tuple[PyTree, Tracker, PyTree, PyTree]:
    """One epoch, `train(state)` -> (state, losses, metrics), and the tracker after it, unless training has stopped.

    Then state and tracker do not change, and losses and metrics are NaN, or 0 if they are integers or jax_debug_nans
    forbids NaN. Without a criterion, as within an epoch, the tracker does not change. Raises as `observe` does.
    """

    def active(state: PyTree, tracker: Tracker) -> tuple[PyTree, Tracker, PyTree, PyTree]:
        state, losses, metrics = train(state)
        after = tracker if criterion is None else observe(criterion, tracker, state.params, metrics)
        return state, after, losses, metrics

    def stopped(state: PyTree, tracker: Tracker) -> tuple[PyTree, Tracker, PyTree, PyTree]:
        _, *shapes = jax.eval_shape(train, state)
        losses, metrics = jax.tree.map(_not_trained, shapes)
        return state, tracker, losses, metrics

    return jax.lax.cond(tracker.active, active, stopped, state, tracker)


def _error(metrics: PyTree) -> Float[Array, ""]:
    """What `evaluate` returns, or the metric named "error": one number."""
    error = metrics.get("error") if isinstance(metrics, dict) else metrics
    if not isinstance(error, jax.Array | np.ndarray | np.number | float | int) or jnp.ndim(error) != 0:
        raise ValueError(
            'for early stopping evaluate must return one number, the error, or a dict with one under "error", got '
            f"metrics of shapes {jax.tree.map(jnp.shape, metrics)}"
        )
    return jnp.asarray(error, float)


def _no_error() -> Float[Array, ""]:
    """What every error is below: the largest number, as jax_debug_infs forbids infinity."""
    return jnp.asarray(jnp.finfo(jnp.result_type(float)).max, float)


def _not_trained(shape: jax.ShapeDtypeStruct) -> Array:
    """NaN, or 0 for integers and where jax_debug_nans forbids NaN."""
    config: Any = jax.config
    nan = jnp.issubdtype(shape.dtype, jnp.floating) and not config.jax_debug_nans
    return jnp.full(shape.shape, jnp.nan if nan else 0, shape.dtype)
