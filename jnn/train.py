"""Mini-batch training of any gradient with any optax optimizer: step -> epoch -> run, and fit on the host.

`data` is a tuple of arrays that share a leading axis of N examples, usually (xs, ys). `grad(params, *batch)` returns
(value, gradient): `backprop.minibatch_value_and_grad`, or `jax.value_and_grad` of a loss of your own.

An epoch visits every example once, in an order drawn from its key. If batch_size does not divide N, the last mini-batch
is smaller; with a batch_size above N there is one mini-batch of all N.

`grad`, `transform` and `evaluate` are compiled into the program, which is used again for functions and optimizers that
trace to the same one; else a line of `logging`, at level INFO, says what differs from the one before. Bind the arrays
they need with `jax.tree_util.Partial(f, xs=xs)`: they are then arguments of the program; captured by a lambda they are
constants, which compile slowly. Bind Python values with `functools.partial`.
"""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, Key
from jaxtyping import ArrayLike as Like

from jnn import _checks, _dtypes, _epochs, _explicit, _history, _known, _monitor, _plan, _xla, checkpoint, parallel
from jnn import stopping as early_stopping
from jnn._plan import Optimizer, Plan
from jnn.checkpoint import Checkpoints
from jnn.stopping import Criterion, Tracker
from jnn.typing import CarryState, Evaluate, Grad, History, Report, State, StateT, Transform


def sgd(eta: float | Float[Array, ""]) -> optax.GradientTransformation:
    """Stochastic gradient descent of section 2.2: w <- w - eta (1/m) sum_x dC/dw (the notes lost the minus signs).

    Raises ValueError unless eta > 0, TypeError if it is not a number; a traced eta, as under `jax.vmap` over learning
    rates, is not checked.
    """
    _checks.positive("eta", eta)
    return optax.sgd(eta)


def init(optimizer: Optimizer, params: Any, carry: Any = None) -> Any:
    """The state before the first step: a `State`, or a `CarryState` with the first carry if one is given.

    With a carry, such as the state of a recurrent net that reads a text window by window, `grad(params, carry, *batch)`
    returns ((value, next carry), gradient), as `jax.value_and_grad(loss, has_aux=True)` does. The next mini-batch gets
    the next carry, and the first one of an epoch that of the last one of the epoch before; the order of the data is
    kept. For B texts at once, one in each row of xs [B, W T], the mini-batches of B windows are those of

        windows = xs.reshape(B, W, T).swapaxes(0, 1).reshape(W * B, T)
        state = train.init(optimizer, params, carry=lstm.zero_state(units, B))
        state, history = train.fit(key, grad, optimizer, state, (windows,), batch_size=B, ...)

    where B must divide the number of windows, as the carry has a row for each text.
    """
    opt_state = optimizer.init(params)
    return State(params, opt_state) if carry is None else CarryState(params, opt_state, carry)


def step(grad: Grad, optimizer: Optimizer, state: StateT, batch: Any) -> tuple[StateT, Float[Array, ""]]:
    """One update by one mini-batch (section 2.2, step 2). Returns the new state and the value before the update.

    Not compiled: call it inside `jax.jit`. Optimizers that use the value or search along a line get what they need. Of
    optax only `lookahead`, whose parameters are pairs, and an opaque `contrib.sam` inside of another do not fit.

    Raises TypeError unless `grad` returns (value, gradient), or ((value, carry), gradient) for a state with a carry.
    """
    carry = state[2:]

    def of(params: Any) -> tuple[Any, Any, tuple[Any, ...]]:
        with _checks.noted(f"grad was called with a mini-batch of shapes {jax.tree.map(jnp.shape, batch)}"):
            found = grad(params, *carry, *batch)
        return _checks.value_and_grad(found, params, carry)

    value, grads, carry_after = of(state.params)
    extra: dict[str, Any] = {"value": value, "grad": grads, "value_fn": lambda params: of(params)[0]}
    if "grad_fn" in inspect.signature(optimizer.update).parameters:
        extra = {"grad_fn": lambda params, _: of(params)[1]}
    extended = optimizer if isinstance(optimizer, optax.MultiSteps) else optax.with_extra_args_support(optimizer)
    updates, opt_state = extended.update(grads, state.opt_state, state.params, **extra)
    return type(state)(optax.apply_updates(state.params, updates), opt_state, *carry_after), value


