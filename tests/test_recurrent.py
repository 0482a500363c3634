"""What holds for every recurrent cell: hand derivations, masks, rematerialisation, stacks, directions and errors."""

from functools import partial
from operator import attrgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from jnn import gru, lstm, mlp, recurrent, rnn
from tests.helpers import cell_case, refuses, relative_error, split_in_two

CELLS = {"rnn": rnn, "gru": gru, "lstm": lstm}
LENGTHS = [6, 1, 4, 2]
MASK = np.arange(6)[:, None] < np.array(LENGTHS)

each_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


@pytest.fixture(params=["scan", "unroll"])
def run_name(request):
    return request.param


def output(states):
    return states.wm if isinstance(states, lstm.State) else states


def loss_of(run, seed=0, **options):
    """The value and gradients of a loss of all states and of the last one."""

    def loss(params, state, xs):
        leaves = jax.tree.leaves(run(params, state, xs, **options))
        draws = np.random.default_rng(seed)
        return sum(jnp.sum(jnp.sin(leaf) * draws.normal(size=leaf.shape).astype(leaf.dtype)) for leaf in leaves)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))


def assert_same_loss(by_hand, by_autodiff):
    np.testing.assert_allclose(by_hand[0], by_autodiff[0], rtol=1e-13)
    assert relative_error(by_hand[1], by_autodiff[1]) < 1e-12


def padded(xs, mask):
    """xs with what tables of sequences hold where there is nothing: NaN, and infinities."""
    return xs if mask is None else jnp.where(mask[..., None], xs, jnp.array([jnp.nan, jnp.inf, -jnp.inf], xs.dtype))


def pick(tree, i):
    """The i-th of every leaf: one sequence of a batch."""
    return jax.tree.map(lambda a: a[i], tree)


# Values


@each_cell
@pytest.mark.parametrize("B", [None, 4])
def test_scan_equals_a_loop_over_step(cell, B):
    params, state, xs = cell_case(cell, 0, B=B)
    last, states = jax.jit(cell.scan)(params, state, xs)
    step = jax.jit(cell.step)
    for t, x in enumerate(xs):
        state = step(params, state, x)
        assert relative_error(pick(states, t), state) < 1e-5
    assert relative_error(last, pick(states, -1)) == 0


@each_cell
def test_one_zero_state_starts_every_sequence(cell, run_name):
    run = jax.jit(getattr(cell, run_name))
    params, _, xs = cell_case(cell, 2)
    shared, each = (run(params, cell.zero_state(5, batch), xs)[0] for batch in (None, 4))
    assert relative_error(shared, each) == 0


@each_cell
def test_values_and_gradients_are_finite_far_out(cell, run_name):
    params, state, xs = cell_case(cell, 3)
    assert all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(loss_of(getattr(cell, run_name))(params, state, 1e4 * xs))
    )


@each_cell
def test_a_mask_ends_sequences_early(cell, run_name):
    run = jax.jit(getattr(cell, run_name))
    params, state, xs = cell_case(cell, 4)
    last, states = run(params, state, padded(xs, MASK), mask=recurrent.mask(jnp.array(LENGTHS), 6))
    for i, length in enumerate(LENGTHS):
        alone, all_alone = run(params, pick(state, i), xs[:length, i])
        assert relative_error(pick(last, i), alone) < 1e-5
        assert relative_error(pick(states, (slice(length), i)), all_alone) < 1e-5
        assert relative_error(pick(states, (-1, i)), pick(last, i)) == 0


# Derivatives


@pytest.mark.equation("section 5.1, any net", "section 5.2, through time")
@each_cell
@pytest.mark.parametrize(("T", "B", "p", "d"), [(1, None, 2, 1), (9, 3, 1, 4)])
def test_unroll_equals_scan(x64, cell, T, B, p, d):
    arguments = cell_case(cell, 5, T, B, p, d, dtype=jnp.float64)
    assert_same_loss(*(loss_of(run)(*arguments) for run in (cell.unroll, cell.scan)))


