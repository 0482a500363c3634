"""One epoch after another on the host: its data, in memory or in chunks, the programs that train, and how far it is.

Of data in chunks one is read while the one before trains, across epochs, too, and two are on the devices at most. NumPy
arrays are copied, as loaders use their memory again, into two places in memory that take turns: what was copied into
the same place is then trained on already.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnn import _checks, _fingerprint, _known, _monitor, _plan, parallel
from jnn._plan import Plan
from jnn.typing import Report

_ALIGNED = 64  # bytes, without which JAX on a CPU copies


class Progress(NamedTuple):
    """How far a training run is: what it hands on, and the losses and metrics of each whole epoch in `measured`.

    number: of epochs, or of chunks, by which a checkpoint is named. chunk: how many chunks of the next epoch were
    trained on already; `losses` [*members, steps] are theirs, and `mark` tells the last of them from others.
    """

    state: Any
    tracker: Any
    measured: list[Any]
    number: int
    ended: bool = False
    losses: Any = None
    chunk: int = 0
    mark: str = ""

    def report(self) -> Report:
        """On the last whole epoch, or on the one that has begun."""
        if self.chunk:
            return Report(len(self.measured) + 1, self.state, self.losses, None)
        return Report(len(self.measured), self.state, *self.measured[-1])


class Memory:
    """Data in memory: one program trains and measures an epoch."""

    in_chunks = False

    def __init__(self, data: Any) -> None:
        self.first = self.latest = data

    def place(self, plan: Plan, state: Any) -> tuple[Plan, Any]:
        """The plan and the state on the devices of the plan, and the data, too."""
        plan, state, self.first = _plan.placed(plan, state, self.first)
        return plan, state


class Chunks:
    """A function of the epoch, or an iterable that begins anew with each epoch, of tuples like the data in memory."""

    in_chunks = True

    def __init__(self, data: Any, epoch: int, epochs: int) -> None:
        """Read the first chunk of the first epoch, for what is compiled."""
        self._data, self.latest = data, None
        if isinstance(data, Iterator) and epochs > 1:
            raise ValueError(
                f"an iterator gives its chunks once, got one for epochs={epochs}: pass a list, a data loader, or a "
                "function of the epoch, such as lambda t: read(folder)"
            )
        self._kind = ""
        self._begun = epoch, self._begin(epoch)
        self.first: Any = self._next(*self._begun, 0)
        if self.first is None:
            raise ValueError("data must hold at least one chunk, got none")
        self._kind = _kind(self.first)

    def place(self, plan: Plan, state: Any) -> tuple[Plan, Any]:
        """The plan and the state on the devices of the plan; chunks follow one by one."""
        return _plan.placed(plan, state, ())[:2]

    def epoch(self, t: int, trained: int, last: str) -> Iterator[tuple[Any, str]]:
        """The chunks of epoch t, each with its mark, after those that were trained on; `last` marks their last."""
        c = 0
        (epoch, chunks), chunk = self._begun, self.first
        self._begun, self.first = (-1, iter(())), None  # not kept in memory
        if epoch != t:
            chunks, chunk = self._begin(t), None
        while (chunk := self._next(t, chunks, c) if chunk is None else chunk) is not None:
            c += 1
            if c >= trained:
                mark = _mark(chunk)
                if c > trained:
                    yield chunk, mark
                elif mark != last:
                    raise ValueError(
                        f"to resume, data must give the same chunks in the same order, got another chunk {c} of epoch "
                        f"{t + 1} than the one that was trained on"
                    )
            chunk = None
        if c < max(1, trained):
            raise ValueError(f"data must give at least {max(1, trained)} chunks in epoch {t + 1}, got {c}")

    def _begin(self, t: int) -> Iterator[Any]:
        found = self._data(t) if callable(self._data) else self._data
        if not isinstance(found, Iterable):
            raise TypeError(f"a function of the epoch must return an iterable of chunks, got {type(found).__name__}")
        return iter(found)

    def _next(self, t: int, chunks: Iterator[Any], c: int) -> Any:
        """The next chunk as a tuple of arrays, or None at the end; like the first one but for the number of rows."""
        try:
            chunk = next(chunks, None)
            if chunk is None:
                return None
            chunk = tuple(chunk) if type(chunk) is list else chunk
            _checks.examples(chunk)
            chunk = jax.tree.map(_array, chunk)
        except Exception as error:
            error.add_note(f"in chunk {c + 1} of epoch {t + 1}")
            raise
        if self._kind and (given := _kind(chunk)) != self._kind:
            raise ValueError(
                f"chunks must be alike but for the number of examples, got {given} in chunk {c + 1} of epoch {t + 1} "
                f"after {self._kind}"
            )
        return chunk


class _Place:
    """Memory on the host for one array of a chunk, aligned so that JAX on a CPU makes no copy of its own."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def holding(self, leaf: Any) -> jax.Array:
        """An array of JAX's as it is; a copy of others, for which what the last call returned is given up."""
        if isinstance(leaf, jax.Array):
            return leaf
        if leaf.nbytes > self._bytes.size:
            memory = np.empty(leaf.nbytes + _ALIGNED, np.uint8)
            self._bytes = memory[-memory.ctypes.data % _ALIGNED :]
        copy = self._bytes[: leaf.nbytes].view(leaf.dtype).reshape(leaf.shape)
        np.copyto(copy, leaf)
        return jax.device_put(copy)


