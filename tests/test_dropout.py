"""Dropout (section 3.3.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jnn import activations, backprop, dropout, mlp, regularize
from tests.helpers import COSTS, SMOOTH, examples, network, refuses, relative_error

KEY = jax.random.key(0)
GRAD = backprop.minibatch_value_and_grad


def dropped_out(params, xs, ys, masks, cost, hidden):
    """The plain definition, for autodiff."""
    a = xs
    for (w, b), mask in zip(params[:-1], masks, strict=True):
        a = mask * hidden(a @ w.T + b[None])
    w, b = params[-1]
    return jnp.mean(cost.value(a @ w.T + b[None], ys))


def masks_of(key, params, m, p):
    keys = jax.random.split(key, max(1, len(params) - 1))
    return [dropout.mask(k, (m, len(b)), p) for k, (_, b) in zip(keys, params[:-1], strict=False)]


@pytest.mark.equation("section 3.3.2, dropout")
@pytest.mark.parametrize(("cost", "hidden"), [*zip(COSTS[4:7], SMOOTH, strict=False)], ids=repr)
@pytest.mark.parametrize("sizes", [(7, 3), (7, 6, 5, 3)])
def test_dropout_by_hand_equals_autodiff(cost, hidden, sizes, x64):
    params, (xs, ys) = network(0, sizes, jnp.float64), examples(1, 6, sizes, jnp.float64)
    grad = Partial(dropout.minibatch_value_and_grad, p=0.4, cost=cost, hidden=hidden)

    @jax.jit
    def ways(params, xs, ys):
        value, wanted = jax.value_and_grad(dropped_out)(params, xs, ys, masks_of(KEY, params, 6, 0.4), cost, hidden)
        penalised = jax.tree.map(jnp.add, wanted, regularize.l2(0.3).grad(params))
        by_hand = grad(params, xs, ys, KEY), regularize.penalised(grad, regularize.l2(0.3))(params, xs, ys, KEY)[1]
        return by_hand, ((value, wanted), penalised)

    (got, both), (wanted, penalised) = ways(params, xs, ys)
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-13)
    assert relative_error(got[1], wanted[1]) < 1e-12
    assert relative_error(both, penalised) < 1e-12


def test_without_dropout_it_is_backpropagation():
    params, data = network(0), examples(1, 6)
    assert relative_error(dropout.minibatch_value_and_grad(params, *data, KEY, p=0.0), GRAD(params, *data)) < 1e-6
    assert dropout.at_test(params, 0.0)[1].w.tolist() == params[1].w.tolist()


@pytest.mark.equation("section 3.3.2, dropout")
@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.9])
def test_a_mask_drops_its_fraction_each_neuron_by_itself(p):
    masks = np.asarray(jax.jit(dropout.mask, static_argnums=1)(KEY, (3000, 40), p), float)
    error = np.sqrt(p * (1 - p) / masks.size)
    assert abs(masks.mean() - (1 - p)) <= 4 * error
    if p:
        assert np.abs(np.corrcoef(masks.T) - np.eye(40)).max() < 5 / np.sqrt(3000)


@pytest.mark.equation("section 3.3.2, dropout")
def test_at_test_time_the_mean_weighted_input_is_kept():
    """For one hidden layer, the mean over masks of what reaches the output is that of scaled weights."""
    params, (xs, _) = network(0, (7, 5, 3)), examples(1, 1, (7, 5, 3))
    p, (w, b) = 0.3, params[-1]
    a = activations.sigmoid(params[0].w @ xs[0] + params[0].b)
    masks = dropout.mask(KEY, (100_000, 5), p)
    z = (masks * a[None]) @ w.T + b[None]
    scaled = mlp.logits(dropout.at_test(params, p), xs[0])
    np.testing.assert_allclose(z.mean(axis=0), scaled, atol=0.01)
    np.testing.assert_array_equal(dropout.at_test(params, p)[0].w, params[0].w)


def test_p_may_be_traced():
    params, data = network(0), examples(1, 6)

    @jax.jit
    def at(p):
        return dropout.minibatch_value_and_grad(params, *data, KEY, p=p)

    together = jax.vmap(at)(jnp.array([0.0, 0.5]))
    for i, p in enumerate((0.0, 0.5)):
        assert relative_error(jax.tree.map(lambda leaf, i=i: leaf[i], together), at(p)) < 1e-6


@pytest.mark.bad_input
@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_fractions_outside(p):
    params, data = network(0), examples(1, 6)
    for call in (
        lambda: dropout.mask(KEY, (2,), p),
        lambda: dropout.at_test(params, p),
        lambda: dropout.minibatch_value_and_grad(params, *data, KEY, p=p),
    ):
        with pytest.raises(ValueError, match=f"p.* must be .*, got {p}"):
            call()


ONE_MASK, DATA = jnp.ones((6, 5), bool), examples(1, 6)
test_masks_that_do_not_fit = refuses(
    (lambda: GRAD(network(0), *DATA, masks=[ONE_MASK]), ValueError, "one array for each of 2 hidden layers, got 1"),
    (lambda: GRAD(network(0), *DATA, masks=2 * [ONE_MASK]), ValueError, r"masks\[1\] must .* \(6, 4\), got \(6, 5\)"),
)
