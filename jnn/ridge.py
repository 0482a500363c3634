"""The analysis of L2 regularisation (section 3.3.1): ridge solutions, Hessian-vector products, leading eigenpairs.

All raise TypeError for an alpha that is not one number and for a key that `jax.random.key` did not make.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from jnn._internal import checks
from jnn._internal.varying import match_varying
from jnn.typing import PyTree, Scalar


def solve(hessian: Float[Array, "d d"], w_star: Float[Array, " d"], alpha: Scalar) -> Float[Array, " d"]:
    """w~ = (H + alpha I)^-1 H w*, the minimum of L(w) + (alpha/2) ||w||^2 (3.12), by a Cholesky factorisation.

    H is the Hessian of L at its minimum w*. There grad L(w~) + alpha w~ = 0, (3.11). Exact for a quadratic L, and of
    second order for others: (3.9) and (3.10) hold where L is twice continuously differentiable (the notes ask for
    continuity).

    Raises ValueError for shapes that do not fit, a negative alpha, and, unless it is traced, a Hessian that is not
    symmetric or not positive definite.
    """
    _check_hessian(hessian, w_star, alpha)
    shifted = hessian + alpha * jnp.eye(len(w_star), dtype=hessian.dtype)
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(shifted), hessian @ w_star)


def solve_spectral(hessian: Float[Array, "d d"], w_star: Float[Array, " d"], alpha: Scalar) -> Float[Array, " d"]:
    """w~ = Q diag(lambda_i / (lambda_i + alpha)) Q^T w* (3.13); equals `solve`, and raises as it does."""
    _check_hessian(hessian, w_star, alpha)
    eigenvalues, q = jnp.linalg.eigh(hessian)
    return q @ (shrinkage(eigenvalues, alpha) * (q.T @ w_star))


def shrinkage(eigenvalues: Float[Array, " k"], alpha: Scalar) -> Float[Array, " k"]:
    """lambda_i / (lambda_i + alpha), the factor on the component of w* along the i-th eigenvector (3.13).

    Raises ValueError for a negative alpha and, unless they are traced, for eigenvalues that are not positive.
    """
    checks.in_range("alpha", alpha)
    checks.positive("eigenvalues", eigenvalues)
    return eigenvalues / (eigenvalues + alpha)


def hvp(loss: Callable[[PyTree], Float[Array, ""]], params: PyTree, v: PyTree) -> PyTree:
    """The Hessian-vector product H v of `loss` at params, for v a tree like params.

    It is the derivative of the gradient along v; H is that of the expansion (3.9), and of the gradient H (w - w*) near
    a minimum, (3.10). Costs about two gradients, and no memory for H.
    """
    return jax.jvp(jax.grad(loss), (params,), (v,))[1]


def lanczos(
    key: Key[Array, ""], matvec: Callable[[Float[Array, " d"]], Float[Array, " d"]], d: int, k: int, *, steps: int
) -> tuple[Float[Array, " k"], Float[Array, "d k"]]:
    """The k largest eigenvalues, in descending order, and unit eigenvectors of a symmetric matrix given by `matvec`.

    Lanczos' method from a random start with full reorthogonalisation: after `steps` products, the eigenpairs of the
    tridiagonal matrix in the Krylov basis. With steps = d all eigenvalues are exact.

    Raises ValueError unless 1 <= k <= steps <= d.
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

    first = match_varying(jnp.zeros((steps, d), start.dtype), start / jnp.linalg.norm(start))
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
    tolerance = 10 * jnp.finfo(hessian.dtype).eps * np.abs(matrix).max(initial=0)
    if not np.abs(matrix - matrix.T).max(initial=0) <= tolerance:
        i, j = np.unravel_index(np.argmax(np.abs(matrix - matrix.T)), matrix.shape)
        raise ValueError(
            f"hessian must be symmetric, got {matrix[i, j]:g} at [{i}, {j}] and {matrix[j, i]:g} at [{j}, {i}]: "
            "use (h + h.T) / 2 if the difference is rounding"
        )
    if d and not np.linalg.eigvalsh(matrix)[0] > 0:
        raise ValueError(
            f"hessian must be positive definite, as at a minimum, got the eigenvalue "
            f"{np.linalg.eigvalsh(matrix)[0]:g}: train further, or take the minimum of a loss with a small penalty"
        )
