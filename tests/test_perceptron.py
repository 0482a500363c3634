"""Exercises 1.1 to 1.4."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jnn import mlp, perceptron
from tests.helpers import network, normal, refuses

seeds = st.integers(0, 2**31 - 1)
widths = st.lists(st.integers(1, 6), min_size=2, max_size=5)


def drawn(seed, sizes):
    """A network and an input."""
    return network(seed, tuple(sizes)), normal(seed + 1, sizes[0])


@given(seeds, widths)
def test_forward_is_perceptron_by_perceptron(seed, sizes):
    params, x = drawn(seed, sizes)
    layers, a = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, x))
    for w, b in layers:
        a = np.array([float(row @ a + b_j > 0) for row, b_j in zip(w, b, strict=True)])
    np.testing.assert_array_equal(perceptron.forward(params, x), a)


@pytest.mark.equation("exercise 1.1")
@given(seeds, widths, st.floats(1e-6, 1e6))
def test_exercise_1_1_for_any_c(seed, sizes, c):
    """In integers times c every rounded sum has the sign of the exact one, unless that is 0: so biases are half-odd."""
    draws = np.random.default_rng(seed)
    params = tuple(
        mlp.Layer(
            w=jnp.asarray(draws.integers(-9, 10, (n_out, n_in)), jnp.float32),
            b=jnp.asarray(draws.integers(-9, 10, n_out) + 0.5, jnp.float32),
        )
        for n_in, n_out in itertools.pairwise(sizes)
    )
    x = jnp.asarray(draws.integers(0, 2, sizes[0]), jnp.float32)
    np.testing.assert_array_equal(perceptron.forward(perceptron.scale(params, c), x), perceptron.forward(params, x))


@pytest.mark.equation("exercise 1.2")
@given(seeds, widths)
def test_exercise_1_2_the_limit(seed, sizes):
    """Once c |w.x + b| is above 100 for every perceptron, the sigmoid network is the network of perceptrons."""
    params, x = drawn(seed, sizes)
    inputs = np.concatenate([mlp.logits(params[:l], x, hidden=perceptron.step) for l in range(1, len(sizes))])
    c = 100 / np.min(np.abs(inputs))
    limit = mlp.forward(perceptron.scale(params, c), x)
    np.testing.assert_allclose(limit, perceptron.forward(params, x), atol=1e-6)


@pytest.mark.equation("exercise 1.2")
def test_exercise_1_2_fails_at_zero_in_the_limit_further_up():
    """The second perceptron's input is 0; its sigmoid neuron tends to 1/2 as its own input becomes exact."""
    params = (mlp.Layer(jnp.array([[1.0]]), jnp.array([-0.5])), mlp.Layer(jnp.array([[1.0]]), jnp.array([-1.0])))
    x = jnp.ones(1)
    assert perceptron.forward(params, x)[0] == 0
    outputs = np.array([mlp.forward(perceptron.scale(params, c), x)[0] for c in (1.0, 16.0, 64.0)])
    np.testing.assert_allclose(outputs, [0.407, 0.4987, 0.5], atol=5e-4)


@pytest.mark.equation("exercise 1.3")
@given(st.floats(0.99, 1.0), st.lists(st.floats(0, 0.01), min_size=9, max_size=9))
@example(0.99, 9 * [0.01])  # the worst case
def test_bits_of_every_digit(own, others):
    for digit in range(10):
        bits = [int(bit) for bit in f"{digit:04b}"[::-1]]
        x = jnp.array([*others[:digit], own, *others[digit:]], jnp.float32)
        z = mlp.logits((perceptron.bits_layer(1.0),), x)
        assert np.min(np.abs(z)) >= 0.9 - 1e-6
        np.testing.assert_array_equal(z > 0, bits)
        output = mlp.forward((perceptron.bits_layer(),), x)
        np.testing.assert_allclose(output, bits, atol=np.exp(-0.9 * 20) + 1e-7)


@pytest.mark.equation("exercise 1.4")
@given(seeds, st.floats(1e-3, 1e3))
def test_steepest_step_beats_random_steps(seed, epsilon):
    gradient = network(seed)
    step = perceptron.steepest_step(gradient, epsilon)
    assert jax.tree.structure(step) == jax.tree.structure(gradient)
    flat, dv = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (gradient, step))
    norm = np.linalg.norm(flat)
    np.testing.assert_allclose(np.linalg.norm(dv), epsilon, rtol=1e-5)
    np.testing.assert_allclose(flat @ dv, -epsilon * norm, rtol=1e-5)
    np.testing.assert_allclose(dv, -(epsilon / norm) * flat, rtol=1e-4, atol=1e-6 * epsilon)
    others = np.asarray(normal(seed, 1000, flat.size))
    others = epsilon * others / np.linalg.norm(others, axis=1, keepdims=True)
    assert np.min(others @ flat) > flat @ dv


@pytest.mark.parametrize(("size", "length"), [(1e-30, 0.5), (1e30, 0.5), (0.0, 0.0)])
def test_steepest_step_of_tiny_huge_and_zero_gradients(size, length):
    step = perceptron.steepest_step({"w": jnp.array([3.0, -4.0]) * size}, 0.5)
    np.testing.assert_allclose(step["w"], length * np.array([-0.6, 0.8]), rtol=1e-6)


def test_steepest_step_keeps_dtypes_and_passes_nan_on():
    many = perceptron.steepest_step({"a": jnp.ones(100_000, jnp.float16), "b": jnp.ones(3)}, 1.0)
    assert many["a"].dtype == jnp.float16
    assert many["b"].dtype == jnp.float32
    np.testing.assert_allclose(jnp.linalg.norm(many["a"].astype(jnp.float32)), 1.0, rtol=1e-2)
    assert np.all(np.isnan(perceptron.steepest_step(jnp.array([jnp.nan, 1e10]), 0.1)))
    assert perceptron.steepest_step({}, 0.1) == {}


@pytest.mark.bad_input
@pytest.mark.parametrize("f", [perceptron.scale, lambda _, c: perceptron.bits_layer(c), perceptron.steepest_step])
def test_scales_must_be_positive_numbers(f):
    for bad in (0.0, -2.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="(c|epsilon) must be (positive and )?finite, got"):
            f(network(0), bad)
    for bad in (jnp.ones(2), None, "2", [1.0]):
        with pytest.raises(TypeError, match="must be one number, got"):
            f(network(0), bad)


test_bad_input = refuses(
    (lambda: perceptron.forward(network(0), jnp.ones((2, 7))), ValueError, r"x must have shape \(.*\), got \(2, 7\)"),
)
