"""The dtype in which values are summed."""

import jax
import jax.numpy as jnp
import numpy as np


def single(*values: jax.typing.ArrayLike | np.dtype) -> np.dtype:
    """The dtype of the values together, at least float32, regardless of `jax_numpy_dtype_promotion`."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(jnp.float32, *values)
