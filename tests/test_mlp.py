import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import activations, mlp
from tests.helpers import examples, network


def test_init_shapes_and_spread():
    params = mlp.init(jax.random.key(0), (784, 300, 10))
    assert [layer.w.shape for layer in params] == [(300, 784), (10, 300)]
    assert [layer.b.shape for layer in params] == [(300,), (10,)]
    np.testing.assert_allclose(jnp.std(params[0].w), 1 / np.sqrt(784), rtol=0.02)
    assert not np.any(params[0].b)
    assert mlp.sizes(params) == (784, 300, 10)


def test_init_takes_initializers_and_a_dtype():
    params = mlp.init(
        jax.random.key(0), (200, 300), weights=mlp.unit_normal, biases=mlp.unit_normal, dtype=jnp.bfloat16
    )
    assert params[0].w.dtype == params[0].b.dtype == jnp.bfloat16
    np.testing.assert_allclose(jnp.std(params[0].w.astype(jnp.float32)), 1, rtol=0.02)
    np.testing.assert_allclose(jnp.std(params[0].b.astype(jnp.float32)), 1, rtol=0.2)


def test_init_draws_every_array_afresh():
    a, b, c = mlp.init(jax.random.key(0), (6, 6, 6, 6), biases=mlp.unit_normal)
    for x, y in ((a, b), (b, c), (a, c)):
        assert not np.any(x.w == y.w)
        assert not np.any(x.b == y.b)
    assert not np.any(a.w[0] == a.b)


@pytest.mark.equation("section 2.1")
def test_forward_is_the_notes_sum(x64):
    """Section 2.1: z_j = sum_k w_jk a_k + b_j, neuron by neuron."""
    params = network(0, dtype=jnp.float64)
    xs, _ = examples(1, 1, dtype=jnp.float64)
    a = np.asarray(xs[0])
    for layer in jax.tree.map(np.asarray, params):
        z = [sum(layer.w[j, k] * a[k] for k in range(len(a))) + layer.b[j] for j in range(len(layer.b))]
        a = np.tanh(z)
    np.testing.assert_allclose(mlp.logits(params, xs[0], hidden=activations.tanh), z, rtol=1e-12)
    out = mlp.forward(params, xs[0], hidden=activations.tanh, output=activations.relu)
    np.testing.assert_allclose(out, np.maximum(z, 0), rtol=1e-12)


def test_defaults_are_sigmoids():
    params = network(0)
    x = examples(1, 1)[0][0]
    np.testing.assert_array_equal(mlp.forward(params, x), activations.sigmoid(mlp.logits(params, x)))


def test_what_a_network_says_and_how_often_it_is_right():
    params = network(0)
    xs, _ = examples(1, 20)
    said = [int(np.argmax(mlp.logits(params, x, hidden=activations.relu))) for x in xs]
    assert len(set(said)) > 1
    np.testing.assert_array_equal(mlp.classify(params, xs, hidden=activations.relu), said)
    labels = jnp.array(said).at[:5].add(1)
    np.testing.assert_allclose(mlp.accuracy(params, xs, labels, hidden=activations.relu), 0.75)
    assert not np.array_equal(mlp.classify(params, xs), said)


def test_vmap_is_the_batch():
    params = network(0)
    xs, _ = examples(1, 6)
    batch = jax.vmap(mlp.forward, in_axes=(None, 0))(params, xs)
    np.testing.assert_allclose(batch, [mlp.forward(params, x) for x in xs], rtol=1e-6)


@pytest.mark.bad_input
class TestBadInput:
    @pytest.mark.parametrize("sizes", [(), (784,)])
    def test_too_few_sizes(self, sizes):
        with pytest.raises(ValueError, match="at least an input and an output width"):
            mlp.init(jax.random.key(0), sizes)

    @pytest.mark.parametrize("width", [0, -3])
    def test_a_width_that_is_not_positive(self, width):
        with pytest.raises(ValueError, match=rf"sizes\[1\] must be at least 1, got {width}"):
            mlp.init(jax.random.key(0), (784, width, 10))

    @pytest.mark.parametrize("width", [3.0, "3", True])
    def test_a_width_that_is_no_whole_number(self, width):
        with pytest.raises(TypeError, match=r"sizes\[1\] must be an integer, got"):
            mlp.init(jax.random.key(0), (784, width, 10))

    @pytest.mark.parametrize("key", [0, jnp.zeros(2, jnp.uint32), None])
    def test_a_key_of_another_kind(self, key):
        with pytest.raises(TypeError, match=r"key must be a key made by jax\.random\.key.*got"):
            mlp.init(key, (2, 3))

    @pytest.mark.parametrize("shape", [(6,), (8,), (), (1, 7)])
    def test_x_of_another_shape(self, shape):
        with pytest.raises(ValueError, match=r"x must have shape \(7,\), got .*vmap"):
            mlp.forward(network(0), jnp.zeros(shape))

    def test_x_of_integers(self):
        with pytest.raises(TypeError, match=r"x must have a floating dtype, got int32.*astype"):
            mlp.forward(network(0), jnp.zeros(7, jnp.int32))

    def test_examples_of_another_shape(self):
        with pytest.raises(ValueError, match=r"xs must have shape \(7, 7\), got \(7,\): one row for each example"):
            mlp.classify(network(0), jnp.zeros(7))

    def test_another_number_of_labels(self):
        with pytest.raises(ValueError, match=r"labels must have shape \(5,\), got \(5, 3\)"):
            mlp.accuracy(network(0), jnp.zeros((5, 7)), jnp.zeros((5, 3), int))

    def test_the_check_works_under_jit(self):
        with pytest.raises(ValueError, match="x must have shape"):
            jax.jit(mlp.forward)(network(0), jnp.zeros(6))

    @pytest.mark.parametrize(
        ("layers", "wrong"),
        [
            (lambda a, b, c: (a, c), r"params\[1\]\.w must have shape \(3, 5\), got \(3, 4\)"),
            (lambda a, b, c: (a, mlp.Layer(b.w.T, b.b), c), r"params\[1\]\.w must have shape \(4, 5\), got \(5, 4\)"),
            (lambda a, b, c: (a, mlp.Layer(b.w, c.b), c), r"params\[1\]\.w must have shape \(3, 5\), got \(4, 5\)"),
            (lambda a, b, c: (mlp.Layer(a.w[0], a.b), b, c), r"params\[0\]\.w must have shape .*got \(7,\)"),
            (lambda a, b, c: (), "params must have at least one mlp.Layer"),
        ],
    )
    def test_layers_that_do_not_chain(self, layers, wrong):
        with pytest.raises(ValueError, match=wrong):
            mlp.forward(layers(*network(0)), jnp.zeros(7))
