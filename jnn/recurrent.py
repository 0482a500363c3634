"""Chapter 5: what recurrent nets share, whatever their cell.

A cell is a module such as `jnn.rnn`, `jnn.lstm` or `jnn.gru`: the equations of a step and their derivatives. Here are
masks over padded batches, `stack`, `both_directions` and rematerialisation in `segments`, for the `unroll` of any
cell: a function `unroll(params, state, xs, *, mask=None) -> (last, states)`. The second part of this module is what
cells are made of: `init_gates`, `zeros`, `check`, `scan` and `by_hand`, which turns the derivatives of a step into
backpropagation through time.

Sequences are time first: xs [T, p], or [T, B, p] for a batch. A state is an array, or a NamedTuple of arrays, [d] or
[B, d]. Sequences, states or masks of another shape, and T = 0, raise ValueError; dtypes that are mixed or not floating,
and a mask that is not boolean, raise TypeError.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.nn.initializers import Initializer
from jaxtyping import Array, Bool, Float, Integer, Key

from jnn._internal import checks
from jnn.activations import identity

# The class is left out so that help() starts with the functions: pydoc lists classes first.
__all__ = [
    "both_directions",
    "by_hand",
    "check",
    "init_gates",
    "mask",
    "memory",
    "scan",
    "segments",
    "stack",
    "weighted_input",
    "where",
    "zeros",
]

Unroll = Callable[..., tuple[Any, Any]]
"""(params, state, xs, *, mask) -> the last state and the states after every step."""

StateT = TypeVar("StateT")
"""The state of a cell: an array [d] or [B, d], or a NamedTuple of such arrays."""


class Gate(NamedTuple):
    """One layer inside a cell, with the weighted input z_t = W x_t + U h_(t-1) + b.

    In (5.1) to (5.3) the notes print W in R^(p x d); W x_t needs d x p.
    """

    W: Float[Array, "d p"]
    U: Float[Array, "d d"]
    b: Float[Array, " d"]


def mask(lengths: Integer[Array, " B"], steps: int) -> Bool[Array, "steps B"]:
    """Returns the mask of a padded batch: True at the first `lengths[i]` times of each sequence i.

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
    checks.array("lengths", lengths)
    checks.count("steps", steps)
    if not jnp.issubdtype(dtype := jnp.result_type(lengths), jnp.integer) or jnp.ndim(lengths) != 1:
        error = TypeError if jnp.ndim(lengths) == 1 else ValueError
        raise error(f"lengths must be integers, one for each sequence, got {dtype}{list(jnp.shape(lengths))}")
    if not isinstance(lengths, Tracer) and (np.min(lengths, initial=0) < 0 or np.max(lengths, initial=0) > steps):
        raise ValueError(f"lengths must be in 0 ... {steps}, the number of steps, got {lengths}")
    return jnp.arange(steps)[:, None] < jnp.asarray(lengths)[None]


def stack(
    unroll: Unroll,
    layers: Sequence[Any],
    states: Sequence[StateT],
    xs: Float[Array, "T *batch p"],
    *,
    mask: Bool[Array, "T *batch"] | None = None,
    output: Callable[[Any], Float[Array, "T *batch d"]] = identity,
) -> tuple[tuple[StateT, ...], tuple[StateT, ...]]:
    """Unrolls a stack of layers, each of which reads the outputs of the layer below.

    Args:
      unroll: The `unroll` or `scan` of the cell.
      layers: The parameters of each layer, the lowest first.
      states: The initial state of each layer.
      xs: The inputs of the lowest layer.
      mask: True where a step is valid.
      output: What the layer above reads of the states; the states themselves by default.

    Returns:
      The last state of each layer, and the states of each layer after every step.

    Raises:
      ValueError: If the numbers of layers and states differ, or as `unroll` does.
      TypeError: As `unroll` does.

    Example:
      >>> keys = jax.random.split(jax.random.key(0))
      >>> layers = gru.init(keys[0], inputs=3, units=4), gru.init(keys[1], inputs=4, units=2)
      >>> zeros = gru.zero_state(4), gru.zero_state(2)
      >>> lasts, states = recurrent.stack(gru.unroll, layers, zeros, jnp.ones((5, 3)))
      >>> states[-1].shape
      (5, 2)
    """
    lasts, everything = [], []
    for params, initial in zip(layers, states, strict=True):
        last, after = unroll(params, initial, xs, mask=mask)
        lasts.append(last)
        everything.append(after)
        xs = output(after)
    return tuple(lasts), tuple(everything)


