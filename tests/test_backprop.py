import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jnn import activations, backprop, costs, gradcheck, mlp
from tests.helpers import COSTS, NEURONS, SIZES, SMOOTH, examples, network, relative_error

PAIRS = list(dict.fromkeys([*itertools.product(COSTS[:6], SMOOTH[:5]), *NEURONS]))
FORMS = pytest.mark.parametrize(
    "value_and_grad", [backprop.value_and_grad, backprop.minibatch_value_and_grad], ids=["one", "minibatch"]
)


def cost_of(params, x, y, *, cost, hidden):
    return cost.value(mlp.logits(params, x, hidden=hidden), y)


def mean_cost(params, xs, ys, *, cost, hidden):
    f = functools.partial(cost_of, cost=cost, hidden=hidden)
    return jnp.mean(jax.vmap(f, in_axes=(None, 0, 0))(params, xs, ys))


def mean_of_vmap(value_and_grad, params, xs, ys):
    value, grads = jax.vmap(value_and_grad, in_axes=(None, 0, 0))(params, xs, ys)
    return jnp.mean(value), jax.tree.map(lambda g: jnp.mean(g, axis=0), grads)


@functools.partial(jax.jit, static_argnames=("cost", "hidden"))
def four_ways(params, xs, ys, **options):
    return {
        "vmap by hand": mean_of_vmap(functools.partial(backprop.value_and_grad, **options), params, xs, ys),
        "matrix by hand": backprop.minibatch_value_and_grad(params, xs, ys, **options),
        "vmap of grad": mean_of_vmap(jax.value_and_grad(functools.partial(cost_of, **options)), params, xs, ys),
        "grad of mean": jax.value_and_grad(functools.partial(mean_cost, **options))(params, xs, ys),
    }


@pytest.mark.equation("2.9", "section 2.2")
@pytest.mark.parametrize(("cost", "hidden"), PAIRS, ids=repr)
def test_the_four_gradients_agree_in_float64(cost, hidden, x64):
    """(2.9) and section 2.2 against autodiff, for every cost and hidden activation."""
    params, (xs, ys) = network(0, dtype=jnp.float64), examples(1, 6, dtype=jnp.float64)
    ways = four_ways(params, xs, ys, cost=cost, hidden=hidden)
    reference = ways.pop("grad of mean")
    for name, way in ways.items():
        assert relative_error(way, reference) < 1e-12, name


@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_the_four_gradients_agree_in_float32(cost):
    params, (xs, ys) = network(0), examples(1, 6)
    ways = four_ways(params, xs, ys, cost=cost, hidden=activations.sigmoid)
    reference = ways.pop("grad of mean")
    for name, way in ways.items():
        assert relative_error(way, reference) < 16 * np.finfo(np.float32).eps, name


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
        xs, ys = examples(seed, m, sizes, jnp.float64)
        ways = four_ways(params, xs, ys, cost=cost, hidden=hidden)
        reference = ways.pop("grad of mean")
        assert all(relative_error(way, reference) < 1e-12 for way in ways.values())


@pytest.mark.equation("2.9")
@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_against_finite_differences(cost):
    """(2.9)."""
    x, y = jax.tree.map(lambda a: a[0], examples(1, 1))
    options = {"cost": cost, "hidden": activations.tanh}
    f, by_hand = functools.partial(cost_of, **options), functools.partial(backprop.value_and_grad, **options)
    gradcheck.assert_ok(f, by_hand, network(0), x, y, tolerance=1e-12)


@pytest.mark.equation("2.3")
def test_errors_are_the_derivatives_by_the_weighted_inputs(x64):
    """delta^l = dC/dz^l for every layer: (2.1), and (2.3)."""
    params = network(0, dtype=jnp.float64)
    x, y = jax.tree.map(lambda a: a[0], examples(1, 1, dtype=jnp.float64))
    zs, activations_below = backprop.feedforward(params, x)
    deltas = backprop.errors(params, zs, y, cost=costs.cross_entropy)

    def cost_when_moved(moves):
        """C when each weighted input z^l is moved by its entry of `moves`."""
        a = x
        for (w, b), move in zip(params, moves, strict=True):
            z = w @ a + b + move
            a = activations.sigmoid(z)
        return costs.cross_entropy.value(z, y)

    wanted = jax.grad(cost_when_moved)([jnp.zeros_like(z) for z in zs])
    assert relative_error(deltas, wanted) < 1e-12
    assert relative_error(activations_below, [x, *map(activations.sigmoid, zs[:-1])]) < 1e-15