@each_cell
@pytest.mark.parametrize(("B", "masked", "steps"), [(None, 0, (1, 10)), (4, 1, (None, 3, 4)), (None, 1, (4,))])
def test_unroll_equals_scan_with_masks_and_rematerialisation(x64, cell, B, masked, steps):
    params, state, xs = cell_case(cell, 5, B=B, dtype=jnp.float64)
    mask = jnp.asarray(MASK if B else MASK[:, 2]) if masked else None
    arguments = params, state, padded(xs, mask)
    by_autodiff = loss_of(cell.scan, mask=mask)(*arguments)
    for every in steps:
        assert_same_loss(loss_of(cell.unroll, mask=mask, remat_every=every)(*arguments), by_autodiff)


@pytest.mark.equation("section 5.2, through time")
@each_cell
def test_unroll_equals_finite_differences(x64, cell):
    loss = loss_of(cell.unroll)
    arguments = cell_case(cell, 7, T=3, dtype=jnp.float64)
    check_grads(lambda *a: loss(*a)[0], arguments, order=1, modes=["rev"], rtol=1e-6)


@each_cell
def test_second_derivatives(x64, cell):
    """Reverse over scan in both modes; the derivation by hand is differentiated like any other code."""
    params, state, xs = cell_case(cell, 8, T=3, B=2, dtype=jnp.float64)

    def value(run, x):
        return jnp.sum(jnp.sin(output(run(params, state, x)[1])))

    by_scan = jax.jit(jax.jacfwd(jax.grad(partial(value, cell.scan))))(xs)
    by_hand = jax.jit(jax.jacrev(jax.grad(partial(value, cell.unroll))))(xs)
    assert relative_error(by_hand, by_scan) < 1e-10


def test_rematerialisation_takes_less_memory():
    """Of the compiled program: temporary memory for T = 1024 steps, by segments of 32 steps."""
    arguments = cell_case(lstm, 9, T=1024, B=8, p=4, d=32)

    def temporary(steps):
        def loss(*arguments):
            return jnp.sum(lstm.unroll(*arguments, remat_every=steps)[0].wm)

        return jax.jit(jax.grad(loss)).lower(*arguments).compile().memory_analysis().temp_size_in_bytes

    assert temporary(32) < temporary(None) / 2


def test_the_program_does_not_grow_with_time():
    def size(T):
        return len(loss_of(lstm.unroll).lower(*cell_case(lstm, 10, T=T)).as_text().splitlines())

    assert size(10) == size(100)


# Compositions


@each_cell
def test_stack_feeds_outputs_upwards(cell):
    params, state, xs = cell_case(cell, 11)
    upper, zero = cell.init(jax.random.key(0), 5, 7), cell.zero_state(7)

    @jax.jit
    def ways(xs, mask):
        stacked = recurrent.stack(cell.unroll, (params, upper), (state, zero), xs, mask=mask, output=output)
        lower_last, lower = cell.unroll(params, state, xs, mask=mask)
        upper_last, top = cell.unroll(upper, zero, output(lower), mask=mask)
        return stacked, ((lower_last, upper_last), (lower, top))

    assert relative_error(*ways(padded(xs, MASK), MASK)) == 0


@each_cell
def test_both_directions_read_to_the_end_and_to_the_beginning(cell):
    params, state, xs = cell_case(cell, 12)
    other, zero = cell.init(jax.random.key(1), 3, 2), cell.zero_state(2)
    run, both = jax.jit(cell.unroll), jax.jit(partial(recurrent.both_directions, cell.unroll, output=output))
    ends, outputs = both((params, other), (state, zero), padded(xs, MASK), mask=MASK)
    assert outputs.shape == (6, 4, 7)
    for i, length in ((0, 6), (2, 4)):
        ahead, ahead_states = run(params, pick(state, i), xs[:length, i])
        back, back_states = run(other, zero, xs[:length, i][::-1])
        assert relative_error(pick(ends, i), (ahead, back)) < 1e-5
        wanted = jnp.concatenate([output(ahead_states), output(back_states)[::-1]], axis=-1)
        assert relative_error(outputs[:length, i], wanted) < 1e-5


def test_lstm_stack_and_both_directions_read_working_memories():
    params, state, xs = cell_case(lstm, 13)
    options = {"mask": jnp.asarray(MASK), "output": attrgetter("wm")}
    theirs = recurrent.stack(lstm.unroll, (params,), (state,), xs, **options)
    assert relative_error(lstm.stack((params,), (state,), xs, mask=options["mask"]), theirs) == 0
    theirs = recurrent.both_directions(lstm.unroll, (params, params), (state, state), xs, **options)
    for start in (state, (state, state)):
        assert relative_error(lstm.both_directions(params, params, start, xs, mask=options["mask"]), theirs) == 0


