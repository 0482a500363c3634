"""Mini-batch training of any gradient with any optax optimizer: step -> epoch -> run, and fit on the host.

`data` is a tuple of arrays that share a leading axis of N examples, usually (xs, ys). `grad(params, *batch)` returns
(value, gradient): `backprop.minibatch_value_and_grad`, or `jax.value_and_grad` of a loss of your own.

An epoch visits every example once, in an order drawn from its key. If batch_size does not divide N, the last mini-batch
is smaller; with a batch_size above N there is one mini-batch of all N.

`grad`, `transform` and `evaluate` are compiled into the program, which is reused as long as they and the optimizer are
the same objects. Bind the arrays they need with `jax.tree_util.Partial(f, xs=xs)`: bound arrays are arguments of the
program, whereas arrays captured by a lambda become constants, which compile slowly. Bind Python values, such as the
length of a sequence, with `functools.partial`.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, Key
from jaxtyping import ArrayLike as Like

from jnn import _checks, _dtypes, _explicit, _monitor, _xla, checkpoint, parallel
from jnn import stopping as early_stopping
from jnn.checkpoint import Checkpoints
from jnn.stopping import Criterion, Tracker
from jnn.typing import Evaluate, Grad, Transform

Optimizer = optax.GradientTransformation | optax.MultiSteps
"""Any optimizer of optax."""


class State(NamedTuple):
    """The state of a training: the parameters and the optimizer's state."""

    params: Any
    opt_state: Any


class History(NamedTuple):
    """The record of a training: the mean cost of every mini-batch, before its step, and the metrics of `evaluate`.

    The leaves of metrics have a leading axis of epochs; metrics is None without `evaluate`. `epochs` and `best` are
    None without early stopping. With it, `epochs` is how many were trained and `best` the one, counted from 1, whose
    parameters are returned; 0 is the start, if no error was a number. Epochs that were not trained are NaN in losses
    and metrics, or 0 in integer metrics.
    """

    losses: Float[Array, "*members epochs steps"]
    metrics: Any
    epochs: Int[Array, "*members"] | None = None
    best: Int[Array, "*members"] | None = None


class Report(NamedTuple):
    """What `fit` passes to its callbacks after an epoch, which is counted from 1."""

    epoch: int
    state: State
    losses: Float[Array, "*members steps"]
    metrics: Any


def sgd(eta: float | Float[Array, ""]) -> optax.GradientTransformation:
    """Stochastic gradient descent of section 2.2: w <- w - eta (1/m) sum_x dC/dw (the notes lost the minus signs).

    Raises ValueError unless eta > 0, TypeError if it is not a number; a traced eta, as under `jax.vmap` over learning
    rates, is not checked.
    """
    _checks.positive("eta", eta)
    return optax.sgd(eta)


def init(optimizer: Optimizer, params: Any) -> State:
    """The state before the first step."""
    return State(params, optimizer.init(params))


def step(grad: Grad, optimizer: Optimizer, state: State, batch: Any) -> tuple[State, Float[Array, ""]]:
    """One update by one mini-batch (section 2.2, step 2). Returns the new state and the value before the update.

    Not compiled: call it inside `jax.jit`. Optimizers that use the value or search along a line get what they need. Of
    optax only `lookahead`, whose parameters are pairs, and an opaque `contrib.sam` inside of another do not fit.

    Raises TypeError unless `grad` returns (value, gradient).
    """
    value, grads = _checks.value_and_grad(grad(state.params, *batch), state.params)
    extra: dict[str, Any] = {"value": value, "grad": grads, "value_fn": lambda params: grad(params, *batch)[0]}
    if "grad_fn" in inspect.signature(optimizer.update).parameters:
        extra = {"grad_fn": lambda params, _: grad(params, *batch)[1]}
    extended = optimizer if isinstance(optimizer, optax.MultiSteps) else optax.with_extra_args_support(optimizer)
    updates, opt_state = extended.update(grads, state.opt_state, state.params, **extra)
    return State(optax.apply_updates(state.params, updates), opt_state), value


