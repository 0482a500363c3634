r"""Chapter 5: the long short-term memory of equations (5.1) to (5.6), with its backpropagation through time by hand.

In the order of figure 5.2, a step is

.. math::

  \begin{aligned}
    \mathrm{rem}_t &= \sigma(W_r x_t + U_r \mathrm{wm}_{t-1} + b_r) && (5.1) \\
    \mathrm{save}_t &= \sigma(W_s x_t + U_s \mathrm{wm}_{t-1} + b_s) && (5.3) \\
    \mathrm{focus}_t &= \sigma(W_f x_t + U_f \mathrm{wm}_{t-1} + b_f) && (5.5) \\
    \mathrm{ltm}'_t &= \tanh(W_l x_t + U_l \mathrm{wm}_{t-1} + b_l) && (5.2) \\
    \mathrm{ltm}_t &= \mathrm{rem}_t \odot \mathrm{ltm}_{t-1} + \mathrm{save}_t \odot \mathrm{ltm}'_t && (5.4) \\
    \mathrm{wm}_t &= \mathrm{focus}_t \odot \tanh(\mathrm{ltm}_t) && (5.6)
  \end{aligned}

`scan` repeats it with `jax.lax.scan`; autodiff differentiates it any number of times and in both modes. `unroll`, which
is the one for training, has a reverse mode derived by hand.

The field's names for rem, save, focus and ltm' are the forget, input and output gates and the candidate; for ltm and
wm, the cell state c and the hidden state h (Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000).

`scan` and `unroll` raise ValueError if shapes do not match or T is 0, and TypeError if dtypes are mixed or not
floating, or the mask is not boolean. `step` does not check its arguments: JAX raises ValueError or TypeError for shapes
and dtypes that do not fit. Arrays on a mesh with explicit axes need `jax.sharding.auto_axes` around these functions.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Key

from jnn import cell, recurrent
from jnn._internal import checks, xla
from jnn.cell import Gate
from jnn.mlp import orthogonal, scaled_normal
from jnn.recurrent import Inputs, Mask, mask

# Classes are left out so that help() starts with the functions: pydoc lists classes first.
__all__ = ["both_directions", "init", "mask", "scan", "stack", "step", "unroll", "zero_state"]


class Params(NamedTuple):
    """The parameters of the four layers.

    Attributes:
      rem: What to remember.
      save: What to save.
      focus: What to focus on.
      ltm: The candidate for the long-term memory.
    """

    rem: Gate
    save: Gate
    focus: Gate
    ltm: Gate


class State(NamedTuple):
    """The memories, [d] for one sequence or [B, d] for a batch.

    Attributes:
      ltm: The long-term memory.
      wm: The working memory.
    """

    ltm: Float[Array, "*batch d"]
    wm: Float[Array, "*batch d"]


def init(
    key: Key[Array, ""],
    inputs: int,
    units: int,
    *,
    input_weights: Initializer = scaled_normal,
    recurrent_weights: Initializer = orthogonal,
    rem_bias: float = 1.0,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Params:
    """Draws random parameters: W from N(0, 1/p), U orthogonal, and b = 0 except for rem, unless others are given.

    With `rem_bias` = 1 a cell starts by remembering (Jozefowicz, Zaremba and Sutskever 2015).

    Args:
      key: A typed PRNG key.
      inputs: The size p of an input.
      units: The number d of memory cells.
      input_weights: Initialises each W [d, p], as `jax.nn.initializers` do, whose shape is (p, d).
      recurrent_weights: Initialises each U [d, d], in the same way.
      rem_bias: The biases of rem.
      dtype: The dtype of the parameters.

    Returns:
      The parameters of the four gates.

    Raises:
      ValueError: If a size is below 1, or `rem_bias` is not finite.
      TypeError: If a size is not an integer, `rem_bias` is not a number, or `key` is not a typed PRNG key
        (`jax.random.key`).

    Example:
      >>> params = lstm.init(jax.random.key(0), inputs=3, units=4)
      >>> params.rem.W.shape
      (4, 3)
    """
    checks.number("rem_bias", rem_bias)
    options = {"input_weights": input_weights, "recurrent_weights": recurrent_weights, "dtype": dtype}
    return Params(*cell.init_gates(key, inputs, units, (rem_bias, 0.0, 0.0, 0.0), **options))


def zero_state(units: int, batch: int | None = None, *, dtype: jax.typing.DTypeLike = jnp.float32) -> State:
    """Returns memories of zeros.

    Args:
      units: The number d of memory cells.
      batch: The number B of sequences, each with its own memories; None for memories [d], the start of one sequence or
        of all sequences of a batch.
      dtype: The dtype of the memories.

    Returns:
      The state, [d] or [B, d].

    Raises:
      ValueError: If a size is below 1.
      TypeError: If a size is not an integer.

    Example:
      >>> lstm.zero_state(4, batch=2).wm.shape
      (2, 4)
    """
    return State(cell.zeros(units, batch, dtype), cell.zeros(units, batch, dtype))


def step(params: Params, state: State, x: Float[Array, "*batch p"]) -> State:
    """Computes the memories after one more input x_t: (5.1) to (5.6), in the order of figure 5.2.

    Args:
      params: The parameters of the four gates.
      state: The state before the step, [d] or [B, d].
      x: The input, [p] or [B, p].

    Returns:
      The state after the step.

    Example:
      >>> params = lstm.init(jax.random.key(0), inputs=3, units=4)
      >>> lstm.step(params, lstm.zero_state(4), jnp.ones(3)).wm.shape
      (4,)
    """
    return _cell([cell.weighted_input(gate, x, state.wm) for gate in params], state.ltm)[0]


def _cell(zs: Sequence[Array], ltm: Array) -> tuple[State, tuple[Array, ...]]:
    """The next state and the gates, from the weighted inputs of rem, save, focus and the candidate."""
    rem, save, focus = map(jax.nn.sigmoid, zs[:3])  # (5.1), (5.3), (5.5)
    candidate = jnp.tanh(zs[3])  # (5.2), ltm' in the notes
    ltm = rem * ltm + save * candidate  # (5.4)
    wm = focus * jnp.tanh(ltm)  # (5.6)
    return State(ltm, wm), (rem, save, focus, candidate)


def scan(params: Params, state: State, xs: Inputs, *, mask: Mask | None = None) -> tuple[State, State]:
    """Runs the LSTM over a sequence with `jax.lax.scan` (section 5.2, figure 5.2).

    Supports forward- and reverse-mode differentiation of any order. `unroll` computes the same values and has a
    hand-derived backward pass.

    Args:
      params: The parameters of the four gates.
      state: The initial state, [d] (shared by the batch) or [B, d].
      xs: The inputs, time first: [T, p] or [T, B, p].
      mask: True where a step is valid, [T] or [T, B], as `recurrent.mask` makes it. Masked steps leave the state
        unchanged; what `xs` holds there, NaN included, does not matter.

    Returns:
      The final state, and the states after every step ([T, d] or [T, B, d]).

    Example:
      >>> params = lstm.init(jax.random.key(0), inputs=3, units=4)
      >>> last, states = lstm.scan(params, lstm.zero_state(4), jnp.ones((5, 3)))
      >>> states.wm.shape
      (5, 4)
    """
    state, xs = cell.check(params, state, xs, mask)
    last, (states, _) = recurrent.scan(lambda state, x: (step(params, state, x), None), state, xs, mask)
    return last, states


def unroll(
    params: Params, state: State, xs: Inputs, *, mask: Mask | None = None, remat_every: int | None = None
) -> tuple[State, State]:
    r"""Computes the same values as `scan`, with a hand-derived reverse mode (section 5.2).

    Write dq for the derivative of the loss with respect to q. Backpropagation through time goes from t = T to 1. At
    step t, :math:`d\mathrm{wm}_t` and :math:`d\mathrm{ltm}_t` start as the sum of what step t+1 passes back and of the
    loss's own derivative with respect to these states; then

    .. math::

      \begin{aligned}
        d\mathrm{focus}_t &= d\mathrm{wm}_t \odot \tanh(\mathrm{ltm}_t) && \text{from (5.6)} \\
        d\mathrm{ltm}_t &\mathrel{+}= d\mathrm{wm}_t \odot \mathrm{focus}_t \odot (1 - \tanh(\mathrm{ltm}_t)^2) \\
        d\mathrm{rem}_t &= d\mathrm{ltm}_t \odot \mathrm{ltm}_{t-1} && \text{from (5.4)} \\
        d\mathrm{save}_t &= d\mathrm{ltm}_t \odot \mathrm{ltm}'_t \\
        d\mathrm{ltm}'_t &= d\mathrm{ltm}_t \odot \mathrm{save}_t \\
        d\mathrm{ltm}_{t-1} &= d\mathrm{ltm}_t \odot \mathrm{rem}_t \\
        dz_t &= dq_t \odot q_t \odot (1 - q_t) && \text{for each gate } q \text{, from (5.1), (5.3), (5.5)} \\
        dz_t &= d\mathrm{ltm}'_t \odot (1 - (\mathrm{ltm}'_t)^2) && \text{for the candidate, from (5.2)} \\
        d\mathrm{wm}_{t-1} &= \sum_{\text{layers}} U^\mathsf{T} dz_t
      \end{aligned}

    where the layers are rem, save, focus and the candidate. Finally, with one product for each layer over all times and
    examples,

    .. math::

      dW = \sum dz_t x_t^\mathsf{T}, \quad dU = \sum dz_t \mathrm{wm}_{t-1}^\mathsf{T}, \quad db = \sum dz_t, \quad
      dx_t = \sum_{\text{layers}} W^\mathsf{T} dz_t.

    Where the mask keeps a state, :math:`dz_t = 0` and both derivatives pass unchanged.

    JAX raises TypeError for forward-mode differentiation, which `scan` supports.

    Args:
      params: The parameters of the four gates.
      state: The initial state, [d] (shared by the batch) or [B, d].
      xs: The inputs, time first: [T, p] or [T, B, p].
      mask: True where a step is valid, [T] or [T, B], as `recurrent.mask` makes it. Masked steps leave the state
        unchanged; what `xs` holds there, NaN included, does not matter.
      remat_every: If given, only every `remat_every`-th state is stored for the backward pass, and the others are
        recomputed, as `recurrent.rematerialise` does. By default all are stored.

    Returns:
      The final state, and the states after every step ([T, d] or [T, B, d]).

    Raises:
      ValueError: If `remat_every` is below 1.
      TypeError: If `remat_every` is not an integer.

    Example:
      To classify padded sequences xs [N, T, p] of different `lengths` [N] by the last working memory:

      >>> def loss(params, xs, lengths, ys):
      ...     cell, readout = params
      ...     mask = lstm.mask(lengths, xs.shape[1])
      ...     last, _ = lstm.unroll(cell, lstm.zero_state(4), jnp.swapaxes(xs, 0, 1), mask=mask)
      ...     return jnp.mean(costs.log_likelihood.value(mlp.linear(readout, last.wm), ys))
      >>> keys = jax.random.split(jax.random.key(0))
      >>> params = lstm.init(keys[0], inputs=3, units=4), mlp.init(keys[1], (4, 2))[0]
      >>> batch = jnp.ones((2, 5, 3)), jnp.array([5, 2]), jnp.eye(2)
      >>> value, grads = jax.value_and_grad(loss)(params, *batch)
      >>> grads[0].rem.W.shape
      (4, 3)
    """
    return _unroll(params, state, xs, mask=mask, remat_every=remat_every)


def stack(
    layers: Sequence[Params], states: Sequence[State], xs: Inputs, *, mask: Mask | None = None
) -> tuple[tuple[State, ...], tuple[State, ...]]:
    """Unrolls a stack of layers, each of which reads the working memories of the layer below.

    Args:
      layers: The parameters of each layer, the lowest first.
      states: The initial state of each layer.
      xs: The inputs of the lowest layer, [T, p] or [T, B, p].
      mask: True where a step is valid, as for `scan`.

    Returns:
      The last state of each layer, and the states of each layer after every step.

    Raises:
      ValueError: If the numbers of layers and states differ, or as `unroll` does.
      TypeError: If `layers` or `states` are not a list or a tuple, or as `unroll` does.

    Example:
      >>> keys = jax.random.split(jax.random.key(0))
      >>> layers = lstm.init(keys[0], inputs=3, units=4), lstm.init(keys[1], inputs=4, units=2)
      >>> lasts, states = lstm.stack(layers, (lstm.zero_state(4), lstm.zero_state(2)), jnp.ones((5, 3)))
      >>> states[-1].wm.shape
      (5, 2)
    """
    return recurrent.stack(unroll, layers, states, xs, mask=mask, output=attrgetter("wm"))


def both_directions(
    forwards: Params, backwards: Params, state: State | tuple[State, State], xs: Inputs, *, mask: Mask | None = None
) -> tuple[tuple[State, State], Float[Array, "T *batch two_d"]]:
    """Unrolls a bidirectional LSTM.

    Args:
      forwards: The parameters of the direction that reads forwards in time.
      backwards: The parameters of the other direction.
      state: The initial state of both directions, or a pair with one for each, such as the pair that this returns.
      xs: The inputs, [T, p] or [T, B, p].
      mask: True where a step is valid, as for `scan`.

    Returns:
      Both last states, and the working memories of both directions, concatenated.

    Raises:
      ValueError: As `unroll` does.
      TypeError: As `unroll` does.

    Example:
      >>> keys = jax.random.split(jax.random.key(0))
      >>> params = [lstm.init(key, inputs=3, units=4) for key in keys]
      >>> _, memories = lstm.both_directions(*params, lstm.zero_state(4), jnp.ones((5, 3)))
      >>> memories.shape
      (5, 8)
    """
    states = (state, state) if isinstance(state, State) else state
    return recurrent.both_directions(unroll, (forwards, backwards), states, xs, mask=mask, output=attrgetter("wm"))


def _forward(params: Params) -> Callable[[State, Array], tuple[State, Sequence[Array]]]:
    W, U, b = (jnp.concatenate(parts) for parts in zip(*params, strict=True))
    W, U = W.T, U.T
    return lambda state, x: _cell(jnp.split(x @ W + state.wm @ U + b[None], 4, axis=1), state.ltm)


def _forward_alone(params: Params) -> Callable[[State, Array], tuple[State, Sequence[Array]]]:
    """The same without derivatives, for few sequences with one product in place of two: for one in 0.45 of the time."""
    W, U, b = (jnp.concatenate(parts) for parts in zip(*params, strict=True))
    WU, forward = jnp.concatenate([W, U], axis=1).T, _forward(params)

    def step(state: State, x: Array) -> tuple[State, Sequence[Array]]:
        if len(x) > 8:  # copying both operands into one costs more than it saves
            return forward(state, x)
        z = jnp.concatenate([x, state.wm], axis=1) @ WU + b[None]
        return _cell(jnp.split(z, 4, axis=1), state.ltm)

    return step


def _backward(params: Params) -> Callable[..., tuple[State, Array]]:
    """The derivation of `unroll`, line by line."""
    U = jnp.concatenate([gate.U for gate in params])

    def back(dstate: State, before: State, after: State, gates: Sequence[Array]) -> tuple[State, Array]:
        rem, save, focus, candidate = gates
        tanh_ltm = jnp.tanh(after.ltm)
        dltm = dstate.ltm + dstate.wm * focus * (1 - tanh_ltm**2)
        dz = jnp.concatenate(
            [
                dltm * before.ltm * rem * (1 - rem),
                dltm * candidate * save * (1 - save),
                dstate.wm * tanh_ltm * focus * (1 - focus),
                dltm * save * (1 - candidate**2),
            ],
            axis=1,
        )
        return State(dltm * rem, dz @ U), dz

    return back


def _gradients(params: Params, xs: Array, before: State, gates: Sequence[Array], dz: Array) -> tuple[Params, Array]:
    del gates
    W = jnp.concatenate([gate.W for gate in params])
    dWU = xla.sum_of_outer_over_time(dz, jnp.concatenate([xs, before.wm], axis=2))
    dW, dU, db = dWU[:, : W.shape[1]], dWU[:, W.shape[1] :], jnp.sum(dz, axis=(0, 1))
    return Params(*(Gate(*parts) for parts in zip(*(jnp.split(a, 4) for a in (dW, dU, db)), strict=True))), dz @ W


_unroll = cell.by_hand(_forward, _backward, _gradients, alone=_forward_alone)
