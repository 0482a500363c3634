"""The loop over epochs on the host: progress, checkpoints, and interruptions."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnn import parallel
from jnn.checkpoint import identity
from jnn.checkpoint.saver import Saver
from jnn.stopping import Tracker
from jnn.train import arguments, history, monitor, program
from jnn.train.chunks import Chunks
from jnn.typing import History, PyTree, Report, Scalar


class Progress(NamedTuple):
    """The progress of a training run after a whole epoch.

    Attributes:
      history: The history so far; None before the first epoch.
      epoch: The number of epochs, which names a checkpoint.
      metrics: Those of the last epoch.
      ended: Whether early stopping or a callback ended the run.
    """

    state: PyTree
    tracker: Tracker | None
    history: PyTree
    epoch: int
    metrics: PyTree = None
    ended: bool = False


def train(
    plan: arguments.Plan,
    key: jax.Array,
    chunks: Chunks,
    start: Progress,
    epochs: range,
    saver: Saver | None,
    listeners: Sequence[Callable[[Report], object]],
    *,
    catch_interrupt: bool,
) -> Progress:
    """Trains for the remaining epochs, or until a listener, early stopping or Ctrl-C ends the run, and saves.

    Ctrl-C ends it, if it may, once the first of `epochs` is trained; other exceptions are raised after the last epoch
    that all listeners have heard of is saved.
    """
    heard = trained = start
    if saver is not None and start.epoch < epochs.stop and not start.ended:
        saver.ranking(jax.eval_shape(program.measure, plan, start.state, start.tracker)[1])
    try:
        while heard.epoch < epochs.stop and not heard.ended:
            trained, report = _epoch(plan, key, chunks, heard)
            if trained.epoch == epochs.start + 1:
                monitor.warn_below_zero(report, plan.grad)
            answers = [listener(report) for listener in listeners]
            heard = trained = trained._replace(ended=trained.ended or any(map(monitor.is_true, answers)))
            _save(saver, heard, epochs.start)
        _save(saver, heard, epochs.start, now=saver is not None and saver.options.final)
    except BaseException as error:
        alone = jax.process_count() == 1  # several processes are not at the same epoch
        ends = alone and catch_interrupt and isinstance(error, KeyboardInterrupt) and trained.epoch > epochs.start
        if alone:
            try:
                _save(saver, trained if ends else heard, epochs.start, now=True)
            except OSError as failed:
                if ends:
                    raise
                error.add_note(str(failed))
        if not ends:
            raise
    return trained


def shapes(plan: arguments.Plan, key: jax.Array, chunk: PyTree, at: Progress) -> tuple[PyTree, PyTree]:
    """The shapes and dtypes of the losses of a chunk, and of the metrics of an epoch."""
    carried = at.state, at.tracker
    losses = jax.eval_shape(program.train, plan, key, *carried, chunk)[1]
    return losses, jax.eval_shape(program.measure, plan, *carried)[1]


def resumed(
    saver: Saver, plan: arguments.Plan, key: jax.Array, chunks: Chunks, start: Progress, epochs: int
) -> Progress:
    """The progress from which to train until there are `epochs` epochs: `start`, or the newest checkpoint."""
    carried = start.state, start.tracker
    anywhere = replace(plan, sharding=None, members=None)  # on other devices it is the same training run
    _with_hyperparams(start.state, saver.options.hyperparams)  # before training, and whether it resumes or not
    description = identity.describe(
        saver.options.config,
        key,
        parallel.local(carried),
        {"data": chunks.first, "plan": plan, "history": start.history},
        {"stopping": plan.stopping, "batch_size": plan.batch_size, "shuffle": plan.shuffle},
        [program.train.trace(anywhere, key, *carried, chunks.first), program.measure.trace(anywhere, *carried)],
    )

    def like() -> PyTree:
        return *carried, history.finished(*carried, History(*shapes(anywhere, key, chunks.first, start)), 0)[1]

    if (found := saver.resume(description, like)) is None:
        return start
    (state, tracker, whole), epoch, ended = found
    at = Progress(_with_hyperparams(state, saver.options.hyperparams), tracker, whole, epoch, ended=ended)
    saver.say(_where(f"{saver.folder / str(epoch)}", at, epochs))
    return at


def say_if_interrupted(at: Progress, epochs: int) -> None:
    """Writes a line to stderr if Ctrl-C ended the run before its last epoch."""
    if at.epoch < epochs and not at.ended:
        on = f"continue with epochs={epochs - at.epoch}, history=history"
        print(f"interrupted: train.fit returns what it had after epoch {at.epoch} of {epochs}; {on}", file=sys.stderr)


def _epoch(plan: arguments.Plan, key: jax.Array, chunks: Chunks, at: Progress) -> tuple[Progress, Report]:
    state, tracker = at.state, at.tracker
    key = program.fold_in(key, np.int32(at.epoch))
    trained = np.ones(key.shape, bool) if tracker is None else np.asarray(tracker.active)
    losses: PyTree = None
    record, unread = [], chunks.epoch(at.epoch)
    ahead = next(unread, None)
    while ahead is not None:
        (chunk,) = arguments.placed(plan, ahead)
        chunk_key = key if chunks.stay else program.fold_in(key, np.int32(len(record)))
        state, losses = program.train(plan, chunk_key, state, tracker, chunk)
        ahead = next(unread, None)  # the next chunk is read while this one trains
        record.append(np.asarray(parallel.local(jax.block_until_ready(losses))))  # on every device
        losses, number = np.concatenate(record, axis=-1), 0 if chunks.stay else len(record)
        monitor.check_finite(Report(at.epoch + 1, state, losses, None), trained, chunk, number)
    idle = plan.evaluate is None and tracker is None
    tracker, metrics = (None, None) if idle else program.measure(plan, state, tracker)
    report = Report(at.epoch + 1, state, jnp.asarray(losses), parallel.local(metrics))
    whole = history.longer(at.history, *report[2:], axis=key.ndim)
    stopped = tracker is not None and not np.any(tracker.active)
    return Progress(state, tracker, whole, report.epoch, report.metrics, stopped), report


def _save(saver: Saver | None, at: Progress, first: int, *, now: bool = False) -> None:
    """Save what was trained, unless the last checkpoint is too recent or the parameters are not finite."""
    if saver is None or at.epoch in (first, saver.latest) or not parallel.broadcast(now or saver.due()):
        return
    state, tracker = parallel.local((at.state, at.tracker))
    floats = [a for a in jax.tree.leaves(state.params) if jnp.issubdtype(jnp.result_type(a), jnp.inexact)]
    if all(np.isfinite(leaf).all() for leaf in floats):
        whole = history.finished(state, tracker, at.history, first)[1]
        saver.save(at.epoch, (state, tracker, whole), at.metrics, ended=at.ended)


def _with_hyperparams(state: PyTree, values: Mapping[str, Scalar]) -> PyTree:
    """The state whose optimizer has these hyperparameters; raise ValueError if it has none of that name."""
    opt_state = state.opt_state
    for name, value in values.items():
        if (old := optax.tree.get(opt_state, name)) is None:
            raise ValueError(f"hyperparams must be what optax.inject_hyperparams puts in the optimizer, got {name}")
        opt_state = optax.tree.set(opt_state, **{name: jnp.full_like(old, value)})
    return state._replace(opt_state=opt_state)


def _where(place: str, at: Progress, epochs: int) -> str:
    """A line that tells the user what is done with the checkpoint that was found."""
    if at.epoch >= epochs:
        return f"{place} holds {at.epoch} epochs, and epochs={epochs}: all are returned, none is trained"
    if at.ended:
        return f"{place} was the last epoch, by the stopping criterion or a callback: none of {epochs} is trained"
    return f"resuming after {place}"
