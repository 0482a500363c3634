"""Histories of training runs: split into epochs, joined, and finished."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike as Like
from jaxtyping import Int

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

    def shape(leaf: jax.Array) -> tuple[int, ...]:
        return leaf.shape[:axis] + leaf.shape[axis + 1 :]

    if (given := jax.tree.map(shape, (history.losses, history.metrics))) != shapes:
        raise ValueError(
            "history must be of a training run with the same mini-batches and metrics: an epoch has losses and metrics "
            f"of shapes {shapes} here, got {given}"
        )


def epochs_of(history: History | None, axis: int) -> list[tuple[PyTree, PyTree]]:
    """The losses and metrics of each epoch."""
    if history is None:
        return []
    leading = jax.tree.map(lambda leaf: np.moveaxis(np.asarray(leaf), axis, 0), (history.losses, history.metrics))
    return [jax.tree.map(lambda leaf, t=t: leaf[t], leading) for t in range(len(leading[0]))]


def stacked(epochs: Sequence[tuple[PyTree, PyTree]], axis: int) -> tuple[PyTree, PyTree]:
    """The inverse of `epochs_of`; the losses of epochs with fewer mini-batches end with NaN."""
    steps = max(losses.shape[-1] for losses, _ in epochs)

    def padded(losses: PyTree) -> np.ndarray:
        widths = [(0, 0)] * (losses.ndim - 1) + [(0, steps - losses.shape[-1])]
        return np.pad(losses, widths, constant_values=np.nan)

    whole = [(padded(losses), metrics) for losses, metrics in epochs]
    return jax.tree.map(lambda *leaves: np.stack(leaves, axis), *whole)


def joined(before: History | None, after: History) -> History:
    """One history, along axis 0."""
    if before is None:
        return after
    record: PyTree = (before.losses, before.metrics), (after.losses, after.metrics)
    losses, metrics = jax.tree.map(lambda *parts: jnp.concatenate(parts), *record)
    return after._replace(losses=losses, metrics=metrics)


def finished(
    state: StateT, tracker: Tracker | None, losses: PyTree, metrics: PyTree, first: Int[Like, ""]
) -> tuple[StateT, History]:
    """The state to return, with the best parameters if a tracker kept them, and the history from epoch `first`."""
    if tracker is None:
        return state, History(losses, metrics)
    after = state._replace(params=tracker.params)
    return after, History(losses, metrics, tracker.epochs + first, tracker.best + first)
