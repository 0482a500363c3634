"""The equations of the gated recurrent unit. What holds for every cell is in test_recurrent.py."""

import jax
import jax.numpy as jnp
import numpy as np

from jnn import gru
from tests.helpers import cell_case, refuses


def sigma(z):
    return 1 / (1 + np.exp(-z))


def test_step_is_the_equations(x64):
    params, state, xs = cell_case(gru, 0, T=1, B=None, dtype=jnp.float64)
    (reset, update, candidate, c), h, (x,) = jax.tree.map(np.asarray, (params, state, xs))
    r = sigma(reset.W @ x + reset.U @ h + reset.b)
    u = sigma(update.W @ x + update.U @ h + update.b)
    n = np.tanh(candidate.W @ x + candidate.b + r * (candidate.U @ h + c))
    np.testing.assert_allclose(gru.step(params, state, xs[0]), (1 - u) * n + u * h, rtol=1e-13)


PARAMS, STATE, XS = cell_case(gru, 0)
SAID = r"params.c must have shape \(5,\), got \(3,\): each W must be"
test_bad_parameters = refuses((lambda: gru.unroll(PARAMS._replace(c=PARAMS.c[:3]), STATE, XS), ValueError, SAID))
