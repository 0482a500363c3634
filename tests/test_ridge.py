"""The analysis of L2 (section 3.3.1)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from jnn import costs, mlp, regularize, ridge
from tests.helpers import examples, network, refuses, split_in_two

KEY = jax.random.key(0)


def quadratic(seed, d=6):
    """A positive definite Hessian with eigenvalues 0.1 to 5, and a minimum."""
    q = jnp.linalg.qr(jax.random.normal(jax.random.key(seed), (d, d)))[0]
    hessian = (q * jnp.geomspace(0.1, 5, d)[None]) @ q.T
    return (hessian + hessian.T) / 2, jax.random.normal(jax.random.key(seed + 1), (d,))


def quadratic_loss(hessian, w_star):
    return lambda w: 1.5 + (w - w_star) @ hessian @ (w - w_star) / 2


@pytest.mark.equation("3.10")
def test_the_gradient_near_the_minimum(x64):
    """(3.10): grad L(w) = H (w - w*), for a quadratic loss wherever w is."""
    hessian, w_star = quadratic(6)
    loss, w = quadratic_loss(hessian, w_star), 3 * jax.random.normal(KEY, (6,))
    np.testing.assert_allclose(jax.grad(loss)(w), hessian @ (w - w_star), rtol=1e-12)
    np.testing.assert_allclose(ridge.hvp(loss, w_star, w - w_star), jax.grad(loss)(w), rtol=1e-12)


@pytest.mark.equation("3.11")
@pytest.mark.parametrize("f", [ridge.solve, ridge.solve_spectral])
def test_the_regularised_gradient_vanishes_at_the_optimum(f, x64):
    """(3.11): 0 = grad L(w~) + alpha w~, by autodiff of the loss with its penalty."""
    hessian, w_star = quadratic(7)
    loss, alpha = quadratic_loss(hessian, w_star), 0.7
    optimum = f(hessian, w_star, alpha)
    np.testing.assert_allclose(jax.grad(loss)(optimum) + regularize.l2(alpha).grad(optimum[None])[0], 0, atol=1e-13)
    np.testing.assert_allclose(
        jax.grad(lambda w: loss(w) + regularize.l2(alpha).value(w[None]))(optimum), jnp.zeros(6), atol=1e-13
    )


@pytest.mark.equation("3.12", "3.13")
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 0.7, 30.0]))
def test_3_12_is_3_13(seed, alpha):
    """(3.12) by a solve, (3.13) by the spectrum: the same w~."""
    with jax.enable_x64(True):
        hessian, w_star = quadratic(seed)
        by_solve, by_spectrum = (f(hessian, w_star, alpha) for f in (ridge.solve, ridge.solve_spectral))
        np.testing.assert_allclose(by_solve, by_spectrum, rtol=1e-10, atol=1e-12)
        if alpha == 0:
            np.testing.assert_allclose(by_solve, w_star, rtol=1e-10)


@pytest.mark.equation("3.13")
def test_shrinkage_along_each_direction(x64):
    """(3.13): what is left of each component is lambda_i / (lambda_i + alpha), from 0 to 1."""
    hessian, w_star = quadratic(4)
    eigenvalues, q = jnp.linalg.eigh(hessian)
    left = (q.T @ ridge.solve(hessian, w_star, 0.7)) / (q.T @ w_star)
    np.testing.assert_allclose(left, ridge.shrinkage(eigenvalues, 0.7), rtol=1e-9)
    np.testing.assert_allclose(ridge.shrinkage(jnp.array([1e-9, 1.0, 1e9]), 1.0), [0, 0.5, 1], atol=1e-8)


def loss_of(xs, ys):
    return lambda params: jnp.mean(costs.cross_entropy.value(jax.vmap(mlp.logits, in_axes=(None, 0))(params, xs), ys))


@pytest.mark.equation("3.9")
def test_the_hessians_action_and_its_top_eigenpairs(x64):
    """The H of (3.9), for a network, as matrix and as products with it."""
    params, (xs, ys) = network(0, (4, 3, 2), jnp.float64), examples(1, 9, (4, 3, 2), jnp.float64)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    loss = loss_of(xs, ys)
    hessian = jax.jit(jax.hessian(lambda w: loss(unravel(w))))(flat)
    v = jax.random.normal(KEY, flat.shape)
    action = jax.jit(functools.partial(ridge.hvp, loss))(params, unravel(v))
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(action)[0], hessian @ v, rtol=1e-9, atol=1e-12)

    def act(u):
        return jax.flatten_util.ravel_pytree(ridge.hvp(loss, params, unravel(u)))[0]

    eigenvalues, vectors = jax.jit(lambda key: ridge.lanczos(key, act, len(flat), 4, steps=len(flat)))(KEY)
    np.testing.assert_allclose(eigenvalues, jnp.linalg.eigvalsh(hessian)[:-5:-1], rtol=1e-9)
    np.testing.assert_allclose(hessian @ vectors, vectors * eigenvalues[None], atol=1e-8)
    np.testing.assert_allclose(vectors.T @ vectors, jnp.eye(4), atol=1e-10)


def test_lanczos_keeps_its_basis_orthogonal_in_float32():
    """Where eigenvalues have converged, unprotected Lanczos would find copies of them."""
    d = 200
    diagonal = jnp.concatenate([jnp.array([100.0, 50.0, 30.0]), jnp.linspace(0, 1, d - 3)])
    eigenvalues, vectors = jax.jit(lambda key: ridge.lanczos(key, lambda v: diagonal * v, d, 4, steps=60))(KEY)
    np.testing.assert_allclose(eigenvalues, [100, 50, 30, 1], rtol=2e-3)
    np.testing.assert_allclose(vectors.T @ vectors, jnp.eye(4), atol=1e-4)


def test_devices_that_begin_from_keys_of_their_own():
    keys, diagonal = jax.random.split(KEY), jnp.arange(1.0, 7)

    def largest(key):
        return ridge.lanczos(key, lambda v: diagonal * v, 6, 2, steps=6)[0]

    split = split_in_two(lambda keys: largest(keys[0])[None], P("d"), P("d"))
    np.testing.assert_allclose(split(keys), [[6, 5], [6, 5]], rtol=1e-5)


# Bad input


test_bad_input = refuses(
    (lambda: ridge.shrinkage(jnp.array([1.0, -1.0]), 0.1), ValueError, "eigenvalues must be positive and finite, got"),
    (lambda: ridge.solve(jnp.eye(3), jnp.ones(3), -1.0), ValueError, "alpha must be at least 0, got -1.0"),
    (lambda: ridge.solve(jnp.eye(3), jnp.ones(2), 1.0), ValueError, r"hessian must have shape \(2, 2\), got \(3, 3\)"),
    (lambda: ridge.solve(jnp.diag(jnp.array([1.0, jnp.inf])), jnp.ones(2), 1.0), ValueError, "must be finite, got inf"),
    (lambda: ridge.solve(jnp.eye(2), jnp.ones((2, 1)), 1.0), ValueError, r"w_star must be a vector \[d\], got shape"),
    (lambda: ridge.lanczos(KEY, lambda v: v, 3, 4, steps=3), ValueError, "got k = 4, steps = 3 and d = 3"),
)


@pytest.mark.bad_input
@pytest.mark.parametrize("f", [ridge.solve, ridge.solve_spectral])
def test_matrices_that_are_not_hessians_of_a_minimum(f):
    with pytest.raises(ValueError, match=r"must be symmetric, got 1 at \[0, 1\] and 0 at \[1, 0\]"):
        f(jnp.array([[2.0, 1.0], [0.0, 2.0]]), jnp.ones(2), 1.0)
    with pytest.raises(ValueError, match="must be positive definite, as at a minimum, got the eigenvalue -1"):
        f(jnp.diag(jnp.array([2.0, -1.0])), jnp.ones(2), 1.0)
    assert jax.jit(f)(jnp.diag(jnp.array([2.0, -1.0])), jnp.ones(2), 3.0).shape == (2,)
