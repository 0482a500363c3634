"""The types that public signatures share."""

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

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
