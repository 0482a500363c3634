import functools
import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from jnn import augment, backprop, costs, dropout, gradcheck, mlp, regularize, stopping, train
from jnn.train import monitor
from tests.helpers import examples, network, relative_error

GRAD = backprop.minibatch_value_and_grad
SGD = train.sgd(0.5)
ADAM = optax.adam(0.01)


def start(optimizer=SGD, seed=0):
    return train.init(optimizer, network(seed))


def member(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def mean_cost(params, xs, ys):
    z = jax.vmap(mlp.logits, in_axes=(None, 0))(params, xs)
    return jnp.mean(costs.quadratic.value(z, ys))


def identify(params, xs):
    """A grad that records which examples it saw: the value is a number that names the mini-batch."""
    return jnp.sum(2.0 ** xs[:, 0]), jax.tree.map(jnp.zeros_like, params)


def seen(values):
    """The examples in each mini-batch that `identify` saw."""
    return [[i for i in range(24) if int(value) >> i & 1] for value in np.asarray(values)]


class Tensor:
    """Data of another library, whose dtype NumPy does not know."""

    dtype = "other.float32"

    def __init__(self, array):
        self.array = np.asarray(array)
        self.shape = self.array.shape

    def __len__(self):
        return len(self.array)

    def __array__(self, dtype=None, copy=None):
        return self.array


def test_data_that_convert_to_arrays():
    data = examples(1, 24)
    options = {"epochs": 2, "batch_size": 5, "progress": False}
    ours = train.fit(jax.random.key(0), GRAD, SGD, start(), data, **options)
    theirs = train.fit(jax.random.key(0), GRAD, SGD, start(), tuple(map(Tensor, data)), **options)
    jax.tree.map(np.testing.assert_array_equal, theirs, ours)


# One step and one epoch


@pytest.mark.equation("section 2.2")
def test_a_step_is_section_2_2(x64):
    """w <- w - (eta/m) sum_x delta (a)^T, b <- b - (eta/m) sum_x delta."""
    params, (xs, ys) = network(0, dtype=jnp.float64), examples(1, 6, dtype=jnp.float64)
    state, value = train.step(GRAD, train.sgd(0.7), train.init(train.sgd(0.7), params), (xs, ys))
    _, grads = jax.vmap(backprop.value_and_grad, in_axes=(None, 0, 0))(params, xs, ys)
    wanted = jax.tree.map(lambda p, g: p - 0.7 / 6 * jnp.sum(g, axis=0), params, grads)
    assert relative_error(state.params, wanted) < 1e-14
    np.testing.assert_allclose(value, mean_cost(params, xs, ys), rtol=1e-14)


@pytest.mark.parametrize(
    ("n", "batch_size", "lengths"), [(12, 4, [4] * 3), (11, 4, [4, 4, 3]), (3, 8, [3]), (5, 1, [1] * 5)]
)
def test_an_epoch_sees_every_example_once(n, batch_size, lengths):
    """Also when batch_size does not divide N (a smaller last mini-batch) or exceeds it (one mini-batch of all)."""
    xs = jnp.arange(float(n))[:, None]
    _, values = train.epoch(jax.random.key(0), identify, SGD, start(), (xs,), batch_size=batch_size)
    batches = seen(values)
    assert [len(batch) for batch in batches] == lengths
    assert sorted(itertools.chain(*batches)) == list(range(n))


def test_the_order_is_fresh_for_every_key_and_the_same_for_the_same():
    xs = (jnp.arange(12.0)[:, None],)
    orders = [
        seen(train.epoch(jax.random.key(seed), identify, SGD, start(), xs, batch_size=3)[1]) for seed in (0, 1, 2, 0)
    ]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_an_epoch_is_a_loop_over_steps():
    n = 14  # three full mini-batches and a smaller one
    data = examples(1, n)
    state, values = train.epoch(jax.random.key(3), GRAD, SGD, start(), data, batch_size=4)
    order = jax.random.permutation(jax.random.split(jax.random.key(3))[0], n)
    step = jax.jit(functools.partial(train.step, GRAD, SGD))
    looped, costs_seen = start(), []
    for i in range(0, n, 4):
        looped, value = step(looped, member(jax.tree.map(np.asarray, data), order[i : i + 4]))
        costs_seen.append(value)
    assert relative_error(state.params, looped.params) < 1e-6
    np.testing.assert_allclose(values, jnp.stack(costs_seen), rtol=1e-6)


def test_autodiff_of_a_loss_of_ones_own_trains_the_same():
    data = examples(1, 12)
    by_hand, _ = train.epoch(jax.random.key(0), GRAD, SGD, start(), data, batch_size=4)
    autodiff, _ = train.epoch(jax.random.key(0), jax.value_and_grad(mean_cost), SGD, start(), data, batch_size=4)
    assert relative_error(by_hand.params, autodiff.params) < 1e-5


OPTIMIZERS = {
    "adamw": optax.adamw(1e-2),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "schedule": optax.sgd(optax.cosine_decay_schedule(0.5, 100)),
    "clip": optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.5)),
    "plateau": optax.chain(optax.sgd(0.5), optax.contrib.reduce_on_plateau()),
    "lbfgs": optax.lbfgs(),
    "injected": optax.inject_hyperparams(optax.sgd)(learning_rate=0.5),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optax_transformation_is_the_optimizer(name):
    """Also those that want the value, and those that search along a line and want the function."""
    optimizer, data = OPTIMIZERS[name], examples(1, 24)
    state, history = train.run(jax.random.key(0), GRAD, optimizer, start(optimizer), data, epochs=8, batch_size=8)
    assert np.all(np.isfinite(history.losses))
    assert mean_cost(state.params, *data) < mean_cost(start().params, *data)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.MultiSteps(optax.lbfgs(), 2),
        optax.MultiSteps(optax.chain(optax.sgd(0.5), optax.contrib.reduce_on_plateau()), 2),
        optax.contrib.sam(optax.sgd(0.5), optax.sgd(0.05), opaque_mode=True),
    ],
    ids=["lbfgs in steps", "plateau in steps", "sam"],
)
def test_optimizers_that_want_functions_inside_of_others(optimizer):
    data = examples(1, 24)
    state, _ = train.epoch(jax.random.key(0), GRAD, optimizer, start(optimizer), data, batch_size=6)
    assert mean_cost(state.params, *data) < mean_cost(start().params, *data)