@each_cell
def test_init_draws_orthogonal_and_scaled_weights(cell):
    params = cell.init(jax.random.key(0), 400, 50)
    named = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    for name, leaf in named.items():
        if name.endswith(".W"):
            np.testing.assert_allclose(jnp.std(leaf), 1 / 20, rtol=0.05)
        elif name.endswith(".U"):
            np.testing.assert_allclose(leaf @ leaf.T, np.eye(50), atol=1e-5)
        else:
            np.testing.assert_array_equal(leaf, 1.0 if ".rem" in name else 0.0)


@each_cell
def test_init_draws_each_matrix_with_its_own_key(cell):
    params = cell.init(jax.random.key(0), 5, 5, recurrent_weights=mlp.scaled_normal)
    drawn = [float(leaf[0, 0]) for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    assert len(set(drawn)) == len(drawn)


@each_cell
def test_initialisers_are_handed_inputs_before_outputs(cell):
    count = lambda key, shape, dtype: jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)  # noqa: E731
    params = cell.init(jax.random.key(0), 3, 2, input_weights=count, recurrent_weights=count)
    matrices = [leaf.tolist() for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    assert matrices == [[[0, 2, 4], [1, 3, 5]], [[0, 2], [1, 3]]] * (len(matrices) // 2)


# Inside `jax.shard_map`


def assert_same_on_two_devices(run, params, state, xs, batch):
    """Value and gradients of a batch that two devices split; `batch` is the spec of the state."""

    def loss(params, state, xs, mask):
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(run(params, state, xs, mask=mask)))

    grad, along = partial(jax.value_and_grad, argnums=(0, 1, 2)), P(None, "d")
    split = split_in_two(
        grad(lambda *inputs: jax.lax.psum(loss(*inputs), "d")), (P(), batch, along, along), (P(), (P(), batch, along))
    )
    assert_same_loss(split(params, state, xs, jnp.asarray(MASK)), jax.jit(grad(loss))(params, state, xs, MASK))


@pytest.mark.parametrize(("cell", "run_name"), [(rnn, "unroll"), (gru, "unroll"), (lstm, "unroll"), (lstm, "scan")])
def test_devices_that_split_the_batch_sum_the_gradients_of_what_they_share(cell, run_name, x64):
    """Of the parameters and of one initial state."""
    params, _, xs = cell_case(cell, 3, dtype=jnp.float64)
    run = cell.scan if run_name == "scan" else partial(cell.unroll, remat_every=4)
    assert_same_on_two_devices(run, params, cell.zero_state(5, dtype=jnp.float64), xs, P())


def test_devices_that_split_the_batch_and_its_states(x64):
    params, state, xs = cell_case(rnn, 3, dtype=jnp.float64)
    assert_same_on_two_devices(rnn.unroll, params, state, xs, P("d"))


@each_cell
def test_devices_with_a_network_each(cell, x64):
    """Parameters vary, and the sequence does not."""
    (one, state, xs), (other, _, _) = (cell_case(cell, seed, dtype=jnp.float64) for seed in (3, 4))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), one, other)

    def gradient(params, state, xs):
        return jax.grad(lambda params: jnp.sum(output(cell.unroll(params, state, xs)[1]) ** 2))(params)

    def of_own(params, state, xs):
        return jax.tree.map(lambda a: a[None], gradient(pick(params, 0), state, xs))

    split = split_in_two(of_own, (P("d"), P(), P()), P("d"))
    expected = jax.jit(jax.vmap(gradient, (0, None, None)))(both, state, xs)
    assert relative_error(split(both, state, xs), expected) < 1e-12


# Bad input


