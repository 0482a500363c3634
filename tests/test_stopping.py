"""Early stopping (section 3.3.2): both criteria by their definitions, and training runs that stop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jnn import backprop, costs, mlp, stopping, train
from jnn.train import history as histories
from tests.helpers import examples, network, refuses, relative_error

GRAD = functools.partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy)
SGD = train.sgd(0.5)
EPOCHS = 12
RUN_AND_FIT = train.run, functools.partial(train.fit, progress=False)


def stops_at(criterion, params, path, errors):
    """The first epoch, from 1, at which the criterion says stop; None where it never does."""
    state, update = criterion.init(params), jax.jit(criterion.update)
    for t, (now, error) in enumerate(zip(path, errors, strict=True), start=1):
        state, stop = update(state, now, jnp.asarray(error, float))
        if stop:
            return t
    return None


# The definitions, read literally


def error_change_by_definition(errors, window, further):
    for t in range(window + 1, len(errors) + 1):
        before, last = errors[: t - window], errors[t - window : t]
        lowest = min([e for e in before if not np.isnan(e)], default=np.inf)
        if not any(e < lowest for e in last):
            return t + further if t + further <= len(errors) else None
    return None


def weight_change_by_definition(start, path, rho, window, relative):
    all_weights = [start, *path]
    for t in range(window, len(path) + 1):
        old, new = all_weights[t - window], all_weights[t]
        apart = [np.linalg.norm(a - b) for a, b in zip(old, new, strict=True)]
        bounds = [rho * np.linalg.norm(b) if relative else rho for b in new]
        if all(a <= b for a, b in zip(apart, bounds, strict=True)):
            return t
    return None


errors = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, float("nan")]), min_size=1, max_size=25)


@pytest.mark.equation("section 3.3.2, early stopping")
@given(errors, st.integers(1, 6), st.integers(0, 4))
@example([3, 2, 1, 1, 1, 1], 2, 0)  # at epoch 5: epochs 4 and 5 are not below epoch 3
@example([3, 2, 1, 1, 1, 1, 0, 0], 2, 2)  # at 7: further epochs are not called off by a drop
@example([3, 4, 2, 3, 1, 2], 2, 0)  # never: a drop below the lowest within every window
@example([3, 2, float("nan"), float("nan")], 2, 0)  # at 4
def test_error_change_by_its_definition(errors, window, further):
    errors = list(np.asarray(errors, np.float32))
    criterion = stopping.error_change(window=window, further=further)
    wanted = error_change_by_definition(errors, window, further)
    assert stops_at(criterion, jnp.zeros(1), [jnp.zeros(1)] * len(errors), errors) == wanted


def test_once_stopped_it_stays_stopped():
    criterion = stopping.error_change(window=1, further=1)
    state = criterion.init(None)
    said = []
    for error in (1.0, 1.0, 1.0, 0.5, 0.4):
        state, stop = criterion.update(state, None, error)
        said.append(bool(stop))
    assert said == [False, False, True, True, True]


@pytest.mark.equation("section 3.3.2, early stopping")
@given(st.integers(0, 10_000), st.integers(1, 5), st.booleans(), st.sampled_from([0.0, 0.3, 1.0, 3.0]))
def test_weight_change_by_its_definition(seed, window, relative, rho):
    """On random walks whose steps shrink."""
    rng = np.random.default_rng(seed)
    start = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 2), (4,))]
    path = [start]
    for t in range(15):
        path.append([leaf + rng.normal(size=leaf.shape).astype(np.float32) * 0.7**t for leaf in path[-1]])
    if rho == 0:
        path[-3:] = path[-3:-2] * 3  # weights that stand still
    wanted = weight_change_by_definition(start, path[1:], rho, window, relative)
    criterion = stopping.weight_change(rho, window=window, relative=relative)
    as_arrays = [[jnp.asarray(leaf) for leaf in leaves] for leaves in path]
    assert stops_at(criterion, as_arrays[0], as_arrays[1:], [0.0] * 15) == wanted


def test_a_relative_weight_change_is_measured_by_the_norm_after_it():
    """Of 10, 12 and 13.26 the last change is within a tenth of 13.26, and of no other."""
    path = [norm * jnp.array([0.6, 0.8]) for norm in (10.0, 12.0, 13.26)]
    criterion = stopping.weight_change(0.1, window=1, relative=True)
    assert stops_at(criterion, path[0], path[1:], [0.0] * 2) == 2


def test_the_same_arguments_give_the_same_criterion():
    assert stopping.error_change(window=3) is stopping.error_change(window=3)
    assert stopping.error_change() is stopping.error_change(further=0, window=10)
    assert stopping.weight_change(0.1) is stopping.weight_change(0.1)
    assert stopping.weight_change(0.5) is stopping.weight_change(jnp.asarray(0.5), window=10, relative=False)
    assert stopping.weight_change(0.5) != stopping.weight_change(0.5, relative=True)
    assert repr(stopping.error_change(window=3)) == "stopping.error_change(window=3, further=0)"


# Inside a training run


CRITERIA = (
    stopping.error_change(window=2, further=1),
    stopping.weight_change(0.75, window=3),
    stopping.weight_change(0.15, window=2, relative=True),
)


def error(params, xs, ys):
    """Rises again after some epochs: far from what is trained."""
    z = jax.vmap(mlp.logits, in_axes=(None, 0))(params, xs)
    return jnp.mean(costs.quadratic.value(z, ys))


def training(seed, n=12):
    """Everything for `train.run` but the key; other examples to learn from than to measure on."""
    data = examples(seed, n)
    xs, ys = examples(seed + 1, 7)
    return train.init(SGD, network(seed)), data, jax.tree_util.Partial(error, xs=xs, ys=ys)


def member_of(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


@functools.partial(jax.jit, static_argnames="criterion")
def after_epoch(state, tracked, evaluate, criterion):
    measured = evaluate(state.params)
    return measured, *criterion.update(tracked, state.params, measured)


def by_a_loop(key, state, data, evaluate, criterion):
    """The same training one epoch at a time, without early stopping, and the best of it."""
    tracked, best, path = criterion.init(state.params), (np.inf, 0, state.params), []
    for t in range(EPOCHS):
        state, _ = train.epoch(jax.random.fold_in(key, t), GRAD, SGD, state, data, batch_size=4)
        measured, tracked, stop = after_epoch(state, tracked, evaluate, criterion)
        path.append(float(measured))
        if measured < best[0]:
            best = (float(measured), t + 1, state.params)
        if stop:
            break
    return path, best


@pytest.mark.parametrize("criterion", CRITERIA, ids=repr)
def test_a_run_stops_as_a_loop_would_and_keeps_the_best(criterion):
    stopped = set()
    for seed in range(2):
        state, data, evaluate = training(seed)
        options = {"epochs": EPOCHS, "batch_size": 4, "evaluate": evaluate, "stopping": criterion}
        path, (lowest, best, params) = by_a_loop(jax.random.key(seed), state, data, evaluate, criterion)
        trained, by_both = len(path), []
        for program in RUN_AND_FIT:
            last, history = program(jax.random.key(seed), GRAD, SGD, state, data, **options)
            by_both.append((last, history.losses[:trained]))
            assert int(history.epochs) == trained
            assert int(history.best) == best
            np.testing.assert_allclose(history.metrics[:trained], path, rtol=1e-5)
            np.testing.assert_allclose(evaluate(last.params), lowest, rtol=1e-5)
            assert relative_error(last.params, params) < 1e-5
            assert np.isfinite(history.losses[:trained]).all()
            assert np.isnan(history.losses[trained:]).all()
            assert np.isnan(history.metrics[trained:]).all()
        jax.tree.map(np.testing.assert_array_equal, *by_both)
        stopped.add(trained)
    assert min(stopped) < EPOCHS


@pytest.mark.parametrize("criterion", CRITERIA[::2], ids=repr)
def test_members_stop_each_by_itself(criterion):
    seeds = range(5)
    states = [training(seed)[0] for seed in seeds]
    _, data, evaluate = training(0)
    keys = jax.random.split(jax.random.key(3), len(seeds))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    options = {"epochs": EPOCHS, "batch_size": 4, "evaluate": evaluate, "stopping": criterion}

    def member(key, state):
        return train.run(key, GRAD, SGD, state, data, **options)

    together, history = jax.vmap(member)(keys, stacked)
    fitted, of_fit = train.fit(keys, GRAD, SGD, stacked, data, progress=False, **options)
    for i in seeds:
        alone, of_one = member(keys[i], states[i])
        assert int(history.epochs[i]) == int(of_fit.epochs[i]) == int(of_one.epochs)
        assert int(history.best[i]) == int(of_one.best)
        for many in (together, fitted):
            assert relative_error(member_of(many.params, i), alone.params) < 1e-5
    assert of_fit.losses.shape[1] == int(history.epochs.max())
    if criterion is CRITERIA[0]:
        assert len(set(history.epochs.tolist())) > 1


FORMS = pytest.mark.parametrize(
    "program", [train.run, functools.partial(train.fit, progress=False)], ids=["run", "fit"]
)
COUNTING = train.sgd(1.0)


def down(t, xs):
    """The gradient with which the parameter is the number of epochs."""
    return jnp.zeros(()), -jnp.ones_like(t)


def counted(program, evaluate, **options):
    state, data = train.init(COUNTING, jnp.zeros(())), (jnp.zeros((12, 1)),)
    return program(jax.random.key(0), down, COUNTING, state, data, batch_size=12, evaluate=evaluate, **options)


@pytest.mark.parametrize(("lost", "best"), [(False, 4), (True, 0)])
@FORMS
def test_an_error_that_is_nan_is_never_the_best(program, lost, best):
    """Errors of NaN and numbers by turns, which fall: the last number is kept; where all are NaN, the start is."""

    def by_turns(t):
        return jnp.where(lost | (t % 2 == 1), jnp.nan, -t)

    last, history = counted(program, by_turns, epochs=5, stopping=stopping.error_change(window=5))
    assert int(history.epochs) == 5
    assert int(history.best) == best == last.params


@FORMS
@pytest.mark.parametrize("error", [1, np.float64(0.5), np.int32(2), jnp.array(3)], ids=repr)
def test_errors_of_any_kind_of_number(program, error):
    _, history = counted(program, lambda _: error, epochs=2, stopping=stopping.error_change(window=1))
    assert history.metrics.tolist() == [error, error]
    assert int(history.best) == 1


@pytest.mark.parametrize("steps", [(3, 2), (2, 3)])
def test_histories_of_members_end_with_nan_where_an_epoch_has_fewer_mini_batches(steps):
    longer = None
    for t, n in enumerate(steps):
        longer = histories.longer(longer, np.full((4, n), 1.0 + t), np.full(4, t), axis=1)
    for t, n in enumerate(steps):
        np.testing.assert_array_equal(longer.losses[:, t], [n * [1.0 + t] + (3 - n) * [np.nan]] * 4)
    np.testing.assert_array_equal(longer.metrics, [[0, 1]] * 4)


def test_without_an_error_the_last_parameters_are_kept():
    last, history = counted(train.run, None, epochs=6, stopping=stopping.weight_change(1e6, window=3))
    assert (int(history.epochs), int(history.best), history.metrics) == (3, 3, None)
    assert last.params == 3


def test_an_error_among_other_metrics():
    def metrics(t):
        return {"accuracy": jnp.asarray(1), "error": abs(t - 2)}

    _, history = counted(train.run, metrics, epochs=6, stopping=stopping.error_change(window=2))
    assert int(history.epochs) == 4
    assert history.metrics["error"].tolist()[:4] == [1, 0, 1, 2]
    assert history.metrics["accuracy"].tolist() == [1, 1, 1, 1, 0, 0]


# Bad input


test_bad_criteria = refuses(
    (lambda: stopping.error_change(window=0), ValueError, "window must be at least 1, got 0"),
    (lambda: stopping.error_change(further=-1), ValueError, "further must be at least 0, got -1"),
    (lambda: stopping.weight_change(-0.1), ValueError, "rho must be at least 0, got -0.1"),
    (lambda: stopping.weight_change(float("nan")), ValueError, "rho must be finite, got nan"),
    (lambda: stopping.weight_change(0.1, window=0), ValueError, "window must be at least 1, got 0"),
)


@pytest.mark.bad_input
@pytest.mark.parametrize("program", [train.run, train.fit])
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"stopping": stopping.error_change(window=5), "evaluate": lambda _: 0.0}, "the number of epochs, got 5 and 4"),
        ({"stopping": stopping.error_change(window=2)}, "needs an error, got evaluate=None"),
        ({"stopping": CRITERIA[0], "evaluate": lambda _: {"accuracy": jnp.ones(())}}, 'under "error"'),
        ({"stopping": CRITERIA[0], "evaluate": lambda _: jnp.ones(3)}, "one number"),
    ],
)
def test_bad_trainings(program, options, match):
    state, data, _ = training(0)
    with pytest.raises(ValueError, match=match):
        program(jax.random.key(0), GRAD, SGD, state, data, epochs=4, batch_size=4, **options)