def test_apply_if_finite_skips_what_is_not():
    """fit goes on while the optimizer keeps NaN from the parameters, and says so once it does not."""
    xs, ys = examples(1, 12)
    data = xs.at[5, 2].set(jnp.nan), ys
    arguments = {"epochs": 2, "batch_size": 3, "progress": False}
    patient = optax.apply_if_finite(SGD, 100)
    state, history = train.fit(jax.random.key(0), GRAD, patient, start(patient), data, **arguments)
    assert np.isnan(history.losses).sum() == 2
    assert np.isfinite(jax.tree.leaves(state.params)[0]).all()
    strict = optax.apply_if_finite(SGD, 0)
    with pytest.raises(FloatingPointError, match=r"data\[0\] is not finite"):
        train.fit(jax.random.key(0), GRAD, strict, start(strict), data, **arguments)


def test_sgd_is_optax_sgd():
    grads, params = network(1), network(2)
    ours, theirs = (o.update(grads, o.init(params), params)[0] for o in (train.sgd(0.3), optax.sgd(0.3)))
    assert relative_error(ours, theirs) == 0


# transform, evaluate, and what may be bound to functions


def test_transform_changes_each_batch_inside_the_program():
    data = examples(1, 12)
    doubled = (2 * data[0], data[1])
    options = {"batch_size": 5}
    want, _ = train.epoch(jax.random.key(0), GRAD, SGD, start(), doubled, **options)
    got, _ = train.epoch(
        jax.random.key(0), GRAD, SGD, start(), data, transform=lambda key, xs, ys: (2 * xs, ys), **options
    )
    assert relative_error(got.params, want.params) < 1e-6


def test_transform_gets_a_fresh_key_each_step_and_may_pass_it_on():
    """A dropout grad(params, xs, ys, key) takes the key so."""

    def grad(params, xs, key):
        return jax.random.uniform(key), jax.tree.map(jnp.zeros_like, params)

    options = {"batch_size": 3, "transform": lambda key, xs: (xs, key)}
    draws = [
        train.epoch(jax.random.key(seed), grad, SGD, start(), (jnp.zeros((8, 1)),), **options)[1] for seed in (0, 1)
    ]
    assert len(np.unique(np.concatenate(draws))) == 6


def test_evaluate_measures_after_each_epoch():
    xs, ys = examples(1, 12)
    evaluate = Partial(lambda params, xs, ys: {"cost": mean_cost(params, xs, ys), "b": params[0].b}, xs=xs, ys=ys)
    arguments = (GRAD, SGD)
    state, history = train.run(
        jax.random.key(0), *arguments, start(), (xs, ys), epochs=3, batch_size=4, evaluate=evaluate
    )
    assert history.losses.shape == (3, 3)
    assert history.metrics["b"].shape == (3, 5)
    looped = start()
    for t in range(3):
        looped, _ = train.epoch(jax.random.fold_in(jax.random.key(0), t), *arguments, looped, (xs, ys), batch_size=4)
        np.testing.assert_allclose(history.metrics["cost"][t], mean_cost(looped.params, xs, ys), rtol=1e-5)
    assert relative_error(state.params, looped.params) < 1e-5


