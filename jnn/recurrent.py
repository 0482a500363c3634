"""Chapter 5: what all recurrent cells share: masks, scans, stacks, both directions, rematerialisation.

A cell is a module such as `jnn.rnn`, `jnn.lstm` or `jnn.gru`: the equations of a step and their derivatives, made with
`jnn.cell`. The functions here take the `unroll` of any cell: a function `unroll(params, state, xs, *, mask=None) ->
(last, states)`, whose errors they raise.

Sequences are time first: xs [T, p], or [T, B, p] for a batch. A state is an array, or a NamedTuple of arrays, [d] or
[B, d].
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jnn._internal import checks, varying, xla
from jnn.activations import identity
from jnn.typing import PyTree

Unroll = Callable[..., tuple[PyTree, PyTree]]
"""`(params, state, xs, *, mask)` -> the last state and the states after every step."""

Inputs = Float[Array, "T *batch p"]
"""The inputs of every step, time first: [T, p], or [T, B, p] for a batch."""

Mask = Bool[Array, "T *batch"]
"""True where a step is valid, [T] or [T, B]."""

InitialState = Float[Array, "*start d"]
"""The initial state of a cell whose state is one array: [d], which a batch shares, or [B, d]."""

OneState = Float[Array, "*batch d"]
"""The state of such a cell, [d] or [B, d]."""

EachState = Float[Array, "T *batch d"]
"""Its states after every step."""

StateT = TypeVar("StateT")
"""The state of a cell: an array [d] or [B, d], or a NamedTuple of such arrays."""


def mask(lengths: Integer[Array, " B"], steps: int) -> Bool[Array, "steps B"]:
    """Returns the mask of a padded batch: True at the first `lengths[i]` steps of each sequence i.

    Args:
      lengths: The number of valid steps of each sequence, in 0 ... steps.
      steps: The number T of steps to which the sequences are padded.

    Returns:
      The mask, time first.

    Raises:
      TypeError: If `lengths` or `steps` are not integers.
      ValueError: If `lengths` is not a vector or, unless it is traced, not in 0 ... steps.

    Example:
      >>> recurrent.mask(jnp.array([2, 1]), steps=3).astype(int)
      Array([[1, 1],
             [1, 0],
             [0, 0]], dtype=int32)
    """
    checks.count("steps", steps)
    checks.labels("lengths", lengths, steps + 1)
    if jnp.ndim(lengths) != 1:
        raise ValueError(f"lengths must be a vector, one for each sequence, got shape {jnp.shape(lengths)}")
    return jnp.arange(steps)[:, None] < jnp.asarray(lengths)[None]


def where(mask: Bool[Array, "*batch"] | None, new: StateT, old: StateT) -> StateT:
    """Selects the new state where the mask is True, and the old one elsewhere.

    Args:
      mask: True where a step is valid, or None for a step that is valid everywhere.
      new: The state after the step.
      old: The state before the step.

    Returns:
      The selected state.

    Example:
      >>> recurrent.where(jnp.array([True, False]), jnp.ones((2, 1)), jnp.zeros((2, 1)))
      Array([[1.],
             [0.]], dtype=float32)
    """
    return new if mask is None else jax.tree.map(lambda a, b: jnp.where(mask[..., None], a, b), new, old)


def scan(
    step: Callable[[StateT, Float[Array, "*batch p"]], tuple[StateT, PyTree]],
    state: StateT,
    xs: Inputs,
    mask: Mask | None,
) -> tuple[StateT, tuple[StateT, PyTree]]:
    """Scans a step function over a sequence; where the mask is False the state does not change.

    Args:
      step: (state, x) -> the next state, and what else to collect.
      state: The initial state, with the batch axis of `xs`.
      xs: The inputs.
      mask: True where a step is valid, or None.

    Returns:
      The last state, and a pair of the states after every step and what else `step` returned at every step.

    Example:
      >>> last, (states, _) = recurrent.scan(lambda s, x: (s + x, None), jnp.zeros(1), jnp.ones((3, 1)), None)
      >>> last
      Array([3.], dtype=float32)
    """

    def masked(state: StateT, inputs: tuple[Array, Array | None]) -> tuple[StateT, tuple[StateT, PyTree]]:
        x, m = inputs
        new, collected = step(state, x)
        new = where(m, new, state)
        return new, (new, collected)

    state, xs, mask = varying.match(state, xs, mask)
    return xla.scan(masked, state, (xs, mask))


def stack(
    unroll: Unroll,
    layers: Sequence[PyTree],
    states: Sequence[StateT],
    xs: Inputs,
    *,
    mask: Mask | None = None,
    output: Callable[[PyTree], Float[Array, "T *batch d"]] = identity,
) -> tuple[tuple[StateT, ...], tuple[StateT, ...]]:
    """Unrolls a stack of layers, each of which reads the outputs of the layer below.

    Args:
      unroll: The `unroll` or `scan` of the cell.
      layers: The parameters of each layer, the lowest first.
      states: The initial state of each layer.
      xs: The inputs of the lowest layer.
      mask: True where a step is valid.
      output: Selects from the states of a layer the inputs of the layer above: by default the states themselves; for
        an LSTM, `lambda states: states.wm`.

    Returns:
      The last state of each layer, and the states of each layer after every step.

    Raises:
      ValueError: If the numbers of layers and states differ.
      TypeError: If `layers` or `states` are not a list or a tuple.

    Example:
      >>> keys = jax.random.split(jax.random.key(0))
      >>> layers = gru.init(keys[0], inputs=3, units=4), gru.init(keys[1], inputs=4, units=2)
      >>> zeros = gru.zero_state(4), gru.zero_state(2)
      >>> lasts, states = recurrent.stack(gru.unroll, layers, zeros, jnp.ones((5, 3)))
      >>> states[-1].shape
      (5, 2)
    """
    for name, entries in (("layers", layers), ("states", states)):
        _check_list(name, entries, len(layers), "layers")
    lasts, everything = [], []
    for params, initial in zip(layers, states, strict=True):
        last, after = unroll(params, initial, xs, mask=mask)
        lasts.append(last)
        everything.append(after)
        xs = output(after)
    return tuple(lasts), tuple(everything)


def both_directions(
    unroll: Unroll,
    params: tuple[PyTree, PyTree],
    states: tuple[StateT, StateT],
    xs: Inputs,
    *,
    mask: Mask | None = None,
    output: Callable[[PyTree], Float[Array, "T *batch d"]] = identity,
) -> tuple[tuple[StateT, StateT], Float[Array, "T *batch two_d"]]:
    """Unrolls one cell forwards and one backwards in time.

    Args:
      unroll: The `unroll` or `scan` of the cell.
      params: The parameters for reading forwards, and those for reading backwards.
      states: The initial state of each direction.
      xs: The inputs.
      mask: True where a step is valid.
      output: Selects from the states the outputs that are concatenated; the states themselves by default.

    Returns:
      The final state of each direction (the backward one ends at the first input), and the outputs of both directions
      at every step, concatenated along the last axis.

    Raises:
      ValueError: If `params` or `states` do not have two entries.
      TypeError: If `params` or `states` are not a list or a tuple.

    Example:
      >>> keys = jax.random.split(jax.random.key(0))
      >>> params = gru.init(keys[0], inputs=3, units=4), gru.init(keys[1], inputs=3, units=4)
      >>> _, outputs = recurrent.both_directions(gru.unroll, params, (gru.zero_state(4),) * 2, jnp.ones((5, 3)))
      >>> outputs.shape
      (5, 8)
    """
    for name, entries in (("params", params), ("states", states)):
        _check_list(name, entries, 2, "directions")
    last, ahead = unroll(params[0], states[0], xs, mask=mask)
    flipped = None if mask is None else jnp.flip(mask, 0)
    first, back = unroll(params[1], states[1], jnp.flip(xs, 0), mask=flipped)
    return (last, first), jnp.concatenate([output(ahead), jnp.flip(output(back), 0)], axis=-1)


def rematerialise(
    unroll: Unroll, params: PyTree, state: StateT, xs: Inputs, *, mask: Mask | None = None, remat_every: int | None
) -> tuple[StateT, StateT]:
    """Unrolls a cell in segments of k steps, which the backward pass recomputes (rematerialisation).

    Only the state before each segment is stored for the backward pass. That takes memory for T/k + k steps instead of
    T, and about one more forward pass; k near sqrt(T) takes the least memory.

    Args:
      unroll: The `unroll` or `scan` of the cell.
      params: The parameters of the cell.
      state: The initial state, with the batch axis of `xs`.
      xs: The inputs.
      mask: True where a step is valid.
      remat_every: The number k of steps of a segment; None stores every step.

    Returns:
      The last state, and the states after every step.

    Raises:
      ValueError: If `remat_every` is below 1.
      TypeError: If `remat_every` is not an integer.

    Example:
      >>> params = gru.init(jax.random.key(0), inputs=3, units=4)
      >>> unrolled = recurrent.rematerialise(gru.unroll, params, gru.zero_state(4), jnp.ones((9, 3)), remat_every=3)
      >>> unrolled[1].shape
      (9, 4)
    """
    if remat_every is None:
        return unroll(params, state, xs, mask=mask)
    checks.count("remat_every", remat_every)
    full = len(xs) // remat_every * remat_every
    inputs = (xs, mask)
    whole = jax.tree.map(lambda a: a[:full].reshape(-1, remat_every, *a.shape[1:]), inputs)
    again = jax.checkpoint(lambda state, inputs: unroll(params, state, inputs[0], mask=inputs[1]))
    state, states = jax.lax.scan(again, state, whole)
    states = jax.tree.map(lambda a: a.reshape(full, *a.shape[2:]), states)
    if full < len(xs):
        state, rest = again(state, jax.tree.map(lambda a: a[full:], inputs))
        states = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), states, rest)
    return state, states


def _check_list(name: str, value: PyTree, n: int, each: str) -> None:
    """Raise TypeError for a single cell or state in place of a list, ValueError for a list of another length."""
    if not isinstance(value, list | tuple) or hasattr(value, "_fields"):
        kind = type(value).__name__
        raise TypeError(f"{name} must be a list or a tuple with one entry for each of the {each}, got a single {kind}")
    if len(value) != n:
        raise ValueError(f"{name} must have one entry for each of {n} {each}, got {len(value)}")
