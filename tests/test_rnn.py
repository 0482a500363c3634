"""The plain recurrent net (section 5.1)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import rnn
from tests.helpers import relative_error


def case(seed, T=6, B=4, p=3, d=5, dtype=jnp.float32):
    """Parameters, an initial state, xs, and weights for a loss of all states and of the last one."""
    batch = () if B is None else (B,)
    draws = np.random.default_rng(seed)

    def drawn(*shape):
        return jnp.asarray(draws.normal(size=shape), dtype)

    params = rnn.Params(W=drawn(d, p) / p**0.5, U=drawn(d, d) / d**0.5, b=drawn(d))
    return (params, drawn(*batch, d), drawn(T, *batch, p)), (drawn(T, *batch, d), drawn(*batch, d))


def loss_of(run, weights, **options):
    def loss(params, state, xs):
        last, states = run(params, state, xs, **options)
        return jnp.sum(jnp.sin(states) * weights[0]) + jnp.sum(last**2 * weights[1])

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))


@pytest.mark.parametrize("B", [None, 4])
def test_scan_is_a_loop_over_the_equation(B):
    (params, state, xs), _ = case(0, B=B)
    last, states = rnn.scan(params, state, xs)
    h = np.asarray(state)
    for t, x in enumerate(np.asarray(xs)):
        h = np.tanh(x @ np.asarray(params.W).T + h @ np.asarray(params.U).T + np.asarray(params.b))
        np.testing.assert_allclose(states[t], h, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(last, states[-1])


@pytest.mark.equation("section 5.1, any net")
@pytest.mark.parametrize("B", [None, 1, 4])
@pytest.mark.parametrize("T", [1, 2, 7])
def test_bptt_by_hand_equals_autodiff(x64, B, T):
    arguments, weights = case(1, T=T, B=B, dtype=jnp.float64)
    by_hand, by_autodiff = (loss_of(run, weights)(*arguments) for run in (rnn.unroll, rnn.scan))
    np.testing.assert_allclose(by_hand[0], by_autodiff[0], rtol=1e-13)
    assert relative_error(by_hand[1], by_autodiff[1]) < 1e-12


@pytest.mark.parametrize("B", [None, 4])
def test_bptt_by_hand_with_masks(x64, B):
    """Where the mask is False the inputs are NaN, and a sequence ends with its own last state."""
    (params, state, xs), weights = case(3, B=B, dtype=jnp.float64)
    lengths = np.array([6, 1, 4, 2]) if B else np.array(4)
    mask = jnp.asarray(np.arange(6).reshape(6, *[1] * lengths.ndim) < lengths)
    arguments = params, state, jnp.where(mask[..., None], xs, jnp.nan)
    by_hand, by_autodiff = (loss_of(run, weights, mask=mask)(*arguments) for run in (rnn.unroll, rnn.scan))
    np.testing.assert_allclose(by_hand[0], by_autodiff[0], rtol=1e-13)
    assert relative_error(by_hand[1], by_autodiff[1]) < 1e-12
    last, _ = rnn.unroll(*arguments, mask=mask)
    alone, _ = rnn.unroll(params, state[2], xs[:4, 2]) if B else rnn.unroll(params, state, xs[:4])
    np.testing.assert_allclose(last[2] if B else last, alone, rtol=1e-12)


def test_a_state_without_batch_starts_every_sequence():
    (params, _, xs), _ = case(2)
    zero = rnn.zero_state(5)
    last, states = rnn.unroll(params, zero, xs)
    alone, _ = rnn.unroll(params, zero, xs[:, 1])
    assert states.shape == (6, 4, 5)
    np.testing.assert_allclose(last[1], alone, rtol=1e-5, atol=1e-6)


def test_init():
    params = rnn.init(jax.random.key(0), 400, 50)
    np.testing.assert_allclose(params.U @ params.U.T, np.eye(50), atol=1e-5)
    np.testing.assert_allclose(jnp.std(params.W), 1 / 20, rtol=0.05)
    assert not params.b.any()


# Bad input


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p, s, x: (p, s, x[..., :2]), ValueError, r"\[T, 3\] or \[T, B, 3\].*got \(6, 4, 2\)"),
        (lambda p, s, x: (p, s, x[:0]), ValueError, "T at least 1"),
        (lambda p, s, x: (p, s, x[None]), ValueError, "xs must have shape"),
        (lambda p, s, x: (p, s[:, :4], x), ValueError, r"state must have shape \(4, 5\), or \(5,\).*got \(4, 4\)"),
        (lambda p, s, x: (p, s[:2], x), ValueError, r"state must have shape .*got \(2, 5\)"),
        (lambda p, s, x: (p, s, x.astype(jnp.float16)), TypeError, "same dtype, got .*xs: float16.*astype"),
        (lambda p, s, x: (p, s, x.astype(int)), TypeError, "xs must have a floating dtype, got int32"),
        (lambda p, s, x: (p._replace(U=p.U[:3]), s, x), ValueError, r"params.U must have shape .*got \(3, 5\)"),
        (lambda p, s, x: (p._replace(b=p.b[:3]), s, x), ValueError, r"params.b must have shape .*got \(3,\)"),
    ],
)
@pytest.mark.parametrize("run", [rnn.scan, rnn.unroll])
def test_bad_input(run, change, error, message):
    arguments, _ = case(0)
    with pytest.raises(error, match=message):
        run(*change(*arguments))


@pytest.mark.bad_input
def test_forward_mode_through_unroll():
    (params, state, xs), _ = case(0)
    for run in (rnn.unroll, jax.jit(rnn.unroll)):
        with pytest.raises(TypeError, match="reverse mode only: use rnn.scan for forward mode"):
            jax.jvp(lambda xs, run=run: run(params, state, xs)[0], (xs,), (xs,))


@pytest.mark.bad_input
def test_bad_sizes():
    for bad in (0, -1):
        with pytest.raises(ValueError, match="inputs must be at least 1, got"):
            rnn.init(jax.random.key(0), bad, 3)
        with pytest.raises(ValueError, match="units must be at least 1, got"):
            rnn.zero_state(bad)
    with pytest.raises(TypeError, match="units must be an integer, got 2.5"):
        rnn.init(jax.random.key(0), 3, 2.5)
