"""Chapter 5: the plain recurrent net, with its backpropagation through time derived by hand.

`step` is the equation alone and does not check its arguments: JAX raises ValueError or TypeError for shapes and dtypes
that do not fit.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Bool, Float, Key

from jnn import recurrent
from jnn._internal import checks
from jnn.mlp import orthogonal, scaled_normal


class Params(NamedTuple):
    """The one layer of the net: h_t = tanh(W x_t + U h_(t-1) + b)."""

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
    """Random parameters for inputs of size p = `inputs` and d = `units`: W from N(0, 1/p), U orthogonal, b = 0.

    Raises ValueError for sizes below 1, TypeError for sizes that are not integers and for a key that
    `jax.random.key` did not make.
    """
    checks.key("key", key)
    checks.count("inputs", inputs)
    checks.count("units", units)
    w_key, u_key = jax.random.split(key)
    return Params(
        W=input_weights(w_key, (units, inputs), dtype),
        U=recurrent_weights(u_key, (units, units), dtype),
        b=jnp.zeros(units, dtype),
    )


def zero_state(
    units: int, batch: int | None = None, *, dtype: jax.typing.DTypeLike = jnp.float32
) -> Float[Array, "*batch d"]:
    """h_0 = 0 [d], for one sequence or for all sequences of a batch, or [B, d] with B = `batch`.

    Raises ValueError for sizes below 1, TypeError if they are not integers.
    """
    return jnp.zeros(checks.memory_shape(units, batch), dtype)


def step(params: Params, state: Float[Array, "*batch d"], x: Float[Array, "*batch p"]) -> Float[Array, "*batch d"]:
    """h_t = tanh(W x_t + U h_(t-1) + b)."""
    z = x @ params.W.T + state @ params.U.T
    return jnp.tanh(z + jnp.broadcast_to(params.b, z.shape))


def scan(
    params: Params,
    state: Float[Array, "*start d"],
    xs: Float[Array, "T *batch p"],
    *,
    mask: Bool[Array, "T *batch"] | None = None,
) -> tuple[Float[Array, "*batch d"], Float[Array, "T *batch d"]]:
    """The last state and the states after every step, for xs [T, p] or [T, B, p]; derivatives by autodiff.

    `state` is [d], shared by all sequences of a batch, or [B, d]. Where `mask` [T] or [T, B] is False the state does
    not change, and what xs holds there, even NaN, does not matter;
    `lstm.mask` makes a mask from lengths.

    Raises ValueError for shapes that do not fit and for T = 0; TypeError for dtypes that are mixed or not floating and
    for a mask that is not boolean.
    """
    return _scan(params, *_check(params, state, xs, mask), mask)


def unroll(
    params: Params,
    state: Float[Array, "*start d"],
    xs: Float[Array, "T *batch p"],
    *,
    mask: Bool[Array, "T *batch"] | None = None,
) -> tuple[Float[Array, "*batch d"], Float[Array, "T *batch d"]]:
    """`scan` with the same arguments and values; reverse mode is backpropagation through time, by hand.

    Write dh_t for the derivative of the loss by h_t, through step t+1 and directly. For t = T, ..., 1:

        dz_t = dh_t (1 - h_t^2),    dh_(t-1) = U^T dz_t,

    and dW = sum_t dz_t x_t^T, dU = sum_t dz_t h_(t-1)^T, db = sum_t dz_t, dx_t = W^T dz_t. The product of the
    U^T diag(1 - h_t^2) over t is what vanishes or explodes (section 5.1, `jnn.gradient_flow`). Where the mask keeps a
    state, dz_t = 0 and dh_t passes unchanged.

    Raises as `scan` does; TypeError in forward mode, which `scan` supports.
    """
    return _unroll(params, *_check(params, state, xs, mask), mask)


def _scan(params: Params, state: Array, xs: Array, mask: Array | None) -> tuple[Array, Array]:
    def one(state: Array, inputs: tuple[Array, Array | None]) -> tuple[Array, Array]:
        x, m = inputs
        new = recurrent.where(m, step(params, state, x), state)
        return new, new

    return jax.lax.scan(one, state, (xs, mask))


_unroll = jax.custom_vjp(_scan)


def _forward(params: Params, state: Array, xs: Array, mask: Array | None) -> tuple[tuple[Array, Array], Any]:
    last, states = _scan(params, state, xs, mask)
    return (last, states), (params, state, xs, mask, states)


def _backward(saved: Any, derivatives: tuple[Array, Array]) -> tuple[Params, Array, Array, None]:
    """The derivation of `unroll`."""
    params, first, xs, mask, states = saved
    dlast, dstates = derivatives

    def one(dnext: Array, inputs: tuple[Array, Array, Array | None]) -> tuple[Array, Array]:
        dhere, state, m = inputs
        dstate = dnext + dhere
        dz = recurrent.where(m, dstate * (1 - state**2), jnp.zeros_like(dstate))
        return recurrent.where(m, dz @ params.U, dstate), dz

    dfirst, dz = jax.lax.scan(one, dlast, (dstates, states, mask), reverse=True)
    before = jnp.concatenate([first[None], states[:-1]])
    steps = tuple(range(dz.ndim - 1))  # and rows of a batch, which devices may share
    dparams = Params(
        W=jnp.tensordot(dz, xs, (steps, steps)), U=jnp.tensordot(dz, before, (steps, steps)), b=jnp.sum(dz, axis=steps)
    )
    return dparams, dfirst, dz @ params.W, None


_unroll.defvjp(_forward, _backward)


def _check(params: Params, state: Any, xs: Any, mask: Any) -> tuple[Array, Array]:
    """Check shapes and dtypes; the state, with a batch axis if xs has one, and xs with 0 for what is masked."""
    d, p = checks.matrix("params.W", params.W)
    checks.shape("params.U", params.U, (d, d), "d units, as in W [d, p]")
    checks.shape("params.b", params.b, (d,), "d units, as in W [d, p]")
    batch = checks.sequence(xs, p)
    checks.one_dtype(params=params, state=state, xs=xs)
    return checks.memory("state", state, batch, d), recurrent.cleared(xs, mask)
