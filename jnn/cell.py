"""Chapter 5: what recurrent cells such as `jnn.rnn`, `jnn.gru` and `jnn.lstm` are made of, for cells of your own.

A cell has parameters with gates [d, p] and [d, d], a state, which is an array or a NamedTuple of arrays, [d] or [B, d],
and the equations of a step. `by_hand` turns their derivatives into backpropagation through time.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Key

from jnn._internal import checks, varying, xla
from jnn.recurrent import Inputs, Mask, StateT, Unroll, rematerialise, scan, where
from jnn.typing import PyTree

# The class is left out so that help() starts with the functions: pydoc lists classes first.
__all__ = ["broadcast", "by_hand", "check", "check_params", "init_gates", "weighted_input", "zeros"]


class Gate(NamedTuple):
    """One layer inside a cell, with the weighted input `z_t = W x_t + U h_(t-1) + b`.

    In (5.1) to (5.3) the notes print W in R^(p x d); W x_t needs d x p.

    Attributes:
      W: The weights of the input.
      U: The weights of the state.
      b: The biases.
    """

    W: Float[Array, "d p"]
    U: Float[Array, "d d"]
    b: Float[Array, " d"]


def weighted_input(gate: Gate, x: Float[Array, "*batch p"], h: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """Computes the weighted input z = W x + U h + b, for one example or a batch.

    Args:
      gate: The gate.
      x: The input, [p] or [B, p].
      h: The state that the gate reads, [d] or [B, d].

    Returns:
      The weighted input, [d] or [B, d].

    Example:
      >>> gate = cell.Gate(W=jnp.ones((2, 3)), U=jnp.eye(2), b=jnp.zeros(2))
      >>> cell.weighted_input(gate, jnp.ones(3), jnp.ones(2))
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
      input_weights: Initialises W, as in `jax.nn.initializers`: a function of (key, (p, d), dtype).
      recurrent_weights: Initialises U, of shape (d, d), in the same way.
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
            W=input_weights(w_key, (inputs, units), dtype).T,
            U=recurrent_weights(u_key, (units, units), dtype).T,
            b=jnp.full(units, bias, dtype),
        )
        for (w_key, u_key), bias in zip(jax.random.split(key, (len(biases), 2)), biases, strict=True)
    ]


def zeros(units: int, batch: int | None, dtype: jax.typing.DTypeLike) -> Float[Array, "*batch d"]:
    """Returns an array of a state, filled with zeros.

    Args:
      units: The number d of units.
      batch: The number B of sequences, or None.
      dtype: The dtype of the state.

    Returns:
      Zeros, [B, d], or [d] without `batch`.

    Raises:
      ValueError: If a size is below 1.
      TypeError: If a size is not an integer.

    Example:
      >>> cell.zeros(4, batch=2, dtype=jnp.float32).shape
      (2, 4)
    """
    checks.count("units", units)
    if batch is not None:
        checks.count("batch", batch)
    return jnp.zeros((units,) if batch is None else (batch, units), dtype)