def epoch(
    key: Key[Array, ""],
    grad: Grad,
    optimizer: Optimizer,
    state: StateT,
    data: Any,
    *,
    batch_size: int,
    transform: Transform | None = None,
    shuffle: bool | None = None,
    sharding: NamedSharding | None = None,
) -> tuple[StateT, Float[Array, " steps"]]:
    """Visit every example once, in a fresh order, as one `lax.scan` in one program.

    Returns the new state and the value of each of the ceil(N / batch_size) mini-batches, before its update.

    transform: `transform(key, *batch)` returns the arguments that `grad` gets in place of the mini-batch, with a new
    key at each step: for augmentation or noise, or to append the key for a `grad` that draws random numbers.
    shuffle: False keeps the order of the data, as it is kept for a state with a carry unless this is True.
    sharding: of a mini-batch over several devices, as `parallel.batches(mesh)`, or over any axes of a mesh of your own;
    state and data that are not on its mesh yet are replicated there. A smaller last mini-batch is not split.

    Raises ValueError for data without examples or with leading axes that differ, a batch_size below 1 or that the
    devices of `sharding` do not divide, and a state of another optimizer or of other parameters; TypeError for data
    that are not a tuple or list of arrays, a batch_size that is not an integer, a key that `jax.random.key` did not
    make, a state that `init` did not make and a transform that does not return a tuple. Raises as `step` does.
    """
    plan = _plan.make(
        key, grad, optimizer, state, data, batch_size, transform=transform, shuffle=shuffle, sharding=sharding
    )
    plan, *placed = _plan.placed(plan, state, data)
    return _epoch_program(_known.known(_epoch_program, plan, key, *placed), key, *placed)


def run(
    key: Key[Array, ""],
    grad: Grad,
    optimizer: Optimizer,
    state: StateT,
    data: Any,
    *,
    epochs: int,
    batch_size: int,
    transform: Transform | None = None,
    evaluate: Evaluate | None = None,
    stopping: Criterion | None = None,
    shuffle: bool | None = None,
    sharding: NamedSharding | None = None,
    history: History | None = None,
) -> tuple[StateT, History]:
    """A whole training as one program; `jax.vmap` it over keys, learning rates or regularisation strengths.

    Epoch t = 0, 1, ... uses `jax.random.fold_in(key, t)`, so a longer run starts with the shorter one.
    `evaluate(params)` is called after each epoch, traced. Returns the last state and the history: losses [epochs,
    steps]. Each number of epochs is a program of its own, Ctrl-C loses what was trained, and a cost that is NaN is only
    seen in the history: outside of transformations, as in a notebook, `fit` is the better choice.

    history: that of the training so far, to go on with. With five epochs and five more

        state, history = run(key, grad, optimizer, state, data, epochs=5, ...)
        state, history = run(key, grad, optimizer, state, data, epochs=5, history=history, ...)

    both have the bits of ten in one call; without it the first orders are drawn again. The returned history holds all
    epochs; `stopping` begins anew.

    stopping: a criterion from `jnn.stopping`. Its error is what `evaluate` returns, or the metric named "error". Once
    it is met, the state does not change any more and, outside of `jax.vmap`, nothing is computed; the returned state
    has the parameters with the lowest error, or the last ones without `evaluate`.

    Raises as `epoch` does, and for `epochs` as for `batch_size`; ValueError for a `stopping` window longer than
    `epochs`, for a missing error and for a history of other mini-batches or metrics.
    """
    options = transform, evaluate, stopping, shuffle, sharding
    plan = _plan.make(key, grad, optimizer, state, data, batch_size, epochs, *options)
    plan, *placed = _plan.placed(plan, state, data)
    first = np.int32(_history.length(history))
    arguments = (_known.known(_run_program, plan, key, *placed, first, epochs), key, *placed, first, epochs)
    if history is not None:
        _history.check(history, _run_program.eval_shape(*arguments)[1], axis=0)
    state, after = _run_program(*arguments)
    return state, _history.joined(history, after, int(first), axis=0)


