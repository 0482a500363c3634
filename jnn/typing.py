"""The types that public signatures share."""

import os
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key
from jaxtyping import PyTree as PyTree

PRNGKey = Key[Array, ""]
"""A typed PRNG key, as `jax.random.key` makes it."""

Scalar = int | float | np.number | jax.Array
"""One number, which may be traced."""

PathLike = str | os.PathLike[str]
"""A path, as text or as `pathlib.Path`."""

Optimizer = optax.GradientTransformation | optax.MultiSteps
"""Any optax optimizer."""

Grad = Callable[..., tuple[PyTree, PyTree]]
"""`(params, *batch)` -> (value, gradient), as `jax.value_and_grad` returns it."""

Transform = Callable[..., tuple[PyTree, ...]]
"""`(key, *batch)` -> the arguments that `Grad` gets after params, in place of the mini-batch."""

Evaluate = Callable[[PyTree], PyTree]
"""params -> metrics, computed after each epoch."""


EvalParams = Callable[..., PyTree]
"""The state of a training run -> the parameters that `Evaluate` gets."""


class State(NamedTuple):
    """The state of a training run.

    Attributes:
      params: The parameters.
      opt_state: The state of the optimizer.
    """

    params: PyTree
    opt_state: PyTree


class CarryState(NamedTuple):
    """The state of a training run in which `grad` also hands a carry from one mini-batch to the next.

    Attributes:
      params: The parameters.
      opt_state: The state of the optimizer.
      carry: The carry, such as the states of a recurrent net.
    """

    params: PyTree
    opt_state: PyTree
    carry: PyTree


StateT = TypeVar("StateT", State, CarryState)
"""Either state of a training run."""


class History(NamedTuple):
    """The record of a training run.

    Attributes:
      losses: The mean loss of every mini-batch, before its step. Epochs that were not trained are NaN.
      metrics: The metrics that `evaluate` returned, each leaf with a leading axis of epochs; None without `evaluate`.
        Epochs that were not trained are NaN, or 0 in integer metrics.
      epochs: With early stopping, the number of epochs that were trained; else None.
      best: With early stopping, the epoch, counted from 1, whose parameters are returned; 0 is the start, if no error
        was a number. Else None.
    """

    losses: Float[Array, "*members epochs steps"]
    metrics: PyTree
    epochs: Int[Array, "*members"] | None = None
    best: Int[Array, "*members"] | None = None


class Report(NamedTuple):
    """The arguments that `fit` passes to its callbacks after an epoch.

    Attributes:
      epoch: The epoch, counted from 1.
      state: The state after the epoch.
      losses: The mean loss of each of its mini-batches.
      metrics: The metrics that `evaluate` returned, or None.
    """

    epoch: int
    state: State | CarryState
    losses: Float[Array, "*members steps"]
    metrics: PyTree
