import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jnn import activations, backprop, costs, gradcheck, mlp
from tests.helpers import COSTS, NEURONS, SIZES, SMOOTH, examples, network, refuses, relative_error

P, ONE, MANY = network(0), backprop.value_and_grad, backprop.minibatch_value_and_grad


def cost_of(params, x, y, *, cost, hidden):
    return cost.value(mlp.logits(params, x, hidden=hidden), y)


def mean_cost(params, xs, ys, *, cost, hidden):
    f = functools.partial(cost_of, cost=cost, hidden=hidden)
    return jnp.mean(jax.vmap(f, in_axes=(None, 0, 0))(params, xs, ys))


def mean_of_vmap(value_and_grad, params, xs, ys):
    value, grads = jax.vmap(value_and_grad, in_axes=(None, 0, 0))(params, xs, ys)
    return jnp.mean(value), jax.tree.map(lambda g: jnp.mean(g, axis=0), grads)


@functools.partial(jax.jit, static_argnames=("cost", "hidden"))
def three_ways(params, xs, ys, **options):
    one, many = (functools.partial(f, **options) for f in (ONE, MANY))
    return (
        jax.value_and_grad(functools.partial(mean_cost, **options))(params, xs, ys),
        {"one by one": mean_of_vmap(one, params, xs, ys), "in matrices": many(params, xs, ys)},
    )


def assert_agree(params, xs, ys, tolerance, **options):
    by_autodiff, by_hand = three_ways(params, xs, ys, **options)
    for name, way in by_hand.items():
        assert relative_error(way, by_autodiff) < tolerance, name


@pytest.mark.equation("2.9", "section 2.2")
@pytest.mark.parametrize(("cost", "hidden"), NEURONS, ids=repr)
def test_both_gradients_by_hand_are_autodiffs_in_float64(cost, hidden, x64):
    """(2.9) and section 2.2, for every cost and every hidden activation."""
    data = examples(1, 6, dtype=jnp.float64)
    assert_agree(network(0, dtype=jnp.float64), *data, 1e-12, cost=cost, hidden=hidden)


@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_both_gradients_by_hand_are_autodiffs_in_float32(cost):
    assert_agree(network(0), *examples(1, 6), 16 * np.finfo(np.float32).eps, cost=cost, hidden=activations.sigmoid)


@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=6),
    st.integers(1, 5),
    st.sampled_from(COSTS),
    st.sampled_from(SMOOTH),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.01, 1.0, 10.0]),
)
def test_any_depth_width_and_magnitude(sizes, m, cost, hidden, seed, scale):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: scale * leaf, network(seed, sizes, jnp.float64))
        assert_agree(params, *examples(seed, m, sizes, jnp.float64), 1e-12, cost=cost, hidden=hidden)


@pytest.mark.equation("2.9")
@pytest.mark.parametrize("sizes", [(4, 3), SIZES])
def test_against_finite_differences(sizes):
    """(2.9), and for a network of one layer."""
    x, y = jax.tree.map(lambda a: a[0], examples(1, 1, sizes))
    options = {"cost": costs.cross_entropy, "hidden": activations.tanh}
    f, by_hand = functools.partial(cost_of, **options), functools.partial(ONE, **options)
    gradcheck.assert_ok(f, by_hand, network(0, sizes), x, y, tolerance=1e-12)


def two_layers_up():
    """w, b of a layer l + 1 of 4 neurons above one of 5; z^l, a^l, delta^l; delta^(l+1); and dC/da^l by autodiff."""
    params = network(0, dtype=jnp.float64)
    x, y = jax.tree.map(lambda a: a[0], examples(1, 1, dtype=jnp.float64))
    zs, (_, a, _) = backprop.feedforward(params, x)
    delta, above, _ = backprop.errors(params, zs, y)
    slope = jax.grad(lambda a: costs.quadratic.value(mlp.logits(params[1:], a), y))(a)
    return *params[1], zs[0], a, delta, above, slope


