"""The loop over epochs on the host: progress, checkpoints, and interruptions."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnn import parallel
from jnn.checkpoint import identity
from jnn.checkpoint.identity import Description
from jnn.checkpoint.saver import Saver
from jnn.stopping import Tracker
from jnn.train import arguments, history, monitor, program
from jnn.train.arguments import Plan
from jnn.train.chunks import Chunks
from jnn.typing import History, PyTree, Report, Scalar


class Progress(NamedTuple):
    """The progress of a training run.

    Attributes:
      measured: The losses and metrics of each whole epoch.
      number: The number of epochs, or of chunks, which names a checkpoint.
      ended: Whether early stopping or a callback ended the run.
      losses: The losses of the chunks of the next epoch that were trained on already, [*members, steps].
      chunk: The number of these chunks.
      mark: The mark of the last of them.
    """

    state: PyTree
    tracker: Tracker | None
    measured: list[PyTree]
    number: int
    ended: bool = False
    losses: PyTree = None
    chunk: int = 0
    mark: str = ""

    def report(self) -> Report:
        """The report of the last whole epoch, or of the one in progress."""
        if self.losses is not None:
            return Report(len(self.measured) + 1, self.state, self.losses, None)
        return Report(len(self.measured), self.state, *self.measured[-1])

    def result(self, first: int, axis: int) -> tuple[PyTree, History]:
        """The result of `fit`, whose epochs start with `first` and lie along this axis."""
        return history.finished(self.state, self.tracker, *history.stacked(self.measured, axis), first)


def train(
    plan: Plan,
    key: jax.Array,
    chunks: Chunks,
    at: Progress,
    epochs: range,
    saver: Saver | None,
    listeners: Sequence[Callable[[Report], object]],
    *,
    catch_interrupt: bool,
) -> Progress:
    """Trains for the remaining epochs, or until a listener, early stopping or Ctrl-C ends the run, and saves.

    Ctrl-C ends it, if it may, once the first of `epochs` is trained; other exceptions are raised after the last whole
    epoch is saved. Returns the progress after the last whole epoch.
    """

    def save(at: Progress | None, *, now: bool = False) -> None:
        if saver is not None and at is not None:
            _save(saver, at, epochs.start, key.ndim, now=now)

    whole, saved = at, None
    if saver is not None and len(at.measured) < epochs.stop and not at.ended:
        saver.begin(jax.eval_shape(program.measure, plan, at.state, at.tracker)[1])
    try:
        while len(at.measured) < epochs.stop and not at.ended:
            for at in _epoch(plan, key, chunks, at):  # noqa: B020
                if at.chunk:
                    saved = at
                    save(at)
            stopped = at.tracker is not None and not np.any(at.tracker.active)
            at = whole = at._replace(ended=stopped)
            if len(at.measured) == epochs.start + 1:
                monitor.warn_below_zero(at.report(), plan.grad)
            answers = [listener(at.report()) for listener in listeners]
            at = whole = saved = at._replace(ended=stopped or any(map(monitor.is_true, answers)))
            save(at)
        save(saved, now=saver is not None and saver.options.final)
    except BaseException as error:
        alone = jax.process_count() == 1  # several processes are not at the same epoch
        caught = isinstance(error, KeyboardInterrupt) and catch_interrupt
        ends = alone and caught and len(whole.measured) > epochs.start
        if alone:
            with contextlib.suppress(*[OSError] * isinstance(error, Exception)):
                save(at if ends else saved, now=True)
        if not ends:
            if saver is not None and (place := saver.saved()):
                error.add_note(place)
            raise
    return whole


@contextlib.contextmanager
def saved_on_sigterm(saver: Saver | None) -> Iterator[None]:
    """Lets SIGTERM end the process as `sys.exit(143)` does, unless the user has set another handler.

    A process that a scheduler ends then saves its progress, which the default handler would not let it do.
    """
    main = threading.current_thread() is threading.main_thread()
    if saver is None or not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def shapes(plan: Plan, key: jax.Array, chunk: PyTree, at: Progress) -> tuple[PyTree, PyTree]:
    """The shapes and dtypes of the losses of a chunk, and of the metrics of an epoch."""
    carried = at.state, at.tracker
    losses = jax.eval_shape(program.train, plan, key, np.int32(0), None, *carried, chunk)[1]
    return losses, jax.eval_shape(program.measure, plan, *carried)[1]


def resumed(saver: Saver, plan: Plan, key: jax.Array, chunks: Chunks, start: Progress, epochs: int) -> Progress:
    """The progress from which to train until there are `epochs` epochs: `start`, or the newest checkpoint."""
    chunk = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.result_type(leaf)), chunks.first)
    first, carried = np.int32(len(start.measured)), (start.state, start.tracker)
    c = None if chunks.stay else np.int32(0)
    anywhere = replace(plan, sharding=None, members=None)  # on other devices it is the same training run
    hyperparams = saver.options.hyperparams
    _with_hyperparams(start.state, hyperparams)  # before training, and whether it resumes or not
    description = identity.describe(
        saver.options.config,
        key,
        parallel.local(carried),
        {"data": chunks.first, "plan": plan, "history": start.measured},
        {"stopping": plan.stopping, "batch_size": plan.batch_size, "shuffle": plan.shuffle},
    )

    def traced() -> str:
        trained = program.train.trace(anywhere, key, first, c, *carried, chunk)
        return identity.digest_of_programs([trained, program.measure.trace(anywhere, *carried)])

    def like(progress: Description) -> PyTree:
        epoch = shapes(anywhere, key, chunk, start)
        whole = history.finished(*carried, *epoch, 0)[1] if progress["whole"] else None
        return *carried, whole, epoch[0] if progress["chunk"] else None

    if (found := saver.resume(description, traced, like)) is None:
        return start
    (state, tracker, whole, losses), progress = found
    fields = progress["number"], progress["ended"], losses, progress["chunk"], progress["mark"]
    state = _with_hyperparams(state, hyperparams)
    at = Progress(state, tracker, history.epochs_of(whole, key.ndim), *fields)
    saver.say(_where(saver.place(), at, epochs))
    return at


def say_if_interrupted(at: Progress, epochs: int) -> None:
    """Writes a line to stderr if Ctrl-C ended the run before its last epoch."""
    n = len(at.measured)
    if n < epochs and not at.ended:
        on = f"continue with epochs={epochs - n}, history=history"
        print(f"interrupted: train.fit returns what it had after epoch {n} of {epochs}; {on}", file=sys.stderr)


def _epoch(plan: Plan, key: jax.Array, chunks: Chunks, at: Progress) -> Iterator[Progress]:
    """Train for one epoch: the progress after each chunk but the last, and after the epoch."""
    t, trained = len(at.measured), np.ones(key.shape, bool) if at.tracker is None else np.asarray(at.tracker.active)
    unread = chunks.epoch(t, at.chunk, at.mark)
    ahead = next(unread, None)
    while ahead is not None:
        c, chunk, mark = ahead
        (chunk,) = arguments.placed(plan, chunk)
        state, losses = program.train(plan, key, np.int32(t), c, at.state, at.tracker, chunk)
        ahead = next(unread, None)  # the next chunk is read while this one trains
        losses = np.asarray(parallel.local(jax.block_until_ready(losses)))  # on every device
        losses = losses if at.losses is None else np.concatenate([at.losses, losses], axis=-1)
        if c is not None:
            at = at._replace(number=at.number + 1, chunk=int(c) + 1, mark=mark)
        at = at._replace(state=state, losses=losses)
        monitor.check_finite(at.report(), trained, chunk, at.chunk)
        if ahead is not None:
            yield at
    idle = plan.evaluate is None and at.tracker is None
    tracker, metrics = (None, None) if idle else program.measure(plan, at.state, at.tracker)
    measured = [*at.measured, (jnp.asarray(at.losses), parallel.local(metrics))]
    yield Progress(at.state, tracker, measured, at.number + chunks.stay)


def _save(saver: Saver, at: Progress, first: int, axis: int, *, now: bool) -> None:
    """Save, unless the last checkpoint is too recent or the parameters are not finite."""
    if at.number == saver.latest or not parallel.broadcast(now or saver.due()):
        return
    at = at._replace(state=parallel.local(at.state), tracker=parallel.local(at.tracker))
    floats = [a for a in jax.tree.leaves(at.state.params) if jnp.issubdtype(jnp.result_type(a), jnp.inexact)]
    if not all(np.isfinite(leaf).all() for leaf in floats):
        return
    whole = at.result(first, axis)[1] if at.measured else None
    progress = {name: getattr(at, name) for name in ("number", "ended", "chunk", "mark")} | {"whole": bool(at.measured)}
    # Within an epoch nothing is measured, so none of its checkpoints is the best.
    metrics = None if at.chunk else at.measured[-1][1]
    saver.save(at.number, (at.state, at.tracker, whole, at.losses), progress, metrics)


def _with_hyperparams(state: PyTree, values: Mapping[str, Scalar]) -> PyTree:
    """The state whose optimizer has these hyperparameters; raise ValueError if it has none of that name."""
    opt_state = state.opt_state
    for name, value in values.items():
        if (old := optax.tree.get(opt_state, name)) is None:
            raise ValueError(
                f"hyperparams must be in the optimizer's state, as optax.inject_hyperparams puts them there, got {name}"
            )
        opt_state = optax.tree.set(opt_state, **{name: jnp.full_like(old, value)})
    return state._replace(opt_state=opt_state)


def _where(place: str, at: Progress, epochs: int) -> str:
    """A line that tells the user what is done with the checkpoint that was found."""
    n = len(at.measured)
    if n > epochs:
        return f"{place} holds {n} epochs, more than epochs={epochs}: all {n} are returned, none is trained"
    if n == epochs:
        return f"{place} holds all {epochs} epochs: none is trained"
    if at.ended:
        return f"{place} was the last epoch, by the stopping criterion or a callback: none of {epochs} is trained"
    return f"resuming after {place}" + f", chunk {at.chunk} of epoch {n + 1}" * (at.chunk > 0)
