"""Chapter 5: the plain recurrent net, and how gradients vanish or explode on their way back (section 5.1).

`step` and the chain are equations alone and leave it to JAX to raise ValueError or TypeError for what does not fit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Key

from jnn import _checks
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

    Raises ValueError for sizes below 1, TypeError for sizes that are no whole numbers or a key of another kind.
    """
    _checks.key("key", key)
    _checks.count("inputs", inputs)
    _checks.count("units", units)
    w_key, u_key = jax.random.split(key)
    return Params(
        W=input_weights(w_key, (units, inputs), dtype),
        U=recurrent_weights(u_key, (units, units), dtype),
        b=jnp.zeros(units, dtype),
    )


def zero_state(units: int, *, dtype: jax.typing.DTypeLike = jnp.float32) -> Float[Array, " d"]:
    """h_0 = 0, for one sequence or for every sequence of a batch.

    Raises ValueError for units below 1, TypeError where they are no whole number.
    """
    _checks.count("units", units)
    return jnp.zeros(units, dtype)


def step(params: Params, state: Float[Array, "*batch d"], x: Float[Array, "*batch p"]) -> Float[Array, "*batch d"]:
    """h_t = tanh(W x_t + U h_(t-1) + b)."""
    z = x @ params.W.T + state @ params.U.T
    return jnp.tanh(z + jnp.broadcast_to(params.b, z.shape))


def scan(
    params: Params, state: Float[Array, "*start d"], xs: Float[Array, "T *batch p"]
) -> tuple[Float[Array, "*batch d"], Float[Array, "T *batch d"]]:
    """The last state and the states after every step, for xs [T, p] or [T, B, p]; derivatives by autodiff.

    `state` may be [d], the same for all sequences of a batch, or [B, d].

    Raises ValueError for shapes that do not fit and for T = 0; TypeError for dtypes that are mixed or not floating.
    """
    return _scan(params, _check(params, state, xs), xs)


def unroll(
    params: Params, state: Float[Array, "*start d"], xs: Float[Array, "T *batch p"]
) -> tuple[Float[Array, "*batch d"], Float[Array, "T *batch d"]]:
    """As `scan` in arguments and values; reverse mode is backpropagation through time, by hand.

    With dh_t made of what step t+1 hands back and of what the loss says of h_t itself, for t = T, ..., 1:

        dz_t = dh_t (1 - h_t^2),    dh_(t-1) = U^T dz_t,

    and dW = sum_t dz_t x_t^T, dU = sum_t dz_t h_(t-1)^T, db = sum_t dz_t, dx_t = W^T dz_t. The product of the
    U^T diag(1 - h_t^2) over t is what vanishes or explodes (section 5.1).

    Raises as `scan` does.
    """
    return _unroll(params, _check(params, state, xs), xs)


def flow(
    step: Callable[[Any, Any], Any], state: Any, inputs: Any, loss: Callable[[Any], Float[Array, ""]]
) -> tuple[Any, Any]:
    """The states s_0, ..., s_L of any chain s_l = step(s_(l-1), inputs_l), and the loss's derivative by each of them.

    For section 5.1 in any net. A layer of a deep net is one step, with the layers' parameters, stacked along a leading
    axis, as inputs; an instant of a recurrent net is one step, with xs as inputs. `loss` is a function of the last
    state. The leaves of both results have a leading axis L + 1. `norms` of the second says how the gradient vanishes or
    explodes.
    """
    last, states = jax.lax.scan(lambda s, x: (step(s, x), s), state, inputs)

    def back(cotangent: Any, s_and_x: tuple[Any, Any]) -> tuple[Any, Any]:
        s, x = s_and_x
        _, pull = jax.vjp(lambda s: step(s, x), s)
        return pull(cotangent)[0], cotangent

    first, derivatives = jax.lax.scan(back, jax.grad(loss)(last), (states, inputs), reverse=True)
    return (
        jax.tree.map(lambda all_but, end: jnp.concatenate([all_but, end[None]]), states, last),
        jax.tree.map(lambda start, others: jnp.concatenate([start[None], others]), first, derivatives),
    )