class Programs:
    """The compiled programs of a training run: of a whole epoch, or of a chunk and of what ends an epoch."""

    def __init__(self, program: Any, plan: Plan, source: Memory | Chunks, key: Any, t: Any, *carried: Any) -> None:
        self._program, self.key, self.source, arguments = program, key, source, (key, t, *carried)
        self._places = itertools.cycle(([], []))
        self._begun: Iterator[Any] | None = None  # the chunks of the next epoch, the first of which is read
        if source.in_chunks:
            chunk = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), source.first)
            calls: Any = (plan, chunk, t), (plan, None, None)
        else:
            calls = ((plan, source.first, None),)
        self._plans = [_known.known(program, one, *arguments, *data) for one, *data in calls]
        # On other devices it is the same training.
        anywhere = [replace(one, sharding=None, members=None) for one in self._plans]
        self._traces = [
            functools.partial(program.trace, one, *arguments, *data)
            for one, (_, *data) in zip(anywhere, calls, strict=True)
        ]

    def shapes(self, steps: int) -> tuple[Any, Any]:
        """Of the losses and metrics of an epoch; with chunks, of one of that many mini-batches."""
        first, last = (self._traces[i]().out_info for i in (0, -1))
        losses = first[2]
        if self.source.in_chunks:
            losses = jax.ShapeDtypeStruct((*losses.shape[:-1], steps), losses.dtype)
        return losses, last[3]

    def fingerprint(self) -> dict[str, str]:
        """The lines of the programs, and hashes of what they captured."""
        texts = [_fingerprint.program(trace()) for trace in self._traces]
        return texts[0] | {f"{name} that ends an epoch": line for text in texts[1:] for name, line in text.items()}

    def epoch(self, at: Progress, *, last: bool) -> Iterator[Progress]:
        """Train for one epoch, the last one or not: the progress after each chunk but the last, and after the epoch."""
        t, source = np.int32(len(at.measured)), self.source
        if isinstance(source, Memory):
            arguments = self.key, t, at.state, at.tracker, source.first, None
            state, tracker, *found = self._program(self._plans[0], *arguments)
            yield Progress(state, tracker, [*at.measured, tuple(parallel.local(found))], at.number + 1)
            return
        chunks, self._begun = self._begun or self._chunks(source, len(at.measured), at.chunk, at.mark), None
        ahead = next(chunks, None)
        while ahead is not None:
            source.latest, mark = ahead
            state, tracker, losses, _ = self._program(
                self._plans[0], self.key, t, at.state, at.tracker, source.latest, np.int32(at.chunk)
            )
            ahead = next(chunks, None)  # the next chunk is read while this one trains
            if ahead is None and not last:
                self._begun = _first_read(self._chunks(source, len(at.measured) + 1))
            losses = np.asarray(parallel.local(jax.block_until_ready(losses)))  # on every device
            losses = losses if at.losses is None else np.concatenate([at.losses, losses], axis=-1)
            at = Progress(state, tracker, at.measured, at.number + 1, False, losses, at.chunk + 1, mark)
            if ahead is not None:
                yield at
        state, tracker, _, metrics = self._program(self._plans[1], self.key, t, at.state, at.tracker, None, None)
        measured = [*at.measured, (jnp.asarray(at.losses), parallel.local(metrics))]
        if (steps := at.losses.shape[-1]) != (first := measured[0][0].shape[-1]):
            raise ValueError(
                f"each epoch must have as many mini-batches as the first, {first}, got {steps} in epoch {t + 1}"
            )
        yield Progress(state, tracker, measured, at.number)

    def _chunks(self, source: Chunks, t: int, trained: int = 0, last: str = "") -> Iterator[tuple[Any, str]]:
        return ((self._placed(chunk), mark) for chunk, mark in source.epoch(t, trained, last))

    def _placed(self, chunk: Any) -> Any:
        place, (leaves, tree) = next(self._places), jax.tree.flatten(chunk)
        place.extend(_Place() for _ in leaves[len(place) :])
        held = [one.holding(leaf) for one, leaf in zip(place, leaves, strict=True)]
        return _plan.placed(self._plans[0], (), tree.unflatten(held))[2]


