r"""Activation functions with their derivatives, and softmax.

`sigmoid`, `tanh`, `relu` and its relatives `leaky_relu`, `elu`, `softplus`, `silu` and `gelu`, `identity` and `step`
act elementwise on arrays of any shape: `sigmoid(z)` is :math:`\sigma(z)` and `sigmoid.prime(z)` is
:math:`\sigma'(z)`. All are finite for `|z|` up to 1e4. `softmax` couples the neurons of its layer, so it has a Jacobian
in place of a derivative.

Integers and booleans raise TypeError, except where the function is defined for them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jnn._internal import checks
from jnn._internal.named import Named

Elementwise = Callable[[Float[ArrayLike, "*shape"]], Float[Array, "*shape"]]
"""A function that acts on each entry of an array independently."""


@jax.tree_util.register_static
@dataclass(frozen=True, repr=False)
class Activation(Named):
    r"""An elementwise activation: calling it gives :math:`\sigma(z)`, `prime` gives :math:`\sigma'(z)`.

    Both keep the shape of z. An activation is a static pytree without leaves, so it passes through `jax.jit` as an
    ordinary argument. `help` shows the docstring of `value`.

    Attributes:
      name: The name under which it is printed.
      value: The function itself.
      prime: Its derivative.

    Example:
      An activation of your own, whose derivative is checked:

      >>> square = activations.Activation("square", jnp.square, lambda z: 2 * z)
      >>> square(jnp.array([3.0])), square.prime(jnp.array([3.0]))
      (Array([9.], dtype=float32), Array([6.], dtype=float32))
      >>> gradcheck.assert_ok(lambda z: jnp.sum(square(z)), square.prime, jnp.array([-2.0, 0.5]))
    """

    value: Elementwise
    prime: Elementwise

    def __call__(self, z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """Computes the activation."""
        return self.value(z)


def _sigmoid(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The logistic sigmoid `1 / (1 + exp(-z))`, with the derivative `a (1 - a)` for `a = sigma(z)`.

    Example:
      >>> activations.sigmoid(jnp.array([0.0, 100.0]))
      Array([0.5, 1. ], dtype=float32)
      >>> activations.sigmoid.prime(jnp.array([0.0, 100.0]))
      Array([0.25, 0.  ], dtype=float32)
    """
    return jax.nn.sigmoid(z)


