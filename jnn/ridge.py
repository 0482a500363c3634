"""The analysis of L2 regularisation (section 3.3.1): ridge solutions, Hessian-vector products, leading eigenpairs.

All functions raise TypeError for an alpha that is not one number and for a key that is not a typed PRNG key
(`jax.random.key`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from jnn._internal import checks, varying
from jnn.typing import PyTree, Scalar


def solve(hessian: Float[Array, "d d"], w_star: Float[Array, " d"], alpha: Scalar) -> Float[Array, " d"]:
    r"""Computes the minimum of the L2-regularised loss by a Cholesky factorisation, (3.12).

    .. math::

      \tilde w = (H + \alpha I)^{-1} H w^*, \tag{3.12}

    where H is the Hessian of the loss L at its minimum :math:`w^*`. At :math:`\tilde w` the gradient of :math:`L(w) +
    \frac{\alpha}{2} \lVert w \rVert^2` is 0, (3.11). Exact for a quadratic loss, and of second order for others: (3.9)
    and (3.10) hold where the loss is twice continuously differentiable (the notes ask for continuity).

    Args:
      hessian: The Hessian H.
      w_star: The minimum of the loss without penalty.
      alpha: The strength of the penalty.

    Returns:
      The minimum with the penalty.

    Raises:
      ValueError: If shapes do not fit, alpha is negative or, unless it is traced, the Hessian is not symmetric or not
        positive definite.

    Example:
      >>> w = ridge.solve(jnp.diag(jnp.array([1.0, 3.0])), jnp.ones(2), alpha=1.0)
      >>> np.asarray(w).round(3)
      array([0.5 , 0.75], dtype=float32)
    """
    _check_hessian(hessian, w_star, alpha)
    shifted = hessian + alpha * jnp.eye(len(w_star), dtype=hessian.dtype)
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(shifted), hessian @ w_star)


def solve_spectral(hessian: Float[Array, "d d"], w_star: Float[Array, " d"], alpha: Scalar) -> Float[Array, " d"]:
    r"""Computes what `solve` does from the eigenvectors and eigenvalues of the Hessian, (3.13).

    .. math::

      \tilde w = Q \operatorname{diag} \left( \frac{\lambda_i}{\lambda_i + \alpha} \right) Q^\mathsf{T} w^* \tag{3.13}

    Args:
      hessian: The Hessian H.
      w_star: The minimum of the loss without penalty.
      alpha: The strength of the penalty.

    Returns:
      The minimum with the penalty.

    Raises:
      ValueError: As `solve` does.
    """
    _check_hessian(hessian, w_star, alpha)
    eigenvalues, q = jnp.linalg.eigh(hessian)
    return q @ (shrinkage(eigenvalues, alpha) * (q.T @ w_star))


def shrinkage(eigenvalues: Float[Array, " k"], alpha: Scalar) -> Float[Array, " k"]:
    r"""Computes the factor by which a penalty shrinks each component along an eigenvector, (3.13).

    The factor on the component of :math:`w^*` along the i-th eigenvector is :math:`\lambda_i / (\lambda_i + \alpha)`.

    Args:
      eigenvalues: The eigenvalues of the Hessian.
      alpha: The strength of the penalty.

    Returns:
      One factor for each eigenvalue.

    Raises:
      ValueError: If `alpha` is negative or, unless they are traced, eigenvalues are not positive.

    Example:
      >>> ridge.shrinkage(jnp.array([1.0, 3.0]), alpha=1.0)
      Array([0.5 , 0.75], dtype=float32)
    """
    checks.in_range("alpha", alpha)
    checks.positive("eigenvalues", eigenvalues)
    return eigenvalues / (eigenvalues + alpha)


def hvp(loss: Callable[[PyTree], Float[Array, ""]], params: PyTree, v: PyTree) -> PyTree:
    """Computes the Hessian-vector product H v of a loss.

    It is the derivative of the gradient along v; H is the Hessian of the expansion (3.9), and of the gradient H (w -
    w*) near a minimum, (3.10). It costs about two gradients, and no memory for H.

    Args:
      loss: A function of the parameters.
      params: The parameters at which the Hessian is taken.
      v: The vector, a tree like `params`.

    Returns:
      The product, a tree like `params`.

    Example:
      >>> ridge.hvp(lambda w: jnp.sum(w**3), jnp.array([1.0, 2.0]), jnp.ones(2))
      Array([ 6., 12.], dtype=float32)
    """
    return jax.jvp(jax.grad(loss), (params,), (v,))[1]


def lanczos(
    key: Key[Array, ""], matvec: Callable[[Float[Array, " d"]], Float[Array, " d"]], d: int, k: int, *, steps: int
) -> tuple[Float[Array, " k"], Float[Array, "d k"]]:
    """Computes the k largest eigenvalues and their eigenvectors of a symmetric matrix given by `matvec`.

    Lanczos' method from a random start with full reorthogonalisation: after `steps` products, the eigenpairs of the
    tridiagonal matrix in the Krylov basis. With steps = d all eigenvalues are exact.

    Args:
      key: A typed PRNG key.
      matvec: A function that multiplies the matrix by a vector, such as `hvp` with a loss and parameters bound.
      d: The size of the matrix.
      k: The number of eigenpairs.
      steps: The number of products.

    Returns:
      The eigenvalues in descending order, and unit eigenvectors, one in each column.

    Raises:
      ValueError: If not 1 <= k <= steps <= d.
      TypeError: If `d`, `k` or `steps` is not an integer.

    Example:
      >>> matrix = jnp.diag(jnp.array([1.0, 5.0, 3.0]))
      >>> eigenvalues, vectors = ridge.lanczos(jax.random.key(0), lambda v: matrix @ v, d=3, k=2, steps=3)
      >>> np.asarray(eigenvalues).round(3)
      array([5., 3.], dtype=float32)
    """
    checks.key("key", key)
    for name, value in (("d", d), ("k", k), ("steps", steps)):
        checks.count(name, value)
    if not k <= steps <= d:
        raise ValueError(f"k <= steps <= d must hold, got k = {k}, steps = {steps} and d = {d}")
    start = jax.random.normal(key, (d,))

    def step(carry: PyTree, i: PyTree) -> tuple[PyTree, PyTree]:
        basis, v = carry
        basis = basis.at[i].set(v)
        w = matvec(v)
        diagonal = jnp.vdot(v, w)
        for _ in range(2):  # rounding leaves a component along the basis after the first pass
            w = w - basis.T @ (basis @ w)
        beta = jnp.linalg.norm(w)
        return (basis, w / jnp.where(beta > 0, beta, 1)), (diagonal, beta)

    first = varying.match(jnp.zeros((steps, d), start.dtype), start / jnp.linalg.norm(start))
    (basis, _), (diagonal, beta) = jax.lax.scan(step, first, jnp.arange(steps))
    tridiagonal = jnp.diag(diagonal) + jnp.diag(beta[:-1], 1) + jnp.diag(beta[:-1], -1)
    eigenvalues, vectors = jnp.linalg.eigh(tridiagonal)
    return eigenvalues[: -k - 1 : -1], basis.T @ vectors[:, : -k - 1 : -1]


def _check_hessian(hessian: PyTree, w_star: PyTree, alpha: PyTree) -> None:
    checks.in_range("alpha", alpha)
    if jnp.ndim(w_star) != 1:
        raise ValueError(f"w_star must be a vector [d], got shape {jnp.shape(w_star)}")
    d = jnp.shape(w_star)[0]
    checks.shape("hessian", hessian, (d, d), "one row and one column for each entry of w_star")
    if isinstance(hessian, Tracer):
        return
    matrix = np.asarray(hessian, np.float64)
    if len(bad := matrix[~np.isfinite(matrix)]):
        raise ValueError(f"hessian must be finite, got {bad[0]:g}")
    tolerance = 10 * jnp.finfo(hessian.dtype).eps * np.abs(matrix).max(initial=0)
    if not np.abs(matrix - matrix.T).max(initial=0) <= tolerance:
        i, j = np.unravel_index(np.argmax(np.abs(matrix - matrix.T)), matrix.shape)
        given = f"{matrix[i, j]:g} at [{i}, {j}] and {matrix[j, i]:g} at [{j}, {i}]"
        raise ValueError(f"hessian must be symmetric, got {given}: use (h + h.T) / 2 if the difference is rounding")
    if d and not (least := np.linalg.eigvalsh(matrix)[0]) > 0:
        advice = "train further, or take the minimum of a loss with a small penalty"
        raise ValueError(f"hessian must be positive definite, as at a minimum, got the eigenvalue {least:g}: {advice}")
