"""Numbered checkpoints in a folder, as orbax writes them: arrays, and a description as JSON."""

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jnn.checkpoint.identity import Description


class Store:
    """The checkpoints in a folder, of which the newest and the best are kept."""

    def __init__(self, folder: Path, keep: int) -> None:
        if missing := [name for name in ("orbax", "filelock") if importlib.util.find_spec(name) is None]:
            raise ImportError(f"checkpoints need {' and '.join(missing)}: pip install orbax-checkpoint filelock")
        self.folder, self._keep = folder, keep
        self._manager: Any = None

    def numbers(self) -> list[int]:
        """Of what is saved completely, in order; orbax names what is incomplete differently."""
        names = [path.name for path in self.folder.glob("*")] if self.folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal())

    def read(self, number: int) -> tuple[dict[str, np.ndarray], Description]:
        """The arrays and their description."""
        args, manager = self._orbax()
        read = manager.restore(number, args=args.Composite(tree=args.StandardRestore(), about=args.JsonRestore()))
        return read.tree, read.about

    def write(self, number: int, arrays: Mapping[str, np.ndarray], about: Description, error: float) -> None:
        """Write a checkpoint, in the background if orbax can; the one with the lowest error is kept."""
        args, manager = self._orbax()
        items = args.Composite(tree=args.StandardSave(arrays), about=args.JsonSave(about))
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

    def _orbax(self) -> tuple[Any, Any]:
        """Its arguments and its manager, made when it is first needed: orbax takes a second to import."""
        import orbax.checkpoint as ocp

        if self._manager is None:
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
                multiprocessing_options=_alone(ocp.options.MultiprocessingOptions),
            )
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        return ocp.args, self._manager


@contextlib.contextmanager
def errors(what: str, advice: str, kind: type[Exception]) -> Iterator[None]:
    """Turn the many errors that orbax and its libraries raise into one that says what to do."""
    try:
        yield
    except (ImportError, BlockingIOError):
        raise
    except Exception as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise kind(f"{what} ({first[:300]}){advice}") from error


def _alone(options: Any) -> Any:
    """Options for orbax that treat every process as the only one: the first writes whole arrays, all read them."""
    if jax.process_count() == 1:
        return options()
    me = jax.process_index()
    return options(primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"jnn-{me}")


def _error(metrics: Mapping[str, float]) -> float:
    return metrics["error"]