def test_validation_measures_the_mean_cost_of_held_out_examples():
    """By default under "error", which early stopping reads."""
    data, held_out = examples(1, 24), examples(2, 8)
    options = {"epochs": 2, "batch_size": 5, "validation": held_out, "stopping": stopping.error_change(window=2)}
    state, history = train.fit(jax.random.key(0), GRAD, SGD, start(), data, progress=False, **options)
    assert history.metrics.keys() == {"error"}
    np.testing.assert_allclose(history.metrics["error"][-1], mean_cost(state.params, *held_out), rtol=1e-6)
    again = train.run(jax.random.key(0), GRAD, SGD, start(), data, **options)
    jax.tree.map(np.testing.assert_array_equal, again, (state, history))


def test_evaluate_gets_the_validation_examples():
    data, held_out = examples(1, 24), examples(2, 8)
    options = {"epochs": 2, "batch_size": 5, "validation": tuple(map(Tensor, held_out)), "evaluate": mean_cost}
    state, history = train.fit(jax.random.key(0), GRAD, SGD, start(), data, progress=False, **options)
    np.testing.assert_allclose(history.metrics[-1], mean_cost(state.params, *held_out), rtol=1e-6)


@pytest.mark.bad_input
def test_validation_without_examples_is_refused():
    held_out = tuple(part[:0] for part in examples(2, 8))
    with pytest.raises(ValueError, match="^validation must hold at least one example"):
        train.run(jax.random.key(0), GRAD, SGD, start(), examples(1, 24), epochs=1, batch_size=5, validation=held_out)


def test_without_evaluate_there_are_no_metrics():
    _, history = train.run(jax.random.key(0), GRAD, SGD, start(), examples(1, 8), epochs=2, batch_size=4)
    assert history.metrics is None


def test_bound_arrays_are_arguments_of_the_program_and_costs_static():
    """One program for two sets of bound arrays and for two equal Partials: nothing is traced again."""
    traces = []

    def grad(params, xs, ys, *, cost, scale):
        traces.append(cost)
        value, grads = GRAD(params, xs, ys, cost=cost)
        return scale * value, jax.tree.map(lambda g: scale * g, grads)

    values = []
    for scale in (1.0, 2.0, 1.0):
        bound = Partial(grad, cost=costs.cross_entropy, scale=jnp.asarray(scale))
        values.append(train.epoch(jax.random.key(0), bound, SGD, start(), examples(1, 8), batch_size=8)[1][0])
    assert traces == [costs.cross_entropy]
    np.testing.assert_allclose(values, [values[0], 2 * values[0], values[0]], rtol=1e-6)


@pytest.mark.parametrize("members", [False, True], ids=["alone", "members"])
@pytest.mark.parametrize("in_chunks", [False, True], ids=["in memory", "in chunks"])
def test_fit_traces_a_gradient_once(members, in_chunks):
    """For each size of a mini-batch: the program that is looked for is the one that trains."""
    sizes = []

    def grad(params, xs, ys):
        sizes.append(xs.shape[0])
        return GRAD(params, xs, ys)

    key, state, (xs, ys) = jax.random.key(0), start(), examples(1, 22)
    if members:
        key, state = jax.random.split(key, 4), jax.tree.map(lambda a: jnp.stack([a] * 4), state)
    data = [(xs, ys), (xs, ys)] if in_chunks else (xs, ys)
    train.fit(key, grad, SGD, state, data, epochs=2, batch_size=4, progress=False)
    assert sorted(sizes) == [2, 4]


# run and fit


