import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import activations, mlp
from tests.helpers import examples, network, refuses, relative_error

KEY = jax.random.key(0)


def test_init_shapes_and_spread():
    params = mlp.init(KEY, (784, 300, 10))
    assert [layer.w.shape for layer in params] == [(300, 784), (10, 300)]
    assert [layer.b.shape for layer in params] == [(300,), (10,)]
    np.testing.assert_allclose(jnp.std(params[0].w), 1 / np.sqrt(784), rtol=0.02)
    assert not np.any(params[0].b)
    assert mlp.sizes(params) == (784, 300, 10)


def test_init_takes_initializers_and_a_dtype():
    params = mlp.init(KEY, (200, 300), weights=mlp.unit_normal, biases=mlp.unit_normal, dtype=jnp.bfloat16)
    assert params[0].w.dtype == params[0].b.dtype == jnp.bfloat16
    np.testing.assert_allclose(jnp.std(params[0].w.astype(jnp.float32)), 1, rtol=0.02)
    np.testing.assert_allclose(jnp.std(params[0].b.astype(jnp.float32)), 1, rtol=0.2)


@pytest.mark.parametrize("sizes", [(50, 20), (20, 50)])
def test_orthogonal_weights_that_are_not_square(sizes):
    ((w, _),) = mlp.init(KEY, sizes, weights=mlp.orthogonal)
    gram = w @ w.T if sizes == (50, 20) else w.T @ w
    np.testing.assert_allclose(gram, np.eye(20), atol=1e-5)


def test_an_initialiser_is_handed_inputs_before_outputs():
    """And its columns become rows: the weights of neuron j are column j."""
    count = lambda key, shape, dtype: jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)  # noqa: E731
    ((w, _),) = mlp.init(KEY, (3, 2), weights=count)
    np.testing.assert_array_equal(w, [[0, 2, 4], [1, 3, 5]])


def test_our_initialisers_draw_one_neuron_after_another():
    """As they always have: the numbers of `jax.random.normal` in the layout [n_out, n_in]."""
    ((w, _),) = mlp.init(KEY, (3, 2), weights=mlp.unit_normal)
    key = jax.random.split(KEY, (1, 2))[0, 0]
    np.testing.assert_array_equal(w, jax.random.normal(key, (2, 3)))


def test_init_draws_every_array_afresh():
    a, b, c = mlp.init(KEY, (6, 6, 6, 6), biases=mlp.unit_normal)
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
    by_default = mlp.logits(params, xs[0], hidden=activations.sigmoid)
    np.testing.assert_array_equal(mlp.forward(params, xs[0]), activations.sigmoid(by_default))


@pytest.mark.parametrize("batch", [(), (2, 4)])
def test_linear_is_one_layer_at_each_of_any_axes(batch):
    (layer, *_), (xs, _) = network(0), examples(1, 8)
    xs = xs[: int(np.prod(batch))].reshape(*batch, -1)
    z = mlp.linear(layer, xs)
    for i in np.ndindex(batch):
        assert relative_error(z[i], mlp.logits((layer,), xs[i])) < 1e-6
    assert z.shape == (*batch, len(layer.b))


def test_what_a_network_says_and_how_often_it_is_right():
    params = network(0)
    xs, _ = examples(1, 20)
    said = [int(np.argmax(mlp.logits(params, x, hidden=activations.relu))) for x in xs]
    assert len(set(said)) > 1
    np.testing.assert_array_equal(mlp.classify(params, xs, hidden=activations.relu), said)
    labels = (jnp.array(said).at[:5].add(1)) % 3
    np.testing.assert_allclose(mlp.accuracy(params, xs, labels, hidden=activations.relu), 0.75)
    assert not np.array_equal(mlp.classify(params, xs), said)


def test_one_output_is_read_by_its_threshold():
    """1 where sigma(z) is above 1/2: the largest of one output would always be the first."""
    params = network(0, (7, 5, 1))
    xs, _ = examples(1, 20)
    middle = jnp.median(jax.vmap(mlp.logits, (None, 0))(params, xs))
    params = *params[:-1], mlp.Layer(params[-1].w, params[-1].b - middle)
    above = np.asarray(jax.vmap(mlp.forward, (None, 0))(params, xs))[:, 0] > 0.5
    assert above.sum() == 10
    said = mlp.classify(params, xs)
    np.testing.assert_array_equal(said, above)
    assert said.dtype == mlp.classify(network(0), xs).dtype
    np.testing.assert_allclose(mlp.accuracy(params, xs, jnp.asarray(above, int).at[:5].set(1 - above[:5])), 0.75)


