"""The plain recurrent net (section 5.1). What holds for every cell is in test_recurrent.py."""

import jax.numpy as jnp
import numpy as np
import pytest

from jnn import rnn
from tests.helpers import cell_case, refuses


@pytest.mark.equation("section 5.1, any net")
def test_step_is_the_equation(x64):
    params, state, xs = cell_case(rnn, 0, T=1, B=None, dtype=jnp.float64)
    W, U, b = map(np.asarray, params)
    np.testing.assert_allclose(rnn.step(params, state, xs[0]), np.tanh(W @ xs[0] + U @ state + b), rtol=1e-13)


PARAMS, STATE, XS = cell_case(rnn, 0)
SAID = r"params.U must have shape \(5, 5\), got \(3, 5\): each W must be \[d, p\], each U \[d, d\]"
test_bad_parameters = refuses((lambda: rnn.unroll(PARAMS._replace(U=PARAMS.U[:3]), STATE, XS), ValueError, SAID))