def check(params: PyTree, state: StateT, xs: PyTree, mask: PyTree) -> tuple[StateT, Inputs]:
    """Checks the shapes and dtypes of a cell's arguments.

    Args:
      params: The parameters of the cell: every W is [d, p], every U [d, d] and every other array [d].
      state: The initial state, each array [d] or [B, d].
      xs: The inputs.
      mask: True where a step is valid, or None.

    Returns:
      The state, with a batch axis if `xs` has one, and `xs` with 0 where the mask is False, so that padding, even NaN,
      reaches no value and no gradient.

    Raises:
      ValueError: If shapes do not match or T is 0.
      TypeError: If dtypes are mixed or not floating, or `mask` is not boolean.
    """
    d, p = check_params(params)
    checks.array("xs", xs)
    if jnp.ndim(xs) not in (2, 3) or jnp.shape(xs)[-1] != p or jnp.shape(xs)[0] == 0:
        raise ValueError(f"xs must have shape [T, {p}] or [T, B, {p}], time first, T at least 1, got {jnp.shape(xs)}")
    checks.floating("xs", xs)
    batch = jnp.shape(xs)[1:-1]
    checks.one_dtype(params=params, state=state, xs=xs)
    state = jax.tree_util.tree_map_with_path(
        lambda path, leaf: broadcast(".".join(filter(None, ("state", checks.leaf_name(path)))), leaf, batch, d), state
    )
    if mask is not None:
        advice = "one entry for each time and sequence, time first as in xs [T, B, p], False after its end"
        checks.array("mask", mask)
        checks.shape("mask", mask, jnp.shape(xs)[:-1], advice)
        if not jnp.issubdtype(jnp.result_type(mask), jnp.bool_):
            raise TypeError(f"mask must be boolean, got {jnp.result_type(mask)}: convert it with mask.astype(bool)")
    _, state, xs, mask = varying.match(params, state, xs, mask)
    return state, where(mask, xs, jnp.zeros_like(xs))


def check_params(params: PyTree) -> tuple[int, int]:
    """Returns the sizes d and p of a cell's parameters; raises as `check` does.

    Args:
      params: The parameters of the cell.

    Returns:
      The number d of units and the size p of an input.
    """
    advice = "each W must be [d, p], each U [d, d] and each bias [d], for p inputs and d units"
    leaves = jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda leaf: isinstance(leaf, list))
    named = {f"params.{checks.leaf_name(path)}": leaf for path, leaf in leaves}
    d, p = next(checks.matrix(name, leaf) for name, leaf in named.items() if name.endswith(".W"))
    for name, leaf in named.items():
        checks.shape(name, leaf, {"W": (d, p), "U": (d, d)}.get(name[-1], (d,)), advice)
    return d, p


def broadcast(name: str, value: PyTree, batch: tuple[int, ...], d: int) -> Float[Array, "*batch d"]:
    """Gives one array of a state the batch axes.

    Args:
      name: What error messages call the array.
      value: The array, [d] or [..., d].
      batch: The batch axes.
      d: The number of units.

    Returns:
      The array, [..., d].

    Raises:
      ValueError: If `value` has another shape.
    """
    if jnp.shape(value) not in ((d,), (*batch, d)):
        also = f", or ({d},) for one state that all sequences share" if batch else ""
        advice = ": xs are [T, B, p], time first; move axes [B, T, p] with jnp.swapaxes(xs, 0, 1)" if batch else ""
        if batch and jnp.shape(value)[1:] == (d,):
            advice += "; for a carry, batch_size must divide the number of sequences"
        raise ValueError(f"{name} must have shape {(*batch, d)}{also}, got {jnp.shape(value)}{advice}")
    return jnp.broadcast_to(value, (*batch, d))