def test_predict_is_forward_of_every_row():
    params, (xs, _) = network(0), examples(1, 6)
    options = {"hidden": activations.tanh, "output": activations.relu}
    rows = jnp.stack([mlp.forward(params, x, **options) for x in xs])
    assert relative_error(mlp.predict(params, xs, **options), rows) < 1e-6


def test_traced_labels_are_not_checked():
    xs, _ = examples(1, 4)
    assert jax.jit(mlp.accuracy)(network(0), xs, jnp.full(4, 3)) == 0


# Bad input

X = jnp.zeros((2, 7))


test_bad_input = refuses(
    (lambda: mlp.linear(network(0)[0], jnp.ones((3, 2))), ValueError, "xs must have shape .* got .3, 2.: the last"),
    (lambda: mlp.linear(network(0)[0], jnp.array(1.0)), ValueError, "xs must have shape"),
    (lambda: mlp.init(KEY, (784,)), ValueError, "an input and an output width"),
    (lambda: mlp.init(KEY, (784, 0, 10)), ValueError, r"sizes\[1\] must be at least 1, got 0"),
    (lambda: mlp.init(KEY, (784, 3.0, 10)), TypeError, r"sizes\[1\] must be an integer, got"),
    (lambda: mlp.init(KEY, (784, True, 10)), TypeError, r"sizes\[1\] must be an integer, got"),
    (lambda: mlp.init(0, (2, 3)), TypeError, r"key must be a key made by jax\.random\.key.*got"),
    (lambda: mlp.init(jnp.zeros(2, jnp.uint32), (2, 3)), TypeError, r"key must be .* by jax\.random\.key.*got"),
    (lambda: mlp.forward(network(0), jnp.zeros(6)), ValueError, r"x must have shape \(7,\), got .*vmap"),
    (lambda: mlp.forward(network(0), jnp.zeros((1, 7))), ValueError, r"x must have shape \(7,\), got .*vmap"),
    (lambda: jax.jit(mlp.forward)(network(0), jnp.zeros(6)), ValueError, "x must have shape"),
    (lambda: mlp.forward(network(0), jnp.zeros(7, int)), TypeError, r"x must .* floating .*got int32.*astype"),
    (lambda: mlp.classify(network(0), jnp.zeros(7)), ValueError, r"\(7, 7\), got \(7,\): one row for each example"),
    (lambda: mlp.accuracy(network(0), jnp.zeros((5, 7)), jnp.zeros((5, 3), int)), ValueError, r"labels .*\(5, 3\)"),
    (lambda: mlp.accuracy(network(0), X, np.array([1, 3])), ValueError, r"0 ... 2, got 3 at \(1,\)"),
    (lambda: mlp.accuracy(network(0), X, np.array([-1, 0])), ValueError, r"0 ... 2, got -1 at"),
    (lambda: mlp.accuracy(network(0, (7, 1)), X, np.array([1, 2])), ValueError, "0 ... 1, got 2"),
    (lambda: mlp.accuracy(network(0), X, jnp.ones(2)), TypeError, "labels must be integers, got float"),
    (lambda: jax.jit(mlp.accuracy)(network(0), X, jnp.ones(2)), TypeError, "labels must be integers"),
)


A, B, C = network(0)
test_layers_that_do_not_chain = refuses(
    (lambda: mlp.forward((A, C), X[0]), ValueError, r"params\[1\]\.w must have shape \(3, 5\), got \(3, 4\)"),
    (lambda: mlp.forward((A, B._replace(w=B.w.T), C), X[0]), ValueError, r"params\[1\]\.w must .*, got \(5, 4\)"),
    (lambda: mlp.forward((A, B._replace(b=C.b), C), X[0]), ValueError, r"params\[1\]\.w .* \(3, 5\), got \(4, 5\)"),
    (lambda: mlp.forward((A._replace(w=A.w[0]), B, C), X[0]), ValueError, r"params\[0\]\.w must .*got \(7,\)"),
    (lambda: mlp.forward((), X[0]), ValueError, "params must have at least one mlp.Layer"),
)
test_activations_that_are_no_functions = refuses(
    (lambda: mlp.logits(network(0), X[0], hidden="relu"), TypeError, "hidden must be .* activations.tanh, got 'relu'"),
    (lambda: mlp.classify(network(0), X, hidden="relu"), TypeError, "hidden must be .* activations.tanh, got 'relu'"),
    (lambda: mlp.forward(network(0), X[0], output="softmax"), TypeError, "output must be an activation, .* 'softmax'"),
)