def test_run_is_fit_and_a_longer_run_begins_with_the_shorter():
    data = examples(1, 22)
    arguments = (jax.random.key(0), GRAD, SGD, start(), data)
    options = {"batch_size": 4, "evaluate": Partial(mean_cost, xs=data[0], ys=data[1])}
    state, history = train.run(*arguments, epochs=4, **options)
    fitted, same = train.fit(*arguments, epochs=4, progress=False, **options)
    assert relative_error(fitted.params, state.params) < 1e-6
    assert relative_error(same, history) < 1e-6
    assert history.losses.shape == (4, 6)
    _, longer = train.run(*arguments, epochs=6, **options)
    np.testing.assert_allclose(longer.losses[:4], history.losses, rtol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "grad", "transform"),
    [
        (SGD, GRAD, None),
        (ADAM, Partial(dropout.minibatch_value_and_grad, p=0.5), regularize.append_key),
        (ADAM, train.mixed_precision(GRAD), functools.partial(regularize.input_noise, sigma=0.1)),
    ],
    ids=["sgd", "adam and dropout", "adam, mixed precision and noise"],
)
def test_the_same_bits_by_epoch_run_and_fit(optimizer, grad, transform):
    """And by a second call of each: same key, same device, same versions."""
    data, key = examples(1, 22), jax.random.key(4)
    options = {"batch_size": 4, "transform": transform}
    found = []
    for _ in range(2):
        state, values = start(optimizer), []
        for t in range(3):
            state, costs_seen = train.epoch(jax.random.fold_in(key, t), grad, optimizer, state, data, **options)
            values.append(costs_seen)
        found.append((state, jnp.stack(values)))
        arguments = (key, grad, optimizer, start(optimizer), data)
        for state, history in (
            train.run(*arguments, epochs=3, **options),
            train.fit(*arguments, epochs=3, progress=False, **options),
        ):
            found.append((state, history.losses))
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, found[0])


def test_run_vmaps_over_keys_learning_rates_and_regularisation():
    data = examples(1, 12)

    def decayed(params, xs, ys, lam):
        value, grads = GRAD(params, xs, ys)
        return value, jax.tree.map(lambda g, p: g + lam * p, grads, params)

    def train_one(key, eta, lam):
        optimizer = train.sgd(eta)
        return train.run(key, Partial(decayed, lam=lam), optimizer, start(optimizer), data, epochs=2, batch_size=4)

    keys, etas, lams = jax.random.split(jax.random.key(0), 3), jnp.array([0.1, 1.0, 3.0]), jnp.array([0.0, 0.01, 0.1])
    states, histories = jax.jit(jax.vmap(train_one))(keys, etas, lams)
    assert histories.losses.shape == (3, 2, 3)
    for i in range(3):
        state, history = train_one(keys[i], float(etas[i]), lams[i])
        assert relative_error(member(states.params, i), state.params) < 1e-5
        np.testing.assert_allclose(histories.losses[i], history.losses, rtol=1e-5)


def test_fit_trains_members_side_by_side():
    """A key of shape [S] and a state with a leading axis S: each member is the run with its own key and start."""
    data, keys = examples(1, 11), jax.random.split(jax.random.key(5), 3)
    states = jax.vmap(lambda key: train.init(SGD, mlp.init(key, (7, 5, 4, 3))))(keys)
    options = {"epochs": 3, "batch_size": 4, "evaluate": Partial(mean_cost, xs=data[0], ys=data[1])}
    fitted, history = train.fit(keys, GRAD, SGD, states, data, progress=False, **options)
    assert history.losses.shape == (3, 3, 3)
    for i in range(3):
        one = member(states, i)
        state, alone = train.run(keys[i], GRAD, SGD, one, data, **options)
        assert relative_error(member(fitted.params, i), state.params) < 1e-5
        assert relative_error(member(history, i), alone) < 1e-5


CHOOSERS = {
    "run": (train.run, 0),
    "fit": (functools.partial(train.fit, progress=False), 0),
    "members": (functools.partial(train.fit, progress=False), 2),
}


@pytest.mark.parametrize("trains", CHOOSERS)
def test_what_is_evaluated_can_be_chosen(trains):
    """As an average that the optimizer keeps, here the negative: measured, stopped by and returned as the best."""
    trains, members = CHOOSERS[trains]

    def error(params):
        return jnp.mean(params[0].w)

    key, state, data = jax.random.key(0), start(), examples(1, 8)
    if members:
        key, state = jax.random.split(key, members), jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    options = {"epochs": 3, "batch_size": 4, "evaluate": error}
    _, history = trains(key, GRAD, SGD, state, data, **options)
    options["eval_params"] = lambda state: jax.tree.map(jnp.negative, state.params)
    _, negative = trains(key, GRAD, SGD, state, data, **options)
    np.testing.assert_array_equal(negative.metrics, -history.metrics)
    stopped, record = trains(key, GRAD, SGD, state, data, stopping=stopping.error_change(window=3), **options)
    best = member((stopped, record), 0) if members else (stopped, record)
    assert best[1].best == 1 + jnp.argmin(best[1].metrics)
    np.testing.assert_array_equal(error(best[0].params), best[1].metrics[best[1].best - 1])


