"""Equations (5.1) to (5.6). What holds for every cell is in test_recurrent.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import lstm
from tests.helpers import cell_case


def sigma(z):
    return 1 / (1 + np.exp(-z))


def loop(params, state, xs):
    """Figure 5.2 for one sequence, in NumPy: the states after every step."""
    p = jax.tree.map(np.asarray, params)
    ltm, wm = map(np.asarray, state)
    states = []
    for x in np.asarray(xs):
        rem = sigma(p.rem.W @ x + p.rem.U @ wm + p.rem.b)  # (5.1)
        candidate = np.tanh(p.ltm.W @ x + p.ltm.U @ wm + p.ltm.b)  # (5.2)
        save = sigma(p.save.W @ x + p.save.U @ wm + p.save.b)  # (5.3)
        focus = sigma(p.focus.W @ x + p.focus.U @ wm + p.focus.b)  # (5.5)
        ltm = rem * ltm + save * candidate  # (5.4)
        wm = focus * np.tanh(ltm)  # (5.6)
        states.append((ltm, wm))
    return [np.stack(memory) for memory in zip(*states, strict=True)]


@pytest.mark.equation("5.1", "5.2", "5.3", "5.4", "5.5", "5.6", "figure 5.2")
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


@pytest.mark.bad_input
def test_bad_parameters():
    params, state, xs = cell_case(lstm, 0)
    for part, value in (("U", params.save.U[:3]), ("W", params.save.W.T)):
        bad = params._replace(save=params.save._replace(**{part: value}))
        with pytest.raises(ValueError, match=rf"params.save.{part} must have .*: each W must be"):
            lstm.unroll(bad, state, xs)
