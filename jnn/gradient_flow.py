"""How gradients vanish or explode on their way back through layers or time (section 5.1).

`flow` and `chain` are equations alone and do not check their arguments: JAX raises ValueError or TypeError for shapes
and dtypes that do not fit.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jnn._internal import checks
from jnn._internal.varying import match_varying
from jnn.typing import PyTree


def flow(
    step: Callable[[PyTree, PyTree], PyTree], state: PyTree, inputs: PyTree, loss: Callable[[PyTree], Float[Array, ""]]
) -> tuple[PyTree, PyTree]:
    """The states s_0, ..., s_L of any chain s_l = step(s_(l-1), inputs_l), and the loss's derivative by each of them.

    Section 5.1 for any network. In a deep network each layer is one step, with the layers' parameters, stacked along a
    leading axis, as inputs; in a recurrent net each time is one step, with xs as inputs. `loss` is a function of the
    last state. The leaves of both results have a leading axis L + 1. `norms` of the derivatives shows how the gradient
    vanishes or explodes.
    """
    state, inputs = match_varying(state, inputs)
    last, states = jax.lax.scan(lambda s, x: (step(s, x), s), state, inputs)

    def back(cotangent: PyTree, s_and_x: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        s, x = s_and_x
        _, pull = jax.vjp(lambda s: step(s, x), s)
        return pull(cotangent)[0], cotangent

    first, derivatives = jax.lax.scan(back, jax.grad(loss)(last), (states, inputs), reverse=True)
    return (
        jax.tree.map(lambda all_but, end: jnp.concatenate([all_but, end[None]]), states, last),
        jax.tree.map(lambda start, others: jnp.concatenate([start[None], others]), first, derivatives),
    )


def norms(derivatives: PyTree) -> Float[Array, " steps"]:
    """The Euclidean norm over all other axes and all leaves, at each index of the leading axis (section 5.1).

    The gradient of a norm of 0 is taken as 0.

    Raises ValueError for leaves that do not share a leading axis of size at least 1.
    """
    steps = checks.examples((derivatives,), "derivatives", "step")
    rows = jnp.concatenate([leaf.reshape(steps, leaf.size // steps) for leaf in jax.tree.leaves(derivatives)], axis=1)
    # Dividing by the largest before squaring avoids overflow and underflow.
    largest = jnp.max(jnp.abs(rows), axis=1, initial=0)
    units = rows / jnp.where(largest == 0, 1, largest)[:, None]
    squares = jnp.sum(units**2, axis=1)
    return jnp.where(largest == 0, 0, largest * jnp.sqrt(jnp.where(largest == 0, 1, squares)))


def chain(weights: Float[Array, "L 2"], x: Float[Array, "2"]) -> Float[Array, ""]:
    """The output of the linear network of section 5.1: L-1 layers diag(w_1^(l), w_2^(l)), and one that adds both.

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
    checks.shape("weights", weights, (*jnp.shape(weights)[:1], 2), "one row for each layer of the chain in section 5.1")
    ones = jnp.ones((1, 2), weights.dtype)
    below = jnp.concatenate([ones, jnp.cumprod(weights[:-1], axis=0)])
    above = jnp.concatenate([jnp.cumprod(weights[:0:-1], axis=0)[::-1], ones])
    return (chain(weights, x) - y) * x[None] * below * above