def test_callbacks_hear_of_every_epoch_and_may_stop():
    reports = []

    def listen(report):
        reports.append(report)
        return report.epoch == 3

    data = examples(1, 8)
    evaluate = Partial(mean_cost, xs=data[0], ys=data[1])
    state, history = train.fit(
        jax.random.key(0), GRAD, SGD, start(), data, epochs=9, batch_size=4, evaluate=evaluate, callbacks=[listen]
    )
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert history.losses.shape == (3, 2)
    assert relative_error(reports[-1].state, state) == 0
    np.testing.assert_allclose(history.metrics, [report.metrics for report in reports])


@pytest.mark.parametrize(
    ("answer", "epochs"),
    [(1, 2), (1.0, 2), (np.ones(3), 2), (jnp.ones(3, bool), 2), (np.True_, 1), (jnp.array(True), 1)],
)
def test_only_true_ends_a_training(answer, epochs):
    """Not what `file.write` returns, or an array; a comparison of arrays that is true does."""
    _, history = train.fit(
        *(jax.random.key(0), GRAD, SGD, start(), examples(1, 8)),
        epochs=2,
        batch_size=4,
        callbacks=[lambda _: answer],
        progress=False,
    )
    assert len(history.losses) == epochs


@pytest.fixture
def terminal(capsys, monkeypatch):
    """What a terminal shows."""
    monkeypatch.setattr(monitor, "is_seen", lambda: True)
    return capsys


def test_without_a_terminal_there_is_no_bar(capsys):
    train.fit(jax.random.key(0), GRAD, SGD, start(), examples(1, 8), epochs=1, batch_size=4)
    assert not capsys.readouterr().err


def test_the_bar_shows_four_digits_and_the_cost_beside_a_metric_of_that_name(terminal):
    def evaluate(params):
        return {"cost": jnp.asarray(1.23456e-5)}

    train.fit(jax.random.key(0), GRAD, SGD, start(), examples(1, 8), epochs=1, batch_size=4, evaluate=evaluate)
    shown = terminal.readouterr().err
    assert ", evaluate.cost=1.235e-05" in shown
    assert "[" in shown.split("cost=")[0]


def test_the_bar_shows_the_cost_and_the_scalar_metrics(terminal):
    keys = jax.random.split(jax.random.key(0), 2)
    states = jax.vmap(lambda key: train.init(SGD, mlp.init(key, (7, 5, 4, 3))))(keys)

    def evaluate(params):
        return {"half": jnp.asarray(0.5), "many": jnp.ones(3)}

    train.fit(keys, GRAD, SGD, states, examples(1, 8), epochs=4, batch_size=4, evaluate=evaluate)
    shown = terminal.readouterr().err
    assert "4/4" in shown
    assert "half=0.5" in shown
    assert "cost=" in shown
    assert "many" not in shown


def test_fit_trains_without_tqdm(monkeypatch, terminal):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "tqdm", raising=False)
    _, history = train.fit(jax.random.key(0), GRAD, SGD, start(), examples(1, 8), epochs=2, batch_size=4)
    assert history.losses.shape == (2, 2)
    assert not terminal.readouterr().err


def test_numpy_data_train_too():
    data = jax.tree.map(np.asarray, examples(1, 8))
    state, _ = train.fit(jax.random.key(0), GRAD, SGD, start(), data, epochs=1, batch_size=4, progress=False)
    wanted, _ = train.run(jax.random.key(0), GRAD, SGD, start(), examples(1, 8), epochs=1, batch_size=4)
    assert relative_error(state.params, wanted.params) < 1e-6


# What a program may cost and where it runs


def test_programs_trace_once_for_one_shape():
    traces = []

    def grad(params, xs, ys):
        traces.append(1)
        return GRAD(params, xs, ys)

    data = examples(1, 8)
    for seed in range(3):
        train.epoch(jax.random.key(seed), grad, SGD, start(seed=seed), data, batch_size=4)
    assert len(traces) == 1
    train.fit(jax.random.key(0), grad, SGD, start(), data, epochs=5, batch_size=4, progress=False)
    assert len(traces) == 2


def test_learning_lowers_the_cost():
    """For targets that a network of the same size can produce."""
    xs, _ = examples(1, 24)
    data = xs, jax.vmap(mlp.forward, in_axes=(None, 0))(network(5), xs)
    state, history = train.run(jax.random.key(0), GRAD, train.sgd(3.0), start(), data, epochs=60, batch_size=6)
    assert mean_cost(state.params, *data) < 0.3 * mean_cost(start().params, *data)
    assert history.losses[-1].mean() < history.losses[0].mean()


DEBUGGING = {
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_disable_jit": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_check_tracer_leaks": True,
    "jax_debug_key_reuse": True,
    "jax_enable_checks": True,
    "jax_legacy_prng_key": "error",
}


