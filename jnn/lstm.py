"""Chapter 5: the long short-term memory of equations (5.1) to (5.6), with its backpropagation through time by hand.

A step is the six equations, in the order of figure 5.2. `scan` repeats it with `lax.scan`; autodiff differentiates it
any number of times and in both modes. `unroll`, the one that trains, has a reverse mode derived by hand.

The field's names for rem, save, focus and ltm' are the forget, input and output gates and the candidate; for ltm and
wm, the cell state c and the hidden state h (Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000).

`step` does not check its arguments: JAX raises ValueError or TypeError for shapes and dtypes that do not fit.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.nn.initializers import Initializer
from jaxtyping import Array, Bool, Float, Integer, Key

from jnn import recurrent
from jnn._internal import checks, xla
from jnn.activations import sigmoid
from jnn.mlp import orthogonal, scaled_normal


class Gate(NamedTuple):
    """One layer inside the cell. In (5.1) to (5.3) the notes print W in R^(p x d); W x_t needs d x p."""

    W: Float[Array, "d p"]
    U: Float[Array, "d d"]
    b: Float[Array, " d"]


class Params(NamedTuple):
    """The four layers: what to remember, to save, to focus on, and the candidate for the long-term memory."""

    rem: Gate
    save: Gate
    focus: Gate
    ltm: Gate


class State(NamedTuple):
    """The long-term and the working memory, [d] for one sequence or [B, d] for a batch."""

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
    """Random parameters for inputs of size p = `inputs` and d = `units` memory cells.

    W is drawn from N(0, 1/p) and U is orthogonal, unless other initialisers are given. Biases are 0, except that of
    rem: with `rem_bias` = 1 a cell starts by remembering (Jozefowicz, Zaremba and Sutskever 2015).

    Raises ValueError for sizes below 1 and a rem_bias that is not finite; TypeError for sizes that are not integers, a
    rem_bias that is not a number and a key that `jax.random.key` did not make.
    """
    checks.key("key", key)
    checks.count("inputs", inputs)
    checks.count("units", units)
    checks.number("rem_bias", rem_bias)

    def gate(keys: Key[Array, "2"], bias: float) -> Gate:
        return Gate(
            W=input_weights(keys[0], (units, inputs), dtype),
            U=recurrent_weights(keys[1], (units, units), dtype),
            b=jnp.full(units, bias, dtype),
        )

    biases = (rem_bias, 0.0, 0.0, 0.0)
    return Params(*(gate(keys, bias) for keys, bias in zip(jax.random.split(key, (4, 2)), biases, strict=True)))


def zero_state(units: int, batch: int | None = None, *, dtype: jax.typing.DTypeLike = jnp.float32) -> State:
    """Memories of zeros, [d], the start of one sequence or of all sequences of a batch, or [B, d] with B = `batch`.

    Raises ValueError for sizes below 1, TypeError if they are not integers.
    """
    shape = checks.memory_shape(units, batch)
    return State(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def step(params: Params, state: State, x: Float[Array, "*batch p"]) -> State:
    """The memories after one more input x_t: (5.1) to (5.6), in the order of figure 5.2."""
    rem = sigmoid(_weighted_input(params.rem, x, state.wm))  # (5.1)
    save = sigmoid(_weighted_input(params.save, x, state.wm))  # (5.3)
    focus = sigmoid(_weighted_input(params.focus, x, state.wm))  # (5.5)
    candidate = jnp.tanh(_weighted_input(params.ltm, x, state.wm))  # (5.2), ltm' in the notes
    ltm = rem * state.ltm + save * candidate  # (5.4)
    wm = focus * jnp.tanh(ltm)  # (5.6)
    return State(ltm, wm)


def scan(
    params: Params, state: State, xs: Float[Array, "T *batch p"], *, mask: Bool[Array, "T *batch"] | None = None
) -> tuple[State, State]:
    """The last state and the states after every step, [T, d] or [T, B, d], for xs [T, p] or [T, B, p].

    Figure 5.2, once for each step. `state` is [d], shared by all sequences of a batch, or [B, d]. Where `mask` [T] or
    [T, B] is False the state does not change, so that shorter sequences of a batch end with their own last state, and
    what xs holds there, even NaN, does not matter. Differentiable by autodiff any number of times, in both modes.

    Raises ValueError for shapes that do not fit and for T = 0; TypeError for dtypes that are mixed or not floating and
    for a mask that is not boolean.
    """
    state, xs = _check(params, state, xs, mask)

    def one(state: State, inputs: tuple[Array, Array | None]) -> tuple[State, State]:
        x, m = inputs
        new = recurrent.where(m, step(params, state, x), state)
        return new, new

    return jax.lax.scan(one, state, (xs, mask))


def unroll(
    params: Params,
    state: State,
    xs: Float[Array, "T *batch p"],
    *,
    mask: Bool[Array, "T *batch"] | None = None,
    segment: int | None = None,
) -> tuple[State, State]:
    """`scan` with the same arguments and values (section 5.2); reverse mode is backpropagation through time, by hand.

    Sequences are time first. To classify sequences xs [N, T, p] of different `lengths` [N], padded to T steps, by a
    readout w of the last working memory:

        def loss(params, xs, lengths, ys):
            cell, w = params
            mask = lstm.mask(lengths, xs.shape[1])
            last, _ = lstm.unroll(cell, lstm.zero_state(32), jnp.swapaxes(xs, 0, 1), mask=mask)
            return jnp.mean(costs.log_likelihood.value(last.wm @ w.T, ys))

        cell, w = lstm.init(cell_key, p, 32), 0.1 * jax.random.normal(w_key, (classes, 32))
        state = train.init(optimizer, (cell, w))
        data = xs, lengths, jnn.data.one_hot(labels, classes)
        state, history = train.fit(key, jax.value_and_grad(loss), optimizer, state, data, epochs=30, batch_size=32)

    Write dq for the derivative of the loss by q. Going backwards from t = T to 1, where dwm_t and dltm_t collect the
    derivatives through step t+1 and directly through these states:

        dfocus_t  = dwm_t tanh(ltm_t)                                    from (5.6)
        dltm_t   += dwm_t focus_t (1 - tanh(ltm_t)^2)                    from (5.6)
        drem_t    = dltm_t ltm_(t-1),    dsave_t = dltm_t ltm'_t         from (5.4)
        dltm'_t   = dltm_t save_t,       dltm_(t-1) = dltm_t rem_t       from (5.4)
        dz_t      = dq_t q_t (1 - q_t)   for q = rem, save and focus     from (5.1), (5.3), (5.5)
        dz_t      = dltm'_t (1 - ltm'_t^2)   for the candidate           from (5.2)
        dwm_(t-1) = sum of U^T dz_t over the four layers

    and then, for each layer, over all times and examples in one product, dW = sum dz_t x_t^T,
    dU = sum dz_t wm_(t-1)^T, db = sum dz_t; dx_t = sum of W^T dz_t over the layers. Where the mask keeps a state,
    dz_t = 0 and both derivatives pass unchanged.

    `segment` = k stores only every k-th state for the backward pass and recomputes the gates of k steps from it. That
    takes memory for T/k + k steps instead of T, and about one more forward pass; k near sqrt(T) takes the least.

    Raises as `scan` does; ValueError for a segment below 1; TypeError in forward mode, which `scan` supports.
    """
    state, xs = _check(params, state, xs, mask)
    if xs.ndim == 2:
        batch = jax.tree.map(lambda a: a[None], state), xs[:, None], None if mask is None else mask[:, None]
        last, states = _unroll_in_segments(params, *batch, segment)
        return jax.tree.map(lambda a: a[0], last), jax.tree.map(lambda a: a[:, 0], states)
    return _unroll_in_segments(params, state, xs, mask, segment)


def mask(lengths: Integer[Array, " B"], steps: int) -> Bool[Array, "steps B"]:
    """True at the first `lengths[i]` of `steps` times, for each sequence i: the mask of a padded batch.

    Raises TypeError for lengths or steps that are not integers; ValueError for lengths that are not a vector or, unless
    they are traced, not in 0 ... steps.
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
    layers: Sequence[Params],
    states: Sequence[State],
    xs: Float[Array, "T *batch p"],
    *,
    mask: Bool[Array, "T *batch"] | None = None,
) -> tuple[tuple[State, ...], tuple[State, ...]]:
    """A stack of layers, each reading the working memories of the one below: last and all states of each layer.

    Raises as `unroll` does, and ValueError unless there is one state for each layer.
    """
    lasts, everything = [], []
    for params, initial in zip(layers, states, strict=True):
        last, after = unroll(params, initial, xs, mask=mask)
        lasts.append(last)
        everything.append(after)
        xs = after.wm
    return tuple(lasts), tuple(everything)


