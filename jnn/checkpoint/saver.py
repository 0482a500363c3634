"""When and where a training run is saved, and what it resumes from."""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jnn import parallel
from jnn._internal import files
from jnn.checkpoint import identity, lock
from jnn.checkpoint.identity import Description
from jnn.checkpoint.options import Checkpoints
from jnn.checkpoint.store import Store, errors
from jnn.parallel.meshes import put
from jnn.typing import PyTree

_ADVICE = "resume with the original arguments, choose another folder, or pass resume=False to start over"
_log = logging.getLogger("jnn.checkpoint")


class Saver:
    """Takes trees of arrays, each with a number and its progress, and gives the newest back to the same training run.

    It holds the folder until it is closed.
    """

    def __init__(self, checkpoints: Checkpoints, *, unit: str) -> None:
        self.options, self._unit = checkpoints, unit
        self.latest: int | None = None
        self._saved = time.monotonic()
        self._describe: Callable[[], Description] = dict
        self._store = Store(files.expanded("folder", checkpoints.folder), checkpoints.keep)
        self._held = contextlib.ExitStack()
        if jax.process_index() == 0:
            with self._writing():
                self._held.enter_context(lock.held(self._store.folder))

    def resume(
        self, description: Description, program: Callable[[], str], like: Callable[[Description], PyTree]
    ) -> tuple[PyTree, Description] | None:
        """The newest tree that was saved and its progress, or None if there is none.

        Args:
          description: Of the training run, by `identity.describe`.
          program: A digest of its program, for which it must be traced: called when it is needed.
          like: A tree like the one with this progress.

        Raises:
          ValueError: If the checkpoint is damaged or of another training run.
        """
        self._describe = functools.cache(lambda: {**description, "program": program()})
        *older, newest = (self._store.numbers() if self.options.resume else []) or [0]
        newest = parallel.broadcast(newest)
        if newest == 0:
            return None
        folder = self._store.folder / str(newest)
        advice = f"; delete {folder} to {f'resume from {self._unit} {older[-1]}' if older else 'start over'}"
        with errors(f"{folder} is damaged", advice, ValueError):
            arrays, about = self._store.read(newest)
        if difference := identity.difference(about, self._describe()):
            raise ValueError(f"{folder} is a checkpoint of {difference}: {_ADVICE}")
        if about["versions"] != description["versions"]:
            other = identity.other_versions(about, description)
            self.say(f"{folder} was saved with {other}: the last bits may differ")
        with errors(f"{folder} is damaged", advice, ValueError):
            if about["sha256"] != _digest(arrays):
                raise ValueError("its arrays differ from those that were saved")
            tree = _unpacked(like(about["progress"]), arrays)
        self.latest = newest
        return tree, about["progress"]

    def due(self) -> bool:
        """Whether the last checkpoint is old enough for another one."""
        return time.monotonic() - self._saved >= float(self.options.seconds)

    def save(self, number: int, tree: PyTree, progress: Description, error: float) -> None:
        """Save a tree of whole arrays, in the background if orbax can. `error` is that by which checkpoints rank."""
        if jax.process_index() == 0:
            arrays = {f"{i:06}": identity.plain(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}
            about = {**self._describe(), "progress": progress, "sha256": _digest(arrays)}
            with self._writing():
                if self.latest is None and not self.options.resume:
                    self._store.clear()
                self._store.write(number, arrays, about, error)
        self.latest, self._saved = number, time.monotonic()

    def saved(self) -> str:
        """For a message: the epoch or chunk that is saved, if there is one."""
        return "" if self.latest is None else f"; {self._unit} {self.latest} is saved in {self._store.folder}"

    def place(self) -> str:
        """For a message: the newest checkpoint."""
        return str(self._store.folder / str(self.latest))

    def say(self, message: str) -> None:
        """Write a line to the log."""
        if jax.process_index() == 0:
            _log.warning("%s", message)

    def close(self) -> None:
        """Wait until everything is written, and let go of the folder."""
        with self._held, self._writing():
            self._store.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        newest = f"{self._unit} {self.latest}"
        kept = "" if self.latest is None else f"; {newest} may be incomplete, earlier ones are intact"
        with errors(f"cannot write a checkpoint in {self._store.folder}", kept, OSError):
            yield


@contextlib.contextmanager
def saver(checkpoints: Checkpoints | None, *, unit: str) -> Iterator[Saver | None]:
    """A `Saver` that has written everything when the block ends, or None without checkpoints."""
    if checkpoints is None:
        yield None
        return
    opened = Saver(checkpoints, unit=unit)
    try:
        yield opened
    except BaseException:
        with contextlib.suppress(OSError):
            opened.close()
        raise
    opened.close()


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    return identity.digest(*(arrays[name] for name in sorted(arrays)))


def _unpacked(like: PyTree, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """The saved arrays as a tree like this one, whose leaves say which are keys and which are on several devices."""
    leaves, structure = jax.tree.flatten(like)

    def leaf(like: PyTree, array: PyTree) -> jax.Array:
        if identity.is_key(like):
            array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))
        several = isinstance(like, jax.Array) and len(like.sharding.device_set) > 1
        return put(array, like.sharding) if several else jnp.asarray(array)

    if len(leaves) != len(arrays):
        raise ValueError(f"it holds {len(arrays)} arrays, the training run has {len(leaves)}")
    return structure.unflatten(leaf(like, arrays[name]) for like, name in zip(leaves, sorted(arrays), strict=True))