@pytest.mark.parametrize("flag", DEBUGGING)
def test_every_debugging_flag_of_jax(flag):
    """A training run that stops early, on NumPy data, in mixed precision, with penalties, dropout and augmentation."""
    picture = functools.partial(augment.distort, rotate=10.0, elastic=0.5)

    def transform(key, xs, ys):
        image_key, noise_key = jax.random.split(key)
        xs, ys = augment.rows(image_key, xs, ys, image_transform=picture, shape=(2, 4))
        return regularize.append_key(noise_key, xs, ys)

    grad = Partial(dropout.minibatch_value_and_grad, p=0.3, cost=costs.log_likelihood)
    grad = train.mixed_precision(regularize.penalised(grad, regularize.l1(0.01), regularize.l2(0.01)))
    options = {"epochs": 3, "batch_size": 8, "transform": transform}
    by_error = {"evaluate": lambda params: jnp.ones(()), "stopping": stopping.error_change(window=1)}
    by_weights = {"stopping": stopping.weight_change(1e6, window=2), "progress": False}
    data = jax.tree.map(np.asarray, examples(1, 8, (8, 4, 3)))
    before = getattr(jax.config, flag)
    jax.config.update(flag, DEBUGGING[flag])
    try:
        state = train.init(SGD, network(0, (8, 4, 3)))
        for program, criterion in ((train.run, by_error), (train.fit, by_weights)):
            _, history = program(jax.random.key(0), grad, SGD, state, data, **options, **criterion)
            assert int(history.epochs) == 2  # so that run fills the third
            assert np.isfinite(history.losses[:2]).all()
        gradcheck.assert_ok(mean_cost, GRAD, network(0, (3, 2)), *examples(1, 4, (3, 2)))
    finally:
        jax.config.update(flag, before)


# Bad input


WRONG_GRADS = {
    "a gradient alone: use jax.value_and_grad instead of jax.grad": jax.grad(mean_cost),
    "a value alone: use jax.value_and_grad": mean_cost,
    r"\(gradient, value\): swap them": lambda *batch: GRAD(*batch)[::-1],
    r"\(\(value, aux\), gradient\): drop has_aux, or pass a carry": jax.value_and_grad(
        lambda *batch: (mean_cost(*batch), 0.0), has_aux=True
    ),
    r"\(\(\), \(Layer": lambda params, *batch: (mean_cost(params, *batch), params[:2]),
    r"a gradient whose 1.w has shape \(5, 4\) instead of \(4, 5\)": lambda params, *batch: (
        mean_cost(params, *batch),
        (params[0], params[1]._replace(w=params[1].w.T), *params[2:]),
    ),
}


@pytest.mark.parametrize("said", WRONG_GRADS)
def test_what_grad_must_return(said):
    message = rf"grad must return \(value, gradient\), a number and a tree of arrays like params; got {said}"
    with pytest.raises(TypeError, match=message):
        train.epoch(jax.random.key(0), WRONG_GRADS[said], SGD, start(), examples(1, 8), batch_size=4)