def train(
    programs: Programs, at: Progress, epochs: range, saver: Any, listeners: Sequence[Any], *, catch_interrupt: bool
) -> Progress:
    """Train for the epochs that are left, or until a listener, early stopping or Ctrl-C ends it; save on the way.

    Ctrl-C ends it, if it may, once the first of `epochs` is trained. Returns the progress after the last whole epoch.
    """
    whole, key = at, programs.key

    def may_end() -> bool:
        return catch_interrupt and len(whole.measured) > epochs.start

    with _monitor.until_interrupted(may_end, lambda: saver.save(key, at, at_once=True)):
        while len(at.measured) < epochs.stop and not at.ended:
            trained = np.ones(key.shape, bool) if at.tracker is None else np.asarray(at.tracker.active)
            for at in programs.epoch(at, last=len(at.measured) + 1 == epochs.stop):  # noqa: B020
                _monitor.check_finite(at.report(), trained, programs.source.latest, saver.last_good)
                if at.chunk:
                    saver.save(key, at)
            whole = at
            answers = [listener(at.report()) for listener in listeners]
            stopped = at.tracker is not None and not np.any(at.tracker.active)
            at = whole = at._replace(ended=any(map(_monitor.is_true, answers)) or stopped)
            saver.save(key, at)
    return whole


def source(data: Any, epoch: int, epochs: int) -> Memory | Chunks:
    """Where each epoch's data come from: a tuple or a list of arrays is the data, other iterables hold chunks of it."""
    if isinstance(data, list):
        chunks = bool(data) and all(isinstance(part, tuple) for part in data)
    else:
        chunks = callable(data) or isinstance(data, Iterable)
        chunks = chunks and not (isinstance(data, tuple | str | bytes | Mapping) or hasattr(data, "dtype"))
    return Chunks(data, epoch, epochs) if chunks else Memory(data)


def _first_read(items: Iterator[Any]) -> Iterator[Any]:
    """The same items, of which the first is read now; an error in it is raised when it is asked for."""
    read = _after_a_pause(items)
    next(read)
    return read


def _after_a_pause(items: Iterator[Any]) -> Iterator[Any]:
    first = error = None
    try:
        first = next(items)
    except Exception as raised:
        error = raised
    yield None
    if error:
        raise error
    yield first
    del first  # not kept in memory
    yield from items


def _array(leaf: Any) -> Any:
    """An array of JAX's as it is, others as a NumPy array of a dtype that JAX has."""
    if isinstance(leaf, jax.Array):
        return leaf
    leaf = np.asarray(leaf)
    return leaf.astype(jnp.result_type(leaf), copy=False)


def _mark(chunk: Any) -> str:
    """A short hash of the chunk's shapes, first rows and last rows."""
    ends = [np.asarray(leaf[np.array([0, -1])]) for leaf in jax.tree.leaves(chunk)]
    shapes = np.array([n for leaf in jax.tree.leaves(chunk) for n in leaf.shape])
    return _fingerprint.digest(shapes, *ends)[:16]


def _kind(chunk: Any) -> str:
    def one(leaf: Any) -> str:
        return f"{jnp.result_type(leaf)}[{', '.join(map(str, ('N', *leaf.shape[1:])))}]"

    return str(jax.tree.map(one, chunk)).replace("'", "")
