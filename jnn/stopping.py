"""Early stopping (section 3.3.2): criteria as pure state machines, and the tracking of the best parameters.

A `Criterion` is a pair of functions, `init(params)` and `update(state, params, error)`, which is called after every
epoch and returns the new state and whether to stop. `train.run` and `train.fit` take one as `stopping`; it works under
`jit`, and under `vmap` each member stops independently. For a training loop of your own, `start`, `observe` and
`unless_stopped` are the parts that they use.
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
    """A criterion for early stopping, as two pure functions.

    Like a `Cost` it is a static pytree without leaves; equal arguments give the same criterion, so that compiled
    programs are reused.

    Attributes:
      name: The name under which it is printed.
      window: The number of epochs that it looks back.
      needs_error: Whether `update` reads the error.
      init: params -> the state before the first epoch.
      update: (state, params, error) -> (state, stop) after each epoch.
      made_by: The function, with its arguments bound, that makes the criterion, which `help` describes.
    """

    window: int
    needs_error: bool
    init: Callable[[PyTree], PyTree]
    update: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, Bool[Array, ""]]]
    _described_by = "update"


class Errors(NamedTuple):
    """The state of `error_change`.

    Attributes:
      lowest: The lowest error so far.
      since: The number of epochs since then.
      left: The number of epochs left once the criterion is met; -1 before.
    """

    lowest: Float[Array, ""]
    since: Int[Array, ""]
    left: Int[Array, ""]


class Weights(NamedTuple):
    """The state of `weight_change`.

    Attributes:
      last: The parameters of the last epochs, each leaf with a leading axis [window].
      epochs: The number of epochs so far.
    """

    last: PyTree
    epochs: Int[Array, ""]


def error_change(*, window: int = 10, further: int = 0) -> Criterion:
    """The error-change criterion: no error of the last `window` epochs is below the lowest before them (section 3.3.2).

    The criterion ignores the parameters. An error of NaN never counts as an improvement.

    Args:
      window: The number of epochs without an improvement after which the criterion is met.
      further: The number of epochs for which training continues once the criterion is met, regardless of their errors.

    Returns:
      The criterion.

    Raises:
      ValueError: If `window` is below 1 or `further` below 0.
      TypeError: If `window` or `further` is not an integer.

    Example:
      >>> criterion = stopping.error_change(window=1)
      >>> state = criterion.init(None)
      >>> for error in 0.3, 0.2, 0.4:
      ...     state, stop = criterion.update(state, None, error)
      ...     print(stop)
      False
      False
      True
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
    r"""The weight-change criterion: no leaf has moved by more than rho in the last `window` epochs (section 3.3.2).

    At an epoch t >= window it asks for

    .. math::

      \max_i \lVert w_i^{(t - \mathrm{window})} - w_i^{(t)} \rVert \le \rho,

    where the :math:`w_i` are the leaves of the parameters, each layer's weights and each layer's biases, and the norm
    is the Euclidean one over all entries of a leaf; :math:`w^{(0)}` are the parameters before the first epoch. It keeps
    `window` copies of the parameters.

    Args:
      rho: The threshold.
      window: The number of epochs to look back.
      relative: Compares the i-th norm with :math:`\rho \lVert w_i^{(t)} \rVert`: 0.01 is then one percent.

    Returns:
      The criterion.

    Raises:
      ValueError: If `window` is below 1, or `rho` is negative or not finite.
      TypeError: If `window` is not an integer or `rho` not a number.

    Example:
      >>> criterion = stopping.weight_change(0.1, window=1)
      >>> state, stop = criterion.update(criterion.init(jnp.ones(2)), jnp.ones(2), None)
      >>> print(stop)
      True
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
        slot = t % window  # holds w^(t - window), and receives w^(t)

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
    """What early stopping carries from epoch to epoch.

    Attributes:
      criterion: The state of the criterion.
      active: Whether training continues.
      epochs: The number of epochs trained.
      best: The epoch, counted from 1, of the lowest error; 0 is the start.
      error: The lowest error.
      params: The parameters of that epoch.
    """

    criterion: PyTree
    active: Bool[Array, "*members"]
    epochs: Int[Array, "*members"]
    best: Int[Array, "*members"]
    error: Float[Array, "*members"]
    params: PyTree


def check(criterion: Criterion | None, evaluate: Evaluate | None, epochs: int) -> None:
    """Checks that a criterion can be met and has the error that it needs.

    Args:
      criterion: The criterion, or None.
      evaluate: The function that returns the error, or None.
      epochs: The number of epochs.

    Raises:
      ValueError: If the window is longer than `epochs`, or if `evaluate` is missing and the criterion needs it.

    Example:
      >>> stopping.check(stopping.weight_change(0.1, window=1), None, epochs=30)
    """
    if criterion is None:
        return
    if criterion.window > epochs:
        given = f"{criterion.window} and {epochs}: use a smaller window or more epochs"
        raise ValueError(f"the window of {criterion} must be at most the number of epochs, got {given}")
    if criterion.needs_error and evaluate is None:
        raise ValueError(f"{criterion} needs an error, got evaluate=None: pass evaluate=..., which returns it")


def start(criterion: Criterion | None, params: PyTree, *, members: bool = False) -> Tracker | None:
    """Makes the tracker before the first epoch.

    Args:
      criterion: The criterion, or None.
      params: The parameters.
      members: Whether `params` are those of ensemble members, along a leading axis.

    Returns:
      The tracker, with the leading axis of the members; None without a criterion.

    Example:
      >>> tracker = stopping.start(stopping.error_change(), jnp.ones(2))
      >>> print(tracker.active, tracker.epochs)
      True 0
    """
    if criterion is None:
        return None
    if members:
        return jax.vmap(functools.partial(start, criterion))(params)
    zero = jnp.zeros((), int)
    return Tracker(criterion.init(params), jnp.asarray(True), zero, zero, _no_error(), params)


def observe(criterion: Criterion, tracker: Tracker, params: PyTree, metrics: PyTree) -> Tracker:
    """Updates the tracker after one more epoch: asks the criterion, and keeps the best parameters.

    Args:
      criterion: The criterion.
      tracker: The tracker before the epoch.
      params: The parameters after the epoch.
      metrics: The error, a dict with one under "error", or None, which keeps the last parameters.

    Returns:
      The tracker after the epoch.

    Raises:
      ValueError: If `metrics` have no error.

    Example:
      >>> criterion = stopping.error_change(window=1)
      >>> tracker = stopping.start(criterion, jnp.zeros(2))
      >>> for error in 0.3, 0.2, 0.4:
      ...     tracker = stopping.observe(criterion, tracker, jnp.full(2, error), error)
      >>> print(tracker.active, tracker.best, tracker.params)
      False 2 [0.2 0.2]
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
    """Runs one epoch and updates the tracker, unless training has stopped.

    Once stopped, state and tracker do not change, and losses and metrics are NaN, or 0 if they are integers or
    jax_debug_nans forbids NaN. Raises as `observe` does.

    Args:
      criterion: The criterion, or None, as within an epoch: then the tracker does not change.
      train: A function of the state that trains one epoch and returns (state, losses, metrics).
      state: The state of the training run.
      tracker: The tracker before the epoch.

    Returns:
      The state, the tracker, the losses and the metrics after the epoch.

    Example:
      >>> criterion = stopping.error_change(window=1)
      >>> tracker = stopping.start(criterion, jnp.ones(2))._replace(active=jnp.asarray(False))
      >>> state = typing.State(jnp.ones(2), ())
      >>> train_epoch = lambda state: (state, jnp.zeros(3), jnp.asarray(0.1))
      >>> _, _, losses, _ = stopping.unless_stopped(criterion, train_epoch, state, tracker)
      >>> losses
      Array([nan, nan, nan], dtype=float32)
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
    """The error, one number: the metrics themselves, or the metric named "error"."""
    error = metrics.get("error") if isinstance(metrics, dict) else metrics
    if not isinstance(error, jax.Array | np.ndarray | np.number | float | int) or jnp.ndim(error) != 0:
        raise ValueError(
            'for early stopping evaluate must return one number, the error, or a dict with one under "error", got '
            f"metrics of shapes {jax.tree.map(jnp.shape, metrics)}"
        )
    return jnp.asarray(error, float)


def _no_error() -> Float[Array, ""]:
    """The largest number, above every error: jax_debug_infs forbids infinity."""
    return jnp.asarray(jnp.finfo(jnp.result_type(float)).max, float)


def _not_trained(shape: jax.ShapeDtypeStruct) -> Array:
    """NaN, or 0 for integers and where jax_debug_nans forbids NaN."""
    config: Any = jax.config
    nan = jnp.issubdtype(shape.dtype, jnp.floating) and not config.jax_debug_nans
    return jnp.full(shape.shape, jnp.nan if nan else 0, shape.dtype)
