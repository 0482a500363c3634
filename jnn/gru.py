r"""Chapter 5, beyond the notes: the gated recurrent unit, with its backpropagation through time derived by hand.

Cho et al. (2014), in the form whose reset gate multiplies the recurrent product, as cuDNN and torch compute it:

.. math::

  \begin{aligned}
    r_t &= \sigma(W_r x_t + U_r h_{t-1} + b_r) && \text{(reset)} \\
    u_t &= \sigma(W_u x_t + U_u h_{t-1} + b_u) && \text{(update)} \\
    n_t &= \tanh(W x_t + b + r_t \odot (U h_{t-1} + c)) && \text{(candidate)} \\
    h_t &= (1 - u_t) \odot n_t + u_t \odot h_{t-1}
  \end{aligned}

`scan` and `unroll` raise ValueError if shapes do not match or T is 0, and TypeError if dtypes are mixed or not
floating, or the mask is not boolean. `step` does not check its arguments: JAX raises ValueError or TypeError for shapes
and dtypes that do not fit. Arrays on a mesh with explicit axes need `jax.sharding.auto_axes` around these functions.
`recurrent.stack` and `recurrent.both_directions` unroll several GRUs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Key

from jnn import cell, recurrent
from jnn._internal import xla
from jnn.cell import Gate
from jnn.mlp import orthogonal, scaled_normal
from jnn.recurrent import EachState, InitialState, Inputs, Mask, OneState

# The class is left out so that help() starts with the functions: pydoc lists classes first.
__all__ = ["init", "scan", "step", "unroll", "zero_state"]


class Params(NamedTuple):
    """The parameters of a GRU.

    Attributes:
      reset: The gate r.
      update: The gate u.
      candidate: The layer of the candidate n, with W, U and b.
      c: The bias inside the product with the reset gate.
    """

    reset: Gate
    update: Gate
    candidate: Gate
    c: Float[Array, " d"]


def init(
    key: Key[Array, ""],
    inputs: int,
    units: int,
    *,
    input_weights: Initializer = scaled_normal,
    recurrent_weights: Initializer = orthogonal,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Params:
    """Draws random parameters: W from N(0, 1/p), U orthogonal, and biases 0, unless others are given.

    Args:
      key: A typed PRNG key.
      inputs: The size p of an input.
      units: The number d of units.
      input_weights: Initialises each W [d, p], as `jax.nn.initializers` do, whose shape is (p, d).
      recurrent_weights: Initialises each U [d, d], in the same way.
      dtype: The dtype of the parameters.

    Returns:
      The parameters.

    Raises:
      ValueError: If a size is below 1.
      TypeError: If a size is not an integer, or `key` is not a typed PRNG key (`jax.random.key`).

    Example:
      >>> gru.init(jax.random.key(0), inputs=3, units=4).reset.W.shape
      (4, 3)
    """
    options = {"input_weights": input_weights, "recurrent_weights": recurrent_weights, "dtype": dtype}
    return Params(*cell.init_gates(key, inputs, units, (0.0, 0.0, 0.0), **options), c=jnp.zeros(units, dtype))


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
      >>> gru.zero_state(4, batch=2).shape
      (2, 4)
    """
    return cell.zeros(units, batch, dtype)


def step(params: Params, state: OneState, x: Float[Array, "*batch p"]) -> OneState:
    """Computes the state h_t from h_(t-1) and the input x_t.

    Args:
      params: The parameters.
      state: The state before the step, [d] or [B, d].
      x: The input, [p] or [B, p].

    Returns:
      The state after the step.

    Example:
      >>> params = gru.init(jax.random.key(0), inputs=3, units=4)
      >>> gru.step(params, gru.zero_state(4), jnp.ones(3)).shape
      (4,)
    """
    return _forward(params)(state, x)[0]


def scan(params: Params, state: InitialState, xs: Inputs, *, mask: Mask | None = None) -> tuple[OneState, EachState]:
    """Runs the GRU over a sequence with `jax.lax.scan`.

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
      >>> params = gru.init(jax.random.key(0), inputs=3, units=4)
      >>> last, states = gru.scan(params, gru.zero_state(4), jnp.ones((5, 3)))
      >>> states.shape
      (5, 4)
    """
    state, xs = cell.check(params, state, xs, mask)
    last, (states, _) = recurrent.scan(_forward(params), state, xs, mask)
    return last, states


