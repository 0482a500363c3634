"""Nothing lost: checkpoints of a training by orbax, and parameters as safetensors files. No pickle anywhere.

`train.fit(..., checkpoints=Checkpoints(folder))` saves after an epoch what it needs to go on: parameters, optimiser
state, stopping state, history, key and configuration. A checkpoint is written beside its place and renamed when it is
whole, so one that has a number is never half a checkpoint, whenever the process is killed.

It holds whole arrays, wherever they lie, so a training may go on on other devices than it began on. Of several
processes the first writes; all read, so the folder must be one that all see.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from jnn import _checks, parallel

PathLike = str | os.PathLike[str]
"""A path, as text or as `pathlib.Path`."""


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Where and how `train.fit` keeps what it needs to go on.

    folder: receives a folder for each checkpoint, named by its epoch.
    keep: how many of the newest stay; that of the lowest error (the metric named "error" or "accuracy") stays, too.
    seconds: the least time to the first and from one to the next; 0 saves after every epoch.
    resume: go on from the newest one in the folder; False deletes those there when the first new one is saved.
    config: what the run was started with, as JSON can write it; a run of another config is not gone on with.

    Raises ValueError for a keep below 1 or negative seconds, TypeError where they are no such numbers.
    `train.fit` raises ValueError where the newest checkpoint is of other parameters, another key or config, or
    is damaged; OSError where the folder cannot be written or the disk is full. Older checkpoints stay as they are.
    ImportError without orbax: pip install orbax-checkpoint.
    """

    folder: PathLike
    keep: int = 2
    seconds: _checks.Scalar = 0.0
    resume: bool = True
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _checks.count("keep", self.keep)
        _checks.amount("seconds", self.seconds)