def epoch(
    key: Key[Array, ""],
    grad: Grad,
    optimizer: Optimizer,
    state: State,
    data: Any,
    *,
    batch_size: int,
    transform: Transform | None = None,
    sharding: NamedSharding | None = None,
) -> tuple[State, Float[Array, " steps"]]:
    """Visit every example once, in a fresh order, as one `lax.scan` in one program.

    Returns the new state and the value of each of the ceil(N / batch_size) mini-batches, before its update.

    transform: `transform(key, *batch)` returns the arguments that `grad` gets in place of the mini-batch, with a new
    key at each step: for augmentation or noise, or to append the key for a `grad` that draws random numbers.
    sharding: of a mini-batch over several devices, as `parallel.batches(mesh)`, or over any axes of a mesh of your own;
    state and data that are not on its mesh yet are replicated there. A smaller last mini-batch is not split.

    Raises ValueError for data without examples or with leading axes that differ, for a batch_size below 1 and for one
    that the devices of `sharding` do not divide; TypeError for data that are not a tuple, a batch_size that is not an
    integer, a key that `jax.random.key` did not make and a transform that does not return a tuple.
    """
    plan = _plan(key, grad, optimizer, data, batch_size, transform=transform, sharding=sharding)
    return _epoch_program(key, *parallel.place_on(plan.sharding, plan, state, jax.tree.map(jnp.asarray, data)))


def run(
    key: Key[Array, ""],
    grad: Grad,
    optimizer: Optimizer,
    state: State,
    data: Any,
    *,
    epochs: int,
    batch_size: int,
    transform: Transform | None = None,
    evaluate: Evaluate | None = None,
    stopping: Criterion | None = None,
    sharding: NamedSharding | None = None,
) -> tuple[State, History]:
    """A whole training as one program; `jax.vmap` it over keys, learning rates or regularisation strengths.

    Epoch t = 0, 1, ... uses `jax.random.fold_in(key, t)`, so a longer run starts with the shorter one.
    `evaluate(params)` is called after each epoch. Returns the last state and the history: losses [epochs, steps].

    stopping: a criterion from `jnn.stopping`. Its error is what `evaluate` returns, or the metric named "error". Once
    it is met, the state does not change any more and, outside of `jax.vmap`, nothing is computed; the returned state
    has the parameters with the lowest error, or the last ones without `evaluate`.

    Raises as `epoch` does, and for `epochs` as for `batch_size`; ValueError for a `stopping` window longer than
    `epochs`, and for a missing error.
    """
    plan = _plan(key, grad, optimizer, data, batch_size, epochs, transform, evaluate, stopping, sharding)
    return _run_program(key, *parallel.place_on(plan.sharding, plan, state, jax.tree.map(jnp.asarray, data)), epochs)


