"""Section 5.1: how gradients vanish or explode, through layers and through time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P
from jax.tree_util import Partial

from jnn import activations, backprop, costs, gradient_flow, lstm, mlp, rnn
from tests.helpers import cell_case, normal, refuses, relative_error, split_in_two

# The notes' chain


@pytest.mark.equation("section 5.1, the chain")
@pytest.mark.parametrize("L", [1, 2, 3, 40])
def test_chain_gradient_in_closed_form(x64, L):
    weights = jax.random.normal(jax.random.key(L), (L, 2), jnp.float64).at[0, 1].set(0.0)
    x, y = jnp.array([0.7, -1.3]), jnp.array(0.4)
    by_autodiff = jax.jit(jax.grad(lambda w: (y - gradient_flow.chain(w, x)) ** 2 / 2))(weights)
    by_hand = jax.jit(gradient_flow.chain_gradient)(weights, x, y)
    np.testing.assert_allclose(by_hand, by_autodiff, rtol=1e-12, atol=1e-300)


@pytest.mark.equation("section 5.1, the chain")
def test_chain_is_the_product_of_the_matrices():
    weights, x = jax.random.normal(jax.random.key(0), (4, 2)), jnp.array([0.7, -1.3])
    a = x
    for diagonal in weights[:-1]:
        a = jnp.diag(diagonal) @ a
    np.testing.assert_allclose(gradient_flow.chain(weights, x), weights[-1] @ a, rtol=1e-5)


test_bad_chain = refuses(
    (lambda: gradient_flow.chain(jnp.ones((3, 2)), jnp.ones(())), ValueError, r"x must have shape \(2,\), got \(\)"),
    (lambda: gradient_flow.chain(jnp.ones(2), jnp.ones(2)), ValueError, r"weights must have shape \(2, 2\)"),
    (
        lambda: gradient_flow.chain_gradient(*map(jnp.ones, ((3, 2), 2, 2))),
        ValueError,
        "y must have shape .*one number",
    ),
)

# Gradient flow


@pytest.mark.equation("section 5.1, any net")
@pytest.mark.parametrize("cell", [rnn, lstm])
def test_flow_through_time_is_autodiff_by_each_state(cell):
    """Against perturbations added to each state, both memories of the LSTM included."""
    params, start, xs = cell_case(cell, 3, B=None)
    step, weights = Partial(cell.step, params), normal(3, 5)

    def loss(state):
        first, *_, last = jax.tree.leaves((state, state))
        return jnp.sum(last * weights) + jnp.sum(first**2)

    def perturbed(bumps):
        add = partial(jax.tree.map, jnp.add)
        state = add(start, jax.tree.map(lambda a: a[0], bumps))
        for t in range(len(xs)):
            state = add(step(state, xs[t]), jax.tree.map(lambda a, t=t: a[t + 1], bumps))
        return loss(state)

    states, derivatives = jax.jit(lambda start, xs: gradient_flow.flow(step, start, xs, loss))(start, xs)
    wanted = jax.jit(jax.grad(perturbed))(jax.tree.map(lambda a: jnp.zeros((len(xs) + 1, *a.shape)), start))
    assert relative_error(derivatives, wanted) < 1e-5
    np.testing.assert_array_equal(jax.tree.leaves(states)[0][0], jax.tree.leaves(start)[0])
    norms = gradient_flow.norms(derivatives)
    assert norms.shape == (7,)
    flat = jnp.concatenate([leaf[2] for leaf in jax.tree.leaves(wanted)])
    np.testing.assert_allclose(norms[2], jnp.linalg.norm(flat), rtol=1e-5)


def test_norms_of_tiny_huge_and_zero_derivatives():
    rows = jnp.array([[3e-30, 4e-30], [3e30, 4e30], [0, 0], [3, 4]])
    np.testing.assert_allclose(
        gradient_flow.norms({"a": rows[:, :1], "b": rows[:, 1:]}), [5e-30, 5e30, 0, 5], rtol=1e-6
    )
    gradient = jax.grad(lambda rows: jnp.sum(gradient_flow.norms(rows)))(rows[2:])
    np.testing.assert_allclose(gradient, [[0, 0], [0.6, 0.8]], rtol=1e-6)


@pytest.mark.equation("section 5.1, any net")
@pytest.mark.parametrize("hidden", [activations.sigmoid, activations.tanh, activations.relu])
def test_flow_through_layers_is_backpropagation(hidden):
    """dC/da^l against (w^(l+1))^T delta^(l+1) by hand."""
    width, depth = 6, 5
    params = mlp.init(jax.random.key(0), (width,) * (depth + 1), biases=mlp.unit_normal)
    x, y = jax.random.normal(jax.random.key(1), (2, width))
    stacked = jax.tree.map(lambda *layers: jnp.stack(layers), *params)
    zs, _ = backprop.feedforward(params, x, hidden=hidden)
    deltas = backprop.errors(params, zs, y, cost=costs.quadratic_with(hidden), hidden=hidden)
    _, derivatives = gradient_flow.flow(
        lambda a, layer: hidden(layer.w @ a + layer.b), x, stacked, lambda a: jnp.sum((y - a) ** 2) / 2
    )
    for l, (layer, delta) in enumerate(zip(params, deltas, strict=True)):
        np.testing.assert_allclose(derivatives[l], layer.w.T @ delta, rtol=1e-4, atol=1e-6)


@pytest.mark.equation("exercise 5.1", "figure 5.1")
@given(st.floats(-20, 20))
def test_exercise_5_1_both_derivatives_are_largest_at_0(z):
    """Exercise 5.1, figure 5.1: tanh' = 1 - tanh^2, at most 1; sigma' is at most 1/4."""
    assert 0 <= activations.tanh.prime(z) <= 1
    assert 0 <= activations.sigmoid.prime(z) <= 0.25
    np.testing.assert_allclose(activations.tanh.prime(z), 1 - np.tanh(z) ** 2, atol=1e-6)


def test_devices_with_inputs_of_their_own():
    """And the same state before them."""
    inputs = normal(0, 2, 6, 5)

    def flow(inputs):
        state = jnp.zeros(5)
        return gradient_flow.flow(lambda s, x: jnp.tanh(s + x), state, inputs, lambda s: jnp.sum(s**2))

    split = split_in_two(lambda inputs: jax.tree.map(lambda a: a[None], flow(inputs[0])), P("d"), P("d"))
    assert relative_error(split(inputs), jax.vmap(flow)(inputs)) < 1e-6
