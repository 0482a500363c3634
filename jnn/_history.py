"""Histories of training runs that go on: their epochs one by one, and joined."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnn.stopping import Tracker
from jnn.typing import History


def length(history: History | None) -> int:
    """How many epochs came before; raise TypeError for what is not a history."""
    if history is None:
        return 0
    if not isinstance(history, History):
        raise TypeError(f"history must be the second that train.run or fit returned, got {type(history).__name__}")
    return history.losses.shape[-2]


def epochs_of(history: History, axis: int) -> list[tuple[Any, Any]]:
    """The losses and metrics of each epoch."""
    leading = jax.tree.map(lambda leaf: np.moveaxis(np.asarray(leaf), axis, 0), (history.losses, history.metrics))
    return [jax.tree.map(lambda leaf, t=t: leaf[t], leading) for t in range(len(leading[0]))]


def check(history: History, after: History, axis: int) -> None:
    """Raise ValueError unless the epochs of `history` and of `after` have the same losses and metrics."""

    def shapes(one: History, axis: int | None) -> Any:
        def shape(leaf: Any) -> tuple[int, ...]:
            return leaf.shape if axis is None else leaf.shape[:axis] + leaf.shape[axis + 1 :]

        return jax.tree.map(shape, (one.losses, one.metrics))

    given, here = shapes(history, axis), shapes(after, axis if after.losses.ndim == history.losses.ndim else None)
    if given != here:
        raise ValueError(
            "history must be of a training run with the same mini-batches and metrics: an epoch has losses and metrics "
            f"of shapes {here} here, got {given}"
        )


def joined(history: History | None, after: History, first: int, axis: int) -> History:
    """One history: its epochs are counted from the start of both."""
    epochs, best = (None if count is None else count + first for count in (after.epochs, after.best))
    record: Any = (after.losses, after.metrics)
    if history is not None:
        before = history.losses, history.metrics
        record = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis), before, record)
    return History(record[0], record[1], epochs, best)


def finished(state: Any, tracker: Tracker | None, losses: Any, metrics: Any) -> tuple[Any, History]:
    """The state to return, with the best parameters if a tracker kept them, and the history."""
    if tracker is None:
        return state, History(losses, metrics)
    return state._replace(params=tracker.params), History(losses, metrics, tracker.epochs, tracker.best)
