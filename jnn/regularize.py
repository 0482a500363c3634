"""Regularisation (section 3.3): norms and penalties, the analysis of L2, noise, mixup and dropout, derived by hand.

Penalties act on weights and leave biases alone: on the leaves of a tree that have two axes or more, as `Layer.w` or
an LSTM's W and U. What draws at random comes as a `transform` for `train.epoch`, `run` and `fit`, a function of
(key, *batch), or needs a key at the end of the batch, which the transform `with_key` puts there.

All raise TypeError for an amount that is no single number and for a key that `jax.random.key` did not make.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Key

from jnn import _checks, backprop, costs, mlp
from jnn.activations import Activation, sigmoid
from jnn.costs import Cost
from jnn.mlp import Layer, Params

Grad = Callable[..., tuple[Float[Array, ""], Any]]
"""(params, *batch) -> (value, gradient), as `train` takes it."""

Amount = _checks.Scalar
"""One number, which may be traced."""

# Norms and penalties


def lp_norm(w: Float[Array, " d"], p: Amount) -> Float[Array, ""]:
    """||w||_p = (|w_1|^p + ... + |w_d|^p)^(1/p) for real p >= 1, (3.8), whose subscript the notes leave out.

    p = inf gives the largest |w_i|. The largest entry is taken out first, so that no power overflows; the norm of
    zeros is 0. Raises ValueError for p below 1 or a w that is no vector.
    """
    if jnp.ndim(w) != 1:
        raise ValueError(f"w has shape {jnp.shape(w)}; a vector [d] is wanted")
    if jnp.ndim(p) != 0:
        raise TypeError(f"p is {p!r}; one number is wanted")
    if not isinstance(p, Tracer) and not p >= 1:
        raise ValueError(f"p is {p}; a number of at least 1 is wanted: below it there is no triangle inequality")
    largest = jnp.max(jnp.abs(w), initial=0.0)
    if not isinstance(p, Tracer) and np.isinf(p):
        return largest
    scale = jnp.where(largest > 0, largest, 1)
    return scale * jnp.sum(jnp.abs(w / scale) ** p) ** (1 / p)


def weights(params: Any) -> Any:
    """True for every leaf that is penalised, those with two axes or more: a mask as optax takes them."""
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) >= 2, params)


def l1(params: Any, alpha: Amount) -> Float[Array, ""]:
    """The penalty alpha ||w||_1 over all weights, by (3.8) with p = 1 (section 3.3).

    Raises ValueError for a negative alpha.
    """
    _checks.amount("alpha", alpha)
    return alpha * _sum_over_weights(jnp.abs, params)


def l1_grad(params: Any, alpha: Amount) -> Any:
    """Its gradient: alpha sign(w) for weights, with sign(0) = 0, and 0 for biases. Raises as `l1` does."""
    _checks.amount("alpha", alpha)
    return _on_weights(lambda w: alpha * jnp.sign(w), params)


def l2(params: Any, alpha: Amount) -> Float[Array, ""]:
    """The penalty (alpha/2) ||w||_2^2 over all weights, by (3.8) with p = 2 (section 3.3).

    Raises ValueError for a negative alpha.
    Nielsen's lambda for n training examples is n alpha.
    """
    _checks.amount("alpha", alpha)
    return alpha / 2 * _sum_over_weights(jnp.square, params)


def l2_grad(params: Any, alpha: Amount) -> Any:
    """Its gradient: alpha w for weights, the last term of (3.11), and 0 for biases. Raises as `l2` does."""
    _checks.amount("alpha", alpha)
    return _on_weights(lambda w: alpha * w, params)


def penalised(grad: Grad, *, l1: Amount | None = None, l2: Amount | None = None) -> Partial:
    """`grad` of the regularised cost (section 3.3): what L1 and L2 of these strengths alpha add to value and gradient.

    The strengths are leaves of the returned `Partial`, so one may `jax.vmap` over them. With stochastic gradient
    descent it is the same as `l1_decay` and `l2_decay` in the optimiser; with others it is not.
    Raises ValueError for a negative strength.
    """
    for name, alpha in (("l1", l1), ("l2", l2)):
        if alpha is not None:
            _checks.amount(name, alpha)
    return Partial(_penalised, _partial(grad), l1, l2)


def l1_decay(alpha: Amount) -> optax.GradientTransformation:
    """Adds `l1_grad` to the updates; chain it before an optimiser. Raises ValueError for a negative alpha."""
    _checks.amount("alpha", alpha)
    return optax.stateless(lambda updates, params: jax.tree.map(jnp.add, updates, l1_grad(params, alpha)))


def l2_decay(alpha: Amount) -> optax.GradientTransformation:
    """Adds `l2_grad` to the updates; chain it before an optimiser. Raises ValueError for a negative alpha.

    The field's name is weight decay; after a scaling by past gradients it is the decoupled one (AdamW).
    """
    _checks.amount("alpha", alpha)
    return optax.stateless(lambda updates, params: jax.tree.map(jnp.add, updates, l2_grad(params, alpha)))


# The analysis of L2, section 3.3.1


def ridge(hessian: Float[Array, "d d"], w_star: Float[Array, " d"], alpha: Amount) -> Float[Array, " d"]:
    """w~ = (H + alpha I)^-1 H w*, the minimum of L(w) + (alpha/2) ||w||^2 (3.12), by a Cholesky factorisation.

    H is the Hessian of L at its minimum w*. There grad L(w~) + alpha w~ = 0, (3.11). Exact for a quadratic L, else of
    second order: (3.9) and (3.10), which hold where L is twice continuously differentiable (the notes ask for
    continuity).

    Raises ValueError for shapes that do not fit, a negative alpha and a Hessian that is not symmetric or not positive
    definite; the last two not for a traced one.
    """
    _check_hessian(hessian, w_star, alpha)
    shifted = hessian + alpha * jnp.eye(len(w_star), dtype=hessian.dtype)
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(shifted), hessian @ w_star)


def ridge_spectral(hessian: Float[Array, "d d"], w_star: Float[Array, " d"], alpha: Amount) -> Float[Array, " d"]:
    """w~ = Q diag(lambda_i / (lambda_i + alpha)) Q^T w* (3.13); the same as `ridge`, and raises as it does."""
    _check_hessian(hessian, w_star, alpha)
    eigenvalues, q = jnp.linalg.eigh(hessian)
    return q @ (shrinkage(eigenvalues, alpha) * (q.T @ w_star))


def shrinkage(eigenvalues: Float[Array, " k"], alpha: Amount) -> Float[Array, " k"]:
    """lambda_i / (lambda_i + alpha), what is left of w* along the i-th eigenvector (3.13).

    Raises ValueError for a negative alpha and for eigenvalues that are not positive; not for traced ones.
    """
    _checks.amount("alpha", alpha)
    _checks.positive("eigenvalues", eigenvalues)
    return eigenvalues / (eigenvalues + alpha)


def hessian_action(loss: Callable[[Any], Float[Array, ""]], params: Any, v: Any) -> Any:
    """H v, the Hessian of `loss` at params times a tree like params: the derivative of the gradient along v.

    It is the H of the expansion (3.9), and of the gradient H (w - w*) near a minimum, (3.10). Costs about two
    gradients, and no memory for H.
    """
    return jax.jvp(jax.grad(loss), (params,), (v,))[1]


def top_eigenpairs(
    key: Key[Array, ""], action: Callable[[Float[Array, " d"]], Float[Array, " d"]], d: int, k: int, *, steps: int
) -> tuple[Float[Array, " k"], Float[Array, "d k"]]:
    """The k largest eigenvalues, the largest first, and unit eigenvectors of a symmetric matrix known by its action.

    Lanczos' method from a random start with full reorthogonalisation: after `steps` actions, the eigenpairs of the
    tridiagonal matrix in the Krylov basis. With steps = d all eigenvalues are exact.

    Raises ValueError unless 1 <= k <= steps <= d.
    """
    _checks.key("key", key)
    for name, value in (("d", d), ("k", k), ("steps", steps)):
        _checks.count(name, value)
    if not k <= steps <= d:
        raise ValueError(f"k is {k}, steps {steps} and d {d}; k <= steps <= d is wanted")
    start = jax.random.normal(key, (d,))

    def step(carry: Any, i: Any) -> tuple[Any, Any]:
        basis, v = carry
        basis = basis.at[i].set(v)
        w = action(v)
        diagonal = jnp.vdot(v, w)
        for _ in range(2):  # twice, as rounding leaves a part after the first
            w = w - basis.T @ (basis @ w)
        beta = jnp.linalg.norm(w)
        return (basis, w / jnp.where(beta > 0, beta, 1)), (diagonal, beta)

    first = (jnp.zeros((steps, d), start.dtype), start / jnp.linalg.norm(start))
    (basis, _), (diagonal, beta) = jax.lax.scan(step, first, jnp.arange(steps))
    tridiagonal = jnp.diag(diagonal) + jnp.diag(beta[:-1], 1) + jnp.diag(beta[:-1], -1)
    eigenvalues, vectors = jnp.linalg.eigh(tridiagonal)
    return eigenvalues[: -k - 1 : -1], basis.T @ vectors[:, : -k - 1 : -1]


# Noise and mixup


def with_key(key: Key[Array, ""], *batch: Any) -> tuple[Any, ...]:
    """The transform that gives a `grad` which draws its key: (*batch, key)."""
    return *batch, key


def input_noise(key: Key[Array, ""], xs: Float[Array, "m n_in"], *rest: Any, sigma: Amount) -> tuple[Any, ...]:
    """The transform that adds N(0, sigma^2) to the inputs, the epsilon of (3.18): of mean 0 along any w, (3.20).

    Raises ValueError for a negative sigma.
    """
    return noise(key, xs, sigma), *rest


def label_noise(
    key: Key[Array, ""], xs: Float[Array, "m n_in"], ys: Float[Array, "m n_out"], *rest: Any, sigma: Amount
) -> tuple[Any, ...]:
    """The transform that adds N(0, sigma^2) to the desired outputs (section 3.3.2).

    Raises ValueError for a negative sigma.
    """
    return xs, noise(key, ys, sigma), *rest


def gradient_noise(grad: Grad, sigma: Amount) -> Partial:
    """`grad` with N(0, sigma^2) added to every entry of its gradient (section 3.3.2).

    It takes a key at the end of the batch. Raises ValueError for a negative sigma.
    """
    _checks.amount("sigma", sigma)
    return Partial(_gradient_noise, _partial(grad), sigma)


def weight_noise(grad: Grad, sigma: Amount) -> Partial:
    """`grad` at parameters with N(0, sigma^2) added to every entry; it takes a key at the end of the batch.

    What is learnt must survive inexact weights (Graves, 2011). Raises ValueError for a negative sigma.
    """
    _checks.amount("sigma", sigma)
    return Partial(_weight_noise, _partial(grad), sigma)


def noise(key: Key[Array, ""], a: Float[Array, "*shape"], sigma: Amount) -> Float[Array, "*shape"]:
    """The array with noise from N(0, sigma^2) added, independent in every entry (3.16).

    Raises ValueError for a negative sigma.
    """
    _checks.key("key", key)
    _checks.amount("sigma", sigma)
    return a + sigma * jax.random.normal(key, a.shape, a.dtype)


def noisy_squared_loss(
    w: Float[Array, " d"], xs: Float[Array, "N d"], ys: Float[Array, " N"], sigma: Amount
) -> Float[Array, ""]:
    """E[(w^T (x + epsilon) - y)^2] = mean (w^T x - y)^2 + sigma^2 ||w||^2 (3.22), epsilon from N(0, sigma^2 I).

    The expectation is over the pairs, (3.17), which are equally likely here (a density would be at least 0, not from
    [0, 1] as the notes have it), and over the noise, (3.18). Of its three terms, (3.19), the middle one is 0, (3.20),
    and the last is sigma^2 ||w||^2, (3.21). So for this linear model noise on the inputs is L2 with
    alpha = 2 sigma^2.

    Raises ValueError for a negative sigma and for shapes that do not fit.
    """
    _checks.amount("sigma", sigma)
    return jnp.mean((xs @ w - ys) ** 2) + sigma**2 * jnp.sum(w**2)


def mix(lam: Float[Array, "*m"], a: Float[Array, "*m k"], b: Float[Array, "*m k"]) -> Float[Array, "*m k"]:
    """The mixture lambda a + (1 - lambda) b, (3.14) and (3.15).

    Raises ValueError for a lambda outside [0, 1], but not for a traced one, and for shapes that do not fit.
    """
    if not isinstance(lam, Tracer) and not np.all((np.asarray(lam) >= 0) & (np.asarray(lam) <= 1)):
        raise ValueError(f"lam is {lam}; numbers in [0, 1] are wanted")
    lam = jnp.asarray(lam)[..., None]
    return lam * a + (1 - lam) * b


def mixup(
    key: Key[Array, ""], xs: Float[Array, "m n_in"], ys: Float[Array, "m n_out"], *rest: Any, beta: Amount
) -> tuple[Any, ...]:
    """The transform that mixes every example with another of its mini-batch, (3.14) and (3.15).

    The partners are a random order of the mini-batch, lambda is drawn for each example from Beta(beta, beta) (Zhang
    et al., 2018). Raises ValueError unless beta > 0.
    """
    _checks.key("key", key)
    _checks.positive("beta", beta)
    order_key, lambda_key = jax.random.split(key)
    m = _checks.examples((xs, ys))
    lam = jax.random.beta(lambda_key, beta, beta, (m,), xs.dtype)
    order = jax.random.permutation(order_key, m)
    return mix(lam, xs, xs[order]), mix(lam, ys, ys[order]), *rest


# Dropout


def dropout_mask(key: Key[Array, ""], shape: tuple[int, ...], p: Amount) -> Bool[Array, "*shape"]:
    """True for the neurons that are kept, each with probability 1 - p. Raises ValueError for p outside [0, 1)."""
    _checks.key("key", key)
    _check_fraction(p)
    threshold = jnp.minimum(jnp.asarray(p * 2.0**32, jnp.float32), 2.0**32 - 256).astype(jnp.uint32)
    return jax.random.bits(key, shape, jnp.uint32) >= threshold  # no uniform numbers are needed


def dropout_value_and_grad(
    params: Params,
    xs: Float[Array, "m n_in"],
    ys: Float[Array, "m n_out"],
    key: Key[Array, ""],
    *,
    p: Amount,
    cost: Cost = costs.quadratic,
    hidden: Activation = sigmoid,
) -> tuple[Float[Array, ""], Params]:
    """The mean cost of a mini-batch and its gradient with a fraction p of every hidden layer dropped (section 3.3.2).

    A mask r^l of zeros and ones is drawn anew for every layer, example and call: layer l from the l-th of L - 2 keys
    split off `key`. With a^l = r^l hidden(z^l) the error of a hidden layer is

        delta^l = ((w^(l+1))^T delta^(l+1)) r^l hidden'(z^l),

    (2.3) with the mask: a dropped neuron has no activation, and no error. At test time nothing is dropped and
    `dropout_at_test` scales by 1 - p. As a `grad` it needs the transform `with_key`.

    Raises as `backprop.minibatch_value_and_grad` does, and ValueError for p outside [0, 1).
    """
    _checks.key("key", key)
    _check_fraction(p)
    m = _checks.examples((xs, ys))
    n_in, *_, n_out = mlp.sizes(params)
    _checks.shape("xs", xs, (m, n_in), "one example a row")
    _checks.shape("ys", ys, (m, n_out), "one row an example; data.one_hot makes them of labels")
    _checks.floating("xs", xs)
    zs, activations, masks = [], [xs], []
    for (w, b), mask_key in zip(params[:-1], jax.random.split(key, max(1, len(params) - 1)), strict=False):
        zs.append(activations[-1] @ w.T + b[None])
        masks.append(dropout_mask(mask_key, zs[-1].shape, p))
        activations.append(jnp.where(masks[-1], hidden(zs[-1]), 0))
    z = activations[-1] @ params[-1].w.T + params[-1].b[None]

    delta = cost.delta(z, ys) / m  # (2.1)
    grads = []
    for l in range(len(params) - 1, -1, -1):
        grads.append(backprop.layer_gradient(delta, activations[l]))  # (2.8), (2.7)
        if l > 0:
            delta = jnp.where(masks[l - 1], (delta @ params[l].w) * hidden.prime(zs[l - 1]), 0)  # (2.3), masked
    return jnp.mean(cost.value(z, ys)), tuple(grads[::-1])


def dropout_at_test(params: Params, p: Amount) -> Params:
    """Parameters for the test phase: the weights out of hidden layers times 1 - p, the fraction that training kept.

    This ends dropout (section 3.3.2). The same as scaling the activations, so `mlp.forward` serves unchanged. The notes
    scale by p, which is right only for p = 1/2. Raises ValueError for p outside [0, 1).
    """
    _check_fraction(p)
    first, *rest = params
    return first, *(Layer(w=(1 - p) * w, b=b) for w, b in rest)


def _penalised(
    grad: Grad, l1_alpha: Amount | None, l2_alpha: Amount | None, params: Any, *batch: Any
) -> tuple[Float[Array, ""], Any]:
    value, grads = grad(params, *batch)
    for alpha, penalty, penalty_grad in ((l1_alpha, l1, l1_grad), (l2_alpha, l2, l2_grad)):
        if alpha is not None:
            value = value + penalty(params, alpha)
            grads = jax.tree.map(jnp.add, grads, penalty_grad(params, alpha))
    return value, grads


def _partial(grad: Callable[..., Any]) -> Partial:
    """A function as a pytree of the arrays bound to it; a Partial of a Partial would hide them."""
    return grad if isinstance(grad, Partial) else Partial(grad)


def _gradient_noise(grad: Grad, sigma: Amount, params: Any, *batch_and_key: Any) -> tuple[Float[Array, ""], Any]:
    *batch, key = batch_and_key
    value, grads = grad(params, *batch)
    return value, _noise_everywhere(key, grads, sigma)


def _weight_noise(grad: Grad, sigma: Amount, params: Any, *batch_and_key: Any) -> tuple[Float[Array, ""], Any]:
    *batch, key = batch_and_key
    return grad(_noise_everywhere(key, params, sigma), *batch)


def _noise_everywhere(key: Key[Array, ""], tree: Any, sigma: Amount) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(noise(k, leaf, sigma) for k, leaf in zip(keys, leaves, strict=True))


def _sum_over_weights(f: Callable[[Array], Array], params: Any) -> Float[Array, ""]:
    leaves = [leaf for leaf in jax.tree.leaves(params) if jnp.ndim(leaf) >= 2]
    return sum((jnp.sum(f(leaf)) for leaf in leaves), start=jnp.zeros((), jnp.result_type(*leaves, jnp.float32)))


def _on_weights(f: Callable[[Array], Array], params: Any) -> Any:
    return jax.tree.map(lambda leaf: f(leaf) if jnp.ndim(leaf) >= 2 else jnp.zeros_like(leaf), params)


def _check_fraction(p: Any) -> None:
    _checks.amount("p", p)
    if not isinstance(p, Tracer) and not p < 1:
        raise ValueError(f"p is {p}; a number in [0, 1) is wanted: p is the fraction dropped")


def _check_hessian(hessian: Any, w_star: Any, alpha: Any) -> None:
    _checks.amount("alpha", alpha)
    if jnp.ndim(w_star) != 1:
        raise ValueError(f"w_star has shape {jnp.shape(w_star)}; a vector [d] is wanted")
    d = jnp.shape(w_star)[0]
    _checks.shape("hessian", hessian, (d, d), "one row and one column for each entry of w_star")
    if isinstance(hessian, Tracer):
        return
    matrix = np.asarray(hessian, np.float64)
    tolerance = 10 * jnp.finfo(hessian.dtype).eps * np.abs(matrix).max(initial=0)
    if not np.abs(matrix - matrix.T).max(initial=0) <= tolerance:
        i, j = np.unravel_index(np.argmax(np.abs(matrix - matrix.T)), matrix.shape)
        raise ValueError(
            f"hessian is not symmetric: [{i}, {j}] is {matrix[i, j]:g} and [{j}, {i}] is {matrix[j, i]:g}; "
            "a Hessian is: use (h + h.T) / 2 for one with rounding errors"
        )
    if d and not np.linalg.eigvalsh(matrix)[0] > 0:
        raise ValueError(
            f"hessian has the eigenvalue {np.linalg.eigvalsh(matrix)[0]:g}; a positive definite one is wanted, as at a "
            "minimum: train further, or take the minimum of a loss with a small penalty"
        )