def by_hand(
    forward: Callable[..., PyTree],
    backward: Callable[..., PyTree],
    gradients: Callable[..., PyTree],
    *,
    alone: Callable[..., PyTree] | None = None,
) -> Unroll:
    """Makes the unrolling of a cell whose reverse mode is backpropagation through time by hand (section 5.2).

    Going backwards from t = T to 1, the derivative of the loss with respect to :math:`s_t`, through step t+1 and
    directly, gives the derivatives with respect to the weighted inputs, :math:`dz_t`, and with respect to
    :math:`s_{t-1}`. Where the mask keeps a state :math:`dz_t = 0`, and the derivative passes unchanged.

    Args:
      forward: params -> a function (s_(t-1), x_t) -> (s_t, saved), where `saved` is what the derivatives need.
      backward: params -> a function (ds_t, s_(t-1), s_t, saved) -> (ds_(t-1), dz_t).
      gradients: (params, xs, s_(t-1), saved, dz), of all times together, [T, B, ...] -> the gradient with respect to
        params and xs.
      alone: The same as `forward`, for a pass without derivatives, if another formulation is faster there.

    Returns:
      A function (params, state, xs, mask=None, remat_every=None) -> (last, states), whose options are keyword-only. It
      checks its arguments as `check` does and computes `recurrent.rematerialise`. A single sequence is computed as a
      batch of one.

    Example:
      A linear cell, `h_t = W x_t + U h_(t-1) + b`:

      >>> def forward(gate):
      ...     return lambda h, x: (cell.weighted_input(gate, x, h), None)
      >>> def backward(gate):
      ...     return lambda dh, before, after, saved: (dh @ gate.U, dh)
      >>> def gradients(gate, xs, before, saved, dz):
      ...     dW, dU = (jnp.tensordot(dz, right, ((0, 1), (0, 1))) for right in (xs, before))
      ...     return cell.Gate(dW, dU, jnp.sum(dz, (0, 1))), dz @ gate.W
      >>> unroll = cell.by_hand(forward, backward, gradients)
      >>> gate = cell.Gate(W=jnp.ones((2, 3)), U=jnp.eye(2), b=jnp.zeros(2))
      >>> jax.grad(lambda gate: jnp.sum(unroll(gate, jnp.zeros(2), jnp.ones((5, 3)))[0]))(gate).b
      Array([5., 5.], dtype=float32)
    """

    @jax.custom_vjp
    def run(params: PyTree, state: PyTree, xs: Array, mask: Array | None) -> tuple[PyTree, PyTree]:
        last, (states, _) = scan((alone or forward)(params), state, xs, mask)
        return last, states

    def ahead(params: PyTree, state: PyTree, xs: Array, mask: Array | None) -> tuple[PyTree, PyTree]:
        last, (states, saved) = scan(forward(params), state, xs, mask)
        return (last, states), (params, state, xs, mask, states, saved)

    def back(residuals: PyTree, derivatives: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree, Array, None]:
        params, first, xs, mask, states, saved = residuals
        dlast, dstates = derivatives
        step = backward(params)

        def masked(dnext: PyTree, inputs: PyTree) -> tuple[PyTree, PyTree]:
            t, dhere, after, m, kept = inputs
            dstate = jax.tree.map(jnp.add, dnext, dhere)
            before = jax.tree.map(lambda a, s: jnp.where(t > 0, s[jnp.maximum(t - 1, 0)], a), first, states)
            dbefore, dz = step(dstate, before, after, kept)
            return where(m, dbefore, dstate), where(m, dz, jax.tree.map(jnp.zeros_like, dz))

        inputs = (jnp.arange(len(xs)), dstates, states, mask, saved)
        dfirst, dz = xla.scan(masked, dlast, inputs, reverse=True)
        before = jax.tree.map(lambda a, s: jnp.concatenate([a[None], s[:-1]]), first, states)
        dparams, dxs = gradients(params, xs, before, saved, dz)
        return dparams, dfirst, dxs, None

    run.defvjp(ahead, back)

    def whole(params: PyTree, state: PyTree, xs: Array, *, mask: Array | None) -> tuple[PyTree, PyTree]:
        if xs.ndim == 3:
            return run(params, state, xs, mask)
        batch = jax.tree.map(lambda a: a[None], state), xs[:, None], None if mask is None else mask[:, None]
        last, states = run(params, *batch)
        return jax.tree.map(lambda a: a[0], last), jax.tree.map(lambda a: a[:, 0], states)

    def unroll(
        params: PyTree, state: PyTree, xs: Inputs, *, mask: Mask | None = None, remat_every: int | None = None
    ) -> tuple[PyTree, PyTree]:
        state, xs = check(params, state, xs, mask)
        params, mask = varying.match(params, mask, state)[:2]  # the derivatives are of these types
        return rematerialise(whole, params, state, xs, mask=mask, remat_every=remat_every)

    return unroll
