"""Mini-batch training of any gradient with any optax optimizer: step -> epoch -> run, and fit on the host.

`data` is a tuple of arrays that share a leading axis of N examples, usually (xs, ys). `grad(params, *batch)` returns
(value, gradient): `backprop.minibatch_value_and_grad`, or `jax.value_and_grad` of a loss of your own.

An epoch visits every example once, in an order drawn from its key. If batch_size does not divide N, the last mini-batch
is smaller; with a batch_size above N there is one mini-batch of all N.

`grad`, `transform` and `evaluate` are compiled into the program. As everywhere in JAX, the program is reused as long as
they are the same objects, and recompiles when one is defined again, such as a lambda or a `functools.partial` in a
notebook cell that is run twice. Two lines cache compiled programs on disk, where such a function finds them again:

    jax.config.update("jax_compilation_cache_dir", "/tmp/jax_cache")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

Bind the arrays that functions need with `jax.tree_util.Partial(f, xs=xs)`: they are then arguments of the program,
which is shared by all partials of the same function; captured by a lambda they are constants, which compile slowly.
Bind Python values with `functools.partial`. In a search over learning rates, `optax.inject_hyperparams` makes them part
of the optimizer's state, so one program serves all.
"""

import contextlib
import functools
import signal
import sys
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Key

from jnn import stopping as early_stopping
from jnn._internal import checks
from jnn.checkpoint import Checkpoints
from jnn.checkpoint.saver import Saver, on_signals
from jnn.train import arguments, loop, monitor, program
from jnn.train import history as histories
from jnn.train.chunks import Chunks
from jnn.train.program import step
from jnn.train.start import init, mixed_precision, sgd
from jnn.typing import CarryState as CarryState
from jnn.typing import EvalParams, Evaluate, Grad, History, Optimizer, PRNGKey, PyTree, Report, StateT, Transform
from jnn.typing import State as State

__all__ = ["epoch", "fit", "init", "mixed_precision", "run", "sgd", "step"]  # the types are in jnn.typing


def epoch(
    key: PRNGKey,
    grad: Grad,
    optimizer: Optimizer,
    state: StateT,
    data: PyTree,
    *,
    batch_size: int,
    transform: Transform | None = None,
    shuffle: bool | None = None,
    sharding: NamedSharding | None = None,
) -> tuple[StateT, Float[Array, " steps"]]:
    """Trains for one epoch: every example once, in a fresh order, as one `lax.scan` in one program.

    Args:
      key: The PRNG key for the order and for `transform`.
      grad: `grad(params, *batch)` returns (value, gradient), or ((value, carry), gradient) for a state with a carry.
      optimizer: Any `optax.GradientTransformation`.
      state: The state from `init` or from the last epoch.
      data: A tuple of arrays with a leading axis of N examples.
      batch_size: Examples in a mini-batch.
      transform: `transform(key, *batch)` returns the arguments that `grad` gets instead of the mini-batch, with a new
        key at each step: for augmentation or noise, or to append the key for a `grad` that draws random numbers.
      shuffle: Whether to shuffle the data: by default yes, unless the state has a carry.
      sharding: How to split a mini-batch over several devices: `parallel.batches(mesh)`, or over any axes of your own
        mesh. State and data that are not on its mesh yet are replicated there. A smaller last mini-batch is not split.

    Returns:
      The new state, and the value of each of the ceil(N / batch_size) mini-batches, before its update.

    Raises:
      ValueError: If data have no examples or leading axes that differ, if batch_size is below 1 or not divisible by the
        devices of `sharding`, or if the state belongs to another optimizer or to other parameters.
      TypeError: If data are not a tuple or list of arrays, batch_size is not an integer, the key is not a typed PRNG
        key (`jax.random.key`), the state is not from `init`, `transform` does not return a tuple, or `grad` returns
        anything else.

    Example:
      >>> from jnn import backprop, mlp
      >>> optimizer = train.sgd(0.5)
      >>> state = train.init(optimizer, mlp.init(jax.random.key(0), (3, 4, 2)))
      >>> examples = jnp.ones((10, 3)), jnp.zeros((10, 2))
      >>> grad = backprop.minibatch_value_and_grad
      >>> state, values = train.epoch(jax.random.key(1), grad, optimizer, state, examples, batch_size=4)
      >>> values.shape
      (3,)
    """
    plan = arguments.Plan(grad, optimizer, batch_size, transform, shuffle, sharding)
    plan = arguments.checked(plan, key, state, data)
    return program.jitted_epoch(plan, key, *arguments.placed(plan, state, data))