def both_directions(
    unroll: Unroll,
    params: tuple[Any, Any],
    states: tuple[StateT, StateT],
    xs: Float[Array, "T *batch p"],
    *,
    mask: Bool[Array, "T *batch"] | None = None,
    output: Callable[[Any], Float[Array, "T *batch d"]] = identity,
) -> tuple[tuple[StateT, StateT], Float[Array, "T *batch two_d"]]:
    """Unrolls one cell forwards and one backwards in time.

    Args:
      unroll: The `unroll` or `scan` of the cell.
      params: The parameters of the cell that reads forwards, and of the one that reads backwards.
      states: The initial state of each.
      xs: The inputs.
      mask: True where a step is valid.
      output: What to concatenate of the states; the states themselves by default.

    Returns:
      The last states, that after the last input and that after the first, and the outputs of both directions at every
      step, concatenated along the last axis.

    Raises:
      ValueError: As `unroll` does.
      TypeError: As `unroll` does.

    Example:
      >>> keys = jax.random.split(jax.random.key(0))
      >>> params = gru.init(keys[0], inputs=3, units=4), gru.init(keys[1], inputs=3, units=4)
      >>> _, outputs = recurrent.both_directions(gru.unroll, params, (gru.zero_state(4),) * 2, jnp.ones((5, 3)))
      >>> outputs.shape
      (5, 8)
    """
    last, ahead = unroll(params[0], states[0], xs, mask=mask)
    flipped = None if mask is None else jnp.flip(mask, 0)
    first, back = unroll(params[1], states[1], jnp.flip(xs, 0), mask=flipped)
    return (last, first), jnp.concatenate([output(ahead), jnp.flip(output(back), 0)], axis=-1)


def segments(
    unroll: Unroll,
    params: Any,
    state: StateT,
    xs: Float[Array, "T *batch p"],
    *,
    mask: Bool[Array, "T *batch"] | None = None,
    segment: int | None,
) -> tuple[StateT, StateT]:
    """Unrolls a cell in segments, which the backward pass recomputes (rematerialisation).

    Only the state before each segment of k steps is stored for the backward pass. That takes memory for T/k + k steps
    instead of T, and about one more forward pass; k near sqrt(T) takes the least.

    Args:
      unroll: The `unroll` or `scan` of the cell.
      params: The parameters of the cell.
      state: The initial state, with the batch axis of `xs`.
      xs: The inputs.
      mask: True where a step is valid.
      segment: The number k of steps of a segment; None for a single segment, which is not recomputed.

    Returns:
      The last state, and the states after every step.

    Raises:
      ValueError: If `segment` is below 1, or as `unroll` does.
      TypeError: If `segment` is not an integer, or as `unroll` does.

    Example:
      >>> params = gru.init(jax.random.key(0), inputs=3, units=4)
      >>> last, states = recurrent.segments(gru.unroll, params, gru.zero_state(4), jnp.ones((9, 3)), segment=3)
      >>> states.shape
      (9, 4)
    """
    if segment is None:
        return unroll(params, state, xs, mask=mask)
    checks.count("segment", segment)
    full = len(xs) // segment * segment
    inputs = (xs, mask)
    whole = jax.tree.map(lambda a: a[:full].reshape(-1, segment, *a.shape[1:]), inputs)
    again = jax.checkpoint(lambda state, inputs: unroll(params, state, inputs[0], mask=inputs[1]))
    state, states = jax.lax.scan(again, state, whole)
    states = jax.tree.map(lambda a: a.reshape(full, *a.shape[2:]), states)
    if full < len(xs):
        state, rest = again(state, jax.tree.map(lambda a: a[full:], inputs))
        states = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), states, rest)
    return state, states


def where(mask: Bool[Array, "*batch"] | None, new: StateT, old: StateT) -> StateT:
    """Returns `new` where the mask is True, else `old`; without a mask, `new`.

    Example:
      >>> recurrent.where(jnp.array([True, False]), jnp.ones((2, 1)), jnp.zeros((2, 1)))
      Array([[1.],
             [0.]], dtype=float32)
    """
    return new if mask is None else jax.tree.map(lambda a, b: jnp.where(mask[..., None], a, b), new, old)


# What cells are made of


