import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jnn import activations, backprop, costs, mlp, stopping
from tests.helpers import COSTS, examples, normal, refuses

EVERY = pytest.mark.parametrize("cost", COSTS, ids=repr)


def one(seed, k=5):
    _, ys = examples(seed, 1, (1, k), jnp.float64)
    return 3 * jax.random.normal(jax.random.key(seed + 100), (k,), jnp.float64), ys[0]


@pytest.mark.equation("2.1")
@EVERY
def test_delta_is_the_derivative_of_the_value(cost, x64):
    """delta^L = dC/dz^L, the definition in section 2.1, with which (2.1) begins; a batch is a vmap of one."""
    z, (_, y) = 3 * normal(0, 6, 5, dtype=jnp.float64), examples(1, 6, (1, 5), jnp.float64)
    steps = 1e-6 * jnp.eye(5)[:, None]

    @jax.jit
    def ways(z, y):
        there, back = (cost.value(z[None] + h, jnp.broadcast_to(y, (5, 6, 5))) for h in (steps, -steps))
        derivatives = jax.vmap(jax.grad(cost.value))(z, y), (there - back).T / 2e-6
        return (cost.value(z, y), jax.vmap(cost.value)(z, y)), (cost.delta(z, y), *derivatives)

    (values, one_by_one), (delta, by_autodiff, by_differences) = ways(z, y)
    np.testing.assert_allclose(values, one_by_one, rtol=1e-13)
    np.testing.assert_allclose(delta, by_autodiff, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(delta, by_differences, rtol=1e-6, atol=1e-8)


@pytest.mark.equation("2.1", "2.2")
@pytest.mark.parametrize("cost", COSTS[:6], ids=repr)
def test_delta_is_the_jacobian_times_the_gradient(cost, x64):
    """(2.2): delta^L = J^T grad_a C, J diagonal for elementwise outputs, as in (2.1), diag(a) - a a^T for softmax.

    dC/da_j is a_j - y_j for the quadratic cost.
    """
    z, y = one(7)
    a = cost.output(z)
    if cost is costs.log_likelihood:
        jacobian, gradient = activations.softmax_jacobian(z), -y / a
    else:
        jacobian = jnp.diag(jax.vmap(jax.grad(cost.output))(z))
        gradient = (a - y) / (a * (1 - a)) if cost is costs.cross_entropy else a - y
    np.testing.assert_allclose(cost.delta(z, y), jacobian.T @ gradient, rtol=1e-12, atol=1e-14)


def test_values_against_their_formulas(x64):
    z, y = one(3)
    s, p = 1 / (1 + np.exp(-z)), np.exp(z) / np.sum(np.exp(z))
    by_hand = {
        costs.quadratic: 0.5 * np.sum((y - s) ** 2),
        costs.quadratic_with(activations.tanh): 0.5 * np.sum((y - np.tanh(z)) ** 2),
        costs.quadratic_with(activations.identity): 0.5 * np.sum((y - z) ** 2),
        costs.cross_entropy: -np.sum(y * np.log(s) + (1 - y) * np.log(1 - s)),
        costs.log_likelihood: -np.sum(y * np.log(p)),
        costs.absolute: np.sum(np.abs(z - y)),
        costs.huber_with(2.0): sum(e**2 / 2 if abs(e) <= 2 else 2 * abs(e) - 2 for e in np.asarray(z - y)),
        costs.hinge: np.sum(y * np.maximum(0, 1 - z) + (1 - y) * np.maximum(0, 1 + z)),
    }
    for cost, wanted in by_hand.items():
        np.testing.assert_allclose(cost.value(z, y), wanted, rtol=1e-13)


def test_delta_at_the_kinks():
    """Huber's has none; where the others jump, they are 0."""
    z, y = jnp.array([-2.0, 0.0, 2.0]), jnp.zeros(3)
    for f in (costs.huber_with(2.0).delta, jax.grad(costs.huber_with(2.0).value)):
        assert f(z, y).tolist() == [-2, 0, 2]
    assert costs.absolute.delta(z, y).tolist() == [-1, 0, 1]
    for f in (costs.hinge.delta, jax.grad(costs.hinge.value)):
        assert f(jnp.array([1.0, -1.0, 1.0, -1.0]), jnp.array([1.0, 0.0, 0.0, 1.0])).tolist() == [0, 0, 1, -1]


@EVERY
def test_finite_for_huge_weighted_inputs(cost):
    z, y = (
        jnp.repeat(jnp.array([[-1e2, 1e2, -50, 25], [-1e4, 1e4, -5e3, 2.5e3]]), 4, axis=0),
        jnp.tile(jnp.eye(4), (2, 1)),
    )
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(cost.value)))(z, y)
    assert np.all(np.isfinite(values))
    assert np.all(np.isfinite(gradients))
    np.testing.assert_allclose(cost.delta(z, y), gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.equation("exercise 3.2")
def test_entropies_keep_their_slope_where_the_output_saturates():
    """Exercise 3.2: at a = 1, y = 0 the cross-entropy costs z and pulls with 1; the quadratic one has stopped.

    At y = 1 it costs ln(1 + exp(-z)), which is not rounded away although a is within a rounding of 1.
    """
    z, y = jnp.array([40.0]), jnp.array([0.0])
    assert costs.cross_entropy.value(z, y) == 40
    assert costs.cross_entropy.delta(z, y) == 1
    assert costs.quadratic.delta(z, y) == 0
    value = costs.cross_entropy.value(jnp.array([20.0]), jnp.array([1.0]))
    np.testing.assert_allclose(value, np.log1p(np.exp(-20)), rtol=1e-5)


def test_second_derivative_at_zero(x64):
    """sigma'(0) = 1/4: no kink is left by the way the value is computed."""
    hessian = jax.jit(jax.hessian(costs.cross_entropy.value))(jnp.zeros(2), jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(hessian, 0.25 * np.eye(2), rtol=1e-12)


@pytest.mark.equation("figure 3.1")
def test_binary_entropy():
    """Figure 3.1: H(y), ln 2 at the middle and 0 at both ends."""
    slopes = jax.vmap(jax.grad(costs.binary_entropy))(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_array_equal(slopes, [jnp.inf, 0, -jnp.inf])
    np.testing.assert_allclose(costs.binary_entropy(jnp.array([0.0, 0.5, 1.0])), [0, np.log(2), 0], rtol=1e-6)
    y = np.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(costs.binary_entropy(y), -(y * np.log(y) + (1 - y) * np.log(1 - y)), rtol=1e-5)


@pytest.mark.parametrize("cost", [costs.cross_entropy, costs.log_likelihood, costs.hinge], ids=repr)
def test_masked_logits(cost):
    """A logit of -inf where y is 0: 0 ln 0 = 0, in the value and in both gradients."""
    z, y = jnp.array([1.0, -jnp.inf, 2.0]), jnp.array([0.25, 0.0, 0.75])
    without = cost.value(z[::2], y[::2])
    value, by_z = jax.jit(jax.value_and_grad(cost.value))(z, y)
    np.testing.assert_allclose(value, without, rtol=1e-6)
    np.testing.assert_allclose(by_z, cost.delta(z, y), atol=1e-6)
    assert costs.cross_entropy.value(jnp.array([jnp.inf]), jnp.array([1.0])) == 0


@pytest.mark.parametrize(
    "thing",
    [
        activations.tanh,
        mlp.orthogonal,
        costs.quadratic,
        costs.quadratic_with(activations.identity),
        costs.log_likelihood,
        costs.huber,
        costs.huber_with(2.0),
        stopping.error_change(window=3),
        stopping.weight_change(0.1),
    ],
    ids=repr,
)
def test_what_is_static_is_pickled_by_name(thing):
    """As multiprocessing sends it to another process, also bound to a function; there it is the same object again."""
    assert pickle.loads(pickle.dumps(thing)) is thing  # noqa: S301
    bound = pickle.loads(pickle.dumps(Partial(backprop.minibatch_value_and_grad, cost=thing)))  # noqa: S301
    assert bound.keywords["cost"] is thing


def test_the_same_arguments_give_the_same_cost():
    assert costs.quadratic_with(activations.sigmoid) is costs.quadratic
    assert costs.quadratic_with(activations.tanh) is costs.quadratic_with(activations.tanh)
    assert costs.huber_with(1) is costs.huber
    assert costs.huber_with(jnp.float32(0.5)) is costs.huber_with(0.5)
    assert repr(costs.huber_with(0.5)) == "costs.huber_with(0.5)"


test_the_threshold_of_huber_must_be_positive = refuses(
    (lambda: costs.huber_with(0), ValueError, "threshold must be .* got"),
    (lambda: costs.huber_with(np.inf), ValueError, "threshold must be .* got"),
    (lambda: costs.huber_with("1"), TypeError, "threshold must be .* got"),
)


# Chapter 3's own statements, one by one


def entropy_of(a, y):
    """The cross-entropy as a function of the activation, as exercise 3.1 has it."""
    return -(y * jnp.log(a) + (1 - y) * jnp.log(1 - a))


slope, curvature = (jax.jit(jax.vmap(f, (0, None))) for f in (jax.grad(entropy_of), jax.grad(jax.grad(entropy_of))))


@pytest.mark.equation("exercise 3.1")
@pytest.mark.parametrize("y", [0.05, 0.3, 0.5, 0.9])
def test_exercise_3_1_inside(y, x64):
    """Exercise 3.1 with its errata: C'' = y / a^2 + (1 - y) / (1 - a)^2 > 0, and C is least at a = y, where it is H(y).

    dC/da = (a - y) / (a (1 - a)), 0 at a = y alone, is also what section 3.1.1 integrates.
    """
    a = jnp.linspace(0.01, 0.99, 99)
    np.testing.assert_allclose(slope(a, y), (a - y) / (a * (1 - a)), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(curvature(a, y), y / a**2 + (1 - y) / (1 - a) ** 2, rtol=1e-11)
    assert np.all(curvature(a, y) > 0)
    assert abs(slope(jnp.array([y]), y)[0]) < 1e-14
    np.testing.assert_allclose(entropy_of(y, y), costs.binary_entropy(y), rtol=1e-13)
    z = jnp.log(a) - jnp.log1p(-a)
    by_logits = costs.cross_entropy.value(z[:, None], jnp.full((99, 1), y))
    np.testing.assert_allclose(by_logits, entropy_of(a, y), rtol=1e-12)


@pytest.mark.equation("exercise 3.1")
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_exercise_3_1_at_the_boundary(y, x64):
    """Exercise 3.1 for y in {0, 1}: no stationary point. The slope never is 0, and the cost falls to its infimum 0."""
    z = jnp.linspace(-30, 30, 601)[:, None] * (1 if y else -1)
    values = costs.cross_entropy.value(z, jnp.full_like(z, y))
    assert np.all(np.diff(values) < 0)
    assert 0 < values[-1] < 1e-12
    assert np.all(costs.cross_entropy.delta(z, jnp.full_like(z, y)) != 0)


@pytest.mark.equation("3.1", "3.2", "3.3", "exercise 3.2")
def test_3_1_to_3_3_and_the_factor_that_the_quadratic_cost_keeps(x64):
    """(3.1), with the index that it has lost, to (3.3), and exercise 3.2: the means of all neurons' over examples.

    dC/dw_jk is the mean of a_k (a_j - y_j); for the quadratic cost times sigma'(z_j).
    """
    w, b = normal(0, 3, 5, dtype=jnp.float64), normal(1, 3, dtype=jnp.float64)
    below, ys = map(np.asarray, examples(2, 4, (5, 3), jnp.float64))
    a = 1 / (1 + np.exp(-(below @ w.T + b[None])))
    slope = jax.jit(jax.grad(lambda a: jnp.sum(entropy_of(a, ys))))(a)
    np.testing.assert_allclose(slope * a * (1 - a), a - ys, rtol=1e-11)  # (3.3): dC/db = dC/da a (1 - a)
    for cost, factor in ((costs.cross_entropy, np.ones_like(a)), (costs.quadratic, a * (1 - a))):
        mean = jax.jit(jax.grad(lambda w, b, cost=cost: jnp.mean(cost.value(below @ w.T + b[None], ys)), (0, 1)))
        by_w, by_b = mean(w, b)
        by_hand = sum(np.outer((a[i] - ys[i]) * factor[i], below[i]) for i in range(4)) / 4
        np.testing.assert_allclose(by_w, by_hand, rtol=1e-12, atol=1e-15)  # (3.1)
        np.testing.assert_allclose(by_b, np.mean((a - ys) * factor, axis=0), rtol=1e-12, atol=1e-15)  # (3.2)


@pytest.mark.equation("section 3.2", "3.4", "3.5", "3.6", "3.7")
def test_3_4_to_3_7_for_a_softmax_layer(x64):
    """(3.4) to (3.7): dC/db_r = a_r - 1, dC/db_j = a_j elsewhere, together a - y; dC/dw_jk = a_k (a_j - y_j)."""
    (w, b, below), r = (normal(seed, *shape, dtype=jnp.float64) for seed, shape in enumerate([(4, 6), (4,), (6,)])), 2
    of_r = jax.jit(jax.value_and_grad(lambda w, b: -jnp.log(activations.softmax(w @ below + b)[r]), (0, 1)))
    value, (by_w, by_b) = of_r(w, b)
    a, y = activations.softmax(w @ below + b), jnp.eye(4)[r]
    np.testing.assert_allclose(costs.log_likelihood.value(w @ below + b, y), value, rtol=1e-13)  # section 3.2: -ln a_r
    np.testing.assert_allclose(by_b[r], -1 + a[r], rtol=1e-12)  # (3.4)
    for j in (0, 1, 3):
        np.testing.assert_allclose(by_b[j], a[j], rtol=1e-12)  # (3.5)
    np.testing.assert_allclose(by_b, costs.log_likelihood.delta(w @ below + b, y), rtol=1e-12)  # (3.6)
    np.testing.assert_allclose(by_w, jnp.outer(a - y, below), rtol=1e-12)  # (3.7)
    _, (by_hand,) = backprop.value_and_grad((mlp.Layer(w, b),), below, y, cost=costs.log_likelihood)
    np.testing.assert_allclose(by_hand.w, by_w, rtol=1e-12)


@pytest.mark.bad_input
@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_labels_in_place_of_rows(cost):
    """Also three labels for three rows of three, which NumPy would broadcast."""
    for f in (cost.value, cost.delta):
        with pytest.raises(ValueError, match=r"y must have shape \(3, 3\), got \(3,\): .*one_hot makes rows from"):
            f(jnp.ones((3, 3)), jnp.arange(3))
        np.testing.assert_array_equal(f(jnp.ones((4, 3)), jnp.eye(3)[:1])[2], f(jnp.ones(3), jnp.eye(3)[0]))


@pytest.mark.parametrize("cost", [costs.cross_entropy, costs.log_likelihood, costs.hinge], ids=repr)
def test_a_cost_is_at_least_0_for_its_targets(cost):
    least, most = (float(np.clip(end, -9, 9)) for end in cost.targets)
    draws = np.random.default_rng(0)
    z, y = 9 * draws.normal(size=(100, 3)), draws.uniform(least, most, (100, 3))
    assert np.all(np.asarray(cost.value(z, y)) >= 0)
    for end in set(cost.targets) - {np.inf}:
        outside = jnp.full(3, end + (0.1 if end else -0.1))
        assert jax.jit(cost.value)(jnp.full(3, 99.0 if end else -99.0), outside) < 0


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("cost", "y", "said"),
    [
        (
            costs.cross_entropy,
            [1.0, -1.0],
            r"in \[0, 1\] for costs.cross_entropy, got -1.0 at \(1,\): use \(y \+ 1\) / 2",
        ),
        (costs.cross_entropy, [1.0, 2.0], r"in \[0, 1\] for costs.cross_entropy, got 2.0 at \(1,\): use .*y - 1 for"),
        (costs.hinge, [1.0, -1.0], r"in \[0, 1\] for costs.hinge, got -1.0 at \(1,\): use \(y \+ 1\) / 2 for -1 and 1"),
        (costs.log_likelihood, [1.0, -1.0], r"at least 0 for costs.log_likelihood, got -1.0 at \(1,\)"),
    ],
)
def test_targets_that_a_cost_is_not_made_for(cost, y, said):
    """Of those the cost would fall for ever."""
    for f in (cost.value, cost.delta, jax.jit(lambda z, y: cost.value(z, np.array([1.0, -1.0])))):
        with pytest.raises(ValueError, match=said if f in (cost.value, cost.delta) else "got -1.0"):
            f(jnp.zeros(2), jnp.array(y))
    assert np.all(np.isfinite(jax.jit(cost.delta)(jnp.zeros(2), jnp.array(y))))  # traced ones are not seen


def test_targets_may_be_rounded():
    y = jnp.array([1.0078125, -0.001], jnp.bfloat16)
    assert np.isfinite(costs.cross_entropy.value(jnp.zeros(2), y))


ONE, SAID = jnp.ones((4, 1)), r"at least two outputs .* got shape \(4, 1\).* use costs.cross_entropy"
test_the_softmax_of_one_output = refuses(  # its cost and gradient would always be 0
    (lambda: costs.log_likelihood.value(ONE, ONE), ValueError, SAID),
    (lambda: costs.log_likelihood.delta(ONE, ONE), ValueError, SAID),
    (lambda: jax.jit(costs.log_likelihood.value)(ONE, ONE), ValueError, SAID),
)