def run(
    key: PRNGKey,
    grad: Grad,
    optimizer: Optimizer,
    state: StateT,
    data: PyTree,
    *,
    epochs: int,
    batch_size: int,
    transform: Transform | None = None,
    evaluate: Evaluate | None = None,
    validation: PyTree = None,
    eval_params: EvalParams | None = None,
    stopping: early_stopping.Criterion | None = None,
    shuffle: bool | None = None,
    sharding: NamedSharding | None = None,
    history: History | None = None,
) -> tuple[StateT, History]:
    """Trains for several epochs in one program; `jax.vmap` it over keys, learning rates or regularisation strengths.

    Epoch t = 0, 1, ... uses `jax.random.fold_in(key, t)`, so a longer run starts with the shorter one. It recompiles
    when the number of epochs changes, Ctrl-C loses the progress, and a NaN only shows in the history: outside of
    transformations, as in a notebook, `fit` is the better choice.

    Args:
      key: The PRNG key for the orders of the examples and for `transform`.
      grad: As in `epoch`.
      optimizer: As in `epoch`.
      state: As in `epoch`.
      data: As in `epoch`.
      epochs: How many epochs to train for; those of `history` come before them.
      batch_size: As in `epoch`.
      transform: As in `epoch`.
      evaluate: `evaluate(params)` returns metrics, any pytree of arrays. It is called after each epoch, traced.
      validation: A tuple of held-out arrays, such as (xs, ys), that `evaluate(params, *validation)` gets, too. Without
        `evaluate` the metric is {"error": their mean cost} by `grad`, which early stopping and the best checkpoint use.
      eval_params: `eval_params(state)` returns the parameters that `evaluate` and `stopping` get, such as an average
        that the optimizer keeps: `optax.contrib.schedule_free_eval_params(state.opt_state, state.params)`. By default
        `state.params`.
      stopping: A criterion from `jnn.stopping`. Its error is the result of `evaluate`, or the metric named "error".
        Once it is met, the state stays unchanged and, outside of `jax.vmap`, nothing is computed; the returned state
        has the parameters with the lowest error, or the last ones without `evaluate`. It is reset when a run continues
        a history.
      shuffle: As in `epoch`.
      sharding: As in `epoch`.
      history: The history so far, to continue from. Five epochs, and five more with the history of the first five, are
        bitwise identical to one ten-epoch run; without it the same orders are drawn again.

    Returns:
      The last state, and the history of all epochs, with losses [epochs, steps].

    Raises:
      ValueError: As in `epoch`; also if `epochs` is below 1, the `stopping` window is longer than `epochs`, the error
        is missing, or the history has other mini-batches or metrics.
      TypeError: As in `epoch`.

    Example:
      >>> from jnn import backprop, mlp
      >>> optimizer = train.sgd(0.5)
      >>> state = train.init(optimizer, mlp.init(jax.random.key(0), (3, 4, 2)))
      >>> examples = jnp.ones((10, 3)), jnp.zeros((10, 2))
      >>> fixed = jax.random.key(1), backprop.minibatch_value_and_grad, optimizer
      >>> state, history = train.run(*fixed, state, examples, epochs=2, batch_size=4)
      >>> state, history = train.run(*fixed, state, examples, epochs=2, batch_size=4, history=history)
      >>> history.losses.shape
      (4, 3)
    """
    evaluate = arguments.validated(grad, evaluate, validation)
    plan = arguments.Plan(grad, optimizer, batch_size, transform, shuffle, sharding, evaluate, eval_params, stopping)
    plan = arguments.checked(plan, key, state, data, epochs)
    given = plan, key, *arguments.placed(plan, state, data), np.int32(histories.length(history)), epochs
    if history is None:
        return program.jitted_run(*given)
    losses, metrics, *_ = program.jitted_run.eval_shape(*given)[1]
    histories.check(history, jax.tree.map(lambda leaf: leaf.shape[1:], (losses, metrics)), axis=0)
    state, after = program.jitted_run(*given)
    record = jax.tree.map(lambda *parts: jnp.concatenate(parts), history[:2], after[:2])
    return state, History(*record, *after[2:])