def first(state, change):
    """The state with its first array changed."""
    return change(state) if isinstance(state, jax.Array) else state._replace(**{state._fields[0]: change(state[0])})


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda run, p, s, x: run(p, s, x[..., :2]), ValueError, r"\[T, 3\] or \[T, B, 3\].*got \(6, 4, 2\)"),
        (lambda run, p, s, x: run(p, s, x[None]), ValueError, r"xs must have shape .*got \(1, 6, 4, 3\)"),
        (lambda run, p, s, x: run(p, s, x[0, 0]), ValueError, r"xs must have shape .*got \(3,\)"),
        (lambda run, p, s, x: run(p, s, x[:0]), ValueError, "T at least 1"),
        (lambda run, p, s, x: run(p, first(s, lambda a: a[:, :4]), x), ValueError, r"state.*or \(5,\).*\(4, 4\)"),
        (lambda run, p, s, x: run(p, first(s, lambda a: a[:3]), x), ValueError, r"state.* must have .*got \(3, 5\)"),
        (lambda run, p, s, x: run(p, s, x.astype(jnp.bfloat16)), TypeError, "same dtype, got .*xs: bfloat16.*astype"),
        (lambda run, p, s, x: run(p, s, x.astype(int)), TypeError, "xs must have a floating dtype, got int32"),
        (lambda run, p, s, x: run(jax.tree.map(lambda a: a[:3], p), s, x), ValueError, r"params.*U .*got \(3, 5\)"),
        (lambda run, p, s, x: run(p._replace(**{p._fields[-1]: jnp.ones(3)}), s, x), ValueError, r"params.\w+ must"),
        (lambda run, *a: run(*a, mask=jnp.ones(6, bool)), ValueError, r"mask must have shape \(6, 4\), got \(6,\)"),
        (lambda run, *a: run(*a, mask=jnp.ones((6, 4))), TypeError, "mask must be boolean, got float32: .*astype"),
    ],
)
@each_cell
def test_wrong_shapes_and_dtypes(cell, run_name, call, error, message):
    with pytest.raises(error, match=message):
        call(getattr(cell, run_name), *cell_case(cell, 0))


@pytest.mark.bad_input
@each_cell
def test_bad_remat_every(cell):
    with pytest.raises(ValueError, match="remat_every must be at least 1, got 0"):
        cell.unroll(*cell_case(cell, 0), remat_every=0)


@pytest.mark.bad_input
@each_cell
def test_forward_mode_through_unroll(cell):
    params, state, xs = cell_case(cell, 0)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda xs: output(cell.unroll(params, state, xs)[0]), (xs,), (xs,))


@pytest.mark.bad_input
@each_cell
def test_time_comes_first(cell):
    params, _, xs = cell_case(cell, 0, T=4, B=6)  # [B, T, p]
    for state, mask in ((cell.zero_state(5, 4), None), (cell.zero_state(5), recurrent.mask(jnp.full(4, 6), 6))):
        with pytest.raises(ValueError, match="time first"):
            cell.unroll(params, state, xs, mask=mask)


@pytest.mark.bad_input
@each_cell
def test_bad_sizes(cell):
    for bad in (0, -1):
        with pytest.raises(ValueError, match="inputs must be at least 1, got"):
            cell.init(jax.random.key(0), bad, 3)
        with pytest.raises(ValueError, match="units must be at least 1, got"):
            cell.zero_state(bad)
    with pytest.raises(TypeError, match="units must be an integer, got 2.5"):
        cell.init(jax.random.key(0), 3, 2.5)


C, S, XS = cell_case(lstm, 0, B=2)
test_states_that_are_not_one_for_each = refuses(  # a state and its arrays have a length, too
    (lambda: lstm.stack([C, C], S, XS), TypeError, "states must be a list or a tuple .* got a single State"),
    (lambda: lstm.stack(C, [S], XS), TypeError, "layers must be a list or a tuple .* got a single Params"),
    (lambda: lstm.stack([C, C], [S], XS), ValueError, "states must have one entry for each of 2 layers, got 1"),
    (lambda: recurrent.stack(lstm.unroll, [C, C], S.wm, XS), TypeError, "states must be .* got a single Array"),
    (lambda: lstm.both_directions(C, C, [S], XS), ValueError, "states must have .* 2 directions, got 1"),
    (lambda: recurrent.both_directions(lstm.unroll, C, (S, S), XS), TypeError, "params must be a list"),
    (lambda: lstm.unroll(C, lstm.zero_state(5, 7), XS), ValueError, "for a carry, batch_size must divide"),
)
test_bad_lengths = refuses(
    (lambda: recurrent.mask(jnp.array([5]), 4), ValueError, r"lengths must be in 0 ... 4, got 5 at \(0,\)"),
    (lambda: recurrent.mask(jnp.asarray(5), 6), ValueError, r"lengths must be a vector, one for each sequence, got"),
    (lambda: recurrent.mask(jnp.ones(2), 4), TypeError, "lengths must be integers, got float32: convert them with"),
)
