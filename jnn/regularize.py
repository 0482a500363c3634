"""Norms, penalties, noise and mixup (section 3.3), with their gradients derived by hand.

Penalties apply to weights and leave biases alone: they act on the leaves of a tree that have two axes or more, such as
`Layer.w` or an LSTM's W and U. The random ones are either a `transform` for `train.epoch`, `run` and `fit`, a function
of (key, *batch), or a gradient that takes a key at the end of its batch, which the transform `append_key` provides.

All raise TypeError for a strength that is not one number and for a key that `jax.random.key` did not make.
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
    """||w||_p = (|w_1|^p + ... + |w_d|^p)^(1/p) for real p >= 1, (3.8), whose subscript the notes leave out.

    p = inf gives the largest |w_i|. The largest entry is factored out first, so that no power overflows; the norm of
    the zero vector is 0, and so is its gradient there, where none exists.

    Raises ValueError for p below 1 or a w that is not a vector.
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
    """A mask in the form that optax takes: True for the leaves that are penalised, those with two axes or more.

    `optax.add_decayed_weights(alpha, regularize.weights)` adds the gradient of `l2` to the updates of an optimizer.
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
    """Alpha ||w||_1 over all weights, by (3.8) with p = 1 (section 3.3).

    Its gradient is alpha sign(w) for weights, with sign(0) = 0, and 0 for biases.

    Args:
      alpha: The strength.

    Raises:
      ValueError: If alpha is negative.

    Example:
      >>> params = {"w": jnp.array([[1.0, -2.0]]), "b": jnp.ones(1)}
      >>> float(regularize.l1(0.5).value(params))
      1.5
    """
    checks.in_range("alpha", alpha)
    return Penalty(Partial(_l1, alpha), Partial(_l1_grad, alpha))


def l2(alpha: Scalar) -> Penalty:
    """(alpha/2) ||w||_2^2 over all weights, by (3.8) with p = 2 (section 3.3).

    Its gradient is alpha w for weights, the last term of (3.11), and 0 for biases. Nielsen's lambda for n training
    examples is n alpha. With plain gradient descent it is the same as weight decay,
    `optax.add_decayed_weights(alpha, weights)`; with other optimizers it is not.

    Args:
      alpha: The strength.

    Raises:
      ValueError: If alpha is negative.

    Example:
      >>> params = {"w": jnp.array([[1.0, -2.0]]), "b": jnp.ones(1)}
      >>> regularize.l2(0.5).grad(params)["w"].tolist()
      [[0.5, -1.0]]
    """
    checks.in_range("alpha", alpha)
    return Penalty(Partial(_l2, alpha), Partial(_l2_grad, alpha))


def lp(alpha: Scalar, p: Scalar) -> Penalty:
    """(alpha/p) ||w||_p^p over all weights for real p >= 1, by (3.8): `l1` and `l2` are those of p = 1 and 2.

    Its gradient is alpha sign(w) |w|^(p-1) for weights, with sign(0) = 0, and 0 for biases.

    Args:
      alpha: The strength.
      p: The exponent.

    Raises:
      ValueError: If alpha is negative, or p is below 1 or not finite; traced ones are not checked.

    Example:
      >>> params = {"w": jnp.array([[1.0, -2.0]]), "b": jnp.ones(1)}
      >>> regularize.lp(0.5, 3).grad(params)["w"].tolist()
      [[0.5, -2.0]]
    """
    checks.in_range("alpha", alpha)
    checks.in_range("p", p, least=1)
    return Penalty(Partial(_lp, alpha, p), Partial(_lp_grad, alpha, p))


def penalised(grad: Grad, *penalties: Penalty) -> Partial:
    """`grad` of the regularised cost (section 3.3): with the penalties, in value and gradient.

    Args:
      grad: `grad(params, *batch)` returns (value, gradient), or ((value, carry), gradient).
      *penalties: What to add. Strengths are leaves of the returned `Partial`, so `jax.vmap` can run over them.

    Raises:
      TypeError: If a penalty is not a `Penalty`.

    Example:
      >>> from jnn import backprop, mlp
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> grad = regularize.penalised(backprop.minibatch_value_and_grad, regularize.l2(1e-4), regularize.l1(1e-5))
      >>> value, grads = grad(params, jnp.ones((5, 3)), jnp.zeros((5, 2)))
      >>> grads[0].w.shape
      (4, 3)
    """
    for penalty in penalties:
        if not isinstance(penalty, Penalty):
            raise TypeError(f"penalties must be of regularize.Penalty, such as regularize.l2(1e-4), got {penalty!r}")
    return Partial(_penalised, _partial(grad), [tuple(map(_partial, penalty)) for penalty in penalties])


# Noise and mixup


def append_key(key: Key[Array, ""], *batch: PyTree) -> tuple[PyTree, ...]:
    """The transform for a gradient that draws random numbers: (*batch, key)."""
    return *batch, key


def input_noise(key: Key[Array, ""], xs: Float[Array, "m n_in"], *rest: PyTree, sigma: Scalar) -> tuple[PyTree, ...]:
    """The transform that adds N(0, sigma^2) to the inputs, the epsilon of (3.18): of mean 0 along any w, (3.20).

    Raises ValueError for a negative sigma.
    """
    return noise(key, xs, sigma), *rest


def label_noise(
    key: Key[Array, ""], xs: Float[Array, "m n_in"], ys: Float[Array, "m n_out"], *rest: PyTree, sigma: Scalar
) -> tuple[PyTree, ...]:
    """The transform that adds N(0, sigma^2) to the desired outputs (section 3.3.2).

    Raises ValueError for a negative sigma.
    """
    return xs, noise(key, ys, sigma), *rest


def gradient_noise(grad: Grad, sigma: Scalar) -> Partial:
    """`grad` with N(0, sigma^2) added to every entry of its gradient (section 3.3.2).

    It takes a key at the end of the batch. Raises ValueError for a negative sigma.
    """
    checks.in_range("sigma", sigma)
    return Partial(_gradient_noise, _partial(grad), sigma)


def weight_noise(grad: Grad, sigma: Scalar) -> Partial:
    """`grad` at parameters with N(0, sigma^2) added to every entry; it takes a key at the end of the batch.

    Training then finds weights that tolerate perturbation (Graves, 2011). Raises ValueError for a negative sigma.
    """
    checks.in_range("sigma", sigma)
    return Partial(_weight_noise, _partial(grad), sigma)


def noise(key: Key[Array, ""], a: Float[Array, "*shape"], sigma: Scalar) -> Float[Array, "*shape"]:
    """The array with noise from N(0, sigma^2) added, independent in every entry (3.16).

    Raises ValueError for a negative sigma.
    """
    checks.key("key", key)
    checks.in_range("sigma", sigma)
    checks.array("a", a)
    return a + sigma * jax.random.normal(key, a.shape, a.dtype)


def noisy_squared_loss(
    w: Float[Array, " d"], xs: Float[Array, "N d"], ys: Float[Array, " N"], sigma: Scalar
) -> Float[Array, ""]:
    """E[(w^T (x + epsilon) - y)^2] = mean (w^T x - y)^2 + sigma^2 ||w||^2 (3.22), epsilon from N(0, sigma^2 I).

    The expectation is over the pairs, (3.17), which are equally likely here (a density is at least 0, not in [0, 1] as
    the notes have it), and over the noise, (3.18). Of its three terms, (3.19), the middle one is 0, (3.20), and the
    last is sigma^2 ||w||^2, (3.21). So for this linear model, noise on the inputs is L2 with alpha = 2 sigma^2.

    Raises ValueError for a negative sigma and for shapes that do not fit.
    """
    checks.in_range("sigma", sigma)
    return jnp.mean((xs @ w - ys) ** 2) + sigma**2 * jnp.sum(w**2)


def mix(lam: Float[Array, "*m"], a: Float[Array, "*m k"], b: Float[Array, "*m k"]) -> Float[Array, "*m k"]:
    """The mixture lambda a + (1 - lambda) b, (3.14) and (3.15).

    Raises ValueError for a lambda outside [0, 1], unless it is traced, and for shapes that do not fit.
    """
    if not isinstance(lam, Tracer) and not np.all((np.asarray(lam) >= 0) & (np.asarray(lam) <= 1)):
        raise ValueError(f"lam must be in [0, 1], got {lam}")
    lam = jnp.asarray(lam)[..., None]
    return lam * a + (1 - lam) * b


def mixup(
    key: Key[Array, ""], xs: Float[Array, "m n_in"], ys: Float[Array, "m n_out"], *rest: PyTree, beta: Scalar
) -> tuple[PyTree, ...]:
    """The transform that mixes every example with another of its mini-batch, (3.14) and (3.15).

    The partners are a random permutation of the mini-batch, and lambda is drawn for each example from
    Beta(beta, beta) (Zhang et al., 2018). Raises ValueError unless beta > 0.
    """
    checks.key("key", key)
    checks.positive("beta", beta)
    order_key, lambda_key = jax.random.split(key)
    m = checks.examples((xs, ys))
    lam = jax.random.beta(lambda_key, beta, beta, (m,), xs.dtype)
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