class Saver:
    """Saves and resumes one training; of no checkpoints, it does nothing."""

    def __init__(self, checkpoints: Checkpoints | None) -> None:
        self._chosen: Any = checkpoints
        self._manager: Any = None
        self._saved = time.monotonic()
        self._latest: int | None = None
        self._pending: Any = None
        self._loading: Any = None
        if checkpoints is not None:
            _check_installed()
            # Its import takes as long as an epoch: before the first one, or beside them when it is soon needed.
            self._loading = threading.Timer(float(checkpoints.seconds) / 2, _orbax)
            self._loading.daemon = True
            self._loading.start()
            if checkpoints.seconds == 0:
                self._loading.join()

    def resume(self, key: Key[Array, "*members"], carried: Any, one: Any) -> tuple[Any, list[Any], bool]:
        """What is carried from epoch to epoch, what each epoch measured, and whether the training has ended.

        `one` has the shapes of what one epoch measures.
        """
        if self._chosen is None or not self._chosen.resume:
            return carried, [], False
        *older, newest = _epochs(Path(self._chosen.folder)) or [0]
        newest = parallel.agreed(newest)
        if newest == 0:
            return carried, [], False
        folder = Path(self._chosen.folder) / str(newest)
        template = (carried, _stacked_shapes(one, newest))
        advice = f"; delete {folder} to go on from epoch {older[-1]}" if older else f"; delete {folder} to start anew"
        with _orbax_errors(f"{folder} is damaged", advice, ValueError):
            about = json.loads((folder / "about" / "metadata").read_text())
            wanted = self._about(key, template, about["sha256"], ended=about["ended"])
        for what, got in about.items():
            if got != wanted[what]:
                raise ValueError(f"{folder} is a checkpoint of {_difference(what, got, wanted[what])}: {_TO_DO}")
        with _orbax_errors(f"{folder} is damaged", advice, ValueError):
            arguments = _orbax().args.Composite(tree=_orbax().args.StandardRestore(_blank(template)))
            arrays = self._open().restore(newest, args=arguments).tree
            if _digest(arrays) != about["sha256"]:
                raise ValueError("its arrays are not those that were saved")
        carried, measured = _like(template, arrays)
        self._latest = newest
        return carried, [jax.tree.map(lambda a, t=t: a[t], measured) for t in range(newest)], about["ended"]

    def save(self, key: Key[Array, "*members"], carried: Any, measured: Sequence[Any], ended: bool) -> None:
        """After an epoch: save, unless the last one is too recent; in the background where orbax can."""
        if self._chosen is None:
            return
        self._pending = (key, carried, list(measured), ended)
        if parallel.agreed(time.monotonic() - self._saved >= self._chosen.seconds):
            self._save_pending()

    def last_good(self) -> str:
        """For a message: which epoch is saved, if any."""
        if self._latest is None or self._chosen is None:
            return ""
        return f"; epoch {self._latest} is saved in {self._chosen.folder}"

    def close(self, interrupted: bool = False) -> None:
        """Wait for what is being written; first save the last epoch, where the training was interrupted.

        Not so in several processes, which are not interrupted in the same epoch.
        """
        if self._chosen is None:
            return
        self._loading.cancel()
        if interrupted and self._pending is not None and jax.process_count() == 1:
            self._save_pending()
        if self._manager is not None:
            with self._writing():
                self._manager.wait_until_finished()
                self._manager.close()

    def _save_pending(self) -> None:
        key, carried, measured, ended = self._pending
        self._pending, carried = None, parallel.local(carried)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(carried[0].params) if _is_float(leaf)):
            return
        if jax.process_index() == 0:
            tree = (carried, jax.tree.map(lambda *epochs: np.stack(epochs), *measured))
            arrays = _plain(tree)
            about = self._about(key, tree, _digest(arrays), ended=ended)
            with self._writing():
                if self._latest is None and not self._chosen.resume:
                    _clear(Path(self._chosen.folder))
                args = _orbax().args
                items = args.Composite(tree=args.StandardSave(arrays), about=args.JsonSave(about))
                self._open().save(len(measured), args=items, metrics=_metrics(measured[-1][1]), force=True)
        self._latest, self._saved = len(measured), time.monotonic()

    def _open(self) -> Any:
        """The orbax manager, made when it is first needed."""
        if self._manager is None:
            ocp = _orbax()
            folder = Path(self._chosen.folder).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(f"{folder} is read-only")
            policies = ocp.checkpoint_managers
            newest = policies.LatestN(self._chosen.keep)
            best = policies.BestN(get_metric_fn=_error, reverse=True, n=1)
            options = ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy([newest, best]),
                best_fn=_error,
                best_mode="min",
                create=False,
                multiprocessing_options=_alone(ocp),
            )
            self._manager = ocp.CheckpointManager(folder, options=options)
        return self._manager

    def _about(self, key: Any, tree: Any, digest: str, *, ended: bool) -> dict[str, Any]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        shapes = {_name(path): f"{_array(leaf).dtype}{list(leaf.shape)}" for path, leaf in leaves}
        config = json.loads(json.dumps(dict(self._chosen.config), default=str))
        keys = np.asarray(jax.random.key_data(key)).tolist()
        return {"config": config, "key": keys, "arrays": shapes, "sha256": digest, "ended": ended}

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        kept = "" if self._latest is None else f"; epoch {self._latest} may not be whole, the ones before it are intact"
        with _orbax_errors(f"no checkpoint can be written in {self._chosen.folder}", kept, OSError):
            yield


@contextlib.contextmanager
def saver(checkpoints: Checkpoints | None) -> Iterator[Saver]:
    """A `Saver` that has written everything when the block ends, and the last whole epoch where Ctrl-C ended it."""
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


def export(path: PathLike, params: Any) -> None:
    """Write the arrays of `params` into a safetensors file, by their path in the tree: "0.w", "0.b", "1.w", ...

    The file is written beside its place first. Raises TypeError for leaves that are no arrays, OSError where it cannot
    be written. Needs safetensors: pip install safetensors.
    """
    arrays = {}
    for where, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not isinstance(leaf, jax.Array | np.ndarray) or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise TypeError(f"params{jax.tree_util.keystr(where)} is a {type(leaf).__name__}; an array is wanted")
        arrays[_name(where)] = np.ascontiguousarray(leaf)
    path = Path(path)
    written = path.with_name(f".{path.name}.writing")
    try:
        _safetensors().save_file(arrays, str(written))
        written.replace(path)
    except Exception as error:
        written.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written: {error}") from error


