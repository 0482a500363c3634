"""Norms and penalties (section 3.3), noise and mixup (section 3.3.2)."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jnn import backprop, lstm, mlp, regularize
from tests.helpers import examples, network, refuses, relative_error

KEY = jax.random.key(0)
GRAD = backprop.minibatch_value_and_grad
# Norms and penalties


@pytest.mark.equation("3.8")
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8), st.sampled_from([1, 1.5, 2, 3.0, 7]))
def test_lp_norm_is_3_8(w, p):
    """(3.8), number by number."""
    wanted = sum(abs(x) ** p for x in w) ** (1 / p)
    np.testing.assert_allclose(regularize.lp_norm(jnp.asarray(w, jnp.float32), p), wanted, rtol=1e-4, atol=1e-30)


def test_lp_norm_at_its_ends():
    w = jnp.array([3.0, -4.0, 0.0])
    assert regularize.lp_norm(w, jnp.inf) == 4
    np.testing.assert_allclose(regularize.lp_norm(w, 100.0), 4, rtol=1e-2)
    np.testing.assert_allclose(regularize.lp_norm(1e30 * w, 2), 5e30, rtol=1e-6)  # its squares overflow
    np.testing.assert_allclose(regularize.lp_norm(1e-30 * w, 3), 1e-30 * 91 ** (1 / 3), rtol=1e-5)
    for p in (1, 1.5, 2, jnp.inf):
        value, gradient = jax.value_and_grad(regularize.lp_norm)(jnp.zeros(3), p)
        assert value == 0
        assert gradient.tolist() == [0, 0, 0]


@pytest.mark.equation("3.8")
def test_penalties_see_weights_only():
    """They are (3.8) with p = 1, 2 and others, of all weights and no bias."""
    params = network(0)
    flat = jnp.concatenate([layer.w.ravel() for layer in params])
    for p, make in ((1, regularize.l1), (2, regularize.l2), (1.5, functools.partial(regularize.lp, p=1.5))):
        value = jax.jit(lambda alpha, make=make: make(alpha).value(params))(0.3)
        np.testing.assert_allclose(value, 0.3 / p * regularize.lp_norm(flat, p) ** p, rtol=1e-6)
    assert jax.tree.leaves(regularize.weights(params)) == [True, False] * 3
    cell = lstm.init(KEY, 3, 4)
    assert regularize.weights(cell).rem == lstm.Gate(W=True, U=True, b=False)


@pytest.mark.equation("section 3.3")
@pytest.mark.parametrize("penalty", [regularize.l1(0.3), regularize.l2(0.3), regularize.lp(0.3, 1.5)])
def test_gradients_of_penalties_by_hand(penalty, x64):
    params = network(0, dtype=jnp.float64)
    by_hand = penalty.grad(params)
    assert relative_error(by_hand, jax.grad(penalty.value)(params)) < 1e-15
    assert all(not layer.b.any() for layer in by_hand)
    assert not penalty.grad((mlp.Layer(jnp.zeros((2, 3)), jnp.zeros(2)),))[0].w.any()


@pytest.mark.equation("section 3.3")
def test_a_penalty_of_the_users():
    """Two functions; here biases are held near 1."""
    near_one = regularize.Penalty(
        lambda params: sum(jnp.sum((layer.b - 1) ** 2) for layer in params),
        lambda params: tuple(mlp.Layer(jnp.zeros_like(layer.w), 2 * (layer.b - 1)) for layer in params),
    )
    params, data, l1 = network(0), examples(1, 6), regularize.l1(0.3)
    value, grads = jax.jit(GRAD)(params, *data)
    penalised, with_both = jax.jit(regularize.penalised(GRAD, near_one, l1))(params, *data)
    np.testing.assert_allclose(penalised, value + near_one.value(params) + l1.value(params), rtol=1e-6)
    expected = jax.tree.map(lambda *leaves: sum(leaves), grads, near_one.grad(params), l1.grad(params))
    assert relative_error(with_both, expected) < 1e-6


# Noise and mixup


@pytest.mark.equation("3.16", "3.20", "3.21")
def test_noise_has_the_moments_of_3_16():
    """To four standard errors; (3.16): E[epsilon_i epsilon_j] is sigma^2 on the diagonal and 0 elsewhere.

    So E[w^T epsilon] is 0, (3.20), as E[epsilon_i] is, and E[(w^T epsilon)^2] is sigma^2 ||w||^2, (3.21).
    """
    n, sigma = 40_000, 0.7
    (drawn,) = (np.asarray(a, np.float64) for a in regularize.input_noise(KEY, jnp.zeros((n, 5)), sigma=sigma))
    error = sigma**2 / np.sqrt(n) * np.where(np.eye(5), np.sqrt(2), 1)
    assert np.all(np.abs(drawn.T @ drawn / n - sigma**2 * np.eye(5)) <= 4 * error)
    assert np.all(np.abs(drawn.mean(axis=0)) <= 4 * sigma / np.sqrt(n))


def all_noise(d, sigma):
    """2 d equally likely values of epsilon that have (3.16) and mean 0: expectations of squares are exact sums."""
    axes = np.sqrt(d) * sigma * np.eye(d)
    return np.concatenate([axes, -axes])


@pytest.mark.equation("3.17", "3.18", "3.19", "3.22")
@pytest.mark.parametrize("sigma", [0.0, 0.6])
def test_the_noisy_loss_is_the_mean_over_pairs_and_noise(sigma, x64):
    """(3.17) and (3.18): the mean of (w^T (x + epsilon) - y)^2; (3.19): which is the sum of three means.

    (3.22): that it is L2 with alpha = 2 sigma^2.
    """
    draws = np.random.default_rng(0)
    w, xs, ys = draws.normal(size=5), draws.normal(size=(7, 5)), draws.normal(size=7)
    apart, shift = (xs @ w - ys)[:, None], all_noise(5, sigma) @ w
    found = regularize.noisy_squared_loss(*map(jnp.asarray, (w, xs, ys)), sigma)
    np.testing.assert_allclose(found, np.mean((apart + shift) ** 2), rtol=1e-13)
    np.testing.assert_allclose(found, sum(map(np.mean, (apart**2, 2 * apart * shift, shift**2))), rtol=1e-13)
    l2 = np.mean(apart**2) + regularize.l2(2 * sigma**2).value(jnp.asarray(w)[None])
    np.testing.assert_allclose(found, l2, rtol=1e-13)


def assert_noise(noisy, plain, sigma):
    """The leaves are apart by numbers of this standard deviation, others in each leaf."""
    apart = [np.ravel(a - b) for a, b in zip(jax.tree.leaves(noisy), jax.tree.leaves(plain), strict=True)]
    np.testing.assert_allclose(np.std(np.concatenate(apart)), sigma, rtol=0.15)
    assert all(not np.allclose(a[:3], b[:3]) for a, b in itertools.combinations(apart, 2))


@pytest.mark.equation("section 3.3.2, noise")
def test_noise_on_labels_and_gradients_leaves_the_rest():
    xs, ys = examples(1, 200)
    same, noisy = regularize.label_noise(KEY, xs, ys, sigma=0.5)
    assert same is xs
    np.testing.assert_allclose(np.std(noisy - ys), 0.5, rtol=0.1)
    value, grads = jax.jit(GRAD)(network(0), xs, ys)
    noisy_value, noisy_grads = jax.jit(regularize.gradient_noise(GRAD, 0.5))(network(0), xs, ys, KEY)
    assert noisy_value == value
    assert_noise(noisy_grads, grads, 0.5)


def test_weight_noise_is_the_gradient_somewhere_near():
    """For the cost ||w||^2 / 2 the gradient is the place itself, so it shows the noise."""
    params = network(0, (30, 20, 10))
    grad = jax.value_and_grad(lambda params: sum(jnp.sum(leaf**2) / 2 for leaf in jax.tree.leaves(params)))
    value, at = regularize.weight_noise(grad, 0.3)(params, KEY)
    np.testing.assert_allclose(value, grad(at)[0], rtol=1e-6)
    assert_noise(at, params, 0.3)
    data = examples(1, 6)
    silent = jax.jit(regularize.weight_noise(GRAD, 0.0))(network(0), *data, KEY)
    assert relative_error(silent, jax.jit(GRAD)(network(0), *data)) < 1e-6


@pytest.mark.equation("3.14", "3.15")
def test_a_mixture_is_the_convex_combination(x64):
    """(3.14), and (3.15) with the same lambda: one number for all, or one for each example."""
    (a_xs, a_ys), (b_xs, b_ys) = examples(1, 3, dtype=jnp.float64), examples(2, 3, dtype=jnp.float64)
    lam = jnp.array([0.0, 0.3, 1.0])
    for a, b in ((a_xs, b_xs), (a_ys, b_ys)):
        wanted = [lam[i] * a[i] + (1 - lam[i]) * b[i] for i in range(3)]
        np.testing.assert_allclose(regularize.mix(lam, a, b), wanted, rtol=1e-14)
        np.testing.assert_allclose(regularize.mix(lam[1], a[2], b[2]), 0.3 * a[2] + 0.7 * b[2], rtol=1e-14)


@pytest.mark.equation("3.14", "3.15")
def test_mixup_is_3_14_and_3_15():
    """(3.14), (3.15): inputs and labels are mixed with one lambda, each example with its own from Beta(beta, beta)."""
    m, beta = 1500, 0.4
    xs, ys = jnp.arange(float(m))[:, None], jnp.eye(m)
    mixed_xs, mixed_ys = jax.jit(functools.partial(regularize.mixup, beta=beta))(KEY, xs, ys)
    np.testing.assert_allclose(mixed_ys.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose((mixed_ys @ xs)[:, 0], mixed_xs[:, 0], rtol=1e-4, atol=1e-2)
    lam = np.diagonal(mixed_ys)
    np.testing.assert_allclose(lam.mean(), 0.5, atol=0.03)
    np.testing.assert_allclose(lam.var(), 1 / (4 * (2 * beta + 1)), rtol=0.05)
    partners = np.argmax(np.asarray(mixed_ys) * (1 - np.eye(m)), axis=1)
    assert len(set(partners.tolist())) > 0.9 * m  # a permutation, but for lambdas of 1


# Bad input


test_bad_input = refuses(
    (lambda: regularize.lp_norm(jnp.ones(3), 0.5), ValueError, "p must be at least 1, got 0.5"),
    (lambda: regularize.lp_norm(jnp.ones((3, 2)), 2), ValueError, r"w must be a vector \[d\], got shape \(3, 2\)"),
    (lambda: regularize.l1(-1.0), ValueError, "alpha must be at least 0, got -1.0"),
    (lambda: regularize.l2(-1.0), ValueError, "alpha must be at least 0, got -1.0"),
    (lambda: regularize.lp(-1.0, 2), ValueError, "alpha must be at least 0, got -1.0"),
    (lambda: regularize.lp(1.0, 0.5), ValueError, "p must be at least 1, got 0.5"),
    (lambda: regularize.noise(KEY, jnp.ones(3), -0.1), ValueError, "sigma must be at least 0, got -0.1"),
    (lambda: regularize.gradient_noise(GRAD, -0.1), ValueError, "sigma must be at least 0, got -0.1"),
    (lambda: regularize.weight_noise(GRAD, -0.1), ValueError, "sigma must be at least 0, got -0.1"),
    (lambda: regularize.noisy_squared_loss(np.ones(2), np.ones((3, 2)), np.ones(3), -1.0), ValueError, "sigma must be"),
    (
        lambda: regularize.noisy_squared_loss(np.ones(2), np.ones((3, 2)), np.ones((3, 1)), 1.0),
        ValueError,
        r"ys must have shape \(3,\), got \(3, 1\)",
    ),
    (
        lambda: regularize.noisy_squared_loss(*map(np.ones, (2, (0, 2), 0)), 1.0),
        ValueError,
        "xs must hold at least one",
    ),
    (lambda: regularize.noisy_squared_loss(np.ones(3), np.ones((3, 2)), np.ones(3), 1.0), ValueError, "w must have"),
    (lambda: regularize.mix(np.ones(2), np.ones((2, 3)), np.ones(3)), ValueError, r"b must have shape \(2, 3\), got"),
    (lambda: regularize.mix(np.array([0.5, -0.1]), np.ones(2), np.ones(2)), ValueError, r"lam must be in \[0, 1\]"),
    (lambda: regularize.mixup(KEY, *examples(1, 6), beta=0.0), ValueError, "beta must be positive and finite, got 0.0"),
    (lambda: regularize.penalised(GRAD, 0.1), TypeError, "each penalty must be a regularize.Penalty, .*, got 0.1"),
)
