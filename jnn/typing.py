"""The types that public signatures share."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float, Int

Scalar = int | float | np.number | jax.Array
"""One number, which may be traced."""

PathLike = str | os.PathLike[str]
"""A path, as text or as `pathlib.Path`."""

Grad = Callable[..., tuple[Float[Array, ""], Any]]
"""(params, *batch) -> (value, gradient), as `jax.value_and_grad` returns it."""

Transform = Callable[..., tuple[Any, ...]]
"""(key, *batch) -> the arguments that `Grad` gets after params, in place of the mini-batch."""

Evaluate = Callable[[Any], Any]
"""params -> metrics, computed after each epoch."""


class State(NamedTuple):
    """The state of a training run: the parameters and the optimizer's state."""

    params: Any
    opt_state: Any


class CarryState(NamedTuple):
    """The state of a training run in which `grad` also hands a carry from one mini-batch to the next."""

    params: Any
    opt_state: Any
    carry: Any


StateT = TypeVar("StateT", State, CarryState)
"""Either state of a training run."""


class History(NamedTuple):
    """The record of a training run: the mean cost of every mini-batch, before its step, and the metrics of `evaluate`.

    The leaves of metrics have a leading axis of epochs; metrics is None without `evaluate`. `epochs` and `best` are
    None without early stopping. With it, `epochs` is how many were trained and `best` the one, counted from 1, whose
    parameters are returned; 0 is the start, if no error was a number. Epochs that were not trained are NaN in losses
    and metrics, or 0 in integer metrics.
    """

    losses: Float[Array, "*members epochs steps"]
    metrics: Any
    epochs: Int[Array, "*members"] | None = None
    best: Int[Array, "*members"] | None = None


class Report(NamedTuple):
    """What `fit` passes to its callbacks after an epoch, which is counted from 1."""

    epoch: int
    state: State | CarryState
    losses: Float[Array, "*members steps"]
    metrics: Any
