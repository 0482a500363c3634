"""Equations (5.1) to (5.6). What holds for every cell is in test_recurrent.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnn import costs, data, lstm, train
from tests.helpers import cell_case, normal


def sigma(z):
    return 1 / (1 + np.exp(-z))


def loop(params, state, xs):
    """Figure 5.2 for one sequence, in NumPy: the states after every step."""
    p = jax.tree.map(np.asarray, params)
    ltm, wm = map(np.asarray, state)
    states = []
    for x in np.asarray(xs):
        rem = sigma(p.rem.W @ x + p.rem.U @ wm + p.rem.b)
        save = sigma(p.save.W @ x + p.save.U @ wm + p.save.b)
        focus = sigma(p.focus.W @ x + p.focus.U @ wm + p.focus.b)
        candidate = np.tanh(p.ltm.W @ x + p.ltm.U @ wm + p.ltm.b)
        ltm = rem * ltm + save * candidate
        wm = focus * np.tanh(ltm)
        states.append((ltm, wm))
    return [np.stack(memory) for memory in zip(*states, strict=True)]


FAR = 1e4  # a bias by which a gate is 1, or the candidate, or the tanh of a memory


def one_step(start=None, **biases):
    """The weighted inputs W x + U wm + b of a cell with these biases, entry by entry, and its states around a step."""
    params, state, xs = cell_case(lstm, 20, T=1, B=None, dtype=jnp.float64)
    params = params._replace(**{name: getattr(params, name)._replace(b=jnp.full(5, b)) for name, b in biases.items()})
    state = state if start is None else state._replace(ltm=jnp.full(5, start))
    x, wm = np.asarray(xs[0]), np.asarray(state.wm)
    z = {
        name: np.array([W[j] @ x + U[j] @ wm + b[j] for j in range(5)])
        for name, (W, U, b) in jax.tree.map(np.asarray, params)._asdict().items()
    }
    return z, state, lstm.step(params, state, xs[0])


@pytest.mark.equation("5.1")
def test_what_is_remembered(x64):
    """(5.1): with nothing saved, ltm_t / ltm_(t-1) is rem_t = sigma(W_r x_t + U_r wm_(t-1) + b_r)."""
    z, before, after = one_step(save=-FAR)
    np.testing.assert_allclose(after.ltm / before.ltm, sigma(z["rem"]), rtol=1e-13)


@pytest.mark.equation("5.2")
def test_the_candidate(x64):
    """(5.2): with all forgotten and all saved, ltm_t is ltm'_t = tanh(W_l x_t + U_l wm_(t-1) + b_l)."""
    z, _, after = one_step(rem=-FAR, save=FAR)
    np.testing.assert_allclose(after.ltm, np.tanh(z["ltm"]), rtol=1e-13)


@pytest.mark.equation("5.3")
def test_what_is_saved(x64):
    """(5.3): with all forgotten and a candidate of 1, ltm_t is save_t = sigma(W_s x_t + U_s wm_(t-1) + b_s)."""
    z, _, after = one_step(rem=-FAR, ltm=FAR)
    np.testing.assert_allclose(after.ltm, sigma(z["save"]), rtol=1e-13)


@pytest.mark.equation("5.4")
def test_the_long_term_memory(x64):
    """(5.4): ltm_t = rem_t ltm_(t-1) + save_t ltm'_t."""
    z, before, after = one_step()
    wanted = sigma(z["rem"]) * before.ltm + sigma(z["save"]) * np.tanh(z["ltm"])
    np.testing.assert_allclose(after.ltm, wanted, rtol=1e-13)


@pytest.mark.equation("5.5")
def test_the_focus(x64):
    """(5.5): with a long-term memory so large that its tanh is 1, wm_t is focus_t = sigma(W_f x_t + ...)."""
    z, _, after = one_step(start=FAR, rem=FAR)
    np.testing.assert_allclose(after.wm, sigma(z["focus"]), rtol=1e-13)


@pytest.mark.equation("5.6")
def test_the_working_memory(x64):
    """(5.6): wm_t = focus_t tanh(ltm_t)."""
    z, _, after = one_step()
    np.testing.assert_allclose(after.wm, sigma(z["focus"]) * np.tanh(after.ltm), rtol=1e-13)


@pytest.mark.equation("figure 5.2")
@pytest.mark.parametrize("run", [lstm.scan, lstm.unroll])
@pytest.mark.parametrize("T", [1, 6])
def test_one_sequence_is_figure_5_2(x64, run, T):
    """Figure 5.2, all six equations step by step."""
    arguments = cell_case(lstm, 0, T=T, B=None, dtype=jnp.float64)
    last, states = run(*arguments)
    wanted = loop(*arguments)
    np.testing.assert_allclose(states.ltm, wanted[0], rtol=1e-12)
    np.testing.assert_allclose(states.wm, wanted[1], rtol=1e-12)
    for memory, end in zip(states, last, strict=True):
        np.testing.assert_array_equal(memory[-1], end)


def test_rem_bias():
    params = lstm.init(jax.random.key(0), 3, 5, rem_bias=2.0)
    np.testing.assert_array_equal([jnp.unique(gate.b)[0] for gate in params], [2, 0, 0, 0])


def test_sequences_of_different_lengths_are_learned():
    """The recipe in the docstring of `unroll`: is the sum of the numbers above 0?"""
    draws = np.random.default_rng(0)
    lengths = draws.integers(1, 9, size=64)
    inside = np.arange(8) < lengths[:, None]
    xs = draws.normal(size=(64, 8, 1)).astype(np.float32)
    labels = (np.sum(xs[..., 0], axis=1, where=inside) > 0).astype(int)
    xs[~inside] = np.nan
    np.testing.assert_array_equal(lstm.mask(jnp.asarray(lengths), 8), inside.T)

    def loss(params, xs, lengths, ys):
        cell, w = params
        xs, inside = jnp.swapaxes(xs, 0, 1), lstm.mask(lengths, xs.shape[1])
        last, _ = lstm.unroll(cell, lstm.zero_state(6), xs, mask=inside)
        return jnp.mean(costs.log_likelihood.value(last.wm @ w.T, ys))

    optimizer = optax.adam(0.03)
    params = lstm.init(jax.random.key(0), 1, 6), normal(1, 2, 6)
    arrays = jnp.asarray(xs), jnp.asarray(lengths), data.one_hot(jnp.asarray(labels), 2)
    state = train.init(optimizer, params)
    grad = jax.value_and_grad(loss)
    _, history = train.run(jax.random.key(0), grad, optimizer, state, arrays, epochs=40, batch_size=16)
    assert history.losses[-1].mean() < 0.3 * history.losses[0].mean()


@pytest.mark.bad_input
def test_bad_parameters():
    params, state, xs = cell_case(lstm, 0)
    for part, value in (("U", params.save.U[:3]), ("W", params.save.W.T)):
        bad = params._replace(save=params.save._replace(**{part: value}))
        with pytest.raises(ValueError, match=rf"params.save.{part} must have .*: each W must be"):
            lstm.unroll(bad, state, xs)
