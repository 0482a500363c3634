"""The dtype in which values are summed, and gradients in mixed precision."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnn.typing import Grad


def single(*values: Any) -> np.dtype:
    """The dtype of the values together, at least float32, whatever `jax_numpy_dtype_promotion` says."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(jnp.float32, *values)


def mixed(grad: Grad, params: Any, *batch: Any) -> tuple[Any, Any]:
    """What `grad` returns of parameters and a mini-batch in bfloat16, in the dtypes of the arguments."""

    def half(leaf: Any) -> Any:
        return leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    def as_before(tree: Any, before: Any) -> Any:
        return jax.tree.map(lambda leaf, one: leaf.astype(one.dtype), tree, before)

    ahead, grads = grad(*jax.tree.map(half, (params, *batch)))
    value, *carry = ahead if isinstance(ahead, tuple) else (ahead,)
    value = value.astype(single(value))
    return (value, as_before(carry[0], batch[0])) if carry else value, as_before(grads, params)