def norms(derivatives: Any) -> Float[Array, " steps"]:
    """The Euclidean norm, over all other axes and leaves, at each place of the leading axis (section 5.1).

    Raises ValueError for leaves that share no leading axis of at least one place.
    """
    steps = _checks.examples((derivatives,), "derivatives", "step")
    rows = jnp.concatenate([leaf.reshape(steps, leaf.size // steps) for leaf in jax.tree.leaves(derivatives)], axis=1)
    # Divided by the largest before squaring, so no square over- or underflows.
    largest = jnp.max(jnp.abs(rows), axis=1, initial=0)
    units = rows / jnp.where(largest == 0, 1, largest)[:, None]
    return largest * jnp.linalg.norm(units, axis=1)


def chain(weights: Float[Array, "L 2"], x: Float[Array, "2"]) -> Float[Array, ""]:
    """The output of section 5.1's linear net: L-1 layers diag(w_1^(l), w_2^(l)), and a last one that adds both.

    weights[l - 1] = (w_11^(l), w_22^(l)), and (w_11^(L), w_12^(L)) for the last; y = sum_i x_i prod_l w_i^(l).
    (The notes once print w_11^(2) for w_22^(2).)
    """
    return jnp.sum(jnp.prod(weights, axis=0) * x)


def chain_gradient(weights: Float[Array, "L 2"], x: Float[Array, "2"], y: Float[Array, ""]) -> Float[Array, "L 2"]:
    """The gradient of (y - chain(weights, x))^2 / 2 by every weight, in closed form (section 5.1).

    dL/dw_i^(l) = (y_hat - y) x_i times the product of the w_i of all other layers: at |w| < 1 it vanishes with L, at
    |w| > 1 it explodes. The product is taken without dividing, so a weight may be 0.

    Raises ValueError unless weights are [L, 2].
    """
    _checks.shape("weights", weights, (*jnp.shape(weights)[:1], 2), "one row for each layer of section 5.1's chain")
    ones = jnp.ones((1, 2), weights.dtype)
    below = jnp.concatenate([ones, jnp.cumprod(weights[:-1], axis=0)])
    above = jnp.concatenate([jnp.cumprod(weights[:0:-1], axis=0)[::-1], ones])
    return (chain(weights, x) - y) * x[None] * below * above


def _scan(params: Params, state: Array, xs: Array) -> tuple[Array, Array]:
    def one(state: Array, x: Array) -> tuple[Array, Array]:
        new = step(params, state, x)
        return new, new

    return jax.lax.scan(one, state, xs)


_unroll = jax.custom_vjp(_scan)


def _forward(params: Params, state: Array, xs: Array) -> tuple[tuple[Array, Array], Any]:
    last, states = _scan(params, state, xs)
    return (last, states), (params, state, xs, states)


def _backward(saved: Any, derivatives: tuple[Array, Array]) -> tuple[Params, Array, Array]:
    """The derivation of `unroll`."""
    params, first, xs, states = saved
    dlast, dstates = derivatives

    def one(dnext: Array, dstate_and_state: tuple[Array, Array]) -> tuple[Array, Array]:
        dstate, state = dstate_and_state
        dz = (dnext + dstate) * (1 - state**2)
        return dz @ params.U, dz

    dfirst, dz = jax.lax.scan(one, dlast, (dstates, states), reverse=True)
    before = jnp.concatenate([first[None], states[:-1]])
    rows = dz.reshape(-1, dz.shape[-1])
    dparams = Params(
        W=rows.T @ xs.reshape(-1, xs.shape[-1]), U=rows.T @ before.reshape(rows.shape), b=jnp.sum(rows, axis=0)
    )
    return dparams, dfirst, dz @ params.W


_unroll.defvjp(_forward, _backward)


def _check(params: Params, state: Any, xs: Any) -> Array:
    """Raise for what does not fit; the state, with a batch axis where xs has one."""
    d, p = _checks.matrix("params.W", params.W)
    _checks.shape("params.U", params.U, (d, d), "as W, of shape [d, p], says")
    _checks.shape("params.b", params.b, (d,), "as W, of shape [d, p], says")
    batch = _checks.sequence(xs, p)
    _checks.one_dtype(params=params, state=state, xs=xs)
    return _checks.memory("state", state, batch, d)
