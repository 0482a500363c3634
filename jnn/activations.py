"""Activation functions with their derivatives, and softmax.

`sigmoid`, `tanh`, `relu`, `gelu`, `identity` and `step` act elementwise on arrays of any shape: `sigmoid(z)` is
sigma(z) and `sigmoid.prime(z)` is sigma'(z). All are finite for |z| up to 1e4. `softmax` couples the neurons of its
layer, so it has a Jacobian instead of a derivative. TypeError for integers or booleans, except where the function is
defined for them.
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
"""A function that acts on each entry independently."""


@jax.tree_util.register_static
@dataclass(frozen=True, repr=False)
class Activation(Named):
    """An elementwise activation: calling it gives sigma(z), `prime` gives sigma'(z); shapes are kept.

    It is a static pytree without leaves, so it passes through `jax.jit` as an ordinary argument. `help` shows the
    docstring of `value`.
    """

    value: Elementwise
    prime: Elementwise

    def __call__(self, z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        return self.value(z)


def _sigmoid(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """sigma(z) = 1 / (1 + exp(-z)), sigma'(z) = a (1 - a) with a = sigma(z)."""
    return jax.nn.sigmoid(z)


def _sigmoid_prime(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    a = jax.nn.sigmoid(z)
    return a * (1 - a)


def _tanh(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """tanh(z), with tanh'(z) = 1 - tanh(z)^2 (exercise 5.1, figure 5.1).

    tanh'(0) is 1, not below 1 as in the notes.
    """
    return jnp.tanh(z)


def _tanh_prime(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    a = jnp.tanh(z)
    return (1 - a) * (1 + a)  # 1 - a^2 without its rounding error near saturation


def _relu(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """max(z, 0), whose derivative at the kink is taken as 0."""
    return jax.nn.relu(z)


def _gelu(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The smooth relu z Phi(z), Phi being the distribution function of N(0, 1) (Hendrycks and Gimpel, 2016)."""
    z = jnp.asarray(z)
    return z * _normal_cdf(z)


def _gelu_prime(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    z = jnp.asarray(z)
    return _normal_cdf(z) + z * jnp.exp(-jnp.square(z) / 2) / (2 * np.pi) ** 0.5


def _normal_cdf(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jax.lax.erfc(-z * 0.5**0.5) / 2


def _identity(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The output of a regression network: z itself."""
    return jnp.asarray(z)


def _step(z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The perceptron of exercise 1.1: 1 where z > 0, else 0 (also at z = 0).

    Its derivative is 0 wherever it exists.
    """
    return jnp.where(jnp.greater(z, 0), 1.0, jnp.zeros_like(z))


sigmoid = Activation("sigmoid", _sigmoid, _sigmoid_prime)
tanh = Activation("tanh", _tanh, _tanh_prime)
relu = Activation("relu", _relu, _step)
gelu = Activation("gelu", _gelu, _gelu_prime)
identity = Activation("identity", _identity, jnp.ones_like)
step = Activation("step", _step, jnp.zeros_like)


def softmax(z: Float[ArrayLike, "*batch J"], c: float | Float[Array, ""] = 1.0) -> Float[Array, "*batch J"]:
    """a_j = exp(c z_j) / sum_i exp(c z_i) over the last axis (section 3.2, exercise 3.3).

    As c grows the output tends to one-hot at the largest z; a k-way tie tends to 1/k each. The largest z is
    subtracted first, as in the solution of exercise 3.3, so that nothing overflows.

    Raises ValueError unless c > 0, and for a z without an axis.
    """
    checks.positive("c", c)
    checks.array("z", z)
    z = jnp.asarray(z, jnp.result_type(z, float))  # unsigned integers would wrap around below the largest
    largest = jax.lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True))
    e = jnp.exp(c * (z - largest))
    return e / jnp.sum(e, axis=-1, keepdims=True)


def softmax_jacobian(z: Float[ArrayLike, " J"], c: float | Float[Array, ""] = 1.0) -> Float[Array, "J J"]:
    """da_j/dz_i = c (diag(a) - a a^T)_ji of `softmax` (section 3.2), which takes the place of sigma' in (2.1), (2.2).

    Raises ValueError unless c > 0 and z is a vector.
    """
    if jnp.ndim(z) != 1:
        raise ValueError(f"z must be a vector [J], got shape {jnp.shape(z)}: for a batch use jax.vmap")
    a = softmax(z, c)
    return c * (jnp.diag(a) - jnp.outer(a, a))