def two_layers_up():
    """w, b of a layer l + 1 of 4 neurons above one of 5; z^l, a^l, delta^l; delta^(l+1); and dC/da^l by autodiff."""
    params = network(0, dtype=jnp.float64)
    x, y = jax.tree.map(lambda a: a[0], examples(1, 1, dtype=jnp.float64))
    zs, (_, a, _) = backprop.feedforward(params, x)
    delta, above, _ = backprop.errors(params, zs, y)
    slope = jax.grad(lambda a: costs.quadratic.value(mlp.logits(params[1:], a), y))(a)
    return *params[1], zs[0], a, delta, above, slope


@pytest.mark.equation("2.3")
def test_errors_go_back_through_a_diagonal_matrix(x64):
    """(2.3) as it is printed: diag(sigma'(z^l)) (w^(l+1))^T delta^(l+1), of p x p, p x q and q."""
    w, _, z, _, delta, above, _ = two_layers_up()
    diagonal = jnp.diag(activations.sigmoid.prime(z))
    assert (diagonal.shape, w.T.shape, above.shape) == ((5, 5), (5, 4), (4,))
    np.testing.assert_allclose(delta, diagonal @ w.T @ above, rtol=1e-12)


@pytest.mark.equation("2.4")
def test_the_slope_of_an_activation_by_the_chain_rule(x64):
    """(2.4): dC/da_j^l = sum_k delta_k^(l+1) dz_k^(l+1)/da_j^l, the last by autodiff."""
    w, b, _, a, _, above, slope = two_layers_up()
    for j in range(len(a)):
        dz_da = jax.jacobian(lambda a: w @ a + b)(a)[:, j]
        np.testing.assert_allclose(slope[j], sum(above[k] * dz_da[k] for k in range(len(above))), rtol=1e-12)


@pytest.mark.equation("2.5")
def test_the_slope_of_an_activation_by_the_weights(x64):
    """(2.5): dC/da_j^l = sum_k delta_k^(l+1) w_kj^(l+1)."""
    w, _, _, a, _, above, slope = two_layers_up()
    for j in range(len(a)):
        np.testing.assert_allclose(slope[j], sum(above[k] * w[k, j] for k in range(len(above))), rtol=1e-12)


@pytest.mark.equation("2.6")
def test_errors_neuron_by_neuron(x64):
    """(2.6): delta_j^l = sigma'(z_j^l) sum_k delta_k^(l+1) w_kj^(l+1)."""
    w, _, z, _, delta, above, _ = two_layers_up()
    for j in range(len(z)):
        weighted = sum(above[k] * w[k, j] for k in range(len(above)))
        np.testing.assert_allclose(delta[j], activations.sigmoid.prime(z[j]) * weighted, rtol=1e-12)


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
@pytest.mark.parametrize("n_out", [3, 32, 33, 70])
def test_the_gradient_of_a_layer_is_a_sum_over_rows(n_out, x64):
    """(2.7) and (2.8) added up over a mini-batch, for narrow layers and wide ones."""
    deltas, _ = examples(0, 6, (n_out, 1), jnp.float64)
    below, _ = examples(1, 6, (5, 1), jnp.float64)
    grad = backprop.layer_gradient(deltas, below)
    np.testing.assert_allclose(grad.b, sum(deltas), rtol=1e-13, atol=1e-15)  # (2.7)
    np.testing.assert_allclose(grad.w, sum(map(jnp.outer, deltas, below)), rtol=1e-12, atol=1e-15)  # (2.8)


def test_a_network_of_one_layer(x64):
    params = network(0, (4, 3), jnp.float64)
    xs, ys = examples(1, 5, (4, 3), jnp.float64)
    ways = four_ways(params, xs, ys, cost=costs.quadratic, hidden=activations.sigmoid)
    assert all(relative_error(way, ways["grad of mean"]) < 1e-12 for way in ways.values())


