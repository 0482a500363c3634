"""Saving and resuming a training run."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnn import parallel
from jnn._internal import checks, structure
from jnn.checkpoint import Checkpoints, identity
from jnn.checkpoint.store import UNRANKED, Store, errors
from jnn.parallel.meshes import put
from jnn.typing import PyTree

_ADVICE = "resume with the original arguments, choose another folder, or pass resume=False to start over"
_STARTED = "; the state and the history are those with which that run began"
_log = logging.getLogger("jnn.checkpoint")


class Saver(contextlib.AbstractContextManager["Saver"]):
    """Saves a tree of arrays after an epoch, and restores the newest one of the same training run.

    A context manager, which locks the folder and at its end waits until everything is written.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.options = checkpoints
        self.latest: int | None = None
        self._saved = time.monotonic()
        self._description: Mapping[str, Any] = {}
        self.folder = checks.path("folder", checkpoints.folder)
        self._store = Store(self.folder, checkpoints.keep)
        self._store.numbers()  # other numbered folders are refused before training
        self._held = contextlib.ExitStack()
        if jax.process_index() == 0:
            with self._writing():
                self._held.enter_context(self._store.held())

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, *traceback: object) -> None:
        """Wait until everything is written, and let go of the folder; an error has a note of what is saved."""
        said = f"epoch {self.latest} is saved in {self.folder}"
        try:
            with self._held, self._writing():
                self._store.close()
        except OSError as failed:
            if error is None:
                raise
            said = str(failed)
        if error is not None and self.latest is not None:
            error.add_note(said)

    def resume(self, description: Mapping[str, Any], like: Callable[[], PyTree]) -> tuple[PyTree, int, bool] | None:
        """Returns the newest tree, its epoch and whether the run had ended there, or None if there is none.

        Args:
          description: The description of the training run by `identity.describe`.
          like: Returns a tree like the one that was saved.

        Raises:
          ValueError: If the checkpoint is damaged or of another training run.
        """
        self._description = description
        *older, newest = (self._store.numbers() if self.options.resume else []) or [0]
        newest = parallel.broadcast(newest)
        if newest == 0:
            return None
        folder = self.folder / str(newest)
        advice = f"; delete {folder} to {f'resume from epoch {older[-1]}' if older else 'start over'}"
        arrays, about = self._store.read(newest, advice)
        if difference := identity.difference(about, description):
            raise ValueError(f"{folder} is a checkpoint of {difference}: {_ADVICE}{_STARTED}")
        if about["versions"] != description["versions"]:
            other = checks.difference("versions", about["versions"], description["versions"])
            self.say(f"{folder} was saved with {other}: the programs are not compared, and the last bits may differ")
        with errors(f"{folder} is damaged", advice, ValueError):
            tree, ended = _unpacked(like(), arrays), about["ended"]
        self.latest = newest
        return tree, newest, ended

    def due(self) -> bool:
        """Whether the last checkpoint is old enough for another one."""
        return time.monotonic() - self._saved >= float(self.options.seconds)

    def save(self, epoch: int, tree: PyTree, metrics: PyTree, *, ended: bool) -> None:
        """Save a tree of whole arrays, which `metrics` rank, in the background if orbax can."""
        came: list[int] = []  # signals: if they ended a save, its threads would go on and disturb the next one
        if jax.process_index() == 0:
            arrays = [identity.plain(leaf) for leaf in jax.tree.leaves(tree)]
            about = {**self._description, "ended": ended, "structure": None}
            with contextlib.suppress(TypeError):
                about["structure"] = structure.encode(tree)
            with on_signals(lambda number, _: came.append(number), signal.SIGINT, signal.SIGTERM), self._writing():
                if self.latest is None and not self.options.resume:
                    self._store.clear()
                self._store.write(epoch, arrays, about, self._error(metrics))
        self.latest, self._saved = epoch, time.monotonic()
        for number in came:
            signal.raise_signal(number)

    def say(self, message: str) -> None:
        """Write a line to the log."""
        if jax.process_index() == 0:
            _log.warning("%s", message)

    def ranking(self, metrics: PyTree) -> tuple[PyTree, float] | None:
        """The metric by which checkpoints rank and the sign that makes it an error, if any; ValueError without it."""
        name, sign = (self.options.lowest, 1.0) if self.options.highest is None else (self.options.highest, -1.0)
        named = metrics if isinstance(metrics, dict) else {}
        if name is None:
            return next(((named[n], sign) for n, sign in (("error", 1.0), ("accuracy", -1.0)) if n in named), None)
        metric = named.get(name) if isinstance(metrics, dict) else metrics
        if not hasattr(metric, "dtype"):
            given = f"metrics {list(named)}" if named else f"{metrics}"
            raise ValueError(f"lowest or highest must name a metric that evaluate returns, got {name!r}, and {given}")
        return metric, sign

    def _error(self, metrics: PyTree) -> float:
        """The error that ranks a checkpoint, a mean over members that have not stopped; UNRANKED if there is none."""
        metric, sign = self.ranking(metrics) or (np.nan, 1.0)
        values = sign * np.asarray(metric, float)
        return float(values[~np.isnan(values)].mean()) if not np.isnan(values).all() else UNRANKED

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        kept = "" if self.latest is None else f"; epoch {self.latest} may be incomplete, earlier ones are intact"
        with errors(f"cannot write a checkpoint in {self.folder}", kept, OSError):
            yield


@contextlib.contextmanager
def on_signals(handler: Callable[[int, object], object], *numbers: int) -> Iterator[None]:
    """Inside, these signals call `handler`; only the main thread can arrange that, in others nothing changes."""
    main = threading.current_thread() is threading.main_thread()
    before = {n: signal.signal(n, handler) for n in numbers if main and signal.getsignal(n) is not None}
    try:
        yield
    finally:
        for number, theirs in before.items():
            signal.signal(number, theirs)


def _unpacked(like: PyTree, arrays: Sequence[np.ndarray]) -> PyTree:
    """The saved arrays as a tree like this one, with its keys and its shardings over several devices."""
    leaves, tree = jax.tree.flatten(like)

    def leaf(like: PyTree, array: PyTree) -> jax.Array:
        if identity.is_key(like):
            array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))
        several = isinstance(like, jax.Array) and len(like.sharding.device_set) > 1
        return put(array, like.sharding) if several else jnp.asarray(array)

    if len(leaves) != len(arrays):
        raise ValueError(f"it holds {len(arrays)} arrays, the training run has {len(leaves)}")
    return tree.unflatten(map(leaf, leaves, arrays))