WRONG_STATES = {
    r"state must be what train.init\(optimizer, params\) returns, got tuple$": (SGD, network(0)),
    r"got tuple of a state: unpack it, as in state, history = ": (SGD, (start(), None)),
    "state.opt_state is that of another optimizer; start with train.init": (SGD, start(ADAM)),
    "is that of another optimizer; start": (ADAM, start()),
    r"is that of other parameters: 0.mu.0.w must have shape \(5, 7\), got \(4, 6\); start": (
        ADAM,
        start(ADAM)._replace(opt_state=ADAM.init(network(0, (6, 4, 4, 3)))),
    ),
    r"optimizer must be an optax.GradientTransformation, such as train.sgd\(0.5\), got <function sgd.*>: call it": (
        optax.sgd,
        start(),
    ),
    r"optimizer must be an optax.GradientTransformation, such as train.sgd\(0.5\), got 0.1$": (0.1, start()),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("said", WRONG_STATES)
def test_what_state_must_be(said):
    optimizer, state = WRONG_STATES[said]
    with pytest.raises((TypeError, ValueError), match=said):
        train.fit(jax.random.key(0), GRAD, optimizer, state, examples(1, 8), epochs=1, batch_size=4)


@pytest.mark.bad_input
def test_init_without_an_optimizer():
    with pytest.raises(TypeError, match=r"optimizer must be an optax.GradientTransformation.* got 0.1$"):
        train.init(0.1, network(0))


WRONG_OPTIONS = {
    "grad must be a function, got 'mean_cost'": {"grad": "mean_cost"},
    "evaluate must be a function, got 3": {"evaluate": 3},
    "history must be the second that train.run or fit returned, got State": {"history": start()},
    "cost must be an array, got a str: jax.tree_util.Partial binds arrays to grad, functools.partial anything else": {
        "grad": Partial(GRAD, cost="x")
    },
}


@pytest.mark.bad_input
@pytest.mark.parametrize("said", WRONG_OPTIONS)
def test_options_of_another_kind(said):
    options = {"grad": GRAD, "epochs": 1, "batch_size": 4} | WRONG_OPTIONS[said]
    with pytest.raises(TypeError, match=said):
        train.run(jax.random.key(0), options.pop("grad"), SGD, start(), examples(1, 8), **options)


@pytest.mark.bad_input
def test_notes_on_errors_of_the_users_functions():
    run = functools.partial(train.run, jax.random.key(0), optimizer=SGD, state=start(), epochs=1, batch_size=4)
    with pytest.raises(TypeError) as raised:
        run(GRAD, data=examples(1, 8), evaluate=mlp.accuracy)
    assert any("evaluate was called with the parameters alone" in note for note in raised.value.__notes__)
    with pytest.raises(ValueError, match="data.one_hot makes them from labels") as raised:
        run(GRAD, data=(examples(1, 8)[0], jnp.arange(8)))
    assert any("a mini-batch of shapes ((4, 7), (4,))" in note for note in raised.value.__notes__)


def test_fit_under_a_transformation():
    def trained(key):
        return train.fit(key, GRAD, SGD, start(), examples(1, 8), epochs=1, batch_size=4)

    with pytest.raises(TypeError, match="fit runs on the host, .* use train.run under jit, vmap and sweep"):
        jax.vmap(trained)(jax.random.split(jax.random.key(0), 2))


def test_a_state_without_members():
    with pytest.raises(ValueError, match=r"with 3 keys state must have a leading axis of 3 members, got .*\(5, 7\)"):
        train.fit(jax.random.split(jax.random.key(0), 3), GRAD, SGD, start(), examples(1, 8), epochs=1, batch_size=4)


@pytest.mark.parametrize("culprit", ["data", "eta"])
def test_a_cost_that_is_not_finite_stops_fit_and_names_the_epoch(culprit):
    xs, ys = examples(1, 8)

    def quartic(params, xs):
        return jnp.mean(jnp.sum(params[None] - xs, axis=-1) ** 4)

    if culprit == "data":
        with pytest.raises(FloatingPointError, match=r"nan in epoch 1, mini-batch \d: data\[0\].*1 of 8 .*row 5"):
            data = (xs.at[5, 2].set(jnp.nan), ys)
            train.fit(jax.random.key(0), GRAD, SGD, start(), data, epochs=3, batch_size=4, progress=False)
    else:
        state = train.init(SGD, jnp.full(7, 3.0))
        with pytest.raises(FloatingPointError, match=r"(inf|nan) in epoch \d, .*data are finite; lower the learning"):
            grad = jax.value_and_grad(quartic)
            train.fit(jax.random.key(0), grad, SGD, state, (xs,), epochs=9, batch_size=4, progress=False)


BOUND = {
    "Partial": Partial(GRAD, cost=costs.cross_entropy),
    "functools.partial": functools.partial(GRAD, cost=costs.cross_entropy),
    "penalised": regularize.penalised(functools.partial(GRAD, cost=costs.cross_entropy), regularize.l2(1e-3)),
    "hinge": Partial(GRAD, cost=costs.hinge),
}


@pytest.mark.parametrize("by", BOUND)
def test_a_cost_below_zero_is_reported_with_its_reason(by):
    """The desired outputs are -1 and 1; the first epoch is compiled, so that no check sees them."""
    data = examples(1, 8)[0], jnp.where(examples(1, 8)[1] > 0.5, 1.0, -1.0)
    with pytest.warns(UserWarning, match=r"fell to -.* in epoch 1; costs.(cross|hinge).* in \[0, 1\] only: use \(y"):
        train.fit(jax.random.key(0), BOUND[by], SGD, start(), data, epochs=2, batch_size=4, progress=False)


def test_a_member_that_diverges_is_named():
    keys = jax.random.split(jax.random.key(0), 3)
    states = jax.vmap(lambda key: train.init(SGD, mlp.init(key, (7, 5, 4, 3))))(keys)
    broken = states.params[0]._replace(b=states.params[0].b.at[1].set(jnp.nan))
    states = states._replace(params=(broken, *states.params[1:]))
    with pytest.raises(FloatingPointError, match=r"the cost of member 1 became nan in epoch 1"):
        train.fit(keys, GRAD, SGD, states, examples(1, 8), epochs=3, batch_size=4, progress=False)


@pytest.mark.bad_input
class TestBadInput:
    @pytest.fixture(params=["epoch", "run", "fit"])
    def program(self, request):
        extra = {} if request.param == "epoch" else {"epochs": 2}
        return functools.partial(getattr(train, request.param), **extra)

    @pytest.mark.parametrize("eta", [0, 0.0, -1.0, float("nan"), float("inf")])
    def test_eta(self, eta):
        with pytest.raises(ValueError, match="eta must be positive and finite, got"):
            train.sgd(eta)

    def test_an_eta_that_is_no_number(self):
        with pytest.raises(TypeError, match="eta must be a number, got 'fast'"):
            train.sgd("fast")

    def test_no_examples(self, program):
        with pytest.raises(ValueError, match=r"at least one example.*data\[0\]: \(0, 7\)"):
            program(jax.random.key(0), GRAD, SGD, start(), (jnp.zeros((0, 7)), jnp.zeros((0, 3))), batch_size=4)

    def test_leading_axes_that_differ(self, program):
        with pytest.raises(ValueError, match=r"must be equal.*\(data\[0\]: \(8, 7\), data\[1\]: \(6, 3\)\)"):
            program(jax.random.key(0), GRAD, SGD, start(), (jnp.zeros((8, 7)), jnp.zeros((6, 3))), batch_size=4)

    @pytest.mark.parametrize("data", [(), (jnp.asarray(1.0),)])
    def test_nothing_with_a_leading_axis(self, program, data):
        with pytest.raises(ValueError, match="share a leading axis"):
            program(jax.random.key(0), GRAD, SGD, start(), data, batch_size=4)

    def test_a_bare_array(self, program):
        with pytest.raises(TypeError, match=r"data must be a tuple of arrays, such as \(xs, ys\), got"):
            program(jax.random.key(0), GRAD, SGD, start(), jnp.zeros((8, 7)), batch_size=4)

    @pytest.mark.parametrize(("batch_size", "kind"), [(0, ValueError), (-1, ValueError), (2.0, TypeError)])
    def test_batch_size(self, program, batch_size, kind):
        with pytest.raises(kind, match="batch_size must be"):
            program(jax.random.key(0), GRAD, SGD, start(), examples(1, 8), batch_size=batch_size)

    @pytest.mark.parametrize("f", [train.run, train.fit])
    @pytest.mark.parametrize(("epochs", "kind"), [(0, ValueError), (1.5, TypeError)])
    def test_epochs(self, f, epochs, kind):
        with pytest.raises(kind, match="epochs must be"):
            f(jax.random.key(0), GRAD, SGD, start(), examples(1, 8), epochs=epochs, batch_size=4)

    def test_a_key_of_the_old_kind(self, program):
        with pytest.raises(TypeError, match=r"jax\.random\.key"):
            program(jnp.zeros(2, jnp.uint32), GRAD, SGD, start(), examples(1, 8), batch_size=4)

    def test_a_transform_that_returns_no_tuple(self, program):
        with pytest.raises(TypeError, match="transform must return a tuple.*got"):
            options = {"batch_size": 4, "transform": lambda key, xs, ys: xs}
            program(jax.random.key(0), GRAD, SGD, start(), examples(1, 8), **options)


# Mixed precision


@pytest.mark.parametrize("cost", [costs.quadratic, costs.cross_entropy, costs.log_likelihood], ids=repr)
@pytest.mark.parametrize("by", ["hand", "autodiff"])
def test_mixed_precision_is_near_and_keeps_float32(cost, by):
    """A bfloat16 has 8 bits: a gradient is off by about a hundredth, and by something."""

    def loss(params, xs, ys):
        return jnp.mean(cost.value(jax.vmap(mlp.logits, (None, 0))(params, xs), ys))

    grad = Partial(GRAD, cost=cost) if by == "hand" else jax.value_and_grad(loss)
    params, batch = network(0), examples(1, 32)
    (value, grads), (wanted, exact) = (jax.jit(way)(params, *batch) for way in (train.mixed_precision(grad), grad))
    assert {leaf.dtype for leaf in jax.tree.leaves((value, grads))} == {jnp.dtype("float32")}
    assert 1e-5 < relative_error(grads, exact) < 0.05
    np.testing.assert_allclose(value, wanted, rtol=0.02)


def test_mixed_precision_multiplies_in_bfloat16_and_updates_in_float32():
    step = jax.jit(functools.partial(train.step, train.mixed_precision(GRAD), SGD))
    text = step.lower(start(), examples(1, 4)).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products
    assert all("bf16" in line and "xf32>" not in line.split(":")[-1].split("->")[0] for line in products)
    state, value = train.step(train.mixed_precision(GRAD), SGD, start(), examples(1, 4))
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, value))} == {jnp.dtype("float32")}
