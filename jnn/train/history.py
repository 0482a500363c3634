"""Histories of training runs that continue: their epochs one by one, and joined."""

import jax
import jax.numpy as jnp
import numpy as np

from jnn.stopping import Tracker
from jnn.typing import History, PyTree, StateT


def length(history: History | None) -> int:
    """How many epochs came before; raise TypeError for another object."""
    if history is None:
        return 0
    if not isinstance(history, History):
        raise TypeError(f"history must be the second that train.run or fit returned, got {type(history).__name__}")
    return history.losses.shape[-2]


def epochs_of(history: History, axis: int) -> list[tuple[PyTree, PyTree]]:
    """The losses and metrics of each epoch."""
    leading = jax.tree.map(lambda leaf: np.moveaxis(np.asarray(leaf), axis, 0), (history.losses, history.metrics))
    return [jax.tree.map(lambda leaf, t=t: leaf[t], leading) for t in range(len(leading[0]))]


def check(history: History, shapes: PyTree, axis: int) -> None:
    """Raise ValueError unless each epoch of `history` has losses and metrics of these shapes."""

    def shape(leaf: jax.Array) -> tuple[int, ...]:
        return leaf.shape[:axis] + leaf.shape[axis + 1 :]

    if (given := jax.tree.map(shape, (history.losses, history.metrics))) != shapes:
        raise ValueError(
            "history must be of a training run with the same mini-batches and metrics: an epoch has losses and metrics "
            f"of shapes {shapes} here, got {given}"
        )


def joined(history: History | None, after: History, first: int, axis: int) -> History:
    """One history: its epochs are counted from the start of both."""
    epochs, best = (None if count is None else count + first for count in (after.epochs, after.best))
    record: PyTree = (after.losses, after.metrics)
    if history is not None:
        before = history.losses, history.metrics
        record = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis), before, record)
    return History(record[0], record[1], epochs, best)


def finished(state: StateT, tracker: Tracker | None, losses: PyTree, metrics: PyTree) -> tuple[StateT, History]:
    """The state to return, with the best parameters if a tracker kept them, and the history."""
    if tracker is None:
        return state, History(losses, metrics)
    return state._replace(params=tracker.params), History(losses, metrics, tracker.epochs, tracker.best)