def fit(
    key: Key[Array, "*members"],
    grad: Grad,
    optimizer: Optimizer,
    state: StateT,
    data: Any,
    *,
    epochs: int,
    batch_size: int,
    transform: Transform | None = None,
    evaluate: Evaluate | None = None,
    stopping: Criterion | None = None,
    shuffle: bool | None = None,
    sharding: NamedSharding | None = None,
    history: History | None = None,
    callbacks: Sequence[Callable[[Report], Any]] = (),
    checkpoints: Checkpoints | None = None,
    progress: bool = True,
    catch_interrupt: bool = True,
) -> tuple[StateT, History]:
    """The same training as `run`, driven from the host one epoch at a time.

    A key of shape [S] trains S members together: the leaves of state, and of the returned state and history, then have
    a leading axis S. As in `parallel.sweep`, each local device trains its share of them, unless there is a `sharding`.

    data: as in `run`, or in chunks, each such a tuple, for more examples than fit in memory: a list of chunks, a data
    loader, which is iterated once an epoch, or a function of the epoch t = 0, 1, ... that returns an iterable. Chunk c
    is trained on as `epoch` does with the key `fold_in(fold_in(key, t), c)`, so examples are shuffled within chunks;
    each is read, and NumPy arrays and what converts to them are copied, while the one before trains: the first of an
    epoch while the last of the epoch before does. `evaluate` is called after the last chunk. Each size of a chunk is a
    program of its own. Checkpoints are saved after chunks, too, and named by their number; to resume, the same chunks
    must come in the same order.

    stopping: as in `run`; training ends when every member has stopped.
    history: as in `run`. To go on under another learning rate, with the same optimizer's state and without compiling
    again, make it a part of that state and replace it there:

        optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=0.01)
        state = state._replace(opt_state=optax.tree.set(state.opt_state, learning_rate=0.001))

    progress: show a bar on stderr, if tqdm is installed, with the mean cost and the scalar metrics over the members.
    callbacks: each is called with a `Report` after every epoch; training stops when one returns True, and only then.
    checkpoints: where to save what is needed to resume (`jnn.checkpoint`). A call with the same arguments resumes from
    the newest checkpoint there, and ends with the same bits as one that was never interrupted.
    catch_interrupt: Ctrl-C ends the training after the last whole epoch and returns its state and history, and a line
    on stderr says so; a second Ctrl-C raises KeyboardInterrupt, as the first one does before an epoch has ended, with
    several processes, or if this is False.

    Raises as `run` and `checkpoint.Checkpoints` do; ValueError for epochs without a chunk or with other numbers of
    mini-batches, for chunks of other shapes or dtypes than the first, and for an iterator, which gives its chunks once,
    if epochs is more than 1; TypeError for what is no chunk; FloatingPointError when a value is NaN or infinite, naming
    the epoch, the mini-batch and the likely cause.
    """
    options = transform, evaluate, stopping, shuffle, sharding
    _checks.not_traced((key, state))
    source = _epochs.source(data, first := _history.length(history), epochs)
    _checks.not_traced(source.first)
    plan = _plan.make(key, grad, optimizer, state, source.first, batch_size, epochs, *options)
    plan, state = source.place(plan, state)
    tracker = _plan.placed(plan, early_stopping.start(stopping, state.params, members=key.ndim > 0), ())[1]
    programs = _epochs.Programs(_members_program, plan, source, key, np.int32(first), state, tracker)
    measured = [] if history is None else _history.epochs_of(history, key.ndim)
    if history is not None:
        _history.check(history, History(*programs.shapes(history.losses.shape[-1])), axis=key.ndim)
    at, last = _epochs.Progress(state, tracker, measured, 0 if source.in_chunks else first), first + epochs
    with contextlib.ExitStack() as stack:
        saver = stack.enter_context(checkpoint.saver(checkpoints))
        at = saver.resume(key, plan, at, source, programs, last)
        listeners = [*callbacks, *_monitor.progress_bar(last, len(at.measured), evaluate, stack, shown=progress)]
        at = _epochs.train(programs, at, range(first, last), saver, listeners, catch_interrupt=catch_interrupt)
    n = len(at.measured)
    if n < last and not at.ended:
        on = f"go on with epochs={last - n}, history=history"
        print(f"interrupted: train.fit returns what it had after epoch {n} of {last}; {on}", file=sys.stderr)
    losses, metrics = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves, key.ndim)), *at.measured)
    state, after = _history.finished(at.state, at.tracker, losses, metrics)
    return state, _history.joined(None, after, first, axis=key.ndim)