def _sigmoid_prime(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    a = jax.nn.sigmoid(z)
    return a * (1 - a)


def _tanh(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The hyperbolic tangent, with the derivative `1 - tanh(z)^2` (exercise 5.1, figure 5.1).

    `tanh'(0)` is 1, not below 1 as the notes have it.

    Example:
      >>> activations.tanh(jnp.array([0.0, 100.0]))
      Array([0., 1.], dtype=float32)
      >>> activations.tanh.prime(jnp.array([0.0, 100.0]))
      Array([1., 0.], dtype=float32)
    """
    return jnp.tanh(z)


def _tanh_prime(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    a = jnp.tanh(z)
    return (1 - a) * (1 + a)  # 1 - a^2 without its rounding error near saturation


def _relu(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The rectified linear unit `max(z, 0)`, whose derivative at the kink is taken as 0.

    Example:
      >>> activations.relu(jnp.array([-1.0, 2.0]))
      Array([0., 2.], dtype=float32)
      >>> activations.relu.prime(jnp.array([-1.0, 2.0]))
      Array([0., 1.], dtype=float32)
    """
    return jax.nn.relu(z)


def _leaky_relu(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The relu with the slope 0.01 instead of 0 for z <= 0, the kink included (Maas et al., 2013).

    Example:
      >>> activations.leaky_relu(jnp.array([-1.0, 2.0]))
      Array([-0.01,  2.  ], dtype=float32)
      >>> activations.leaky_relu.prime(jnp.array([-1.0, 0.0, 2.0]))
      Array([0.01, 0.01, 1.  ], dtype=float32)
    """
    return jnp.where(jnp.greater(z, 0), z, jnp.multiply(0.01, z))


def _leaky_relu_prime(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.where(jnp.greater(z, 0), 1.0, jnp.full_like(z, 0.01))


def _elu(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The exponential linear unit, z for z > 0, else `exp(z) - 1` (Clevert et al., 2015).

    Its derivative is continuous.

    Example:
      >>> activations.elu(jnp.array([-100.0, 2.0]))
      Array([-1.,  2.], dtype=float32)
      >>> activations.elu.prime(jnp.array([-100.0, 0.0, 2.0]))
      Array([0., 1., 1.], dtype=float32)
    """
    return jax.nn.elu(z)


def _softplus(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The smooth relu `ln(1 + exp(z))`, with the derivative `sigma(z)` (Dugas et al., 2001).

    Example:
      >>> activations.softplus(jnp.array([-100.0, 100.0]))
      Array([  0., 100.], dtype=float32)
      >>> activations.softplus.prime(jnp.array([0.0, 100.0]))
      Array([0.5, 1. ], dtype=float32)
    """
    return jax.nn.softplus(z)


def _silu(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The smooth relu `z sigma(z)`, also called swish (Elfwing et al., 2018).

    Example:
      >>> activations.silu(jnp.array([0.0, 100.0]))
      Array([  0., 100.], dtype=float32)
      >>> activations.silu.prime(jnp.array([0.0, 100.0]))
      Array([0.5, 1. ], dtype=float32)
    """
    return jax.nn.silu(z)


def _silu_prime(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return _sigmoid(z) + z * _sigmoid_prime(z)


def _gelu(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The smooth relu `z Phi(z)`, where Phi is the distribution function of N(0, 1) (Hendrycks and Gimpel, 2016).

    Example:
      >>> activations.gelu(jnp.array([0.0, 100.0]))
      Array([  0., 100.], dtype=float32)
      >>> activations.gelu.prime(jnp.array([0.0, 100.0]))
      Array([0.5, 1. ], dtype=float32)
    """
    z = jnp.asarray(z)
    return z * _normal_cdf(z)


def _gelu_prime(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    z = jnp.asarray(z)
    return _normal_cdf(z) + z * jnp.exp(-jnp.square(z) / 2) / (2 * np.pi) ** 0.5


def _normal_cdf(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jax.lax.erfc(-z * 0.5**0.5) / 2


def _identity(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The output of a regression network: z itself.

    Example:
      >>> activations.identity(jnp.array([-1.0, 2.0]))
      Array([-1.,  2.], dtype=float32)
      >>> activations.identity.prime(jnp.array([-1.0, 2.0]))
      Array([1., 1.], dtype=float32)
    """
    return jnp.asarray(z)


def _step(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The perceptron of exercise 1.1: 1 where z > 0, else 0 (also at z = 0).

    Its derivative is 0 wherever it exists.

    Example:
      >>> activations.step(jnp.array([0.0, 2.0]))
      Array([0., 1.], dtype=float32)
      >>> activations.step.prime(jnp.array([0.0, 2.0]))
      Array([0., 0.], dtype=float32)
    """
    return jnp.where(jnp.greater(z, 0), 1.0, jnp.zeros_like(z))


sigmoid = Activation("sigmoid", _sigmoid, _sigmoid_prime)
tanh = Activation("tanh", _tanh, _tanh_prime)
relu = Activation("relu", _relu, _step)
leaky_relu = Activation("leaky_relu", _leaky_relu, _leaky_relu_prime)
elu = Activation("elu", _elu, lambda z: jnp.exp(jnp.minimum(z, 0)))
softplus = Activation("softplus", _softplus, _sigmoid)
silu = Activation("silu", _silu, _silu_prime)
gelu = Activation("gelu", _gelu, _gelu_prime)
identity = Activation("identity", _identity, jnp.ones_like)
step = Activation("step", _step, jnp.zeros_like)


def softmax(z: Float[ArrayLike, "*batch J"], c: float | Float[Array, ""] = 1.0) -> Float[Array, "*batch J"]:
    r"""Computes the softmax over the last axis (section 3.2, exercise 3.3).

    .. math::

      a_j = \frac{e^{c z_j}}{\sum_i e^{c z_i}}

    As c grows the output tends to one-hot at the largest z; a k-way tie tends to 1/k each. The largest z is subtracted
    first, as in the solution of exercise 3.3, so that nothing overflows.

    Args:
      z: The weighted inputs [..., J], of any real dtype; integers are converted to floats.
      c: The inverse temperature.

    Returns:
      The activations [..., J], which sum to 1 over the last axis.

    Raises:
      ValueError: If `c` is not positive and finite, or `z` has no axis.
      TypeError: If `c` is not a number, or `z` is not an array.

    Example:
      >>> activations.softmax(jnp.array([0.0, 0.0]))
      Array([0.5, 0.5], dtype=float32)
      >>> activations.softmax(jnp.array([0.0, 1.0]), c=100.0)
      Array([0., 1.], dtype=float32)
    """
    checks.positive("c", c)
    checks.array("z", z)
    z = jnp.asarray(z, jnp.result_type(z, float))  # unsigned integers would wrap around below the largest
    largest = jax.lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True))
    e = jnp.exp(c * (z - largest))
    return e / jnp.sum(e, axis=-1, keepdims=True)


def softmax_jacobian(z: Float[ArrayLike, " J"], c: float | Float[Array, ""] = 1.0) -> Float[Array, "J J"]:
    r"""Computes the Jacobian of `softmax` (section 3.2), which takes the place of :math:`\sigma'` in (2.1) and (2.2).

    .. math::

      \frac{\partial a_j}{\partial z_i} = c \left( \operatorname{diag}(a) - a a^\mathsf{T} \right)_{ji}

    Args:
      z: The weighted inputs of one example.
      c: The inverse temperature.

    Returns:
      The Jacobian, [J, J].

    Raises:
      ValueError: If `c` is not positive or `z` is not a vector.

    Example:
      >>> activations.softmax_jacobian(jnp.zeros(2))
      Array([[ 0.25, -0.25],
             [-0.25,  0.25]], dtype=float32)
    """
    if jnp.ndim(z) != 1:
        raise ValueError(f"z must be a vector [J], got shape {jnp.shape(z)}: for a batch use jax.vmap")
    a = softmax(z, c)
    return c * (jnp.diag(a) - jnp.outer(a, a))