def fit(
    key: Key[Array, "*members"],
    grad: Grad,
    optimizer: Optimizer,
    state: State,
    data: Any,
    *,
    epochs: int,
    batch_size: int,
    transform: Transform | None = None,
    evaluate: Evaluate | None = None,
    stopping: Criterion | None = None,
    sharding: NamedSharding | None = None,
    callbacks: Sequence[Callable[[Report], Any]] = (),
    checkpoints: Checkpoints | None = None,
    progress: bool = True,
) -> tuple[State, History]:
    """The same training as `run`, driven from the host one epoch at a time.

    A key of shape [S] trains S members together under one `jax.vmap`: the leaves of state, and of the returned state
    and history, then have a leading axis S.

    stopping: as in `run`; training ends when every member has stopped.
    progress: show a bar on stderr, if tqdm is installed, with the mean cost and the scalar metrics over the members.
    callbacks: each is called with a `Report` after every epoch; training stops when one returns True, and only then.
    checkpoints: where to save what is needed to resume (`jnn.checkpoint`). A call with the same arguments resumes from
    the newest checkpoint there, and ends with the same bits as one that was never interrupted.

    Raises as `run` and `checkpoint.Checkpoints` do, and FloatingPointError when a value is NaN or infinite, naming the
    epoch, the mini-batch and the likely cause.
    """
    plan = _plan(key, grad, optimizer, data, batch_size, epochs, transform, evaluate, stopping, sharding)
    plan, state, data = parallel.place_on(plan.sharding, plan, state, jax.tree.map(jnp.asarray, data))
    tracker = None if stopping is None else early_stopping.start(stopping, state.params, members=key.ndim > 0)
    with contextlib.ExitStack() as stack:
        saver = stack.enter_context(checkpoint.saver(checkpoints))
        anywhere = replace(plan, sharding=None)  # on other devices it is the same training
        trace = functools.partial(_members_program.trace, key, 0, anywhere, state, tracker, data)
        (state, tracker), measured, ended = saver.resume(key, plan, (state, tracker), data, trace, epochs)
        listeners = [*callbacks, *_monitor.progress_bar(epochs, len(measured), stack, shown=progress)]
        for t in range(len(measured), 0 if ended else epochs):
            trained = np.ones(key.shape, bool) if tracker is None else np.asarray(tracker.active)
            state, tracker, *losses_and_metrics = _members_program(key, t, plan, state, tracker, data)
            losses_and_metrics = parallel.local(losses_and_metrics)
            report = Report(t + 1, state, *losses_and_metrics)
            _monitor.check_finite(report, trained, data, saver.last_good)
            measured.append(tuple(losses_and_metrics))
            answers = [listener(report) for listener in listeners]
            ended = any(map(_monitor.is_true, answers)) or (tracker is not None and not np.any(tracker.active))
            saver.save(key, (state, tracker), measured, ended)
            if ended:
                break
    losses, metrics = jax.tree.map(lambda *leaves: jnp.stack(leaves, key.ndim), *measured)
    return _finish(state, tracker, losses, metrics)


def mixed(grad: Grad) -> Partial:
    """The gradient in mixed precision, for `epoch`, `run` and `fit`: bfloat16 arithmetic, float32 parameters.

    `grad` gets parameters and mini-batch rounded to bfloat16, whose matrix products accumulate in float32, and its
    result is cast back to the parameters' dtype, so that updates are not rounded. `jnn.costs` return values in float32.
    Fast on hardware with such products; no loss scaling is needed, as bfloat16 has float32's range.
    """
    return Partial(_mixed, _partial(grad))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("grad", "transform", "evaluate"),
    meta_fields=("optimizer", "batch_size", "stopping", "sharding"),
)
@dataclass(frozen=True)
class _Plan:
    """How to train: functions, whose bound arrays are arguments of the program, and what is static."""

    grad: Grad
    transform: Transform | None
    evaluate: Evaluate | None
    optimizer: Optimizer
    batch_size: int
    stopping: Criterion | None
    sharding: NamedSharding | None


@_explicit.automatic_inside(_explicit.like_state)
def _epoch(key: Key[Array, ""], plan: _Plan, state: State, data: Any) -> tuple[State, Float[Array, " steps"]]:
    n = _checks.examples(data)
    order_key, transform_key = jax.random.split(key)
    order = _xla.permutation(order_key, n)

    def one_step(state: State, i_and_rows: tuple[Int[Array, ""], Int[Array, " m"]]) -> tuple[State, Float[Array, ""]]:
        i, rows = i_and_rows
        batch = jax.tree.map(lambda a: a.at[rows].get(mode="promise_in_bounds"), data)
        if plan.sharding is not None and len(rows) == plan.batch_size:
            batch = jax.lax.with_sharding_constraint(batch, plan.sharding)
        if plan.transform is not None:
            batch = plan.transform(jax.random.fold_in(transform_key, i), *batch)
            if not isinstance(batch, tuple):
                raise TypeError(f"transform must return a tuple, such as (xs, ys), got {type(batch).__name__}")
        return step(plan.grad, plan.optimizer, state, batch)

    full, rest = divmod(n, plan.batch_size)
    rows = order[: full * plan.batch_size].reshape(full, plan.batch_size)
    state, losses = jax.lax.scan(one_step, state, (jnp.arange(full), rows))
    if rest:
        state, value = one_step(state, (jnp.asarray(full), order[-rest:]))
        losses = jnp.append(losses, value)
    return state, losses