def fit(
    key: Key[Array, "*members"],
    grad: Grad,
    optimizer: Optimizer,
    state: StateT,
    data: PyTree,
    *,
    epochs: int,
    batch_size: int,
    transform: Transform | None = None,
    evaluate: Evaluate | None = None,
    validation: PyTree = None,
    eval_params: EvalParams | None = None,
    stopping: early_stopping.Criterion | None = None,
    shuffle: bool | None = None,
    sharding: NamedSharding | None = None,
    history: History | None = None,
    callbacks: Sequence[Callable[[Report], object]] = (),
    checkpoints: Checkpoints | None = None,
    progress: bool = True,
    catch_interrupt: bool = True,
) -> tuple[StateT, History]:
    """Trains like `run`, driven from the host one epoch at a time, with a progress bar, callbacks and checkpoints.

    To continue with another learning rate, with the same optimizer's state and without recompiling, make it part of
    that state and replace it there:

        optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=0.01)
        state = state._replace(opt_state=optax.tree.set(state.opt_state, learning_rate=0.001))

    Args:
      key: As in `run`. A key of shape [S] trains S ensemble members together: the leaves of state, and of the returned
        state and history, then have a leading axis S. As in `parallel.sweep`, each local device trains its share of
        them, unless there is a `sharding`.
      grad: As in `epoch`.
      optimizer: As in `epoch`.
      state: As in `epoch`.
      data: As in `epoch`; or, for more examples than fit in memory, chunks, each of them such a tuple: a list, a data
        loader, which is iterated once per epoch, or a function of the epoch t = 0, 1, ... that returns an iterable.
        Training on chunk c is a call of `epoch` with the key `fold_in(fold_in(key, t), c)`, so examples are shuffled
        within chunks. While a chunk trains, the next is prefetched and copied. Epochs may have different numbers of
        chunks: in the history, the losses of shorter epochs end with NaN. The program recompiles for each chunk size.
        To resume from a checkpoint, an epoch must give the same chunks in the same order again.
      epochs: As in `run`. A run that resumes from a checkpoint trains until there are as many in total.
      batch_size: As in `epoch`.
      transform: As in `epoch`.
      evaluate: As in `run`.
      validation: As in `run`.
      eval_params: As in `run`.
      stopping: As in `run`; training ends when every member has stopped.
      shuffle: As in `epoch`.
      sharding: As in `epoch`.
      history: As in `run`.
      callbacks: Each is called with a `Report` after every epoch. If one returns True, training stops; any other result
        is ignored.
      checkpoints: Where to save progress (`jnn.checkpoint`). A call with the same arguments resumes from the newest
        checkpoint there and is bitwise identical to an uninterrupted run. An exception, such as an error in a data
        loader, a callback or the cost, is raised after the last whole epoch is saved. So does SIGTERM, which schedulers
        send: it saves that epoch and ends the process with exit code 143.
      progress: Whether to show a progress bar, on a terminal or in a notebook, if tqdm is installed. It shows the cost
        and the scalar metrics, averaged over members.
      catch_interrupt: Whether Ctrl-C ends the run and returns the state and history of the last whole epoch, with a
        line on stderr. KeyboardInterrupt is still raised before the first epoch has ended, at a second Ctrl-C, and with
        several processes.

    Returns:
      As in `run`.

    Raises:
      ValueError: As in `run` and `checkpoint.Checkpoints`; also if an epoch has no chunk, a chunk has other shapes or
        dtypes than the first, or data is an iterator, which yields its chunks once, and epochs is more than 1.
      TypeError: As in `run`; also if an object is not a chunk.
      FloatingPointError: If a value is NaN or infinite. The message names the epoch, the mini-batch and the likely
        cause.

    Warns:
      UserWarning: If a cost of jnn falls below 0 in the first epoch, which means that desired outputs are out of range.

    Example:
      >>> from jnn import backprop, mlp
      >>> optimizer = train.sgd(0.5)
      >>> state = train.init(optimizer, mlp.init(jax.random.key(0), (3, 4, 2)))
      >>> examples = jnp.ones((10, 3)), jnp.zeros((10, 2))
      >>> grad = backprop.minibatch_value_and_grad
      >>> options = {"epochs": 2, "batch_size": 4, "progress": False}
      >>> state, history = train.fit(jax.random.key(1), grad, optimizer, state, examples, **options)
      >>> history.losses.shape
      (2, 3)
    """
    first = histories.length(history)
    chunks, last = Chunks(data, first, epochs), first + epochs
    checks.not_traced((key, state, chunks.first))
    evaluate = arguments.validated(grad, evaluate, validation)
    plan = arguments.Plan(grad, optimizer, batch_size, transform, shuffle, sharding, evaluate, eval_params, stopping)
    plan = arguments.checked(plan, key, state, chunks.first, epochs)
    (state,) = arguments.placed(plan, state)
    if chunks.stay:
        (chunks.first,) = arguments.placed(plan, chunks.first)
    evaluated = functools.partial(program.evaluated, plan)
    params = (jax.vmap(evaluated) if key.ndim else evaluated)(state).params
    (tracker,) = arguments.placed(plan, early_stopping.start(stopping, params, members=key.ndim > 0))
    at = loop.Progress(state, tracker, history, first)
    if history is not None:
        losses, metrics = jax.tree.map(lambda leaf: leaf.shape, loop.shapes(plan, key, chunks.first, at))
        steps = losses[-1:] if chunks.stay else history.losses.shape[-1:]  # later chunks are not known yet
        histories.check(history, ((*losses[:-1], *steps), metrics), axis=key.ndim)
    with contextlib.ExitStack() as stack:
        saver = None if checkpoints is None else Saver(checkpoints)
        if saver is not None:
            stack.enter_context(saver)
            at = loop.resumed(saver, plan, key, chunks, at, last)
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # then what a scheduler ends saves its progress
                stack.enter_context(on_signals(lambda number, _: sys.exit(128 + number), signal.SIGTERM))
        listeners = [*callbacks, *monitor.progress_bar(last, at.epoch, stack, shown=progress)]
        at = loop.train(plan, key, chunks, at, range(first, last), saver, listeners, catch_interrupt=catch_interrupt)
    loop.say_if_interrupted(at, last)
    state, history = histories.finished(at.state, at.tracker, at.history, first)
    return state, jax.tree.map(jnp.asarray, history)
