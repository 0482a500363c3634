"""How gradients vanish or explode on their way back through layers or time (section 5.1).

`flow` and `chain` are equations alone and do not check their arguments: JAX raises ValueError or TypeError for shapes
and dtypes that do not fit.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jnn._internal import checks, varying
from jnn.typing import PyTree


def flow(
    step: Callable[[PyTree, PyTree], PyTree], state: PyTree, inputs: PyTree, loss: Callable[[PyTree], Float[Array, ""]]
) -> tuple[PyTree, PyTree]:
    """Computes the states of any chain of steps, and the derivative of the loss with respect to each (section 5.1).

    The chain is `s_l = step(s_(l-1), inputs_l)` for l = 1, ..., L. In a deep network each layer is one step, with the
    layers' parameters, stacked along a leading axis, as inputs; in a recurrent net each time is one step, with xs as
    inputs. `norms` of the derivatives shows how the gradient vanishes or explodes.

    Args:
      step: (state, input) -> the next state.
      state: The initial state s_0.
      inputs: The inputs of the steps, each leaf with a leading axis L.
      loss: A function of the last state.

    Returns:
      The states and the derivatives; the leaves of both have a leading axis L + 1.

    Example:
      >>> states, derivatives = gradient_flow.flow(jnp.multiply, jnp.ones(1), jnp.full((3, 1), 0.5), jnp.sum)
      >>> derivatives[:, 0]
      Array([0.125, 0.25 , 0.5  , 1.   ], dtype=float32)
    """
    state, inputs = varying.match(state, inputs)
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
    """Computes the Euclidean norm over all other axes and all leaves, at each index of the leading axis (section 5.1).

    The gradient of a norm of 0 is taken as 0.

    Args:
      derivatives: Arrays with one leading axis.

    Returns:
      The norms.

    Raises:
      ValueError: If leaves do not share a leading axis of size at least 1.

    Example:
      >>> gradient_flow.norms(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
      Array([5., 0.], dtype=float32)
    """
    steps = checks.examples((derivatives,), "derivatives", "step")
    rows = jnp.concatenate([leaf.reshape(steps, leaf.size // steps) for leaf in jax.tree.leaves(derivatives)], axis=1)
    # Dividing by the largest before squaring avoids overflow and underflow.
    largest = jnp.max(jnp.abs(rows), axis=1, initial=0)
    units = rows / jnp.where(largest == 0, 1, largest)[:, None]
    squares = jnp.sum(units**2, axis=1)
    return jnp.where(largest == 0, 0, largest * jnp.sqrt(jnp.where(largest == 0, 1, squares)))


def chain(weights: Float[Array, "L 2"], x: Float[Array, "2"]) -> Float[Array, ""]:
    r"""Computes the output of the linear network of section 5.1: L-1 diagonal layers, and one that adds both neurons.

    .. math::

      \hat y = \sum_i x_i \prod_l w_i^{(l)}

    The rows of the weights are :math:`(w_{11}^{(l)}, w_{22}^{(l)})`, and :math:`(w_{11}^{(L)}, w_{12}^{(L)})` for the
    last layer. (The notes once print :math:`w_{11}^{(2)}` for :math:`w_{22}^{(2)}`.)

    Args:
      weights: The weights, one row for each layer.
      x: The input.

    Returns:
      The output.

    Raises:
      ValueError: If `weights` are not [L, 2], or `x` not [2].

    Example:
      >>> gradient_flow.chain(jnp.full((3, 2), 0.5), jnp.ones(2))
      Array(0.25, dtype=float32)
    """
    checks.shape("weights", weights, (*jnp.shape(weights)[:1], 2), "one row for each layer of the chain in section 5.1")
    checks.shape("x", x, (2,), "two inputs")
    return jnp.sum(jnp.prod(weights, axis=0) * x)


def chain_gradient(weights: Float[Array, "L 2"], x: Float[Array, "2"], y: Float[Array, ""]) -> Float[Array, "L 2"]:
    r"""Computes the gradient of `(y - chain(weights, x))^2 / 2` with respect to `weights` in closed form (section 5.1).

    .. math::

      \frac{\partial L}{\partial w_i^{(l)}} = (\hat y - y) \, x_i \prod_{l' \ne l} w_i^{(l')}

    For `|w| < 1` it vanishes as L grows, for `|w| > 1` it explodes. The product is taken without dividing, so a weight
    may be 0.

    Args:
      weights: The weights, one row for each layer.
      x: The input.
      y: The desired output.

    Returns:
      The gradient.

    Raises:
      ValueError: If `weights` are not [L, 2], `x` not [2], or `y` not one number.

    Example:
      >>> gradient_flow.chain_gradient(jnp.full((3, 2), 0.5), jnp.ones(2), jnp.zeros(()))[0]
      Array([0.0625, 0.0625], dtype=float32)
    """
    checks.shape("y", y, (), "one number")
    residual = chain(weights, x) - y
    ones = jnp.ones((1, 2), weights.dtype)
    below = jnp.concatenate([ones, jnp.cumprod(weights[:-1], axis=0)])
    above = jnp.concatenate([jnp.cumprod(weights[:0:-1], axis=0)[::-1], ones])
    return residual * x[None] * below * above
