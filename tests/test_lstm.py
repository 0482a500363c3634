"""Equations (5.1) to (5.6), and their backpropagation through time by hand (section 5.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from jnn import costs, data, lstm, train
from tests.helpers import normal, relative_error


def case(seed, T=6, B=4, p=3, d=5, dtype=jnp.float32):
    """Parameters with biases, an initial state, xs, and weights for a loss of all states and of the last one."""
    batch = () if B is None else (B,)
    draws = np.random.default_rng(seed)

    def drawn(*shape):
        return jnp.asarray(draws.normal(size=shape), dtype)

    gates = (lstm.Gate(W=drawn(d, p) / p**0.5, U=drawn(d, d) / d**0.5, b=drawn(d)) for _ in range(4))
    arguments = lstm.Params(*gates), lstm.State(drawn(*batch, d), drawn(*batch, d)), drawn(T, *batch, p)
    return arguments, (drawn(2, T, *batch, d), drawn(2, *batch, d))


def loss_of(run, weights, **options):
    def loss(params, state, xs):
        last, states = run(params, state, xs, **options)
        return sum(
            jnp.sum(jnp.sin(states[i]) * weights[0][i]) + jnp.sum(last[i] ** 2 * weights[1][i]) for i in range(2)
        )

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))


def lengths_mask(T, lengths):
    return jnp.arange(T)[:, None] < jnp.array(lengths)[None]


def padded(xs, mask):
    """xs with what tables of sequences hold where there is nothing: NaN, and infinities."""
    return xs if mask is None else jnp.where(mask[..., None], xs, jnp.array([jnp.nan, jnp.inf, -jnp.inf], xs.dtype))


def pick(tree, i):
    """The i-th of every leaf: one sequence of a batch."""
    return jax.tree.map(lambda a: a[i], tree)


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


# Values


FAR = 1e4  # a bias by which a gate is 1, or the candidate, or the tanh of a memory


def one_step(start=None, **biases):
    """The weighted inputs W x + U wm + b of a cell with these biases, entry by entry, and its states around a step."""
    (params, state, xs), _ = case(20, T=1, B=None, dtype=jnp.float64)
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
    arguments, _ = case(0, T=T, B=None, dtype=jnp.float64)
    last, states = run(*arguments)
    wanted = loop(*arguments)
    np.testing.assert_allclose(states.ltm, wanted[0], rtol=1e-12)
    np.testing.assert_allclose(states.wm, wanted[1], rtol=1e-12)
    for memory, end in zip(states, last, strict=True):
        np.testing.assert_array_equal(memory[-1], end)


@pytest.mark.parametrize("run", [lstm.scan, lstm.unroll])
def test_a_batch_is_its_sequences(run):
    (params, state, xs), _ = case(1)
    last, states = run(params, state, xs)
    assert states.wm.shape == (6, 4, 5)
    assert last.ltm.shape == (4, 5)
    for i in range(4):
        wanted = loop(params, [memory[i] for memory in state], xs[:, i])
        np.testing.assert_allclose(states.ltm[:, i], wanted[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(states.wm[:, i], wanted[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("run", [lstm.scan, lstm.unroll])
def test_one_zero_state_starts_every_sequence(run):
    (params, _, xs), _ = case(1)
    last, _ = run(params, lstm.zero_state(5), xs)
    batched = lstm.State(jnp.zeros((4, 5)), jnp.zeros((4, 5)))
    assert relative_error(last, run(params, batched, xs)[0]) == 0


def test_gates_are_between_0_and_1_and_finite_far_out():
    (params, state, xs), weights = case(2)
    for run in (lstm.scan, lstm.unroll):
        value, grads = loss_of(run, weights)(params, state, 1e4 * xs)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("run", [lstm.scan, lstm.unroll])
def test_a_mask_ends_sequences_early(run):
    (params, state, xs), _ = case(3)
    lengths = [6, 1, 4, 2]
    mask = lengths_mask(6, lengths)
    last, states = run(params, state, padded(xs, mask), mask=mask)
    for i, length in enumerate(lengths):
        start = pick(state, i)
        alone, all_alone = run(params, start, xs[:length, i])
        for memory, end, wanted in zip(states, last, all_alone, strict=True):
            np.testing.assert_allclose(memory[:length, i], wanted, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(memory[length:, i], jnp.broadcast_to(end[i], (6 - length, 5)))
        assert relative_error(pick(last, i), alone) < 1e-5


# Derivatives


@pytest.mark.equation("section 5.2, through time")
@given(st.integers(0, 999), st.integers(1, 9), st.sampled_from([None, 1, 3]), st.integers(1, 4), st.integers(1, 5))
def test_bptt_by_hand_equals_autodiff(seed, T, B, p, d):
    with jax.enable_x64(True):
        arguments, weights = case(seed, T, B, p, d, dtype=jnp.float64)
        by_hand, by_autodiff = (loss_of(run, weights)(*arguments) for run in (lstm.unroll, lstm.scan))
        np.testing.assert_allclose(by_hand[0], by_autodiff[0], rtol=1e-13)
        assert relative_error(by_hand[1], by_autodiff[1]) < 1e-12


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("B", [None, 4])
def test_bptt_by_hand_with_masks_and_segments(x64, masked, B):
    (params, state, xs), weights = case(4, B=B, dtype=jnp.float64)
    mask = lengths_mask(6, [6, 1, 4, 2]) if masked else None
    mask = mask[:, 2] if masked and B is None else mask
    arguments = params, state, padded(xs, mask)
    by_autodiff = loss_of(lstm.scan, weights, mask=mask)(*arguments)
    for segment in (None, 1, 3, 6, 10):
        by_hand = loss_of(lstm.unroll, weights, mask=mask, segment=segment)(*arguments)
        np.testing.assert_allclose(by_hand[0], by_autodiff[0], rtol=1e-13)
        assert relative_error(by_hand[1], by_autodiff[1]) < 1e-12


def test_bptt_by_hand_in_float32():
    arguments, weights = case(5, T=50, B=8, p=6, d=12)
    by_hand, by_autodiff = (loss_of(run, weights)(*arguments) for run in (lstm.unroll, lstm.scan))
    assert relative_error(by_hand[1], by_autodiff[1]) < 1e-4


@pytest.mark.equation("section 5.2, through time")
def test_bptt_by_hand_equals_finite_differences(x64):
    (params, state, xs), weights = case(6, dtype=jnp.float64)
    check_grads(lambda *a: loss_of(lstm.unroll, weights)(*a)[0], (params, state, xs), order=1, modes=["rev"], rtol=1e-6)


def test_second_derivatives(x64):
    """Reverse over scan in both modes; the derivation by hand is differentiated like any other code."""
    (params, state, xs), weights = case(7, T=3, B=2, dtype=jnp.float64)

    def value(run, x):
        return jnp.sum(run(params, state, x)[1].wm * weights[0][1])

    by_scan = jax.jit(jax.jacfwd(jax.grad(lambda x: value(lstm.scan, x))))(xs)
    by_hand = jax.jit(jax.jacrev(jax.grad(lambda x: value(lstm.unroll, x))))(xs)
    assert relative_error(by_hand, by_scan) < 1e-10


def test_segments_take_less_memory():
    """Of the compiled program: temporary memory for T = 1024 steps, by segments of 32."""
    (params, state, xs), _ = case(8, T=1024, B=8, p=4, d=32)

    def temporary(segment):
        def loss(params, state, xs):
            return jnp.sum(lstm.unroll(params, state, xs, segment=segment)[0].wm)

        return jax.jit(jax.grad(loss)).lower(params, state, xs).compile().memory_analysis().temp_size_in_bytes

    assert temporary(32) < temporary(None) / 5


def test_the_program_does_not_grow_with_time():
    def size(T):
        arguments, weights = case(9, T=T)
        return len(loss_of(lstm.unroll, weights).lower(*arguments).as_text().splitlines())

    assert size(10) == size(1000)


def test_unroll_traces_once_for_one_shape():
    traces = []

    @jax.jit
    def run(params, state, xs):
        traces.append(1)
        return lstm.unroll(params, state, xs)

    arguments, _ = case(10)
    for _ in range(3):
        run(*arguments)
    assert len(traces) == 1


# Compositions


def test_stack_feeds_working_memories_upwards():
    (params, state, xs), _ = case(12)
    upper, mask = lstm.init(jax.random.key(0), 5, 7), lengths_mask(6, [6, 1, 4, 2])
    lasts, states = lstm.stack((params, upper), (state, lstm.zero_state(7)), padded(xs, mask), mask=mask)
    lower_last, lower = lstm.unroll(params, state, xs, mask=mask)
    upper_last, top = lstm.unroll(upper, lstm.zero_state(7), lower.wm, mask=mask)
    assert relative_error(lasts, (lower_last, upper_last)) == 0
    assert relative_error(states, (lower, top)) == 0


def test_both_directions_read_to_the_end_and_to_the_beginning():
    (params, state, xs), _ = case(13)
    other = lstm.init(jax.random.key(1), 3, 5)
    mask = lengths_mask(6, [6, 1, 4, 2])
    (last, first), wm = lstm.both_directions(params, other, state, padded(xs, mask), mask=mask)
    ends, again = lstm.both_directions(params, other, (state, state), xs, mask=mask)
    assert relative_error((ends, again), ((last, first), wm)) == 0
    assert wm.shape == (6, 4, 10)
    for i, length in enumerate([6, 1, 4, 2]):
        start = pick(state, i)
        ahead, ahead_states = lstm.unroll(params, start, xs[:length, i])
        back, back_states = lstm.unroll(other, start, xs[:length, i][::-1])
        assert relative_error(pick((last, first), i), (ahead, back)) < 1e-5
        wanted = jnp.concatenate([ahead_states.wm, back_states.wm[::-1]], axis=-1)
        np.testing.assert_allclose(wm[:length, i], wanted, rtol=1e-5, atol=1e-6)


def test_init():
    params = lstm.init(jax.random.key(0), 400, 50, rem_bias=2.0)
    for name, gate in params._asdict().items():
        assert (gate.W.shape, gate.U.shape, gate.b.shape) == ((50, 400), (50, 50), (50,))
        np.testing.assert_array_equal(gate.b, 2.0 if name == "rem" else 0.0)
        np.testing.assert_allclose(gate.U @ gate.U.T, np.eye(50), atol=1e-5)
        np.testing.assert_allclose(jnp.std(gate.W), 1 / 20, rtol=0.05)
    assert not np.allclose(params.rem.W, params.save.W)


# Bad input


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
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p, s, x: (p, s, x[..., :2]), ValueError, r"\[T, 3\] or \[T, B, 3\].*got \(6, 4, 2\)"),
        (lambda p, s, x: (p, s, x[None]), ValueError, r"xs must have shape .*got \(1, 6, 4, 3\)"),
        (lambda p, s, x: (p, s, x[0, 0]), ValueError, r"xs must have shape .*got \(3,\)"),
        (lambda p, s, x: (p, s, x[:0]), ValueError, "T at least 1"),
        (lambda p, s, x: (p, s._replace(ltm=s.ltm[:, :4]), x), ValueError, r"state.ltm must .*\(4, 5\).*got \(4, 4\)"),
        (lambda p, s, x: (p, s._replace(wm=s.wm[:3]), x), ValueError, r"state.wm must have shape .*got \(3, 5\)"),
        (lambda p, s, x: (p, s, x.astype(jnp.bfloat16)), TypeError, "same dtype, got .*xs: bfloat16"),
        (lambda p, s, x: (p, s, x.astype(int)), TypeError, "xs must have a floating dtype, got int32"),
        (lambda p, s, x: (p._replace(save=p.save._replace(U=p.save.U[:3])), s, x), ValueError, "params.save.U must"),
        (lambda p, s, x: (p._replace(ltm=p.ltm._replace(W=p.ltm.W.T)), s, x), ValueError, "params.ltm.W must"),
    ],
)
@pytest.mark.parametrize("run", [lstm.scan, lstm.unroll])
def test_bad_input(run, change, error, message):
    arguments, _ = case(0)
    with pytest.raises(error, match=message):
        run(*change(*arguments))


@pytest.mark.bad_input
@pytest.mark.parametrize("run", [lstm.scan, lstm.unroll])
def test_bad_masks(run):
    arguments, _ = case(0)
    with pytest.raises(ValueError, match=r"mask must have shape \(6, 4\), got \(6,\)"):
        run(*arguments, mask=jnp.ones(6, bool))
    with pytest.raises(TypeError, match=r"mask must be boolean, got float32: .*mask.astype\(bool\)"):
        run(*arguments, mask=jnp.ones((6, 4)))


@pytest.mark.bad_input
def test_bad_segments():
    arguments, _ = case(0)
    with pytest.raises(ValueError, match="segment must be at least 1, got 0"):
        lstm.unroll(*arguments, segment=0)


@pytest.mark.bad_input
def test_forward_mode_through_unroll():
    (params, state, xs), _ = case(0)
    with pytest.raises(TypeError, match="reverse mode only: use lstm.scan for forward mode"):
        jax.jvp(lambda xs: lstm.unroll(params, state, xs)[0].wm, (xs,), (xs,))
    with pytest.raises(TypeError, match="use lstm.scan"):
        jax.jvp(jax.jit(lambda xs: lstm.unroll(params, state, xs, segment=2)[0].wm), (xs,), (xs,))
    with pytest.raises(TypeError, match="use lstm.scan"):
        jax.jacfwd(lambda xs: lstm.unroll(params, state, xs)[0].wm)(xs)
    with pytest.raises(TypeError, match="use lstm.scan"):
        jax.jacfwd(jax.jit(lambda params: lstm.unroll(params, state, xs)[0].wm))(params)
    jax.jvp(lambda xs: lstm.scan(params, state, xs)[0].wm, (xs,), (xs,))


@pytest.mark.bad_input
def test_time_comes_first():
    (params, _, _), _ = case(0)
    d, p = params.rem.W.shape
    xs = jnp.ones((6, 9, p))  # [B, T, p]
    for state, mask in (
        (lstm.State(jnp.zeros((6, d)), jnp.zeros((6, d))), None),
        (lstm.zero_state(d), lstm.mask(jnp.full(6, 9), 9)),
    ):
        with pytest.raises(ValueError, match=r"time first"):
            lstm.unroll(params, state, xs, mask=mask)


@pytest.mark.bad_input
def test_bad_lengths():
    with pytest.raises(ValueError, match=r"lengths must be in 0 ... 4, the number of steps, got \[5\]"):
        lstm.mask(jnp.array([5]), 4)
    with pytest.raises(ValueError, match=r"lengths must be integers, one for each sequence, got int32\[\]"):
        lstm.mask(jnp.asarray(5), 6)
    with pytest.raises(TypeError, match=r"lengths must be integers, one for each sequence, got float32\[2\]"):
        lstm.mask(jnp.ones(2), 4)
