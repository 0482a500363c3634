"""Checkpoints of a training run, written and read by orbax. Nothing is pickled.

`train.fit(..., checkpoints=Checkpoints(folder))` saves what it needs to resume: parameters, optimizer state, stopping
state, history, key and configuration. A checkpoint is written to a temporary folder that is renamed once it is
complete, so a numbered folder is always a complete checkpoint, whenever the process is killed.

Beside the arrays a checkpoint describes the training: configuration, key, hashes of data and first state, stopping
criterion, and the traced program of an epoch. One that differs in any of them is not resumed.

Checkpoints hold whole arrays, however they were sharded, so a training run can resume on other devices. Of several
processes the first writes and all read, so they must share the folder. While a training runs, a lock file in the folder
keeps others out, except on Windows.
"""

import contextlib
import dataclasses
import importlib.util
import json
import logging
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from jnn import _checks, _files, _fingerprint, _numbered, parallel
from jnn._epochs import Progress
from jnn.typing import PathLike, Scalar


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Where and how often `train.fit` saves what it needs to resume.

    folder: contains a folder for each checkpoint, named by its epoch, or by how many chunks were trained on if the data
        come in chunks; "~" is your home.
    keep: how many of the newest to keep, besides the one with the lowest metric "error" (or highest "accuracy").
    seconds: the least time between checkpoints, and before the first; 0 saves after every epoch or chunk.
    resume: start from the newest checkpoint in the folder, which a line of `logging` names; False deletes those there
        when the first new one is saved.
    config: the configuration of the run, in types that JSON has; resuming with another config raises ValueError.

    Raises ValueError for a keep below 1 or negative seconds, TypeError if they are not such numbers or the folder is
    not a path. `train.fit` raises ValueError if the newest checkpoint is damaged or of another training: another config
    or key, other data, another start, another program (gradient, optimizer, batch size, transform, evaluate, stopping),
    or one that another version of jax traced differently. Data split between processes are not compared. It raises
    BlockingIOError if another training holds the folder, OSError if it cannot be written or the disk is full. Older
    checkpoints are never changed. ImportError without orbax: pip install orbax-checkpoint.
    """

    folder: PathLike
    keep: int = 2
    seconds: Scalar = 0.0
    resume: bool = True
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _files.expanded("folder", self.folder)
        _checks.count("keep", self.keep)
        _checks.in_range("seconds", self.seconds)


class Saver:
    """Saves and resumes one training run; without checkpoints it does nothing."""

    def __init__(self, checkpoints: Checkpoints | None) -> None:
        self._chosen: Any = checkpoints
        self._manager: Any = None
        self._saved = time.monotonic()
        self._latest: int | None = None
        self._pending: Any = None
        self._loading: Any = None
        self._given: dict[str, Any] = {}
        self._unit = "epoch"
        self._lock = contextlib.ExitStack()
        if checkpoints is None:
            return
        _check_installed()
        self._folder = _files.expanded("folder", checkpoints.folder)
        if jax.process_index() == 0:
            with self._writing():
                self._lock.enter_context(_files.held(self._folder))
        # Importing orbax takes as long as an epoch: do it before the first one, or in the background.
        self._loading = threading.Timer(float(checkpoints.seconds) / 2, _orbax)
        self._loading.daemon = True
        self._loading.start()
        if checkpoints.seconds == 0:
            self._loading.join()

    def resume(
        self, key: Key[Array, "*members"], plan: Any, start: Any, source: Any, programs: Any, epochs: int
    ) -> Any:
        """The progress from which to train, until there are `epochs` epochs: `start`, or that of the newest checkpoint.

        `plan`, the functions to train with, and `source`, of the data, hold the inputs of the training.
        """
        if self._chosen is None:
            return start
        self._unit = "chunk" if source.in_chunks else "epoch"
        self._given = {
            "inputs": _fingerprint.hashes({"data": source.first, "plan": plan, "history": start.measured}),
            "initial arrays": _fingerprint.hashes(parallel.local(start[:2])),
            "stopping": repr(plan.stopping),
            "instructions": programs.fingerprint(),
            "versions": _fingerprint.versions(),
        }
        *older, newest = (_numbers(self._folder) if self._chosen.resume else []) or [0]
        newest = parallel.broadcast(newest)
        if newest == 0:
            return start
        folder = self._folder / str(newest)
        resume = f"resume from {self._unit} {older[-1]}" if older else "start over"
        at = self._read(folder, key, start, programs, f"; delete {folder} to {resume}")
        self._latest = newest
        _say(_resumed(folder, at, epochs))
        return at

    def _read(self, folder: Path, key: Any, start: Progress, programs: Any, advice: str) -> Progress:
        """A checkpoint of this training."""
        with _orbax_errors(f"{folder} is damaged", advice, ValueError):
            about = json.loads((folder / "about" / "metadata").read_text())
            number, epochs, steps, chunk, begun, mark = about["progress"]
            shapes = programs.shapes(steps)
            stacked = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((epochs, *leaf.shape), leaf.dtype), shapes)
            losses = jax.ShapeDtypeStruct((*shapes[0].shape[:-1], begun), shapes[0].dtype)
            template = start[:2], stacked if epochs else None, losses if chunk else None
            expected = self._about(key, template, about["sha256"], ended=about["ended"])
        if difference := _fingerprint.difference(about, expected):
            raise ValueError(f"{folder} is a checkpoint of {difference}: {_ADVICE}")
        if about["versions"] != expected["versions"]:
            other = _checks.difference("versions", about["versions"], expected["versions"])
            _say(f"{folder} was saved with {other}: the last bits may differ")
        with _orbax_errors(f"{folder} is damaged", advice, ValueError):
            arguments = _orbax().args.Composite(tree=_orbax().args.StandardRestore(_numbered.blank(template)))
            arrays = self._open().restore(int(folder.name), args=arguments).tree
            if _numbered.digest(arrays) != about["sha256"]:
                raise ValueError("its arrays differ from those that were saved")
        carried, stacked, losses = _numbered.like(template, arrays)
        measured = [jax.tree.map(lambda a, t=t: a[t], stacked) for t in range(epochs)]
        state, tracker = carried
        return Progress(state, tracker, measured, number, about["ended"], losses, chunk, mark)

    def save(self, key: Key[Array, "*members"], at: Any, at_once: bool = False) -> None:
        """After an epoch or a chunk: save, unless the last checkpoint is too recent; in the background if orbax can."""
        if self._chosen is None:
            return
        self._pending = key, at
        if parallel.broadcast(at_once or time.monotonic() - self._saved >= self._chosen.seconds):
            self._save_pending()

    def last_good(self) -> str:
        """For a message: the epoch or chunk that is saved, if there is one."""
        if self._latest is None or self._chosen is None:
            return ""
        return f"; {self._unit} {self._latest} is saved in {self._folder}"

    def close(self, interrupted: bool = False) -> None:
        """Wait until everything is written; save the last epoch first if the training was interrupted.

        Several processes do not: they may have been interrupted in different epochs.
        """
        if self._chosen is None:
            return
        self._loading.cancel()
        with self._lock:
            if interrupted and self._pending is not None and jax.process_count() == 1:
                self._save_pending()
            if self._manager is not None:
                with self._writing():
                    self._manager.wait_until_finished()
                    self._manager.close()

    def _save_pending(self) -> None:
        key, at = self._pending
        if at.number == self._latest:
            return
        self._pending, carried = None, parallel.local(at[:2])
        floats = [a for a in jax.tree.leaves(carried[0].params) if jnp.issubdtype(jnp.result_type(a), jnp.inexact)]
        if not all(np.isfinite(leaf).all() for leaf in floats):
            return
        if jax.process_index() == 0:
            stacked = jax.tree.map(lambda *epochs: np.stack(epochs), *at.measured) if at.measured else None
            tree = carried, stacked, at.losses
            steps = at.measured[0][0].shape[-1] if at.measured else 0
            begun = at.losses.shape[-1] if at.chunk else 0
            arrays = _numbered.plain(tree)
            about = self._about(key, tree, _numbered.digest(arrays), ended=at.ended)
            about["progress"] = at.number, len(at.measured), steps, at.chunk, begun, at.mark
            # Within an epoch nothing is measured, so none of its checkpoints is the best.
            metrics = {"error": sys.float_info.max} if at.chunk else _metrics(at.measured[-1][1])
            with self._writing():
                if self._latest is None and not self._chosen.resume:
                    for number in _numbers(self._folder):
                        shutil.rmtree(self._folder / str(number))
                args = _orbax().args
                items = args.Composite(tree=args.StandardSave(arrays), about=args.JsonSave(about))
                self._open().save(at.number, args=items, metrics=metrics, force=True)
        self._latest, self._saved = at.number, time.monotonic()

    def _open(self) -> Any:
        """The orbax manager, created when it is first needed."""
        if self._manager is None:
            ocp = _orbax()
            policies = ocp.checkpoint_managers
            newest = policies.LatestN(self._chosen.keep)
            best = policies.BestN(get_metric_fn=_error, reverse=True, n=1)
            options = ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy([newest, best]),
                best_fn=_error,
                best_mode="min",
                create=False,
                # If a folder cannot be made, the threads that wait for it would keep the process alive for minutes;
                # and training runs in several threads would wait for each other's folders.
                async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
                multiprocessing_options=_alone(ocp),
            )
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        return self._manager

    def _about(self, key: Any, tree: Any, digest: str, *, ended: bool) -> dict[str, Any]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        shapes = {_checks.leaf_name(path): f"{_numbered.array(leaf).dtype}{list(leaf.shape)}" for path, leaf in leaves}
        config = json.loads(json.dumps(dict(self._chosen.config), default=str))
        keys = np.asarray(jax.random.key_data(key)).tolist()
        return {"config": config, "key": keys, "stopping": self._given["stopping"], "arrays": shapes} | (
            self._given | {"sha256": digest, "ended": ended}
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        newest = f"{self._unit} {self._latest}"
        kept = "" if self._latest is None else f"; {newest} may be incomplete, earlier ones are intact"
        with _orbax_errors(f"cannot write a checkpoint in {self._folder}", kept, OSError):
            yield


@contextlib.contextmanager
def saver(checkpoints: Checkpoints | None) -> Iterator[Saver]:
    """A `Saver` that has written everything when the block ends, the last complete epoch too if Ctrl-C ended it."""
    one = Saver(checkpoints)
    try:
        yield one
    except KeyboardInterrupt:
        one.close(interrupted=True)
        raise
    except BaseException:
        with contextlib.suppress(OSError):
            one.close()
        raise
    one.close()


_ADVICE = "resume with the original arguments, choose another folder, or pass resume=False to start over"
_log = logging.getLogger(__name__)


def _say(message: str) -> None:
    if jax.process_index() == 0:
        _log.warning("%s", message)


def _resumed(folder: Path, at: Progress, epochs: int) -> str:
    """What a training run does that finds a checkpoint, for its user."""
    n = len(at.measured)
    if n > epochs:
        return f"{folder} holds {n} epochs, more than epochs={epochs}: all {n} are returned, none is trained"
    if n == epochs:
        return f"{folder} holds all {epochs} epochs: none is trained"
    if at.ended:
        return f"{folder} was the last epoch, by the stopping criterion or a callback: none of {epochs} is trained"
    return f"resuming after {folder}" + f", chunk {at.chunk} of epoch {n + 1}" * (at.chunk > 0)


def _numbers(folder: Path) -> list[int]:
    """Of what is saved completely, in order; orbax names what is incomplete differently."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal()) if folder.is_dir() else []


