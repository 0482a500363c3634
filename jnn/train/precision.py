"""Gradients in mixed precision."""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array

from jnn._internal import dtypes
from jnn.typing import Grad, PyTree


def mixed_precision(grad: Grad) -> Partial:
    """Turns a gradient into one in mixed precision: bfloat16 arithmetic, float32 parameters.

    Parameters and mini-batch are rounded to bfloat16 before `grad`, whose matrix products accumulate in float32, and
    the result is cast back to the parameters' dtype, so that updates are not rounded. `jnn.costs` return float32
    values. No loss scaling is needed, as bfloat16 has the range of float32.

    Args:
      grad: As in `epoch`.

    Example:
      >>> from jnn import backprop, mlp
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> grad = train.mixed_precision(backprop.minibatch_value_and_grad)
      >>> value, grads = grad(params, jnp.ones((5, 3)), jnp.zeros((5, 2)))
      >>> grads[0].w.dtype
      dtype('float32')
    """
    return Partial(_mixed_precision, grad if isinstance(grad, Partial) else Partial(grad))


def _mixed_precision(grad: Grad, params: PyTree, *batch: PyTree) -> tuple[PyTree, PyTree]:
    """`grad` of parameters and a mini-batch in bfloat16, cast back to the dtypes of the arguments."""

    def half(leaf: Array) -> Array:
        return leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    def cast_back(tree: PyTree, like: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), tree, like)

    ahead, grads = grad(*jax.tree.map(half, (params, *batch)))
    value, *carry = ahead if isinstance(ahead, tuple) else (ahead,)
    value = value.astype(dtypes.single(value))
    return (value, cast_back(carry[0], batch[0])) if carry else value, cast_back(grads, params)