def both_directions(
    forwards: Params,
    backwards: Params,
    state: State | tuple[State, State],
    xs: Float[Array, "T *batch p"],
    *,
    mask: Bool[Array, "T *batch"] | None = None,
) -> tuple[tuple[State, State], Float[Array, "T *batch two_d"]]:
    """A bidirectional LSTM: both last states, and the working memories of both directions, concatenated.

    `state` starts both directions, or is a pair with one for each, such as the pair that this returns.

    Raises as `unroll` does.
    """
    ahead, back = (state, state) if isinstance(state, State) else state
    last, states = unroll(forwards, ahead, xs, mask=mask)
    flipped = None if mask is None else jnp.flip(mask, 0)
    first, reverse = unroll(backwards, back, jnp.flip(xs, 0), mask=flipped)
    return (last, first), jnp.concatenate([states.wm, jnp.flip(reverse.wm, 0)], axis=-1)


def _weighted_input(gate: Gate, x: Float[Array, "*batch p"], wm: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    z = x @ gate.W.T + wm @ gate.U.T
    return z + jnp.broadcast_to(gate.b, z.shape)


def _unroll_in_segments(  # from here on sequences have a batch axis
    params: Params,
    state: State,
    xs: Float[Array, "T B p"],
    mask: Bool[Array, "T B"] | None,
    segment: int | None,
) -> tuple[State, State]:
    if segment is None:
        return _unroll(params, state, xs, mask)
    checks.count("segment", segment)
    full = len(xs) // segment * segment
    inputs = (xs, mask)
    whole = jax.tree.map(lambda a: a[:full].reshape(-1, segment, *a.shape[1:]), inputs)
    again = jax.checkpoint(lambda state, inputs: _unroll(params, state, *inputs))
    state, states = jax.lax.scan(again, state, whole)
    states = jax.tree.map(lambda a: a.reshape(full, *a.shape[2:]), states)
    if full < len(xs):
        state, rest = again(state, jax.tree.map(lambda a: a[full:], inputs))
        states = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), states, rest)
    return state, states


