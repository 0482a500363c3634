import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import activations, costs
from tests.helpers import COSTS, examples

EVERY = pytest.mark.parametrize("cost", COSTS, ids=repr)


def one(seed, k=5):
    _, ys = examples(seed, 1, (1, k), jnp.float64)
    return 3 * jax.random.normal(jax.random.key(seed + 100), (k,), jnp.float64), ys[0]


@EVERY
def test_delta_is_the_derivative_of_the_value(cost, x64):
    """delta^L = dC/dz^L, the definition in section 2.1."""
    for seed in range(5):
        z, y = one(seed)
        np.testing.assert_allclose(cost.delta(z, y), jax.grad(cost.value)(z, y), rtol=1e-12, atol=1e-13)


@EVERY
def test_delta_is_the_jacobian_times_the_gradient(cost, x64):
    """(2.1) and (2.2): delta^L = J^T grad_a C, J diagonal for elementwise outputs, diag(a) - a a^T for softmax."""
    z, y = one(7)
    a = cost.output(z)
    if cost is costs.log_likelihood:
        jacobian, gradient = activations.softmax_jacobian(z), -y / a
    else:
        jacobian = jnp.diag(jax.vmap(jax.grad(cost.output))(z))
        gradient = (a - y) / (a * (1 - a)) if cost is costs.cross_entropy else a - y
    np.testing.assert_allclose(cost.delta(z, y), jacobian.T @ gradient, rtol=1e-12, atol=1e-14)


def test_values_against_the_notes_formulas(x64):
    z, y = one(3)
    s, p = 1 / (1 + np.exp(-z)), np.exp(z) / np.sum(np.exp(z))
    by_hand = {
        costs.quadratic: 0.5 * np.sum((y - s) ** 2),
        costs.quadratic_with(activations.tanh): 0.5 * np.sum((y - np.tanh(z)) ** 2),
        costs.quadratic_with(activations.identity): 0.5 * np.sum((y - z) ** 2),
        costs.cross_entropy: -np.sum(y * np.log(s) + (1 - y) * np.log(1 - s)),
        costs.log_likelihood: -np.sum(y * np.log(p)),
    }
    for cost, wanted in by_hand.items():
        np.testing.assert_allclose(cost.value(z, y), wanted, rtol=1e-13)


def test_log_likelihood_of_a_class(x64):
    """Section 3.2: C = -ln a_r; delta is a_r - 1 at r, (3.4), a_j elsewhere, (3.5): a - y, (3.6)."""
    z, _ = one(4)
    a = activations.softmax(z)
    y = jnp.eye(5)[2]
    np.testing.assert_allclose(costs.log_likelihood.value(z, y), -jnp.log(a[2]), rtol=1e-13)
    np.testing.assert_allclose(costs.log_likelihood.delta(z, y), a.at[2].add(-1), rtol=1e-13)


@EVERY
def test_a_batch_is_a_vmap_of_one(cost, x64):
    z = jax.random.normal(jax.random.key(0), (6, 4))
    _, y = examples(1, 6, (1, 4), jnp.float64)
    for f in (cost.value, cost.delta):
        np.testing.assert_allclose(f(z, y), jax.vmap(f)(z, y), rtol=1e-13)


@pytest.mark.parametrize("cost", [costs.quadratic, costs.cross_entropy, costs.log_likelihood], ids=repr)
@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_finite_for_huge_weighted_inputs(cost, scale):
    z = scale * jnp.array([-1.0, 1.0, -0.5, 0.25])
    for i in range(4):
        y = jnp.eye(4)[i]
        value, gradient = jax.value_and_grad(cost.value)(z, y)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))
        np.testing.assert_allclose(cost.delta(z, y), gradient, atol=1e-6)


def test_entropies_keep_their_slope_where_the_output_saturates():
    """Exercise 3.2: at a = 1, y = 0 the cross-entropy costs z and pulls with 1; the quadratic one has stopped."""
    z, y = jnp.array([40.0]), jnp.array([0.0])
    assert costs.cross_entropy.value(z, y) == 40
    assert costs.cross_entropy.delta(z, y) == 1
    assert costs.quadratic.delta(z, y) == 0


def test_small_cross_entropies_are_not_rounded_away():
    """At z = 20, y = 1 the cost is ln(1 + exp(-20)), although a is within a rounding of 1."""
    value = costs.cross_entropy.value(jnp.array([20.0]), jnp.array([1.0]))
    np.testing.assert_allclose(value, np.log1p(np.exp(-20)), rtol=1e-5)


def test_second_derivative_at_zero(x64):
    """sigma'(0) = 1/4: no kink is left by the way the value is computed."""
    hessian = jax.hessian(costs.cross_entropy.value)(jnp.zeros(2), jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(hessian, 0.25 * np.eye(2), rtol=1e-12)


def test_cross_entropy_is_least_at_y(x64):
    """Exercise 3.1 with its errata: convex in a, minimal at a = y, where it is H(y)."""
    y = jnp.array([0.3])
    z = jnp.linspace(-4, 4, 1001)[:, None]
    values = costs.cross_entropy.value(z, jnp.broadcast_to(y, z.shape))
    best = jnp.log(y / (1 - y))
    assert np.all(values >= costs.cross_entropy.value(best, y))
    np.testing.assert_allclose(costs.cross_entropy.value(best, y), costs.binary_entropy(y[0]), rtol=1e-13)


def test_binary_entropy():
    np.testing.assert_allclose(costs.binary_entropy(jnp.array([0.0, 0.5, 1.0])), [0, np.log(2), 0], rtol=1e-6)
    y = np.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(costs.binary_entropy(y), -(y * np.log(y) + (1 - y) * np.log(1 - y)), rtol=1e-5)


def test_quadratic_with_gives_the_same_object():
    assert costs.quadratic_with(activations.sigmoid) is costs.quadratic
    assert costs.quadratic_with(activations.tanh) is costs.quadratic_with(activations.tanh)
