"""The start of a training run: the optimizer of section 2.2, and the first state."""

import functools
from typing import overload

import optax
from jaxtyping import Array, Float

from jnn._internal import checks
from jnn.train import arguments
from jnn.typing import CarryState, Optimizer, PyTree, State


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


_sgd = functools.lru_cache(maxsize=64)(optax.sgd)
