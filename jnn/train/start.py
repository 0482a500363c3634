"""What a training run starts with: the optimizer of section 2.2, the first state, and gradients in mixed precision."""

import functools
from typing import overload

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float

from jnn._internal import checks, dtypes
from jnn.train import arguments
from jnn.typing import CarryState, Grad, Optimizer, PyTree, State


def sgd(eta: float | Float[Array, ""]) -> optax.GradientTransformation:
    """Stochastic gradient descent of section 2.2: w <- w - eta (1/m) sum_x dC/dw (the notes lost the minus signs).

    Args:
      eta: The learning rate. Equal Python numbers give the same optimizer, so programs are reused.

    Raises:
      ValueError: Unless eta > 0; a traced eta, as under `jax.vmap` over learning rates, is not checked.
      TypeError: If it is not a number.

    Example:
      >>> train.sgd(0.5) is train.sgd(0.5)
      True
    """
    checks.positive("eta", eta)
    return _sgd(float(eta)) if isinstance(eta, int | float) else optax.sgd(eta)


@overload
def init(optimizer: Optimizer, params: PyTree, carry: None = None) -> State: ...
@overload
def init(optimizer: Optimizer, params: PyTree, carry: object) -> CarryState: ...
def init(optimizer: Optimizer, params: PyTree, carry: PyTree = None) -> State | CarryState:
    """Returns the state before the first step.

    With a carry, such as the state of a recurrent net that reads a text window by window, `grad(params, carry, *batch)`
    returns ((value, next carry), gradient), as `jax.value_and_grad(loss, has_aux=True)` does. The next mini-batch gets
    the next carry, also from the end of one epoch to the start of the next, and the data are not shuffled. For B texts
    at once, one in each row of xs [B, W T], train on mini-batches of B windows:

        windows = xs.reshape(B, W, T).swapaxes(0, 1).reshape(W * B, T)
        state = train.init(optimizer, params, carry=lstm.zero_state(units, B))
        state, history = train.fit(key, grad, optimizer, state, (windows,), batch_size=B, ...)

    B must divide the number of windows, as the carry has a row for each text.

    Args:
      optimizer: Any `optax.GradientTransformation`.
      params: The parameters, any pytree.
      carry: The first carry, or None.

    Returns:
      A `State`, or a `CarryState` if there is a carry.

    Raises:
      TypeError: If `optimizer` is not an `optax.GradientTransformation`.

    Example:
      >>> train.init(train.sgd(0.5), {"w": 1.0}).params
      {'w': 1.0}
    """
    arguments.check_optimizer(optimizer)
    opt_state = optimizer.init(params)
    return State(params, opt_state) if carry is None else CarryState(params, opt_state, carry)


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


_sgd = functools.lru_cache(maxsize=64)(optax.sgd)


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
