"""Numbered checkpoints in a folder, written by orbax: arrays, and a description as JSON."""

import contextlib
import importlib.util
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jnn.checkpoint import identity

UNRANKED = sys.float_info.max
"""The error of a checkpoint without a metric."""

_OURS = ("about", "tree", "_CHECKPOINT_METADATA")  # what a numbered folder of orbax's holds


class Store:
    """The checkpoints in a folder, of which the newest and the best are kept."""

    def __init__(self, folder: Path, keep: int = 1) -> None:
        if missing := [name for name in ("orbax", "filelock") if importlib.util.find_spec(name) is None]:
            raise ImportError(f"checkpoints need {' and '.join(missing)}: pip install orbax-checkpoint filelock")
        self.folder, self._keep = folder, keep
        self._manager: Any = None

    def numbers(self) -> list[int]:
        """The numbers of the complete checkpoints, in order; orbax names incomplete ones differently.

        Raises ValueError if another entry is named by a number.
        """
        numbered = [path for path in self.folder.glob("*") if path.name.isdecimal()] if self.folder.is_dir() else []
        for path in numbered:
            if not any((path / name).exists() for name in _OURS):
                raise ValueError(
                    f"in a folder of checkpoints only they may be named by numbers, got {path}: choose another folder, "
                    f"such as {self.folder / 'checkpoints'}"
                )
        return sorted(int(path.name) for path in numbered)

    def best(self) -> int | None:
        """The number of the checkpoint with the lowest error; None if all are unranked."""
        _, manager = self._orbax()
        best = manager.best_step()
        return None if best is None or _error(manager.metrics(best)) == UNRANKED else best

    def read(self, number: int, advice: str = "") -> tuple[list[np.ndarray], Mapping[str, Any]]:
        """The arrays and their description. Raises ValueError, which ends with the advice, if they are damaged."""
        args, manager = self._orbax()
        with errors(f"{self.folder / str(number)} is damaged", advice, ValueError):
            read = manager.restore(number, args=args.Composite(tree=args.StandardRestore(), about=args.JsonRestore()))
            arrays = [read.tree[name] for name in sorted(read.tree)]
            if read.about["sha256"] != identity.digest(*arrays):
                raise ValueError("its arrays differ from those that were saved")
        return arrays, read.about

    def write(self, number: int, arrays: Sequence[np.ndarray], about: Mapping[str, Any], error: float) -> None:
        """Write a checkpoint, in the background if orbax can; the one with the lowest error is kept."""
        args, manager = self._orbax()
        tree = {f"{i:06}": array for i, array in enumerate(arrays)}
        about = {**about, "sha256": identity.digest(*arrays)}
        items = args.Composite(tree=args.StandardSave(tree), about=args.JsonSave(about))
        manager.save(number, args=items, metrics={"error": error}, force=True)

    def clear(self) -> None:
        """Delete all checkpoints."""
        for number in self.numbers():
            shutil.rmtree(self.folder / str(number))

    def close(self) -> None:
        """Wait until everything is written."""
        if self._manager is not None:
            self._manager.wait_until_finished()
            self._manager.close()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder and locks it; at the end, removes folders that it made and that are empty.

        The operating system releases the lock when the process dies. Raises BlockingIOError if another process or
        thread holds it, OSError if it cannot be written.
        """
        import filelock  # late: an extra

        made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        lock = filelock.FileLock(self.folder / ".lock", blocking=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise BlockingIOError(
                f"{self.folder} must be used by one training run at a time, got another one there already: "
                "wait until that ends, or choose another folder"
            ) from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (self.folder / ".lock").unlink()  # before the release, so that nobody locks a deleted file
            lock.release()
            with contextlib.suppress(OSError):
                for path in made:
                    path.rmdir()

    def _orbax(self) -> tuple[Any, Any]:
        """Its arguments and its manager, made when it is first needed: orbax takes a second to import."""
        import orbax.checkpoint as ocp

        if self._manager is None:
            me = jax.process_index()  # for orbax the only process: the first writes whole arrays, all read them
            policies = ocp.checkpoint_managers
            best = policies.BestN(get_metric_fn=_error, reverse=True, n=1)
            options = ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(self._keep), best]),
                best_fn=_error,
                best_mode="min",
                create=False,
                # If a folder cannot be made, the threads that wait for it would keep the process alive for minutes;
                # and training runs in several threads would wait for each other's folders.
                async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"jnn-{me}"
                ),
            )
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        return ocp.args, self._manager


@contextlib.contextmanager
def errors(what: str, advice: str, kind: type[Exception]) -> Iterator[None]:
    """Turns the many errors of orbax and its libraries into one kind, with advice."""
    try:
        yield
    except (ImportError, BlockingIOError):
        raise
    except Exception as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise kind(f"{what} ({first[:300]}){advice}") from error


def _error(metrics: Mapping[str, float]) -> float:
    return metrics["error"]
