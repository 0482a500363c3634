"""Histories of training runs: checked, made longer, and finished."""

import jax
import numpy as np
from jaxtyping import ArrayLike, Int

from jnn.stopping import Tracker
from jnn.typing import History, PyTree, StateT


def length(history: History | None) -> int:
    """How many epochs came before; raise TypeError for another object."""
    if history is None:
        return 0
    if not isinstance(history, History):
        raise TypeError(f"history must be the second that train.run or fit returned, got {type(history).__name__}")
    return history.losses.shape[-2]


def check(history: History, shapes: PyTree, axis: int) -> None:
    """Raise ValueError unless each epoch of `history` has losses and metrics of these shapes."""
    given = jax.tree.map(lambda leaf: leaf.shape[:axis] + leaf.shape[axis + 1 :], (history.losses, history.metrics))
    if given != shapes:
        raise ValueError(
            "history must be of a training run with the same mini-batches and metrics: an epoch has losses and metrics "
            f"of shapes {shapes} here, got {given}"
        )


def longer(history: History | None, losses: PyTree, metrics: PyTree, axis: int) -> History:
    """The history, with axes of epochs after those of the members, and one more epoch.

    The losses of epochs with fewer mini-batches end with NaN. In NumPy, which compiles nothing.
    """
    epoch = History(*jax.tree.map(lambda leaf: np.expand_dims(leaf, axis), (losses, metrics)))
    if history is None:
        return epoch
    steps = max(history.losses.shape[-1], losses.shape[-1])
    return History(*jax.tree.map(lambda *a: np.concatenate(a, axis), _padded(history, steps), _padded(epoch, steps)))


def _padded(part: History, steps: int) -> tuple[PyTree, PyTree]:
    if part.losses.shape[-1] == steps:
        return part.losses, part.metrics
    widths = [(0, 0)] * (part.losses.ndim - 1) + [(0, steps - part.losses.shape[-1])]
    return np.pad(part.losses, widths, constant_values=np.nan), part.metrics


def finished(
    state: StateT, tracker: Tracker | None, history: History, first: Int[ArrayLike, ""]
) -> tuple[StateT, History]:
    """The state to return, with the best parameters if a tracker kept them, and the history from epoch `first`."""
    if tracker is None:
        return state, history
    history = history._replace(epochs=tracker.epochs + first, best=tracker.best + first)
    return state._replace(params=tracker.params), history
