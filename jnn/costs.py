r"""Cost functions of the weighted inputs z of the last layer: output activation, value and hand-derived error.

A `Cost` has `output(z)` = :math:`a^L`, `value(z, y)` = C and `delta(z, y)` = :math:`\delta^L = \partial C / \partial
z^L`. The three act over the last axis: z and y are one example [k] or a batch [..., k]. No logarithm of an activation
is ever taken, so values and gradients are finite for `|z|` up to 1e4, and for logits of -inf where y is 0.

If the shapes or dtypes of z and y do not fit, or z or y is not an array, the functions raise ValueError or TypeError.
They raise ValueError, too, for desired outputs outside `Cost.targets`, unless these are traced.

Example:
  >>> z, y = jnp.zeros((5, 2)), jnp.eye(2)[jnp.array([0, 1, 0, 0, 1])]
  >>> costs.quadratic.value(z, y)
  Array([0.25, 0.25, 0.25, 0.25, 0.25], dtype=float32)
  >>> costs.cross_entropy.delta(z, y)[0]
  Array([-0.5,  0.5], dtype=float32)
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jnn import activations
from jnn._internal import checks, dtypes
from jnn._internal.named import Named
from jnn.activations import Activation
from jnn.typing import PyTree, Scalar


@jax.tree_util.register_static
@dataclass(frozen=True, repr=False)
class Cost(Named):
    """The cost C of one example, as three functions of :math:`z = z^L` and the desired output y.

    Like an `Activation` it is a static pytree without leaves. `help` shows the docstring of `value`.

    Attributes:
      name: The name under which it is printed.
      output: The output activation: z -> a^L, [..., k].
      value: (z, y) -> C, [...]; in nats for the two entropies.
      delta: (z, y) -> dC/dz^L, [..., k], the error of section 2.1: (2.1) for outputs that act elementwise, (2.2) with a
        full Jacobian for softmax.
      made_by: The function that makes the cost, with its arguments bound, if there is one; pickling stores this call.
      targets: The least and the largest desired output for which C is at least 0. Outside, it may have no minimum.

    Example:
      A cost of your own, for counts y with a Poisson distribution of mean exp(z):

      >>> poisson = costs.Cost(
      ...     "poisson",
      ...     jnp.exp,
      ...     lambda z, y: jnp.sum(jnp.exp(z) - y * z, axis=-1),
      ...     lambda z, y: jnp.exp(z) - y,
      ... )
      >>> poisson.delta(jnp.array([0.0, 0.0]), jnp.array([1.0, 3.0]))
      Array([ 0., -2.], dtype=float32)
    """

    output: Callable[[Float[ArrayLike, "*batch k"]], Float[Array, "*batch k"]]
    value: Callable[[Float[ArrayLike, "*batch k"], Float[ArrayLike, "*batch k"]], Float[Array, "*batch"]]
    delta: Callable[[Float[ArrayLike, "*batch k"], Float[ArrayLike, "*batch k"]], Float[Array, "*batch k"]]
    targets: tuple[float, float] = field(default=(-math.inf, math.inf), kw_only=True)


def _single(
    z: Float[ArrayLike, "*batch k"], y: Float[ArrayLike, "*batch k"], cost: Cost | None = None
) -> list[Float[Array, "*batch k"]]:
    """The arrays z and y in one dtype, at least float32: costs are never summed in half precision."""
    _check(z, y, cost)
    dtype = dtypes.single(z, y)
    return [jnp.asarray(a, dtype) for a in (z, y)]


def _check(z: PyTree, y: PyTree, cost: Cost | None = None) -> None:
    """Raise ValueError unless y has one entry for each of z, within the targets of the cost.

    An axis of length 1 broadcasts over z.
    """
    checks.array("z", z)
    checks.array("y", y)
    expected, given = jnp.shape(z), jnp.shape(y)
    fits = len(given) == len(expected) and given[-1:] == expected[-1:]
    if not fits or any(n not in (1, m) for n, m in zip(given, expected, strict=True)):
        advice = "one desired output for each z; data.one_hot makes rows from labels"
        raise ValueError(f"y must have shape {expected}, got {given}: {advice}")
    if cost is None:
        return
    if cost is log_likelihood and expected[-1:] == (1,):
        raise ValueError(
            f"z must have at least two outputs for {cost!r}, got shape {expected}, whose softmax is always 1: "
            "use costs.cross_entropy for one output, or two outputs"
        )
    checks.targets("y", y, cost)


def _times(y: Float[Array, "*batch k"], ln: Float[Array, "*batch k"]) -> Float[Array, "*batch k"]:
    """The product y ln a, with its limit 0 ln 0 = 0: a logit of -inf masks an output whose y is 0."""
    return y * jnp.where((y == 0) & jnp.isneginf(ln), 0, ln)


@functools.cache
def quadratic_with(output: Activation) -> Cost:
    """Makes the quadratic cost `C = 1/2 ||y - a||^2` with any elementwise output `a = output(z)` (section 2.1).

    `activations.identity` and `activations.tanh` suit regression.

    Args:
      output: The output activation, with its derivative `prime`.

    Returns:
      The cost; equal activations give the same object, so programs are reused.

    Example:
      >>> cost = costs.quadratic_with(activations.identity)
      >>> cost.value(jnp.array([2.0, 0.0]), jnp.array([1.0, 0.0]))
      Array(0.5, dtype=float32)
    """

    def value(z: Float[ArrayLike, "*batch k"], y: Float[ArrayLike, "*batch k"]) -> Float[Array, "*batch"]:
        r"""The quadratic cost `C = 1/2 ||y - a||^2` of section 2.1, where `a = output(z)`.

        Its error is (2.1), whose last factor makes learning slow where the output saturates (exercise 3.2):

        .. math::

          \delta = (a - y) \odot \mathrm{output}'(z)

        The output of `costs.quadratic` is the sigmoid; `costs.quadratic_with` takes any other.
        """
        z, y = _single(z, y)
        return jnp.sum((y - output(z)) ** 2, axis=-1) / 2

    def delta(z: Float[ArrayLike, "*batch k"], y: Float[ArrayLike, "*batch k"]) -> Float[Array, "*batch k"]:
        _check(z, y)
        minus_error = jnp.subtract(y, output(z))  # also in the value, so XLA computes it once
        return -minus_error * output.prime(z)  # (2.1)

    name = "quadratic" if output is activations.sigmoid else f"quadratic_with({output!r})"
    return Cost(name, output, value, delta, made_by=functools.partial(quadratic_with, output))


quadratic = quadratic_with(activations.sigmoid)
"""The quadratic cost with sigmoid outputs, `quadratic_with(activations.sigmoid)` (section 2.1)."""


def huber_with(threshold: Scalar) -> Cost:
    """Makes the Huber cost: quadratic for errors up to the threshold, and linear beyond (Huber, 1964).

    An outlier has no more influence on the gradient than an error at the threshold.

    Args:
      threshold: The largest error `|z - y|` of the quadratic part, called delta in optax and torch.

    Returns:
      The cost; equal thresholds give the same object, so programs are reused.

    Raises:
      ValueError: If the threshold is not positive and finite.
      TypeError: If the threshold is not a number.

    Example:
      >>> cost = costs.huber_with(2.0)
      >>> cost.value(jnp.array([1.0, 5.0]), jnp.array([0.0, 0.0]))
      Array(8.5, dtype=float32)
    """
    checks.positive_number("threshold", threshold)
    return _huber_with(float(threshold))


@functools.cache
def _huber_with(threshold: float) -> Cost:
    def value(z: Float[ArrayLike, "*batch k"], y: Float[ArrayLike, "*batch k"]) -> Float[Array, "*batch"]:
        r"""The Huber cost of linear outputs, for regression with outliers (Huber, 1964).

        .. math::

          C = \sum_j \begin{cases}
            (z_j - y_j)^2 / 2 & \text{where } |z_j - y_j| \le t, \\
            t \, (|z_j - y_j| - t / 2) & \text{elsewhere}
          \end{cases}

        The error is `z - y`, clipped to [-t, t]. C is the sum of `optax.losses.huber_loss(z, y, delta=t)` over the
        outputs; the mean that `torch.nn.HuberLoss` returns divides it by their number.

        The threshold t of `costs.huber` is 1; `costs.huber_with` takes any other.
        """
        z, y = _single(z, y)
        clipped = jnp.clip(z - y, -threshold, threshold)
        return jnp.sum(clipped * (z - y - clipped / 2), axis=-1)

    def delta(z: Float[ArrayLike, "*batch k"], y: Float[ArrayLike, "*batch k"]) -> Float[Array, "*batch k"]:
        _check(z, y)
        return jnp.clip(jnp.subtract(z, y), -threshold, threshold)

    name = "huber" if threshold == 1 else f"huber_with({threshold})"
    return Cost(name, activations.identity, value, delta, made_by=functools.partial(huber_with, threshold))


huber = huber_with(1.0)
"""The Huber cost with threshold 1, `huber_with(1.0)`."""


def _absolute(z: Float[ArrayLike, "*batch k"], y: Float[ArrayLike, "*batch k"]) -> Float[Array, "*batch"]:
    """The absolute error `C = sum |z - y|` of linear outputs, for regression.

    Its error is `sign(z - y)`. At the kink z = y it is 0, as in torch, where `jax.grad` of the value gives 1. The mean
    absolute error of `torch.nn.L1Loss` divides C by the number of outputs.

    Example:
      >>> costs.absolute.value(jnp.array([3.0, 0.0]), jnp.array([1.0, 0.0]))
      Array(2., dtype=float32)
      >>> costs.absolute.delta(jnp.array([3.0, 0.0]), jnp.array([1.0, 0.0]))
      Array([1., 0.], dtype=float32)
    """
    z, y = _single(z, y)
    return jnp.sum(jnp.abs(z - y), axis=-1)


def _absolute_delta(z: Float[ArrayLike, "*batch k"], y: Float[ArrayLike, "*batch k"]) -> Float[Array, "*batch k"]:
    _check(z, y)
    return jnp.sign(jnp.subtract(z, y))


absolute = Cost("absolute", activations.identity, _absolute, _absolute_delta)


def _hinge(z: Float[ArrayLike, "*batch k"], y: Float[ArrayLike, "*batch k"]) -> Float[Array, "*batch"]:
    r"""The hinge cost of linear outputs, for y in [0, 1]: every output separates its class from the rest.

    .. math::

      \begin{aligned}
        C &= \sum_j \left[ y_j \max(0, 1 - z_j) + (1 - y_j) \max(0, 1 + z_j) \right] \\
        \delta_j &= (1 - y_j) [z_j > -1] - y_j [z_j < 1]
      \end{aligned}

    As for `relu`, the derivative at a kink is taken as 0. The desired outputs are those of `cross_entropy`: one-hot
    rows, or 0 and 1 for a single output, which predicts 1 where z > 0. For them C is the sum of
    `optax.losses.hinge_loss(z, 2 * y - 1)` over the outputs; `torch.nn.MultiMarginLoss` is another cost, which compares
    the outputs with each other.

    Example:
      >>> costs.hinge.value(jnp.array([0.5, -3.0]), jnp.array([1.0, 0.0]))
      Array(0.5, dtype=float32)
      >>> costs.hinge.delta(jnp.array([0.5, -3.0]), jnp.array([1.0, 0.0]))
      Array([-1.,  0.], dtype=float32)
    """
    z, y = _single(z, y, hinge)
    return -jnp.sum(_times(y, -jax.nn.relu(1 - z)) + _times(1 - y, -jax.nn.relu(1 + z)), axis=-1)


def _hinge_delta(z: Float[ArrayLike, "*batch k"], y: Float[ArrayLike, "*batch k"]) -> Float[Array, "*batch k"]:
    _check(z, y, hinge)
    return jnp.subtract(1, y) * activations.step(jnp.add(1, z)) - y * activations.step(jnp.subtract(1, z))


hinge = Cost("hinge", activations.identity, _hinge, _hinge_delta, targets=(0.0, 1.0))


def _cross_entropy(z: Float[ArrayLike, "*batch k"], y: Float[ArrayLike, "*batch k"]) -> Float[Array, "*batch"]:
    r"""The cross-entropy of sigmoid outputs, for y in [0, 1] (exercise 3.2).

    .. math::

      C = -\sum_j \left[ y_j \ln a_j + (1 - y_j) \ln(1 - a_j) \right], \qquad a = \sigma(z)

    The error is `a - y`. For one neuron it is the cost with

    .. math::

      \begin{aligned}
        \frac{\partial C}{\partial w_j} &= x_j (a - y), && (3.1) \\
        \frac{\partial C}{\partial b} &= a - y, && (3.2)
      \end{aligned}

    where the notes print :math:`\partial C / \partial w_i`. Its derivative with respect to a cancels the factor `a (1 -
    a)` of (3.3).

    The notes find the stationary point a = y (exercise 3.1). C is convex in a; for y in {0, 1} there is no stationary
    point and the infimum 0 lies at the boundary; for y inside (0, 1) the minimum is `binary_entropy(y)`, not 0.

    Example:
      >>> costs.cross_entropy.delta(jnp.array([0.0, 100.0]), jnp.array([0.0, 1.0]))
      Array([0.5, 0. ], dtype=float32)
    """
    z, y = _single(z, y, cross_entropy)
    ln_a, ln_1_minus_a = jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)
    return -jnp.sum(_times(y, ln_a) + _times(1 - y, ln_1_minus_a), axis=-1)


def _cross_entropy_delta(z: Float[ArrayLike, "*batch k"], y: Float[ArrayLike, "*batch k"]) -> Float[Array, "*batch k"]:
    _check(z, y, cross_entropy)
    return activations.sigmoid(z) - y


cross_entropy = Cost("cross_entropy", activations.sigmoid, _cross_entropy, _cross_entropy_delta, targets=(0.0, 1.0))


def _log_likelihood(z: Float[ArrayLike, "*batch k"], y: Float[ArrayLike, "*batch k"]) -> Float[Array, "*batch"]:
    r"""The negative log-likelihood of softmax outputs, which is the softmax cross-entropy (section 3.2).

    For a one-hot y, 1 at r, and `a = softmax(z)`, the cost is `C = -ln a_r`. The error is `a - y`, (3.4) to (3.6), and
    so by (2.8) the gradient with respect to the weights is (3.7):

    .. math::

      \frac{\partial C}{\partial w_{jk}^L} = a_k^{L-1} (a_j^L - y_j). \tag{3.7}

    For soft y, such as mixed labels, the cost and its error are

    .. math::

      C = -\sum_j y_j \ln a_j, \qquad \delta = \Bigl( \sum_j y_j \Bigr) a - y.

    The factor keeps the error exact if rounding makes the sum of y differ from 1.

    Raises:
      ValueError: If there is a single output, whose softmax is always 1.

    Example:
      >>> costs.log_likelihood.delta(jnp.zeros(2), jnp.array([1.0, 0.0]))
      Array([-0.5,  0.5], dtype=float32)
    """
    z, y = _single(z, y, log_likelihood)
    return -jnp.sum(_times(y, jax.nn.log_softmax(z)), axis=-1)


def _log_likelihood_delta(z: Float[ArrayLike, "*batch k"], y: Float[ArrayLike, "*batch k"]) -> Float[Array, "*batch k"]:
    _check(z, y, log_likelihood)
    return jnp.sum(jnp.asarray(y), axis=-1, keepdims=True) * activations.softmax(z) - y  # (3.6), where the sum is 1


log_likelihood = Cost(
    "log_likelihood", activations.softmax, _log_likelihood, _log_likelihood_delta, targets=(0.0, math.inf)
)


def binary_entropy(y: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r"""Computes the binary entropy of y in [0, 1], in nats, with `H(0) = H(1) = 0` (figure 3.1).

    .. math::

      H(y) = -\left[ y \ln y + (1 - y) \ln(1 - y) \right]

    Its slope `ln((1 - y) / y)` is infinite at both ends.

    Example:
      >>> np.asarray(costs.binary_entropy(jnp.array([0.0, 0.5]))).round(4)
      array([0.    , 0.6931], dtype=float32)
    """
    return _binary_entropy(jnp.asarray(y))


@jax.custom_jvp
def _binary_entropy(y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return -jax.scipy.special.xlogy(y, y) - jax.scipy.special.xlog1py(1 - y, -y)


_binary_entropy.defjvps(lambda dy, _, y: dy * (jnp.log1p(-y) - jnp.log(y)))