def _tracked_epoch(
    key: Key[Array, ""], t: Int[Like, ""], plan: _Plan, state: State, tracker: Tracker | None, data: Any
) -> tuple[State, Tracker | None, Float[Array, " steps"], Any]:
    """Epoch t of a training and its metrics, with early stopping if there is a tracker."""

    def train(state: State) -> tuple[State, Float[Array, " steps"], Any]:
        state, losses = _epoch(jax.random.fold_in(key, t), plan, state, data)
        return state, losses, plan.evaluate and jax.tree.map(jnp.asarray, plan.evaluate(state.params))

    if tracker is None or plan.stopping is None:
        state, losses, metrics = train(state)
        return state, None, losses, metrics
    return early_stopping.unless_stopped(plan.stopping, train, state, tracker)


def _finish(state: State, tracker: Tracker | None, losses: Any, metrics: Any) -> tuple[State, History]:
    if tracker is None:
        return state, History(losses, metrics)
    return state._replace(params=tracker.params), History(losses, metrics, tracker.epochs, tracker.best)


_epoch_program = jax.jit(_epoch)


def _mixed(grad: Grad, params: Any, *batch: Any) -> tuple[Float[Array, ""], Any]:
    def half(leaf: Any) -> Any:
        return leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    value, grads = grad(*jax.tree.map(half, (params, *batch)))
    grads = jax.tree.map(lambda g, leaf: g.astype(leaf.dtype), grads, params)
    return value.astype(_dtypes.single(value)), grads


@functools.partial(jax.jit, static_argnames="epochs")
@_explicit.automatic_inside(_explicit.like_state)
def _run_program(key: Key[Array, ""], plan: _Plan, state: State, data: Any, epochs: int) -> tuple[State, History]:
    def one_epoch(carry: tuple[State, Tracker | None], t: Int[Array, ""]) -> tuple[Any, Any]:
        state, tracker, *losses_and_metrics = _tracked_epoch(key, t, plan, *carry, data)
        return (state, tracker), losses_and_metrics

    tracker = None if plan.stopping is None else early_stopping.start(plan.stopping, state.params)
    (state, tracker), losses_and_metrics = jax.lax.scan(one_epoch, (state, tracker), jnp.arange(epochs))
    return _finish(state, tracker, *losses_and_metrics)


@jax.jit
def _members_program(
    key: Key[Array, "*members"], t: Int[Like, ""], plan: _Plan, state: State, tracker: Tracker | None, data: Any
) -> tuple[State, Tracker | None, Float[Array, "*members steps"], Any]:
    def member(key: Key[Array, ""], state: State, tracker: Tracker | None) -> Any:
        return _tracked_epoch(key, t, plan, state, tracker, data)

    return (jax.vmap(member) if key.ndim else member)(key, state, tracker)


def _partial(f: Callable[..., Any] | None) -> Any:
    """`f` as a pytree that `jit` takes as an argument: its bound arrays are leaves, the function is static."""
    return f if f is None or isinstance(f, Partial) else Partial(f)


def _plan(
    key: Any,
    grad: Grad,
    optimizer: Optimizer,
    data: Any,
    batch_size: int,
    epochs: int = 1,
    transform: Transform | None = None,
    evaluate: Evaluate | None = None,
    stopping: Criterion | None = None,
    sharding: NamedSharding | None = None,
) -> _Plan:
    """The arguments, checked, in the form that the programs take."""
    _checks.key("key", key)
    _checks.examples(data)
    _checks.count("batch_size", batch_size)
    _checks.count("epochs", epochs)
    early_stopping.check(stopping, evaluate, epochs)
    sharding = parallel.automatic(sharding)
    parallel.check_batch_size(sharding, batch_size)
    return _Plan(_partial(grad), _partial(transform), _partial(evaluate), optimizer, batch_size, stopping, sharding)
