"""Chapter 1: perceptrons and the sigmoid neurons that replace them, the layer of bits, the step of steepest descent.

A network of perceptrons is an ordinary `mlp` network with the step activation in every layer. Numbers that must be
positive and are not raise ValueError; a value that is not one number raises TypeError.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jnn import mlp
from jnn._internal import checks, dtypes
from jnn.activations import step
from jnn.mlp import Layer, Params
from jnn.typing import PyTree, Scalar


def forward(params: Params, x: Float[Array, " n_in"]) -> Float[Array, " n_out"]:
    """Computes the outputs, each 0 or 1, of a network of perceptrons for one example (exercise 1.1).

    Args:
      params: The parameters.
      x: One example.

    Returns:
      The outputs.

    Raises:
      ValueError: As `mlp.logits` does.
      TypeError: As `mlp.logits` does.

    Example:
      >>> nand = (mlp.Layer(w=jnp.array([[-2.0, -2.0]]), b=jnp.array([3.0])),)
      >>> [int(perceptron.forward(nand, jnp.array(x))[0]) for x in ([0.0, 1.0], [1.0, 1.0])]
      [1, 0]
    """
    return mlp.forward(params, x, hidden=step, output=step)


def scale(params: Params, c: Scalar) -> Params:
    """Multiplies every weight and bias by c > 0.

    The outputs of perceptrons do not change (exercise 1.1): exactly for powers of two, otherwise up to rounding, which
    matters where w.x + b is 0. With sigmoid neurons, `mlp.forward(scale(params, c), x)` tends to `forward(params, x)`
    as c grows (exercise 1.2), unless w.x + b = 0 for one of the perceptrons: there the perceptron outputs 0 and the
    sigmoid neuron 1/2, for every c in the first layer, in the limit in later ones.

    Args:
      params: The parameters.
      c: The factor.

    Returns:
      The scaled parameters.

    Raises:
      ValueError: If `c` is not positive.

    Example:
      >>> perceptron.scale((mlp.Layer(w=jnp.ones((1, 2)), b=jnp.ones(1)),), 2.0)[0].w
      Array([[2., 2.]], dtype=float32)
    """
    checks.positive_number("c", c)
    return jax.tree.map(lambda leaf: c * leaf, params)


def bits_layer(c: Scalar = 20.0, *, dtype: jax.typing.DTypeLike = jnp.float32) -> Layer:
    r"""Makes the layer of exercise 1.3, which turns ten digit neurons into four bits: w [4, 10] and b [4].

    Bit 0' comes first. `w[j, i]` is c if bit j of the digit i is set and -c if not; b = 0. If one digit's activation is
    at least 0.99 and the others are between 0 and 0.01, `z_j` is at least 0.9 c or at most -0.9 c, and
    :math:`\sigma(z)` is a bit to within :math:`e^{-0.9 c}`.

    The notes give 1' the weight +1 for the digit 9 too, which decodes 9 = 1001 as 1011 = 11, and call 1' the second
    most significant bit; it is the second least significant.

    Args:
      c: The size of the weights.
      dtype: The dtype of the parameters.

    Returns:
      The layer.

    Raises:
      ValueError: If `c` is not positive.

    Example:
      >>> layer = perceptron.bits_layer()
      >>> mlp.forward((layer,), jnp.eye(10)[6]).round()
      Array([0., 1., 1., 0.], dtype=float32)
    """
    checks.positive_number("c", c)
    bits = (jnp.arange(10)[None] >> jnp.arange(4)[:, None]) & 1
    return Layer(w=jnp.asarray(c * (2.0 * bits - 1), dtype), b=jnp.zeros(4, dtype))


def steepest_step(gradient: PyTree, epsilon: Scalar) -> PyTree:
    r"""Computes the step of length epsilon along which the cost decreases most (exercise 1.4).

    .. math::

      \Delta v = -\epsilon \frac{\nabla C}{\lVert \nabla C \rVert}

    minimises :math:`\nabla C \cdot \Delta v`, which is then :math:`-\epsilon \lVert \nabla C \rVert`, by the
    Cauchy-Schwarz inequality: the notes bound its absolute value, but the claim is about the signed value. If the
    gradient is 0 no step is better than another, and the step returned is 0.

    Args:
      gradient: The gradient, any pytree; its norm is over all leaves together.
      epsilon: The length of the step.

    Returns:
      The step, a tree like `gradient`.

    Raises:
      ValueError: If `epsilon` is not positive.

    Example:
      >>> np.asarray(perceptron.steepest_step(jnp.array([3.0, 4.0]), 0.5)).round(3)
      array([-0.3, -0.4], dtype=float32)
    """
    checks.positive_number("epsilon", epsilon)
    leaves = jax.tree.leaves(gradient)
    wide = dtypes.single(*leaves)
    # Dividing by the largest entry before squaring avoids overflow and underflow.
    sizes = [jnp.max(jnp.abs(leaf), initial=0).astype(wide) for leaf in leaves]
    largest = jnp.max(jnp.array(sizes, wide), initial=0)
    largest = jnp.where(largest == 0, 1, largest)
    square = sum(jnp.sum((leaf.astype(wide) / largest) ** 2) for leaf in leaves)
    norm = jnp.sqrt(jnp.where(square == 0, 1, square))
    return jax.tree.map(lambda leaf: (-epsilon * (leaf.astype(wide) / largest / norm)).astype(leaf.dtype), gradient)