def mixed(grad: Grad) -> Partial:
    """The gradient in mixed precision, for `epoch`, `run` and `fit`: bfloat16 arithmetic, float32 parameters.

    `grad` gets parameters and mini-batch rounded to bfloat16, whose matrix products accumulate in float32, and its
    result is cast back to the parameters' dtype, so that updates are not rounded. `jnn.costs` return values in float32.
    Fast on hardware with such products; no loss scaling is needed, as bfloat16 has float32's range.
    """
    return Partial(_dtypes.mixed, grad if isinstance(grad, Partial) else Partial(grad))


@_explicit.automatic_inside(_explicit.like_state)
def _epoch(plan: Plan, key: Key[Array, ""], state: StateT, data: Any) -> tuple[StateT, Float[Array, " steps"]]:
    n = _checks.examples(data)
    _plan.check_opt_state(plan.optimizer, state)
    order_key, transform_key = jax.random.split(key)
    order = _xla.permutation(order_key, n) if plan.shuffle else jnp.arange(n)

    def one_step(state: StateT, i_and_rows: tuple[Int[Array, ""], Int[Array, " m"]]) -> tuple[StateT, Float[Array, ""]]:
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
    steps: Any = (jnp.arange(full), rows)
    state, losses = jax.lax.scan(one_step, state, steps)
    if rest:
        state, value = one_step(state, (jnp.asarray(full), order[-rest:]))
        losses = jnp.append(losses, value)
    return state, losses


def _tracked_epoch(
    plan: Plan, t: Int[Like, ""], data: Any, c: Any, key: Key[Array, ""], state: StateT, tracker: Tracker | None
) -> tuple[StateT, Tracker | None, Any, Any]:
    """Epoch t of a training run and its metrics, with early stopping if there is a tracker.

    With data in chunks, the training by chunk c without metrics; or, without data, the metrics after the last chunk.
    """

    def train(state: StateT) -> tuple[StateT, Any, Any]:
        losses = None
        if data is not None:
            epoch_key = jax.random.fold_in(key, t)
            state, losses = _epoch(plan, epoch_key if c is None else jax.random.fold_in(epoch_key, c), state, data)
        if plan.evaluate is None or c is not None:
            return state, losses, None
        with _checks.noted("evaluate was called with the parameters alone, traced: it must return JAX arrays of them"):
            return state, losses, jax.tree.map(jnp.asarray, plan.evaluate(state.params))

    if tracker is None or plan.stopping is None:
        state, losses, metrics = train(state)
        return state, None, losses, metrics
    return early_stopping.unless_stopped(plan.stopping if c is None else None, train, state, tracker)


_epoch_program = jax.jit(_epoch)
_traced_once = jax.jit(_tracked_epoch, inline=True)  # for members one after another and for members together


@functools.partial(jax.jit, static_argnames="epochs")
@_explicit.automatic_inside(_explicit.like_state)
def _run_program(
    plan: Plan, key: Key[Array, ""], state: StateT, data: Any, first: Int[Like, ""], epochs: int
) -> tuple[StateT, History]:
    def one_epoch(carry: tuple[StateT, Tracker | None], t: Int[Array, ""]) -> tuple[Any, Any]:
        state, tracker, *losses_and_metrics = _tracked_epoch(plan, t, data, None, key, *carry)
        return (state, tracker), losses_and_metrics

    tracker = early_stopping.start(plan.stopping, state.params)
    ts: Any = first + jnp.arange(epochs)
    (state, tracker), losses_and_metrics = jax.lax.scan(one_epoch, (state, tracker), ts)
    return _history.finished(state, tracker, *losses_and_metrics)


@jax.jit
def _members_program(
    plan: Plan,
    key: Key[Array, "*members"],
    t: Int[Like, ""],
    state: StateT,
    tracker: Tracker | None,
    data: Any,
    c: Int[Like, ""] | None = None,
) -> tuple[StateT, Tracker | None, Any, Any]:
    one, members = Partial(_traced_once, replace(plan, members=None), t, data, c), (key, state, tracker)
    if not key.ndim:
        return one(*members)
    if plan.sharding is not None:
        return jax.vmap(one)(*members)
    return parallel.replicated(parallel.spread(one, members, plan.members), plan.members)
