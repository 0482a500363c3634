"""Chapter 1: perceptrons and the sigmoid neurons that replace them, the layer of bits, the step of steepest descent.

A network of perceptrons is an ordinary `mlp` network with the step activation in every layer.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jnn import mlp
from jnn._internal import checks, dtypes
from jnn.activations import step
from jnn.mlp import Layer, Params
from jnn.typing import PyTree, Scalar


def forward(params: Params, x: Float[Array, " n_in"]) -> Float[Array, " n_out"]:
    """The outputs, each 0 or 1, of a network of perceptrons for one example x (exercise 1.1).

    Raises as `mlp.logits` does.
    """
    return mlp.forward(params, x, hidden=step, output=step)


def scale(params: Params, c: Scalar) -> Params:
    """Every weight and bias times c > 0.

    The outputs of perceptrons do not change (exercise 1.1): exactly for powers of two, otherwise up to rounding, which
    matters where w.x + b is 0. With sigmoid neurons, `mlp.forward(scale(params, c), x)` tends to `forward(params, x)`
    as c grows (exercise 1.2), unless w.x + b = 0 for one of the perceptrons: there the perceptron outputs 0 and the
    sigmoid neuron 1/2, for every c in the first layer, in the limit in later ones.

    Raises ValueError unless c > 0, TypeError unless it is one number.
    """
    checks.number("c", c)
    checks.positive("c", c)
    return jax.tree.map(lambda leaf: c * leaf, params)


def bits_layer(c: Scalar = 20.0, *, dtype: jax.typing.DTypeLike = jnp.float32) -> Layer:
    """The layer of exercise 1.3: w [4, 10] and b [4] turn ten digit neurons into four bits, bit 0' first.

    w[j, i] is c if bit j of the digit i is set and -c if not; b = 0. If one digit's activation is at least 0.99 and the
    others are between 0 and 0.01, z_j is at least 0.9 c or at most -0.9 c, and sigma(z) is a bit to within exp(-0.9 c).

    The notes give 1' the weight +1 for the digit 9 too, which decodes 9 = 1001 as 1011 = 11, and call 1' the second
    most significant bit; it is the second least significant.

    Raises ValueError unless c > 0, TypeError unless it is one number.
    """
    checks.number("c", c)
    checks.positive("c", c)
    bits = (jnp.arange(10)[None] >> jnp.arange(4)[:, None]) & 1
    return Layer(w=jnp.asarray(c * (2.0 * bits - 1), dtype), b=jnp.zeros(4, dtype))


def steepest_step(gradient: PyTree, epsilon: Scalar) -> PyTree:
    """The step dv of length epsilon for which grad C . dv is least: dv = -epsilon grad C / |grad C| (exercise 1.4).

    `gradient` is any pytree, and so is the step; norms are over all leaves together. The product is then
    -epsilon |grad C|, by the Cauchy-Schwarz inequality: the notes bound its absolute value, but the claim is about the
    signed value. If the gradient is 0 no step is better than another, and the step returned is 0.

    Raises ValueError unless epsilon > 0, TypeError unless it is one number.
    """
    checks.number("epsilon", epsilon)
    checks.positive("epsilon", epsilon)
    leaves = jax.tree.leaves(gradient)
    wide = dtypes.single(*leaves)
    # Dividing by the largest entry before squaring avoids overflow and underflow.
    largest = functools.reduce(
        jnp.maximum, [jnp.max(jnp.abs(leaf), initial=0).astype(wide) for leaf in leaves], jnp.zeros((), wide)
    )
    largest = jnp.where(largest == 0, 1, largest)
    square = sum(jnp.sum((leaf.astype(wide) / largest) ** 2) for leaf in leaves)
    norm = jnp.sqrt(jnp.where(square == 0, 1, square))
    return jax.tree.map(lambda leaf: (-epsilon * (leaf.astype(wide) / largest / norm)).astype(leaf.dtype), gradient)
