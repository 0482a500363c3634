r"""Chapter 5: the plain recurrent net, with its backpropagation through time derived by hand.

.. math::

  h_t = \tanh(W x_t + U h_{t-1} + b)

`scan` and `unroll` raise ValueError if shapes do not match or T is 0, and TypeError if dtypes are mixed or not
floating, or the mask is not boolean. `step` does not check its arguments: JAX raises ValueError or TypeError for shapes
and dtypes that do not fit. Arrays on a mesh with explicit axes need `jax.sharding.auto_axes` around these functions.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Key

from jnn import cell, recurrent
from jnn.mlp import orthogonal, scaled_normal
from jnn.recurrent import EachState, InitialState, Inputs, Mask, OneState

# The class is left out so that help() starts with the functions: pydoc lists classes first.
__all__ = ["init", "scan", "step", "unroll", "zero_state"]


class Params(NamedTuple):
    """The parameters of the one layer of the net.

    Attributes:
      W: The weights of the input.
      U: The weights of the state.
      b: The biases.
    """

    W: Float[Array, "d p"]
    U: Float[Array, "d d"]
    b: Float[Array, " d"]


def init(
    key: Key[Array, ""],
    inputs: int,
    units: int,
    *,
    input_weights: Initializer = scaled_normal,
    recurrent_weights: Initializer = orthogonal,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Params:
    """Draws random parameters: W from N(0, 1/p), U orthogonal, and b = 0, unless others are given.

    Args:
      key: A typed PRNG key.
      inputs: The size p of an input.
      units: The number d of units.
      input_weights: Initialises W [d, p], as `jax.nn.initializers` do, whose shape is (p, d).
      recurrent_weights: Initialises U [d, d], in the same way.
      dtype: The dtype of the parameters.

    Returns:
      The parameters.

    Raises:
      ValueError: If a size is below 1.
      TypeError: If a size is not an integer, or `key` is not a typed PRNG key (`jax.random.key`).

    Example:
      >>> rnn.init(jax.random.key(0), inputs=3, units=4).W.shape
      (4, 3)
    """
    options = {"input_weights": input_weights, "recurrent_weights": recurrent_weights, "dtype": dtype}
    return Params(*cell.init_gates(key, inputs, units, (0.0,), **options)[0])


def zero_state(units: int, batch: int | None = None, *, dtype: jax.typing.DTypeLike = jnp.float32) -> OneState:
    """Returns the state h_0 = 0.

    Args:
      units: The number d of units.
      batch: The number B of sequences, each with its own state; None for one state [d], the start of one sequence or
        of all sequences of a batch.
      dtype: The dtype of the state.

    Returns:
      The state, [d] or [B, d].

    Raises:
      ValueError: If a size is below 1.
      TypeError: If a size is not an integer.

    Example:
      >>> rnn.zero_state(4, batch=2).shape
      (2, 4)
    """
    return cell.zeros(units, batch, dtype)


def step(params: Params, state: OneState, x: Float[Array, "*batch p"]) -> OneState:
    """Computes `h_t = tanh(W x_t + U h_(t-1) + b)`.

    Args:
      params: The parameters.
      state: The state before the step, [d] or [B, d].
      x: The input, [p] or [B, p].

    Returns:
      The state after the step.

    Example:
      >>> params = rnn.init(jax.random.key(0), inputs=3, units=4)
      >>> rnn.step(params, rnn.zero_state(4), jnp.ones(3)).shape
      (4,)
    """
    return jnp.tanh(cell.weighted_input(cell.Gate(*params), x, state))


def scan(params: Params, state: InitialState, xs: Inputs, *, mask: Mask | None = None) -> tuple[OneState, EachState]:
    """Runs the net over a sequence with `jax.lax.scan`.

    Supports forward- and reverse-mode differentiation of any order. `unroll` computes the same values and has a
    hand-derived backward pass.

    Args:
      params: The parameters.
      state: The initial state, [d] (shared by the batch) or [B, d].
      xs: The inputs, time first: [T, p] or [T, B, p].
      mask: True where a step is valid, [T] or [T, B], as `recurrent.mask` makes it. Masked steps leave the state
        unchanged; what `xs` holds there, NaN included, does not matter.

    Returns:
      The final state, and the states after every step ([T, d] or [T, B, d]).

    Example:
      >>> params = rnn.init(jax.random.key(0), inputs=3, units=4)
      >>> last, states = rnn.scan(params, rnn.zero_state(4), jnp.ones((5, 3)))
      >>> states.shape
      (5, 4)
    """
    state, xs = cell.check(params, state, xs, mask)
    last, (states, _) = recurrent.scan(_forward(params), state, xs, mask)
    return last, states


def unroll(
    params: Params, state: InitialState, xs: Inputs, *, mask: Mask | None = None, remat_every: int | None = None
) -> tuple[OneState, EachState]:
    r"""Computes what `scan` does, with backpropagation through time by hand as its reverse mode (section 5.1).

    Write :math:`dh_t` for the derivative of the loss with respect to :math:`h_t`, through step t+1 and directly. For t
    = T, ..., 1:

    .. math::

      dz_t = dh_t \odot (1 - h_t^2), \qquad dh_{t-1} = U^\mathsf{T} dz_t,

    and

    .. math::

      dW = \sum_t dz_t x_t^\mathsf{T}, \quad dU = \sum_t dz_t h_{t-1}^\mathsf{T}, \quad db = \sum_t dz_t, \quad
      dx_t = W^\mathsf{T} dz_t.

    The product of the :math:`U^\mathsf{T} \operatorname{diag}(1 - h_t^2)` over t is what vanishes or explodes
    (`jnn.gradient_flow`). Where the mask keeps a state, :math:`dz_t = 0` and :math:`dh_t` passes unchanged.

    JAX raises TypeError for forward-mode differentiation, which `scan` supports.

    Args:
      params: The parameters.
      state: The initial state, [d] (shared by the batch) or [B, d].
      xs: The inputs, time first: [T, p] or [T, B, p].
      mask: True where a step is valid, [T] or [T, B], as `recurrent.mask` makes it. Masked steps leave the state
        unchanged; what `xs` holds there, NaN included, does not matter.
      remat_every: Stores only every `remat_every`-th state for the backward pass and recomputes the others, as
        `recurrent.rematerialise` does; None stores all.

    Returns:
      The final state, and the states after every step ([T, d] or [T, B, d]).

    Raises:
      ValueError: If `remat_every` is below 1.
      TypeError: If `remat_every` is not an integer.

    Example:
      >>> params = rnn.init(jax.random.key(0), inputs=3, units=4)
      >>> xs = jnp.ones((5, 3))
      >>> grads = jax.grad(lambda params: jnp.sum(rnn.unroll(params, rnn.zero_state(4), xs)[0]))(params)
      >>> grads.U.shape
      (4, 4)
    """
    return _unroll(params, state, xs, mask=mask, remat_every=remat_every)


def _forward(params: Params) -> Callable[[Array, Array], tuple[Array, None]]:
    return lambda state, x: (step(params, state, x), None)


def _backward(params: Params) -> Callable[..., tuple[Array, Array]]:
    """The derivation of `unroll`."""

    def back(dstate: Array, before: Array, after: Array, saved: None) -> tuple[Array, Array]:
        del before, saved
        dz = dstate * (1 - after**2)
        return dz @ params.U, dz

    return back


def _gradients(params: Params, xs: Array, before: Array, saved: None, dz: Array) -> tuple[Params, Array]:
    del saved
    steps = 0, 1  # time and rows of a batch, which devices may share
    dW, dU = (jnp.tensordot(dz, right, (steps, steps)) for right in (xs, before))
    return Params(dW, dU, jnp.sum(dz, axis=steps)), dz @ params.W


_unroll = cell.by_hand(_forward, _backward, _gradients)