def _alone(ocp: Any) -> Any:
    """Options for orbax that treat every process as the only one: the first writes whole arrays, all read them."""
    options = ocp.options.MultiprocessingOptions
    if jax.process_count() == 1:
        return options()
    me = jax.process_index()
    return options(primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"jnn-{me}")


def _metrics(metrics: Any) -> dict[str, float]:
    """The error by which orbax ranks checkpoints, a mean over members; 0 for all if no metric is one."""
    named = metrics if isinstance(metrics, dict) else {"error": metrics}
    for name, sign in (("error", 1.0), ("accuracy", -1.0)):
        if named.get(name) is not None and np.issubdtype(np.asarray(named[name]).dtype, np.floating):
            return {"error": sign * float(np.mean(np.asarray(named[name])))}
    return {"error": 0.0}


def _error(metrics: Mapping[str, float]) -> float:
    return metrics["error"]


@contextlib.contextmanager
def _orbax_errors(what: str, advice: str, kind: type[Exception]) -> Iterator[None]:
    """Turn the many errors that orbax and its libraries raise into one that says what to do."""
    try:
        yield
    except (ImportError, BlockingIOError):
        raise
    except Exception as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise kind(f"{what} ({first[:300]}){advice}") from error


def _check_installed() -> None:
    if importlib.util.find_spec("orbax") is None:
        raise ImportError("checkpoints need orbax: pip install orbax-checkpoint")


def _orbax() -> Any:
    import orbax.checkpoint as ocp

    return ocp