@jax.custom_vjp
def _unroll(
    params: Params, state: State, xs: Float[Array, "T B p"], mask: Bool[Array, "T B"] | None
) -> tuple[State, State]:
    last, (states, _) = _forward(params, state, xs, mask)
    return last, states


def _forward(params: Params, state: State, xs: Array, mask: Array | None) -> tuple[State, tuple[State, Any]]:
    """The last state, and the states and gates of all steps."""
    W, U, b = (jnp.concatenate(parts) for parts in zip(*params, strict=True))
    W, U = W.T, U.T

    def one(state: State, inputs: tuple[Array, Array | None]) -> tuple[State, tuple[State, Any]]:
        x, m = inputs
        z = x @ W + state.wm @ U + b[None]
        z_rem, z_save, z_focus, z_ltm = jnp.split(z, 4, axis=1)
        rem, save, focus = xla.sigmoid(z_rem), xla.sigmoid(z_save), xla.sigmoid(z_focus)  # (5.1), (5.3), (5.5)
        candidate = jnp.tanh(z_ltm)  # (5.2)
        ltm = rem * state.ltm + save * candidate  # (5.4)
        new = recurrent.where(m, State(ltm, focus * jnp.tanh(ltm)), state)  # (5.6)
        return new, (new, (rem, save, focus, candidate))

    return jax.lax.scan(one, state, (xs, mask))