def unroll(
    params: Params, state: InitialState, xs: Inputs, *, mask: Mask | None = None, remat_every: int | None = None
) -> tuple[OneState, EachState]:
    r"""Computes what `scan` does, with backpropagation through time by hand as its reverse mode.

    Write dq for the derivative of the loss with respect to q, and :math:`m_t = U h_{t-1} + c`. Going backwards from t =
    T to 1, where :math:`dh_t` collects the derivatives through step t+1 and directly through :math:`h_t`:

    .. math::

      \begin{aligned}
        dn_t &= dh_t \odot (1 - u_t), \quad du_t = dh_t \odot (h_{t-1} - n_t) && \text{from } h_t \\
        dz_t &= dn_t \odot (1 - n_t^2) \text{ for the candidate} && \text{from } n_t \\
        dr_t &= dz_t \odot m_t, \quad dm_t = dz_t \odot r_t && \text{from } n_t \\
        dz_t &= dq_t \odot q_t \odot (1 - q_t) \text{ for } q = r, u && \text{from } r_t, u_t \\
        dh_{t-1} &= dh_t \odot u_t + U_r^\mathsf{T} dz_t^r + U_u^\mathsf{T} dz_t^u + U^\mathsf{T} dm_t
      \end{aligned}

    Then, over all times and examples in one product, for each layer,

    .. math::

      dW = \sum dz_t x_t^\mathsf{T}, \quad db = \sum dz_t, \quad dx_t = \sum_{\text{layers}} W^\mathsf{T} dz_t,

    :math:`dU = \sum dz_t h_{t-1}^\mathsf{T}` for the gates, :math:`dU = \sum dm_t h_{t-1}^\mathsf{T}` for the
    candidate, and :math:`dc = \sum dm_t`. Where the mask keeps a state, :math:`dz_t = dm_t = 0` and :math:`dh_t` passes
    unchanged.

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
      >>> params = gru.init(jax.random.key(0), inputs=3, units=4)
      >>> xs = jnp.ones((5, 3))
      >>> grads = jax.grad(lambda params: jnp.sum(gru.unroll(params, gru.zero_state(4), xs)[0]))(params)
      >>> grads.candidate.U.shape
      (4, 4)
    """
    return _unroll(params, state, xs, mask=mask, remat_every=remat_every)


def _stacked(params: Params) -> tuple[Array, ...]:
    """W [3d, p], U [3d, d] and the biases [3d] of r, u and the candidate."""
    return tuple(jnp.concatenate(parts) for parts in zip(*params[:3], strict=True))


def _forward(params: Params) -> Callable[[Array, Array], tuple[Array, Sequence[Array]]]:
    W, U, b = _stacked(params)
    W, U = W.T, U.T

    def step(h: Array, x: Array) -> tuple[Array, Sequence[Array]]:
        z = x @ W
        x_r, x_u, x_n = jnp.split(z + jnp.broadcast_to(b, z.shape), 3, axis=-1)
        h_r, h_u, h_n = jnp.split(h @ U, 3, axis=-1)
        r, u, m = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_u + h_u), h_n + jnp.broadcast_to(params.c, h_n.shape)
        n = jnp.tanh(x_n + r * m)
        return (1 - u) * n + u * h, (r, u, n, m)

    return step


def _backward(params: Params) -> Callable[..., tuple[Array, Array]]:
    """The derivation of `unroll`, line by line."""
    _, U, _ = _stacked(params)

    def back(dh: Array, before: Array, after: Array, gates: Sequence[Array]) -> tuple[Array, Array]:
        del after
        r, u, n, m = gates
        dn, du = dh * (1 - u), dh * (before - n)
        dz = dn * (1 - n**2)
        dr, dm = dz * m, dz * r
        dz_r, dz_u = dr * r * (1 - r), du * u * (1 - u)
        return dh * u + jnp.concatenate([dz_r, dz_u, dm], axis=1) @ U, jnp.concatenate([dz_r, dz_u, dz], axis=1)

    return back


def _gradients(params: Params, xs: Array, before: Array, gates: Sequence[Array], dz: Array) -> tuple[Params, Array]:
    W, _, _ = _stacked(params)
    dz_gates, dz_candidate = jnp.split(dz, [2 * before.shape[2]], axis=2)
    dm = dz_candidate * gates[0]
    dU = xla.sum_of_outer_over_time(jnp.concatenate([dz_gates, dm], axis=2), before)
    layers = xla.sum_of_outer_over_time(dz, xs), dU, jnp.sum(dz, axis=(0, 1))
    split = zip(*(jnp.split(a, 3) for a in layers), strict=True)
    return Params(*(Gate(*parts) for parts in split), c=jnp.sum(dm, axis=(0, 1))), dz @ W


_unroll = cell.by_hand(_forward, _backward, _gradients)