def weighted_input(gate: Gate, x: Float[Array, "*batch p"], h: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """Returns z = W x + U h + b, for one example or a batch.

    Example:
      >>> gate = recurrent.Gate(W=jnp.ones((2, 3)), U=jnp.eye(2), b=jnp.zeros(2))
      >>> recurrent.weighted_input(gate, jnp.ones(3), jnp.ones(2))
      Array([4., 4.], dtype=float32)
    """
    z = x @ gate.W.T + h @ gate.U.T
    return z + jnp.broadcast_to(gate.b, z.shape)


def init_gates(
    key: Key[Array, ""],
    inputs: int,
    units: int,
    biases: Sequence[float],
    *,
    input_weights: Initializer,
    recurrent_weights: Initializer,
    dtype: jax.typing.DTypeLike,
) -> list[Gate]:
    """Draws the random gates of a cell, one for each entry of `biases`.

    Args:
      key: A typed PRNG key.
      inputs: The size p of an input.
      units: The number d of units.
      biases: The value of every bias of each gate.
      input_weights: Initialises W, as in `jax.nn.initializers`.
      recurrent_weights: Initialises U.
      dtype: The dtype of the parameters.

    Returns:
      The gates.

    Raises:
      ValueError: If a size is below 1.
      TypeError: If a size is not an integer, or `key` is not a typed PRNG key (`jax.random.key`).
    """
    checks.key("key", key)
    checks.count("inputs", inputs)
    checks.count("units", units)
    return [
        Gate(
            W=input_weights(w_key, (units, inputs), dtype),
            U=recurrent_weights(u_key, (units, units), dtype),
            b=jnp.full(units, bias, dtype),
        )
        for (w_key, u_key), bias in zip(jax.random.split(key, (len(biases), 2)), biases, strict=True)
    ]


def zeros(units: int, batch: int | None, dtype: jax.typing.DTypeLike) -> Float[Array, "*batch d"]:
    """Returns zeros, [d], or [B, d] with B = `batch`.

    Raises:
      ValueError: If a size is below 1.
      TypeError: If a size is not an integer.
    """
    checks.count("units", units)
    if batch is not None:
        checks.count("batch", batch)
    return jnp.zeros((units,) if batch is None else (batch, units), dtype)


def check(params: Any, state: StateT, xs: Any, mask: Any, *, advice: str) -> tuple[StateT, Float[Array, "T *batch p"]]:
    """Checks the shapes and dtypes of a cell's arguments.

    Args:
      params: The parameters of the cell: every W is [d, p], every U [d, d] and every other array [d].
      state: The initial state, each array [d] or [B, d].
      xs: The inputs.
      mask: True where a step is valid, or None.
      advice: How the shapes of the parameters belong together, for the message.

    Returns:
      The state, with a batch axis if `xs` has one, and `xs` with 0 where the mask is False: padding, even NaN, then
      reaches no value and no gradient.

    Raises:
      ValueError: If shapes do not match or T is 0.
      TypeError: If dtypes are mixed or not floating, or `mask` is not boolean.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda leaf: isinstance(leaf, list))
    named = {f"params.{checks.leaf_name(path)}": leaf for path, leaf in leaves}
    d, p = next(checks.matrix(name, leaf) for name, leaf in named.items() if name.endswith(".W"))
    for name, leaf in named.items():
        checks.shape(name, leaf, {"W": (d, p), "U": (d, d)}.get(name[-1], (d,)), advice)
    batch = _sequence(xs, p)
    checks.one_dtype(params=params, state=state, xs=xs)
    state = jax.tree_util.tree_map_with_path(
        lambda path, leaf: memory(".".join(filter(None, ("state", checks.leaf_name(path)))), leaf, batch, d), state
    )
    if mask is None:
        return state, xs
    advice = "one entry for each time and sequence, time first as in xs [T, B, p], False after its end"
    checks.shape("mask", mask, jnp.shape(xs)[:-1], advice)
    if not jnp.issubdtype(jnp.result_type(mask), jnp.bool_):
        raise TypeError(f"mask must be boolean, got {jnp.result_type(mask)}: convert it with mask.astype(bool)")
    return state, where(mask, xs, jnp.zeros_like(xs))


def memory(name: str, value: Any, batch: tuple[int, ...], d: int) -> Float[Array, "*batch d"]:
    """Returns one array of a state with the batch axes; `name` is what the message calls it.

    Raises:
      ValueError: If `value` is neither [d] nor [*batch, d].
    """
    if jnp.shape(value) not in ((d,), (*batch, d)):
        also = f", or ({d},) for one state that all sequences share" if batch else ""
        first = ": xs are [T, B, p], time first; move axes [B, T, p] with jnp.swapaxes(xs, 0, 1)" if batch else ""
        raise ValueError(f"{name} must have shape {(*batch, d)}{also}, got {jnp.shape(value)}{first}")
    return jnp.broadcast_to(value, (*batch, d))


def _sequence(xs: Any, p: int) -> tuple[int, ...]:
    """The batch axes () or (B,) of sequences [T, p] or [T, B, p]."""
    checks.array("xs", xs)
    if jnp.ndim(xs) not in (2, 3) or jnp.shape(xs)[-1] != p or jnp.shape(xs)[0] == 0:
        raise ValueError(
            f"xs must have shape [T, {p}] or [T, B, {p}], time first and T at least 1, got {jnp.shape(xs)}"
        )
    checks.floating("xs", xs)
    return jnp.shape(xs)[1:-1]


def scan(
    step: Callable[[StateT, Float[Array, "*batch p"]], tuple[StateT, Any]],
    state: StateT,
    xs: Float[Array, "T *batch p"],
    mask: Bool[Array, "T *batch"] | None,
) -> tuple[StateT, tuple[StateT, Any]]:
    """Scans `step` over a sequence; where the mask is False the state does not change.

    Args:
      step: (state, x) -> the next state, and what else to collect.
      state: The initial state, with the batch axis of `xs`.
      xs: The inputs.
      mask: True where a step is valid, or None.

    Returns:
      The last state, and a pair: the states after every step, and what else `step` returned at every step.
    """

    def masked(state: StateT, inputs: tuple[Array, Array | None]) -> tuple[StateT, tuple[StateT, Any]]:
        x, m = inputs
        new, collected = step(state, x)
        new = where(m, new, state)
        return new, (new, collected)

    return jax.lax.scan(masked, state, (xs, mask))


def by_hand(forward: Callable[..., Any], backward: Callable[..., Any], gradients: Callable[..., Any]) -> Unroll:
    """Makes the unrolling of a cell whose reverse mode is backpropagation through time by hand (section 5.2).

    Going backwards from t = T to 1, the derivative of the loss with respect to s_t, through step t+1 and directly,
    gives that with respect to the weighted inputs, dz_t, and that with respect to s_(t-1). Where the mask keeps a state
    dz_t = 0, and the derivative passes unchanged.

    Args:
      forward: params -> a function (s_(t-1), x_t) -> (s_t, saved), where `saved` is what the derivatives need.
      backward: params -> a function (ds_t, s_(t-1), s_t, saved) -> (ds_(t-1), dz_t).
      gradients: (params, xs, s_(t-1), saved, dz), of all times together -> the gradient with respect to params and xs.

    Returns:
      A function (params, state, xs, *, mask) -> (last, states) of checked arguments. A single sequence is computed as
      a batch of one.
    """

    @jax.custom_vjp
    def run(params: Any, state: Any, xs: Array, mask: Array | None) -> tuple[Any, Any]:
        last, (states, _) = scan(forward(params), state, xs, mask)
        return last, states

    def ahead(params: Any, state: Any, xs: Array, mask: Array | None) -> tuple[Any, Any]:
        last, (states, saved) = scan(forward(params), state, xs, mask)
        return (last, states), (params, state, xs, mask, states, saved)

    def back(residuals: Any, derivatives: tuple[Any, Any]) -> tuple[Any, Any, Array, None]:
        params, first, xs, mask, states, saved = residuals
        dlast, dstates = derivatives
        step = backward(params)

        def masked(dnext: Any, inputs: Any) -> tuple[Any, Any]:
            t, dhere, after, m, kept = inputs
            dstate = jax.tree.map(jnp.add, dnext, dhere)
            before = jax.tree.map(lambda a, s: jnp.where(t > 0, s[jnp.maximum(t - 1, 0)], a), first, states)
            dbefore, dz = step(dstate, before, after, kept)
            return where(m, dbefore, dstate), where(m, dz, jax.tree.map(jnp.zeros_like, dz))

        inputs = (jnp.arange(len(xs)), dstates, states, mask, saved)
        dfirst, dz = jax.lax.scan(masked, dlast, inputs, reverse=True)
        before = jax.tree.map(lambda a, s: jnp.concatenate([a[None], s[:-1]]), first, states)
        dparams, dxs = gradients(params, xs, before, saved, dz)
        return dparams, dfirst, dxs, None

    run.defvjp(ahead, back)

    def unroll(params: Any, state: Any, xs: Array, *, mask: Array | None = None) -> tuple[Any, Any]:
        if xs.ndim == 3:
            return run(params, state, xs, mask)
        batch = jax.tree.map(lambda a: a[None], state), xs[:, None], None if mask is None else mask[:, None]
        last, states = run(params, *batch)
        return jax.tree.map(lambda a: a[0], last), jax.tree.map(lambda a: a[:, 0], states)

    return unroll