def load(path: PathLike, like: Any) -> Any:
    """The parameters of a file that `export` wrote, in the tree of `like`, such as `mlp.init` gives.

    Raises FileNotFoundError without the file; ValueError where it is damaged, or lacks an array of `like`, or has one
    more, or one of another shape or dtype.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; one that checkpoint.export wrote is wanted")
    try:
        arrays = _safetensors().load_file(str(path))
    except Exception as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error})") from error
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    wanted = {_name(where): f"{leaf.dtype}{list(leaf.shape)}" for where, leaf in leaves}
    got = {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}
    if got != wanted:
        raise ValueError(f"{path} holds {_difference('arrays', got, wanted)}: give `like` of the same sizes")
    return jax.tree.unflatten(structure, [jnp.asarray(arrays[name]) for name in wanted])


_TO_DO = "go on with what it was started with, or give another folder, or resume=False to start anew"


def _epochs(folder: Path) -> list[int]:
    """The epochs that are saved in full, in order; orbax's unfinished ones have other names."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal()) if folder.is_dir() else []


def _clear(folder: Path) -> None:
    for epoch in _epochs(folder):
        shutil.rmtree(folder / str(epoch))


def _plain(tree: Any) -> dict[str, np.ndarray]:
    """Numbered arrays, keys as their data: what is saved does not depend on the classes that hold it."""

    def one(leaf: Any) -> np.ndarray:
        return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)

    return {_number(i): one(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _blank(tree: Any) -> dict[str, np.ndarray]:
    """Zeros in the place of `_plain`'s arrays: what orbax wants to see before it reads."""

    def one(leaf: Any) -> np.ndarray:
        data = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else _array(leaf)
        return np.broadcast_to(np.zeros((), data.dtype), data.shape)

    return {_number(i): one(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _like(tree: Any, arrays: Mapping[str, Any]) -> Any:
    """The tree again, from `_plain`'s arrays; those of several devices lie as they did."""
    leaves, structure = jax.tree.flatten(tree)

    def one(leaf: Any, array: Any) -> Any:
        if _is_key(leaf):
            array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
        several = isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1
        return parallel.put(array, leaf.sharding) if several else jnp.asarray(array)

    return jax.tree.unflatten(structure, [one(leaf, arrays[_number(i)]) for i, leaf in enumerate(leaves)])


def _alone(ocp: Any) -> Any:
    """For orbax: every process is by itself, as the first writes whole arrays and all read them."""
    options = ocp.options.MultiprocessingOptions
    if jax.process_count() == 1:
        return options()
    me = jax.process_index()
    return options(primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"jnn-{me}")


def _stacked_shapes(one: Any, epochs: int) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((epochs, *leaf.shape), leaf.dtype), one)


def _array(leaf: Any) -> Any:
    return leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(_array(leaf).dtype, jax.dtypes.prng_key)


def _number(i: int) -> str:
    return f"{i:06}"


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _digest(tree: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tree):
        digest.update(np.ascontiguousarray(tree[name]).tobytes())
    return digest.hexdigest()


def _metrics(metrics: Any) -> dict[str, float]:
    """The error that says which checkpoint is the best, the mean over members; the same for all where there is none."""
    named = metrics if isinstance(metrics, dict) else {"error": metrics}
    for name, sign in (("error", 1.0), ("accuracy", -1.0)):
        if named.get(name) is not None and np.issubdtype(np.asarray(named[name]).dtype, np.floating):
            return {"error": sign * float(np.mean(np.asarray(named[name])))}
    return {"error": 0.0}


def _error(metrics: Mapping[str, float]) -> float:
    return metrics["error"]


def _difference(what: str, got: Any, wanted: Any) -> str:
    """The first entry that differs, for a message."""
    if isinstance(got, dict):
        name = next(name for name in [*got, *wanted] if got.get(name) != wanted.get(name))
        return f"other {what}: {name} is {got.get(name)} there and {wanted.get(name)} here"
    return f"another {what}: {got} there and {wanted} here"


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


@contextlib.contextmanager
def _orbax_errors(what: str, advice: str, kind: type[Exception]) -> Iterator[None]:
    """What orbax and its libraries raise, of many kinds, as one that says what to do."""
    try:
        yield
    except ImportError:
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


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("export and load need safetensors: pip install safetensors") from error
    return safetensors.numpy