def _forward_for_backward(params: Params, state: State, xs: Array, mask: Array | None) -> tuple[Any, Any]:
    last, (states, gates) = _forward(params, state, xs, mask)
    return (last, states), (params, state, xs, mask, states, gates)


def _backward(saved: Any, derivatives: tuple[State, State]) -> tuple[Params, State, Array, None]:
    """The derivation of `unroll`, line by line."""
    params, first, xs, mask, states, gates = saved
    dlast, dstates = derivatives
    W, U, _ = (jnp.concatenate(parts) for parts in zip(*params, strict=True))

    def one(carry: tuple[State, Array], inputs: Any) -> tuple[tuple[State, Array], Array]:
        dstate, ltm = carry
        t, dhere, m, (rem, save, focus, candidate) = inputs
        dltm, dwm = dstate.ltm + dhere.ltm, dstate.wm + dhere.wm
        ltm_before = jnp.where(t > 0, states.ltm[jnp.maximum(t - 1, 0)], first.ltm)
        tanh_ltm = jnp.tanh(ltm)
        dltm_gated = dltm + dwm * focus * (1 - tanh_ltm**2)
        dz = jnp.concatenate(
            [
                dltm_gated * ltm_before * rem * (1 - rem),
                dltm_gated * candidate * save * (1 - save),
                dwm * tanh_ltm * focus * (1 - focus),
                dltm_gated * save * (1 - candidate**2),
            ],
            axis=1,
        )
        dz = recurrent.where(m, dz, jnp.zeros_like(dz))
        return (recurrent.where(m, State(dltm_gated * rem, dz @ U), State(dltm, dwm)), ltm_before), dz

    inputs = (jnp.arange(len(xs)), dstates, mask, gates)
    (dfirst, _), dz = jax.lax.scan(one, (dlast, states.ltm[-1]), inputs, reverse=True)
    wm_before = jnp.concatenate([first.wm[None], states.wm[:-1]])
    dWU = xla.sum_of_outer_over_time(dz, jnp.concatenate([xs, wm_before], axis=2))
    dW, dU, db = dWU[:, : W.shape[1]], dWU[:, W.shape[1] :], jnp.sum(dz, axis=(0, 1))
    dparams = Params(*(Gate(*parts) for parts in zip(*(jnp.split(a, 4) for a in (dW, dU, db)), strict=True)))
    return dparams, dfirst, dz @ W, None


_unroll.defvjp(_forward_for_backward, _backward)


def _check(params: Params, state: State, xs: Any, mask: Any) -> tuple[State, Array]:
    """Check shapes and dtypes; the state, with a batch axis if xs has one, and xs with 0 for what is masked."""
    d, p = checks.matrix("params.rem.W", params.rem.W)
    for name, gate in params._asdict().items():
        for part, expected in (("W", (d, p)), ("U", (d, d)), ("b", (d,))):
            checks.shape(f"params.{name}.{part}", getattr(gate, part), expected, "the four gates have the same shapes")
    batch = checks.sequence(xs, p)
    checks.one_dtype(params=params, state=state, xs=xs)
    state = State(*(checks.memory(f"state.{name}", value, batch, d) for name, value in state._asdict().items()))
    return state, recurrent.cleared(xs, mask)
