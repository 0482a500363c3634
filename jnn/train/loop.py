"""One epoch after another on the host: how far a training run is, what is saved of it, and what ends it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnn import parallel
from jnn.checkpoint import identity
from jnn.checkpoint.identity import Description
from jnn.checkpoint.saver import Saver
from jnn.stopping import Tracker
from jnn.train import arguments, monitor, program
from jnn.train.arguments import Plan
from jnn.train.chunks import Chunks
from jnn.typing import PyTree, Report


class Progress(NamedTuple):
    """How far a training run is.

    Attributes:
      measured: The losses and metrics of each whole epoch.
      number: Of epochs, or of chunks, by which a checkpoint is named.
      ended: Whether early stopping or a callback ended it.
      losses: Of the chunks of the next epoch that were trained on already, [*members, steps].
      chunk: How many they are.
      mark: That of the last of them.
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
        """On the last whole epoch, or on the one that has begun."""
        if self.losses is not None:
            return Report(len(self.measured) + 1, self.state, self.losses, None)
        return Report(len(self.measured), self.state, *self.measured[-1])


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
    """Train for the epochs that are left, or until a listener, early stopping or Ctrl-C ends it; save on the way.

    Ctrl-C ends it, if it may, once the first of `epochs` is trained. Returns the progress after the last whole epoch.
    """
    whole, saved = at, None
    try:
        while len(at.measured) < epochs.stop and not at.ended:
            for at in _epoch(plan, key, chunks, at, saver):  # noqa: B020
                if at.chunk:
                    saved = at
                    _save(saver, at)
            stopped = at.tracker is not None and not np.any(at.tracker.active)
            at = whole = at._replace(ended=stopped)
            answers = [listener(at.report()) for listener in listeners]
            at = whole = saved = at._replace(ended=stopped or any(map(monitor.is_true, answers)))
            _save(saver, at)
    except KeyboardInterrupt:
        alone = jax.process_count() == 1  # several processes are not at the same epoch
        ends = alone and catch_interrupt and len(whole.measured) > epochs.start
        if alone:
            _save(saver, at if ends else saved, now=True)
        if not ends:
            raise
    return whole


def shapes(plan: Plan, key: jax.Array, chunk: PyTree, at: Progress) -> tuple[PyTree, PyTree]:
    """The shapes and dtypes of the losses of a chunk, and of the metrics of an epoch."""
    carried = at.state, at.tracker
    losses = jax.eval_shape(program.train, plan, key, np.int32(0), None, *carried, chunk)[1]
    return losses, jax.eval_shape(program.measure, plan, *carried)[1]


def resumed(saver: Saver, plan: Plan, key: jax.Array, chunks: Chunks, start: Progress, epochs: int) -> Progress:
    """The progress from which to train until there are `epochs` epochs: `start`, or that of the newest checkpoint."""
    chunk = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.result_type(leaf)), chunks.first)
    first, carried = np.int32(len(start.measured)), (start.state, start.tracker)
    c = None if chunks.stay else np.int32(0)
    anywhere = replace(plan, sharding=None, members=None)  # on other devices it is the same training run
    description = identity.describe(
        saver.options.config,
        key,
        parallel.local(carried),
        {"data": chunks.first, "plan": plan, "history": start.measured},
        stopping=repr(plan.stopping),
    )

    def traced() -> str:
        trained = program.train.trace(anywhere, key, first, c, *carried, chunk)
        return identity.digest_of_programs([trained, program.measure.trace(anywhere, *carried)])

    def like(progress: Description) -> PyTree:
        epoch = shapes(anywhere, key, chunk, start)
        return carried, epoch if progress["epochs"] else None, epoch[0] if progress["chunk"] else None

    if (found := saver.resume(description, traced, like)) is None:
        return start
    ((state, tracker), stacked, losses), progress = found
    measured = [jax.tree.map(lambda a, t=t: a[t], stacked) for t in range(progress["epochs"])]
    fields = progress["number"], progress["ended"], losses, progress["chunk"], progress["mark"]
    at = Progress(state, tracker, measured, *fields)
    saver.say(_where(saver.place(), at, epochs))
    return at


def say_if_interrupted(at: Progress, epochs: int) -> None:
    """Write a line to stderr if there are fewer epochs, and nothing but Ctrl-C ended them."""
    n = len(at.measured)
    if n < epochs and not at.ended:
        on = f"continue with epochs={epochs - n}, history=history"
        print(f"interrupted: train.fit returns what it had after epoch {n} of {epochs}; {on}", file=sys.stderr)


def _epoch(plan: Plan, key: jax.Array, chunks: Chunks, at: Progress, saver: Saver | None) -> Iterator[Progress]:
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
        monitor.check_finite(at.report(), trained, chunk, "" if saver is None else saver.saved())
        if ahead is not None:
            yield at
    idle = plan.evaluate is None and at.tracker is None
    tracker, metrics = (None, None) if idle else program.measure(plan, at.state, at.tracker)
    measured = [*at.measured, (jnp.asarray(at.losses), parallel.local(metrics))]
    if (steps := at.losses.shape[-1]) != (first := measured[0][0].shape[-1]):
        raise ValueError(
            f"each epoch must have as many mini-batches as the first, {first}, got {steps} in epoch {t + 1}"
        )
    yield Progress(at.state, tracker, measured, at.number + chunks.stay)


def _save(saver: Saver | None, at: Progress | None, *, now: bool = False) -> None:
    """Save, unless the last checkpoint is too recent or the parameters are not finite."""
    if saver is None or at is None or at.number == saver.latest or not parallel.broadcast(now or saver.due()):
        return
    state, tracker = parallel.local((at.state, at.tracker))
    floats = [a for a in jax.tree.leaves(state.params) if jnp.issubdtype(jnp.result_type(a), jnp.inexact)]
    if not all(np.isfinite(leaf).all() for leaf in floats):
        return
    stacked = jax.tree.map(lambda *epochs: np.stack(epochs), *at.measured) if at.measured else None
    progress = {name: getattr(at, name) for name in ("number", "ended", "chunk", "mark")}
    # Within an epoch nothing is measured, so none of its checkpoints is the best.
    error = sys.float_info.max if at.chunk else _error(at.measured[-1][1])
    saver.save(at.number, ((state, tracker), stacked, at.losses), progress | {"epochs": len(at.measured)}, error)


def _error(metrics: PyTree) -> float:
    """The error by which checkpoints rank, a mean over members; 0 for all if no metric is one."""
    named = metrics if isinstance(metrics, dict) else {"error": metrics}
    for name, sign in (("error", 1.0), ("accuracy", -1.0)):
        if named.get(name) is not None and np.issubdtype(np.asarray(named[name]).dtype, np.floating):
            return sign * float(np.mean(np.asarray(named[name])))
    return 0.0


def _where(place: str, at: Progress, epochs: int) -> str:
    """What a training run does that finds a checkpoint, for its user."""
    n = len(at.measured)
    if n > epochs:
        return f"{place} holds {n} epochs, more than epochs={epochs}: all {n} are returned, none is trained"
    if n == epochs:
        return f"{place} holds all {epochs} epochs: none is trained"
    if at.ended:
        return f"{place} was the last epoch, by the stopping criterion or a callback: none of {epochs} is trained"
    return f"resuming after {place}" + f", chunk {at.chunk} of epoch {n + 1}" * (at.chunk > 0)
