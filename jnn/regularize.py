"""Norms, penalties, noise and mixup (section 3.3), with gradients derived by hand.

Penalties apply to weights and leave biases alone: they act on the leaves of a tree that have two axes or more, such as
`Layer.w` or an LSTM's W and U. The random functions are either a `transform` for `train.epoch`, `run` and `fit`, a
function `(key, *batch)`, or a gradient that takes a key at the end of its batch, which the transform `append_key`
provides.

All raise TypeError for a strength that is not one number and for a key that is not a typed PRNG key (`jax.random.key`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import Partial
from jaxtyping import Array, Float, Key

from jnn._internal import checks, dtypes
from jnn.typing import Grad, PyTree, Scalar

# Norms and penalties


def lp_norm(w: Float[Array, " d"], p: Scalar) -> Float[Array, ""]:
    r"""Computes the p-norm of a vector for real p >= 1, (3.8), whose subscript the notes leave out.

    .. math::

      \lVert w \rVert_p = \left( |w_1|^p + \dots + |w_d|^p \right)^{1/p} \tag{3.8}

    `p = inf` gives the largest :math:`|w_i|`. The largest entry is factored out first, so that no power overflows. At
    the zero vector, where the norm is not differentiable, its gradient is defined as 0.

    Args:
      w: The vector.
      p: The exponent, at least 1.

    Returns:
      The norm.

    Raises:
      ValueError: If `p` is below 1 or `w` is not a vector.
      TypeError: If `p` is not one number.

    Example:
      >>> regularize.lp_norm(jnp.array([3.0, -4.0]), 2)
      Array(5., dtype=float32)
    """
    if jnp.ndim(w) != 1:
        raise ValueError(f"w must be a vector [d], got shape {jnp.shape(w)}")
    if jnp.ndim(p) != 0:
        raise TypeError(f"p must be one number, got {p!r}")
    if not isinstance(p, Tracer) and not p >= 1:
        raise ValueError(f"p must be at least 1, got {p}: below 1 the triangle inequality does not hold")
    largest = jnp.max(jnp.abs(w), initial=0.0)
    if not isinstance(p, Tracer) and np.isinf(p):
        return jnp.where(largest > 0, largest, 0)
    scale = jnp.where(largest > 0, largest, 1)
    total = jnp.sum(jnp.abs(w / scale) ** p)
    return jnp.where(largest > 0, scale * jnp.where(largest > 0, total, 1) ** (1 / p), 0)


def weights(params: PyTree) -> PyTree:
    """Returns a mask in the form that optax takes: True for the leaves that are penalised, those with two axes or more.

    `optax.add_decayed_weights(alpha, regularize.weights)` adds the gradient of `l2` to the updates of an optimizer.

    Args:
      params: The parameters.

    Returns:
      A tree of booleans like `params`.

    Example:
      >>> regularize.weights({"w": jnp.ones((1, 2)), "b": jnp.ones(1)})
      {'b': False, 'w': True}
    """
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) >= 2, params)


class Penalty(NamedTuple):
    """A term that is added to the cost, with its hand-derived gradient; write your own as these two functions.

    Attributes:
      value: params -> a number.
      grad: params -> its gradient with respect to params, a tree like them.
    """

    value: Callable[[PyTree], Float[Array, ""]]
    grad: Callable[[PyTree], PyTree]


def l1(alpha: Scalar) -> Penalty:
    """Makes the penalty `alpha ||w||_1` over all weights, by (3.8) with p = 1 (section 3.3).

    Its gradient is `alpha sign(w)` for weights, with sign(0) = 0, and 0 for biases.

    Args:
      alpha: The strength.

    Returns:
      The penalty.

    Raises:
      ValueError: If `alpha` is negative.

    Example:
      >>> params = {"w": jnp.array([[1.0, -2.0]]), "b": jnp.ones(1)}
      >>> float(regularize.l1(0.5).value(params))
      1.5
    """
    checks.in_range("alpha", alpha)
    return Penalty(Partial(_l1, alpha), Partial(_l1_grad, alpha))


def l2(alpha: Scalar) -> Penalty:
    """Makes the penalty `(alpha/2) ||w||_2^2` over all weights, by (3.8) with p = 2 (section 3.3).

    Its gradient is `alpha w` for weights, the last term of (3.11), and 0 for biases. Nielsen's lambda for n training
    examples is n alpha. With plain gradient descent it is the same as weight decay, `optax.add_decayed_weights(alpha,
    weights)`; with other optimizers it is not.

    Args:
      alpha: The strength.

    Returns:
      The penalty.

    Raises:
      ValueError: If `alpha` is negative.

    Example:
      >>> params = {"w": jnp.array([[1.0, -2.0]]), "b": jnp.ones(1)}
      >>> regularize.l2(0.5).grad(params)["w"].tolist()
      [[0.5, -1.0]]
    """
    checks.in_range("alpha", alpha)
    return Penalty(Partial(_l2, alpha), Partial(_l2_grad, alpha))


def lp(alpha: Scalar, p: Scalar) -> Penalty:
    """Makes the penalty `(alpha/p) ||w||_p^p` over all weights for real p >= 1, by (3.8).

    `l1` and `l2` are its cases p = 1 and 2. Its gradient is `alpha sign(w) |w|^(p-1)` for weights, with sign(0) = 0,
    and 0 for biases.

    Args:
      alpha: The strength.
      p: The exponent.

    Returns:
      The penalty.

    Raises:
      ValueError: If `alpha` is negative, or `p` is below 1 or not finite; traced ones are not checked.

    Example:
      >>> params = {"w": jnp.array([[1.0, -2.0]]), "b": jnp.ones(1)}
      >>> regularize.lp(0.5, 3).grad(params)["w"].tolist()
      [[0.5, -2.0]]
    """
    checks.in_range("alpha", alpha)
    checks.in_range("p", p, least=1)
    return Penalty(Partial(_lp, alpha, p), Partial(_lp_grad, alpha, p))


def penalised(grad: Grad, *penalties: Penalty) -> Partial:
    """Adds penalties to a gradient function: the gradient of the regularised cost (section 3.3).

    Args:
      grad: `grad(params, *batch)` returns (value, gradient), or ((value, carry), gradient).
      *penalties: The penalties to add. Strengths are leaves of the returned `Partial`, so `jax.vmap` can run over them.

    Returns:
      The gradient function, with the penalties in value and gradient.

    Raises:
      TypeError: If a penalty is not a `Penalty`.

    Example:
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> grad = regularize.penalised(backprop.minibatch_value_and_grad, regularize.l2(1e-4), regularize.l1(1e-5))
      >>> value, grads = grad(params, jnp.ones((5, 3)), jnp.ones((5, 2)))
      >>> grads[0].w.shape
      (4, 3)
    """
    for penalty in penalties:
        if not isinstance(penalty, Penalty):
            raise TypeError(f"each penalty must be a regularize.Penalty, such as regularize.l2(1e-4), got {penalty!r}")
    return Partial(_penalised, _partial(grad), [tuple(map(_partial, penalty)) for penalty in penalties])


# Noise and mixup


def append_key(key: Key[Array, ""], *batch: PyTree) -> tuple[PyTree, ...]:
    """Appends its key to the batch: the transform for a gradient that draws random numbers.

    Args:
      key: A typed PRNG key.
      *batch: The arrays of the mini-batch.

    Returns:
      The arrays of the mini-batch, and the key.

    Example:
      >>> xs, key = regularize.append_key(jax.random.key(0), jnp.ones((5, 3)))
      >>> bool(key == jax.random.key(0))
      True
    """
    return *batch, key


def input_noise(key: Key[Array, ""], xs: Float[Array, "m n_in"], *rest: PyTree, sigma: Scalar) -> tuple[PyTree, ...]:
    r"""Adds noise from :math:`N(0, \sigma^2)` to the inputs, the epsilon of (3.18): a transform.

    The noise has mean 0 along any w, (3.20).

    Args:
      key: A typed PRNG key.
      xs: The inputs.
      *rest: Arrays of the mini-batch that are returned as they are.
      sigma: The standard deviation of the noise.

    Returns:
      The arrays of the mini-batch, with noisy inputs.

    Raises:
      ValueError: If `sigma` is negative.

    Example:
      >>> xs, ys = regularize.input_noise(jax.random.key(0), jnp.ones((5, 3)), jnp.ones((5, 2)), sigma=0.1)
      >>> bool(jnp.any(xs != 1)), bool(jnp.any(ys != 1))
      (True, False)
    """
    return noise(key, xs, sigma), *rest


def label_noise(
    key: Key[Array, ""], xs: Float[Array, "m n_in"], ys: Float[Array, "m n_out"], *rest: PyTree, sigma: Scalar
) -> tuple[PyTree, ...]:
    r"""Adds noise from :math:`N(0, \sigma^2)` to the desired outputs: a transform (section 3.3.2).

    Args:
      key: A typed PRNG key.
      xs: The inputs.
      ys: The desired outputs.
      *rest: Arrays of the mini-batch that are returned as they are.
      sigma: The standard deviation of the noise.

    Returns:
      The arrays of the mini-batch, with noisy desired outputs.

    Raises:
      ValueError: If `sigma` is negative.

    Example:
      >>> xs, ys = regularize.label_noise(jax.random.key(0), jnp.ones((5, 2)), jnp.ones((5, 3)), sigma=0.1)
      >>> bool(jnp.any(xs != 1)), bool(jnp.any(ys != 1))
      (False, True)
    """
    return xs, noise(key, ys, sigma), *rest


def gradient_noise(grad: Grad, sigma: Scalar) -> Partial:
    r"""Adds noise from :math:`N(0, \sigma^2)` to every entry of a gradient (section 3.3.2).

    Args:
      grad: The gradient function.
      sigma: The standard deviation of the noise.

    Returns:
      A gradient function that takes a key at the end of its batch.

    Raises:
      ValueError: If `sigma` is negative.

    Example:
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> noisy = regularize.gradient_noise(backprop.minibatch_value_and_grad, sigma=0.1)
      >>> value, grads = noisy(params, jnp.ones((5, 3)), jnp.ones((5, 2)), jax.random.key(1))
      >>> grads[0].w.shape
      (4, 3)
    """
    checks.in_range("sigma", sigma)
    return Partial(_gradient_noise, _partial(grad), sigma)


def weight_noise(grad: Grad, sigma: Scalar) -> Partial:
    r"""Adds noise from :math:`N(0, \sigma^2)` to every entry of the parameters at which a gradient is computed.

    Training then finds weights that tolerate perturbation (Graves, 2011).

    Args:
      grad: The gradient function.
      sigma: The standard deviation of the noise.

    Returns:
      A gradient function that takes a key at the end of its batch.

    Raises:
      ValueError: If `sigma` is negative.

    Example:
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> noisy = regularize.weight_noise(backprop.minibatch_value_and_grad, sigma=0.1)
      >>> value, grads = noisy(params, jnp.ones((5, 3)), jnp.ones((5, 2)), jax.random.key(1))
      >>> grads[0].w.shape
      (4, 3)
    """
    checks.in_range("sigma", sigma)
    return Partial(_weight_noise, _partial(grad), sigma)


def noise(key: Key[Array, ""], a: Float[Array, "*shape"], sigma: Scalar) -> Float[Array, "*shape"]:
    r"""Adds noise from :math:`N(0, \sigma^2)` to an array, independent in every entry, (3.16).

    Args:
      key: A typed PRNG key.
      a: The array.
      sigma: The standard deviation of the noise.

    Returns:
      The noisy array.

    Raises:
      ValueError: If `sigma` is negative.

    Example:
      >>> regularize.noise(jax.random.key(0), jnp.ones(3), sigma=0.0)
      Array([1., 1., 1.], dtype=float32)
    """
    checks.key("key", key)
    checks.in_range("sigma", sigma)
    checks.array("a", a)
    return a + sigma * jax.random.normal(key, a.shape, a.dtype)


def noisy_squared_loss(
    w: Float[Array, " d"], xs: Float[Array, "N d"], ys: Float[Array, " N"], sigma: Scalar
) -> Float[Array, ""]:
    r"""Computes the expected squared loss of a linear model with noise on its inputs, in closed form.

    .. math::

      \mathbf{E} \left[ (w^\mathsf{T} (x + \epsilon) - y)^2 \right]
      = \mathbf{E} \left[ (w^\mathsf{T} x - y)^2 \right] + \sigma^2 \lVert w \rVert^2, \qquad
      \epsilon \sim N(0, \sigma^2 I) \tag{3.22}

    This is (3.22). The expectation is over the pairs, (3.17), which are equally likely here (a density is at least 0,
    not in [0, 1] as the notes have it), and over the noise, (3.18). Of its three terms, (3.19), the middle one is 0,
    (3.20), and the last is :math:`\sigma^2 \lVert w \rVert^2`, (3.21). So for this linear model, noise on the inputs is
    `l2` with alpha = 2 sigma^2.

    Args:
      w: The weights of the model.
      xs: The inputs, one in each row.
      ys: The desired outputs.
      sigma: The standard deviation of the noise.

    Returns:
      The expected loss.

    Raises:
      ValueError: If `sigma` is negative or shapes do not fit.

    Example:
      >>> regularize.noisy_squared_loss(jnp.ones(3), jnp.ones((5, 3)), jnp.ones(5), sigma=1.0)
      Array(7., dtype=float32)
    """
    checks.in_range("sigma", sigma)
    checks.shape("w", w, checks.matrix("xs", xs)[1:], "one weight for each column of xs")
    checks.shape("ys", ys, (checks.examples((xs,), "xs"),), "one desired output for each row of xs")
    return jnp.mean((xs @ w - ys) ** 2) + sigma**2 * jnp.sum(w**2)


def mix(lam: Float[Array, "*m"], a: Float[Array, "*m k"], b: Float[Array, "*m k"]) -> Float[Array, "*m k"]:
    r"""Computes the mixture :math:`\lambda a + (1 - \lambda) b`, (3.14) and (3.15).

    Args:
      lam: The shares :math:`\lambda`, one for each row.
      a: The first array.
      b: The second array.

    Returns:
      The mixture.

    Raises:
      ValueError: If a share is outside [0, 1], unless it is traced, or if shapes do not fit.

    Example:
      >>> regularize.mix(jnp.array(0.25), jnp.zeros(2), jnp.ones(2))
      Array([0.75, 0.75], dtype=float32)
    """
    if not isinstance(lam, Tracer) and not np.all((np.asarray(lam) >= 0) & (np.asarray(lam) <= 1)):
        raise ValueError(f"lam must be in [0, 1], got {lam}")
    checks.shape("b", b, jnp.shape(a), "one entry for each of a")
    lam = jnp.asarray(lam)[..., None]
    return lam * a + (1 - lam) * b


def mixup(
    key: Key[Array, ""], xs: Float[Array, "m n_in"], ys: Float[Array, "m n_out"], *rest: PyTree, beta: Scalar
) -> tuple[PyTree, ...]:
    r"""Mixes every example with a random one of its mini-batch, (3.14) and (3.15); a `transform` for training.

    The partners are a random permutation of the mini-batch, in which an example may meet itself. :math:`\lambda` is
    drawn for each example from Beta(beta, beta) (Zhang et al., 2018).

    Args:
      key: A typed PRNG key.
      xs: The inputs.
      ys: The desired outputs.
      *rest: Further arrays of the mini-batch, which are returned unchanged.
      beta: The value of both parameters of the Beta distribution.

    Returns:
      The mixed inputs, the mixed desired outputs, and `rest`.

    Raises:
      ValueError: If `beta` is not positive, or if `xs` and `ys` differ in their number of examples.

    Example:
      >>> xs, ys = regularize.mixup(jax.random.key(0), jnp.eye(3), jnp.eye(3), beta=0.2)
      >>> ys.sum(axis=1)
      Array([1., 1., 1.], dtype=float32)
    """
    checks.key("key", key)
    checks.positive_number("beta", beta)
    order_key, lambda_key = jax.random.split(key)
    m = checks.examples((xs, ys))
    lam = jax.random.beta(lambda_key, b := jnp.asarray(beta, xs.dtype), b, (m,), xs.dtype)
    order = jax.random.permutation(order_key, m)
    return mix(lam, xs, xs[order]), mix(lam, ys, ys[order]), *rest


def _penalised(
    grad: Grad, penalties: Sequence[tuple[Partial, Partial]], params: PyTree, *batch: PyTree
) -> tuple[PyTree, PyTree]:
    ahead, grads = grad(params, *batch)
    value, *carry = ahead if isinstance(ahead, tuple) else (ahead,)
    for penalty, penalty_grad in penalties:
        value = value + penalty(params)
        grads = jax.tree.map(jnp.add, grads, penalty_grad(params))
    return (value, *carry) if carry else value, grads


def _l1(alpha: Scalar, params: PyTree) -> Float[Array, ""]:
    return alpha * _sum_over_weights(jnp.abs, params)


def _l1_grad(alpha: Scalar, params: PyTree) -> PyTree:
    return _on_weights(lambda w: alpha * jnp.sign(w), params)


def _l2(alpha: Scalar, params: PyTree) -> Float[Array, ""]:
    return alpha / 2 * _sum_over_weights(jnp.square, params)


def _l2_grad(alpha: Scalar, params: PyTree) -> PyTree:
    return _on_weights(lambda w: alpha * w, params)


def _lp(alpha: Scalar, p: Scalar, params: PyTree) -> Float[Array, ""]:
    return alpha / p * _sum_over_weights(lambda w: jnp.abs(w) ** p, params)


def _lp_grad(alpha: Scalar, p: Scalar, params: PyTree) -> PyTree:
    return _on_weights(lambda w: alpha * jnp.sign(w) * jnp.abs(w) ** (p - 1), params)


def _partial(grad: Callable[..., PyTree]) -> Partial:
    """A function as a pytree of the arrays bound to it; a Partial of a Partial would hide them."""
    return grad if isinstance(grad, Partial) else Partial(grad)


def _gradient_noise(grad: Grad, sigma: Scalar, params: PyTree, *batch_and_key: PyTree) -> tuple[PyTree, PyTree]:
    *batch, key = batch_and_key
    value, grads = grad(params, *batch)
    return value, _noise_everywhere(key, grads, sigma)


def _weight_noise(grad: Grad, sigma: Scalar, params: PyTree, *batch_and_key: PyTree) -> tuple[PyTree, PyTree]:
    *batch, key = batch_and_key
    return grad(_noise_everywhere(key, params, sigma), *batch)


def _noise_everywhere(key: Key[Array, ""], tree: PyTree, sigma: Scalar) -> PyTree:
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(noise(k, leaf, sigma) for k, leaf in zip(keys, leaves, strict=True))


def _sum_over_weights(f: Callable[[Array], Array], params: PyTree) -> Float[Array, ""]:
    leaves = [leaf for leaf in jax.tree.leaves(params) if jnp.ndim(leaf) >= 2]
    wide = dtypes.single(*leaves)
    return sum((jnp.sum(f(leaf)).astype(wide) for leaf in leaves), start=jnp.zeros((), wide))


def _on_weights(f: Callable[[Array], Array], params: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: f(leaf) if jnp.ndim(leaf) >= 2 else jnp.zeros_like(leaf), params)
