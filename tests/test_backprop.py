import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jnn import activations, backprop, costs, gradcheck, mlp
from tests.helpers import COSTS, SMOOTH, examples, network, relative_error

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


@pytest.mark.parametrize("hidden", SMOOTH, ids=repr)
@pytest.mark.parametrize("cost", COSTS, ids=repr)
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
@settings(max_examples=15)
def test_any_depth_width_and_magnitude(sizes, m, cost, hidden, seed, scale):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: scale * leaf, network(seed, sizes, jnp.float64))
        xs, ys = examples(seed, m, sizes, jnp.float64)
        ways = four_ways(params, xs, ys, cost=cost, hidden=hidden)
        reference = ways.pop("grad of mean")
        assert all(relative_error(way, reference) < 1e-12 for way in ways.values())


@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_against_finite_differences(cost):
    x, y = jax.tree.map(lambda a: a[0], examples(1, 1))
    options = {"cost": cost, "hidden": activations.tanh}
    f, by_hand = functools.partial(cost_of, **options), functools.partial(backprop.value_and_grad, **options)
    gradcheck.assert_ok(f, by_hand, network(0), x, y, tolerance=1e-12)


def test_errors_are_the_derivatives_by_the_weighted_inputs(x64):
    """delta^l = dC/dz^l for every layer: (2.1), and (2.3) with its element forms (2.4) to (2.6)."""
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

    for l in range(len(params) - 1):  # (2.4) to (2.6), neuron by neuron
        for j in range(len(zs[l])):
            dC_da = sum(deltas[l + 1][k] * params[l + 1].w[k, j] for k in range(len(deltas[l + 1])))  # (2.5)
            np.testing.assert_allclose(deltas[l][j], activations.sigmoid.prime(zs[l][j]) * dC_da, rtol=1e-12)  # (2.6)


def test_gradients_are_products_of_errors_and_activations(x64):
    """(2.7) and (2.8), entry by entry."""
    params = network(0, dtype=jnp.float64)
    x, y = jax.tree.map(lambda a: a[0], examples(1, 1, dtype=jnp.float64))
    zs, below = backprop.feedforward(params, x)
    deltas = backprop.errors(params, zs, y)
    _, grads = backprop.value_and_grad(params, x, y)
    for delta, a, grad in zip(deltas, below, grads, strict=True):
        np.testing.assert_array_equal(grad.b, delta)
        np.testing.assert_allclose(grad.w, [[dj * ak for ak in a] for dj in delta], rtol=1e-14)


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
        with pytest.raises(ValueError, match=r"x has shape \(6, 7\); \(7,\) is wanted.*minibatch_value_and_grad"):
            backprop.value_and_grad(network(0), *examples(0, 6))

    def test_one_example_given_to_the_minibatch_form(self):
        xs, ys = examples(0, 6)
        with pytest.raises(ValueError, match=r"xs has shape \(7,\).*value_and_grad|leading axes of data differ"):
            backprop.minibatch_value_and_grad(network(0), xs[0], ys[0])

    @pytest.mark.parametrize("shape", [(2,), (4,), (), (3, 1)])
    def test_y_that_does_not_match_the_output(self, shape):
        with pytest.raises(ValueError, match=r"y has shape .*\(3,\) is wanted.*one_hot"):
            backprop.value_and_grad(network(0), jnp.zeros(7), jnp.zeros(shape))

    def test_labels_in_place_of_ys(self):
        with pytest.raises(ValueError, match=r"ys has shape \(6,\); \(6, 3\) is wanted.*one_hot"):
            backprop.minibatch_value_and_grad(network(0), jnp.zeros((6, 7)), jnp.zeros(6))

    def test_batches_of_different_sizes(self):
        with pytest.raises(ValueError, match="leading axes of data differ"):
            backprop.minibatch_value_and_grad(network(0), jnp.zeros((6, 7)), jnp.zeros((5, 3)))

    def test_an_empty_batch(self):
        with pytest.raises(ValueError, match="no example"):
            backprop.minibatch_value_and_grad(network(0), jnp.zeros((0, 7)), jnp.zeros((0, 3)))

    @pytest.mark.parametrize("form", [0, 1], ids=["one", "minibatch"])
    def test_integers(self, form):
        f = (backprop.value_and_grad, backprop.minibatch_value_and_grad)[form]
        batch = (4,) * form
        with pytest.raises(TypeError, match=r"xs? has dtype int32"):
            f(network(0), jnp.zeros((*batch, 7), jnp.int32), jnp.zeros((*batch, 3)))

    @FORMS
    def test_layers_that_do_not_chain(self, value_and_grad):
        batch = (4,) if value_and_grad is backprop.minibatch_value_and_grad else ()
        with pytest.raises(ValueError, match=r"params\[1\]\.w"):
            value_and_grad(network(0)[::2], jnp.zeros((*batch, 7)), jnp.zeros((*batch, 3)))
