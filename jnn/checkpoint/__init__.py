"""Checkpoints of a training run, written and read by orbax. Nothing is pickled.

`train.fit(..., checkpoints=Checkpoints(folder))` saves what it needs to resume: parameters, optimizer state, stopping
state, history, key and configuration. A checkpoint is written to a temporary folder that is renamed once it is
complete, so a numbered folder is always a complete checkpoint, even if the process is killed. `load` reads one without
the program that wrote it.

A checkpoint also describes the training run: configuration, key, hashes of data and first state, stopping criterion,
and a hash of the traced program of an epoch. A run that differs in any of them does not resume. Another version of JAX
or optax traces another program: the hash is then not compared, and a line of `logging` reports it.

Checkpoints hold whole arrays, regardless of sharding, so a training run can resume on other devices. With several
processes the first writes and all read, so they must share the folder. A lock file keeps other training runs out of a
folder in use.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnn._internal import checks, structure
from jnn.checkpoint.store import Store
from jnn.typing import CarryState, History, PathLike, PyTree, Scalar, State

__all__ = ["Checkpoints", "load"]


@dataclass(frozen=True)
class Checkpoints:
    """Where and how often `train.fit` saves its progress.

    `train.fit` raises ValueError if the newest checkpoint is damaged, or belongs to a training run with another config,
    key, data, initial state or program (gradient, optimizer, batch size, transform, evaluate, stopping). Data that are
    split between processes are not compared. It also raises ValueError if a numbered entry of the folder is not a
    checkpoint, BlockingIOError if another training run uses the folder, and OSError if the folder cannot be written or
    the disk is full. A saved checkpoint is never changed. `load` also reads a folder that cannot be written.

    Attributes:
      folder: Contains a folder for each checkpoint, named by its epoch; "~" is your home.
      keep: How many of the newest checkpoints to keep, besides the best.
      seconds: The minimum time in seconds from one checkpoint to the next, and from the start to the first; 0 saves
        after every epoch. Ctrl-C, SIGTERM and errors save the last whole epoch regardless.
      final: Whether the end of a run is saved regardless of `seconds`, too.
      resume: Whether to resume from the newest checkpoint in the folder, which is logged. False deletes the checkpoints
        there when the first new one is saved.
      config: The configuration of the run, as JSON types. Resuming with another config raises ValueError.
      lowest: The metric of `evaluate` whose lowest value, as a mean over members, marks the best checkpoint; any name
        if `evaluate` returns a single number. By default the metric "error" or, without it, the highest "accuracy".
      highest: The metric whose highest value marks the best checkpoint.
      hyperparams: Values to set in the optimizer's state when a run resumes, such as {"learning_rate": 0.001}. The
        state must hold them, as with `optax.inject_hyperparams`, and they must not follow a schedule.

    Raises:
      ValueError: If `keep` is below 1, `seconds` negative, or both `lowest` and `highest` are given; by `train.fit`, if
        `evaluate` does not return the metric, or the optimizer's state does not hold a hyperparameter.
      TypeError: If `keep` is not an integer, `seconds` is not a number, or `folder` is not a path.
      ImportError: By `train.fit`, without orbax: pip install "jnn[checkpoints]".

    Example:
      >>> checkpoint.Checkpoints("out/net", seconds=60, lowest="error").keep
      2
    """

    folder: PathLike
    keep: int = 2
    seconds: Scalar = 0.0
    final: bool = True
    resume: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)
    lowest: str | None = None
    highest: str | None = None
    hyperparams: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.path("folder", self.folder)
        checks.count("keep", self.keep)
        checks.in_range("seconds", self.seconds)
        if self.lowest is not None and self.highest is not None:
            raise ValueError(f"one metric must rank, got lowest={self.lowest!r} and highest={self.highest!r}")


def load(folder: PathLike, which: str | int = "latest") -> tuple[State | CarryState, History]:
    """Loads the state and the history at a checkpoint, without the program that wrote it.

    NamedTuples in the parameters and in the optimizer's state have their own class if the module that defines it is
    imported, else a new one with the same name and fields. To continue training, pass both results to
    `train.fit`, with another folder for its checkpoints. To resume in the same folder, pass it the original arguments;
    `Checkpoints(hyperparams=...)` changes a learning rate.

    Args:
      folder: The folder of `Checkpoints`. It is only read, and may be in use by a training run.
      which: "latest", "best" (by the metric that `Checkpoints` describes), or the number of a checkpoint.

    Returns:
      The state, and the history.

    Raises:
      FileNotFoundError: If there is no checkpoint.
      ValueError: If the checkpoint is damaged, if `which` does not name one, if `which` is "best" and no metric ranks
        them, or if the state holds containers that are neither tuples, lists, dicts nor NamedTuples.

    Example:
      >>> import tempfile
      >>> from jnn import backprop, checkpoint, mlp, train
      >>> optimizer = train.sgd(0.5)
      >>> state = train.init(optimizer, mlp.init(jax.random.key(0), (3, 4, 2)))
      >>> examples = jnp.ones((10, 3)), jnp.zeros((10, 2))
      >>> grad = backprop.minibatch_value_and_grad
      >>> folder = tempfile.mkdtemp()
      >>> options = {"epochs": 2, "batch_size": 4, "progress": False, "checkpoints": checkpoint.Checkpoints(folder)}
      >>> trained, _ = train.fit(jax.random.key(1), grad, optimizer, state, examples, **options)
      >>> state, history = checkpoint.load(folder)
      >>> bool((state.params[0].w == trained.params[0].w).all()), history.losses.shape
      (True, (2, 3))
    """
    store = Store(checks.path("folder", folder))
    numbers = store.numbers()
    if not numbers:
        raise FileNotFoundError(f"{store.folder} must hold checkpoints, got none")
    number = numbers[-1] if which == "latest" else store.best() if which == "best" else which
    if not isinstance(number, int) or number not in numbers:
        kept = ", ".join(map(str, numbers))
        hint = "; none has a metric that ranks: pass lowest or highest to Checkpoints" if which == "best" else ""
        raise ValueError(f'which must be "latest", "best" or one of {kept}, got {which!r}{hint}')
    arrays, about = store.read(number)
    store.close()
    if about.get("structure") is None:
        raise ValueError(
            f"{store.folder / str(number)} holds containers that only the program that wrote it can restore: resume it "
            "with train.fit"
        )
    kinds, tree = jax.tree.flatten(structure.decode(about["structure"]))
    state, tracker, history = tree.unflatten(map(_restored, kinds, arrays))
    return (state if tracker is None else state._replace(params=tracker.params)), history


def _restored(kind: str, array: np.ndarray) -> PyTree:
    """A leaf of a kind from `structure.decode`; a NumPy array if JAX would narrow it."""
    if kind.startswith("key:"):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=kind[4:])
    return jnp.asarray(array) if jnp.result_type(array) == array.dtype else array