def test_it_traces_once_for_one_shape():
    traces = []

    @jax.jit
    def f(params, xs, ys):
        traces.append(1)
        return backprop.minibatch_value_and_grad(params, xs, ys)

    for seed in range(3):
        f(network(seed), *examples(seed, 4))
    assert len(traces) == 1


@pytest.mark.bad_input
class TestBadInput:
    def test_a_batch_given_to_the_one_example_form(self):
        with pytest.raises(ValueError, match=r"x must have shape \(7,\), got \(6, 7\).*minibatch_value_and_grad"):
            backprop.value_and_grad(network(0), *examples(0, 6))

    def test_one_example_given_to_the_minibatch_form(self):
        xs, ys = examples(0, 6)
        with pytest.raises(ValueError, match=r"xs must have shape .*got \(7,\)|leading axes of data must be equal"):
            backprop.minibatch_value_and_grad(network(0), xs[0], ys[0])

    @pytest.mark.parametrize("shape", [(2,), (4,), (), (3, 1)])
    def test_y_that_does_not_match_the_output(self, shape):
        with pytest.raises(ValueError, match=r"y must have shape \(3,\), got .*one_hot"):
            backprop.value_and_grad(network(0), jnp.zeros(7), jnp.zeros(shape))

    def test_labels_in_place_of_ys(self):
        with pytest.raises(ValueError, match=r"ys must have shape \(6, 3\), got \(6,\).*one_hot"):
            backprop.minibatch_value_and_grad(network(0), jnp.zeros((6, 7)), jnp.zeros(6))

    def test_batches_of_different_sizes(self):
        with pytest.raises(ValueError, match="leading axes of data must be equal"):
            backprop.minibatch_value_and_grad(network(0), jnp.zeros((6, 7)), jnp.zeros((5, 3)))

    def test_an_empty_batch(self):
        with pytest.raises(ValueError, match="at least one example"):
            backprop.minibatch_value_and_grad(network(0), jnp.zeros((0, 7)), jnp.zeros((0, 3)))

    @pytest.mark.parametrize("form", [0, 1], ids=["one", "minibatch"])
    def test_integers(self, form):
        f = (backprop.value_and_grad, backprop.minibatch_value_and_grad)[form]
        batch = (4,) * form
        with pytest.raises(TypeError, match=r"xs? must have a floating dtype, got int32"):
            f(network(0), jnp.zeros((*batch, 7), jnp.int32), jnp.zeros((*batch, 3)))

    @FORMS
    def test_layers_that_do_not_chain(self, value_and_grad):
        batch = (4,) if value_and_grad is backprop.minibatch_value_and_grad else ()
        with pytest.raises(ValueError, match=r"params\[1\]\.w"):
            value_and_grad(network(0)[::2], jnp.zeros((*batch, 7)), jnp.zeros((*batch, 3)))

    @FORMS
    def test_functions_without_derivatives(self, value_and_grad):
        batch = (4,) if value_and_grad is backprop.minibatch_value_and_grad else ()
        given = network(0), jnp.zeros((*batch, 7)), jnp.zeros((*batch, 3))
        with pytest.raises(
            TypeError, match="hidden must be an activation with its derivative, such as activations.tan"
        ):
            value_and_grad(*given, hidden=jnp.tanh)
        with pytest.raises(
            TypeError, match="cost must be a cost with its delta, such as costs.cross_entropy, got 'mse'"
        ):
            value_and_grad(*given, cost="mse")


def test_weights_of_examples_scale_their_costs(x64):
    params, (xs, ys) = network(0, dtype=jnp.float64), examples(1, 6, dtype=jnp.float64)
    weights = jnp.arange(6.0)
    values, grads = jax.vmap(backprop.value_and_grad, in_axes=(None, 0, 0))(params, xs, ys)
    expected = jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1) / 6, (values, grads))
    assert relative_error(backprop.minibatch_value_and_grad(params, xs, ys, weights=weights), expected) < 1e-12


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