@pytest.mark.equation("2.3", "2.4", "2.5", "2.6")
def test_errors_go_back_by_the_chain_rule(x64):
    """(2.3) as it is printed, with diag(sigma'(z^l)) of p x p, (w^(l+1))^T of p x q and delta^(l+1) of q; then for
    each neuron (2.4) with dz_k^(l+1)/da_j^l by autodiff, (2.5) with w_kj^(l+1) in its place, and (2.6).
    """
    w, b, z, a, delta, above, slope = two_layers_up()
    diagonal = jnp.diag(activations.sigmoid.prime(z))
    assert (diagonal.shape, w.T.shape, above.shape) == ((5, 5), (5, 4), (4,))
    np.testing.assert_allclose(delta, diagonal @ w.T @ above, rtol=1e-12)  # (2.3)
    dz_da = jax.jacobian(lambda a: w @ a + b)(a)
    for j in range(5):
        np.testing.assert_allclose(slope[j], sum(above[k] * dz_da[k, j] for k in range(4)), rtol=1e-12)  # (2.4)
        weighted = sum(above[k] * w[k, j] for k in range(4))
        np.testing.assert_allclose(slope[j], weighted, rtol=1e-12)  # (2.5)
        np.testing.assert_allclose(delta[j], activations.sigmoid.prime(z[j]) * weighted, rtol=1e-12)  # (2.6)


@pytest.mark.equation("2.7", "2.8")
def test_gradients_are_products_of_errors_and_activations(x64):
    """(2.7) and (2.8), entry by entry."""
    params = network(0, dtype=jnp.float64)
    x, y = jax.tree.map(lambda a: a[0], examples(1, 1, dtype=jnp.float64))
    zs, below = backprop.feedforward(params, x)
    deltas = backprop.errors(params, zs, y)
    _, grads = backprop.value_and_grad(params, x, y)
    for delta, a, grad in zip(deltas, below, grads, strict=True):
        np.testing.assert_array_equal(grad.b, delta)  # (2.7)
        np.testing.assert_allclose(grad.w, [[dj * ak for ak in a] for dj in delta], rtol=1e-14)  # (2.8)


@pytest.mark.equation("2.7", "2.8")
@pytest.mark.parametrize("n_out", [3, 70])
def test_the_gradient_of_a_layer_is_a_sum_over_rows(n_out, x64):
    """(2.7) and (2.8) added up over a mini-batch, for narrow layers and wide ones."""
    deltas, _ = examples(0, 6, (n_out, 1), jnp.float64)
    below, _ = examples(1, 6, (5, 1), jnp.float64)
    grad = backprop.layer_gradient(deltas, below)
    np.testing.assert_allclose(grad.b, sum(deltas), rtol=1e-13, atol=1e-15)  # (2.7)
    np.testing.assert_allclose(grad.w, sum(map(jnp.outer, deltas, below)), rtol=1e-12, atol=1e-15)  # (2.8)


def zeros(*shape):
    return jnp.zeros(shape)


test_bad_input = refuses(
    (lambda: backprop.feedforward(P, zeros(7, 5)), ValueError, r"x must have shape \(7,\), got \(7, 5\): one example"),
    (lambda: backprop.feedforward(P, np.arange(7)), TypeError, "x must have a floating dtype, got int"),
    (lambda: ONE(P, zeros(6, 7), zeros(6, 3)), ValueError, r"x must .*, got \(6, 7\).*minibatch_value_and_grad"),
    (lambda: MANY(P, zeros(3), zeros(3)), ValueError, r"xs must .*\(3, 7\), got \(3,\).*use value_and_grad"),
    (lambda: ONE(P, zeros(7), zeros(2)), ValueError, r"y must have shape \(3,\), got .*one_hot"),
    (lambda: ONE(P, zeros(7), zeros(3, 1)), ValueError, r"y must have shape \(3,\), got .*one_hot"),
    (lambda: MANY(P, zeros(6, 7), zeros(6)), ValueError, r"ys must have shape \(6, 3\), got \(6,\).*one_hot"),
    (lambda: MANY(P, zeros(6, 7), zeros(5, 3)), ValueError, "leading axes of data must be equal"),
    (lambda: MANY(P, zeros(0, 7), zeros(0, 3)), ValueError, "at least one example"),
    (lambda: ONE(P, np.arange(7), zeros(3)), TypeError, "x must have a floating dtype, got int"),
    (lambda: MANY(P, np.ones((4, 7), int), zeros(4, 3)), TypeError, "xs must have a floating dtype, got int"),
    (lambda: ONE(P[::2], zeros(7), zeros(3)), ValueError, r"params\[1\]\.w"),
    (lambda: MANY(P[::2], zeros(4, 7), zeros(4, 3)), ValueError, r"params\[1\]\.w"),
    (lambda: ONE(P, zeros(7), zeros(3), hidden=jnp.tanh), TypeError, "hidden must be an activation with its deriv"),
    (lambda: MANY(P, zeros(4, 7), zeros(4, 3), hidden=jnp.tanh), TypeError, "such as activations.tanh"),
    (lambda: ONE(P, zeros(7), zeros(3), cost="mse"), TypeError, "cost must be a cost with its delta, .* got 'mse'"),
    (lambda: MANY(P, zeros(4, 7), zeros(4, 3), cost="mse"), TypeError, "such as costs.cross_entropy, got 'mse'"),
)


def test_weights_of_examples_scale_their_costs(x64):
    params, (xs, ys) = network(0, dtype=jnp.float64), examples(1, 6, dtype=jnp.float64)
    weights = jnp.arange(6.0)
    values, grads = jax.jit(jax.vmap(ONE, in_axes=(None, 0, 0)))(params, xs, ys)
    expected = jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1) / 6, (values, grads))
    assert relative_error(jax.jit(MANY)(params, xs, ys, weights=weights), expected) < 1e-12


# A network that knows its activation and its cost


NETWORK = backprop.network(SIZES, hidden=activations.relu, cost=costs.log_likelihood)


def test_a_network_computes_what_its_functions_compute():
    params, (xs, ys) = NETWORK.init(jax.random.key(0)), examples(1, 6)
    options = {"hidden": activations.relu}
    labels = jnp.argmax(ys, axis=1)
    jax.tree.map(np.testing.assert_array_equal, params, mlp.init(jax.random.key(0), SIZES))
    for found, expected in (
        (NETWORK.logits(params, xs[0]), mlp.logits(params, xs[0], **options)),
        (NETWORK.predict(params, xs), mlp.predict(params, xs, output=activations.softmax, **options)),
        (NETWORK.classify(params, xs), mlp.classify(params, xs, **options)),
        (NETWORK.accuracy(params, xs, labels), mlp.accuracy(params, xs, labels, **options)),
        (
            NETWORK.value_and_grad(params, xs, ys),
            backprop.minibatch_value_and_grad(params, xs, ys, cost=costs.log_likelihood, **options),
        ),
    ):
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_equal_networks_share_a_program():
    traced = []

    @jax.jit
    def value(f, params, xs, ys):
        traced.append(f)
        return f(params, xs, ys)[0]

    params, batch = NETWORK.init(jax.random.key(0)), examples(1, 6)
    for _ in range(2):
        value(backprop.network(SIZES, cost=costs.cross_entropy).value_and_grad, params, *batch)
    assert len(traced) == 1


def test_metrics_of_a_network_suit_its_cost():
    params, (xs, ys) = network(0), examples(1, 6)
    for cost in (costs.cross_entropy, costs.hinge):
        classes = backprop.network(SIZES, cost=cost).metrics(params, xs, ys)
        value, _ = backprop.minibatch_value_and_grad(params, xs, ys, cost=cost)
        assert classes == {"error": value, "accuracy": mlp.accuracy(params, xs, jnp.argmax(ys, axis=1))}
    linear = costs.quadratic_with(activations.identity)
    numbers = backprop.network(SIZES, hidden=activations.tanh, cost=linear).metrics(params, xs, ys)
    z = jax.vmap(lambda x: mlp.logits(params, x, hidden=activations.tanh))(xs)
    np.testing.assert_allclose(numbers["rmse"], jnp.sqrt(jnp.mean((z - ys) ** 2)), rtol=1e-6)
    np.testing.assert_allclose(numbers["error"], jnp.sum((z - ys) ** 2) / 12, rtol=1e-6)
    shares = [1 - np.sum((z - ys)[:, j] ** 2) / np.sum((ys[:, j] - ys[:, j].mean()) ** 2) for j in range(3)]
    np.testing.assert_allclose(numbers["r_squared"], np.mean(shares), rtol=1e-5)


@pytest.mark.parametrize("cost", [costs.cross_entropy, costs.hinge], ids=repr)
def test_accuracy_of_one_output_is_by_half(cost):
    net = backprop.network((1, 1), cost=cost)
    params = (mlp.Layer(jnp.ones((1, 1)), jnp.zeros(1)),)
    xs, ys = jnp.array([[-1.0], [1.0], [2.0], [3.0]]), jnp.array([[0.0], [1.0], [1.0], [0.0]])
    assert net.metrics(params, xs, ys)["accuracy"] == 0.75
