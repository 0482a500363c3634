import contextlib
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
from jnn.typing import History
from tests.helpers import Tensor, assert_same_bits, examples, network, relative_error

GRAD = backprop.minibatch_value_and_grad
SGD = train.sgd(0.5)
ADAM = optax.adam(0.01)
KEY = jax.random.key(0)
DATA = examples(1, 8)


def start(optimizer=SGD, seed=0):
    return train.init(optimizer, network(seed))


def fit(data=DATA, *, key=KEY, grad=GRAD, optimizer=SGD, state=None, epochs=2, batch_size=4, **options):
    state, options = start(optimizer) if state is None else state, {"progress": False, **options}
    return train.fit(key, grad, optimizer, state, data, epochs=epochs, batch_size=batch_size, **options)


def members(n, key=KEY):
    """The keys and the states of members."""
    keys = jax.random.split(key, n)
    return {"key": keys, "state": jax.vmap(lambda key: train.init(SGD, mlp.init(key, (7, 5, 4, 3))))(keys)}


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


def test_data_and_validation_that_convert_to_arrays():
    held_out, options = examples(2, 8), {"evaluate": mean_cost}
    ours = state, history = fit(validation=held_out, **options)
    theirs = fit(tuple(map(Tensor, DATA)), validation=tuple(map(Tensor, held_out)), **options)
    assert_same_bits(theirs, ours)
    np.testing.assert_allclose(history.metrics[-1], mean_cost(state.params, *held_out), rtol=1e-6)


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


@pytest.mark.parametrize(("n", "batch_size", "lengths"), [(12, 4, [4] * 3), (11, 4, [4, 4, 3]), (3, 8, [3])])
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


PLATEAU = optax.chain(optax.sgd(0.5), optax.contrib.reduce_on_plateau())
OPTIMIZERS = {
    "adamw": optax.adamw(1e-2),
    "plateau": PLATEAU,
    "lbfgs": optax.lbfgs(),
    "lbfgs in steps": optax.MultiSteps(optax.lbfgs(), 2),
    "plateau in steps": optax.MultiSteps(PLATEAU, 2),
    "sam": optax.contrib.sam(optax.sgd(0.5), optax.sgd(0.05), opaque_mode=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optax_transformation_is_the_optimizer(name):
    """Those that want the parameters or the value, that search along a line, that are inside of others."""
    optimizer = OPTIMIZERS[name]
    state, values = train.epoch(KEY, GRAD, optimizer, start(optimizer), examples(1, 24), batch_size=3)
    assert np.all(np.isfinite(values))
    assert mean_cost(state.params, *examples(1, 24)) < mean_cost(start().params, *examples(1, 24))


def test_apply_if_finite_skips_what_is_not():
    """fit goes on while the optimizer keeps NaN from the parameters, and says so once it does not."""
    data = DATA[0].at[5, 2].set(jnp.nan), DATA[1]
    state, history = fit(data, optimizer=optax.apply_if_finite(SGD, 100))
    assert np.isnan(history.losses).sum() == 2
    assert np.isfinite(jax.tree.leaves(state.params)[0]).all()
    with pytest.raises(FloatingPointError, match=r"data\[0\] is not finite"):
        fit(data, optimizer=optax.apply_if_finite(SGD, 0))


# transform, evaluate, and what may be bound to functions


def test_transform_gets_a_fresh_key_each_step_and_may_pass_it_on():
    """A dropout grad(params, xs, ys, key) takes the key so. It is traced once for each size of a mini-batch."""
    sizes = []

    def grad(params, xs, key):
        sizes.append(len(xs))
        return jax.random.uniform(key), jax.tree.map(jnp.zeros_like, params)

    options = {"batch_size": 3, "transform": lambda key, xs: (xs, key)}
    draws = [
        train.epoch(jax.random.key(seed), grad, SGD, start(), (jnp.zeros((8, 1)),), **options)[1] for seed in (0, 1)
    ]
    assert len(np.unique(np.concatenate(draws))) == 6
    assert sorted(sizes) == [2, 3]


def test_evaluate_measures_after_each_epoch():
    xs, ys = examples(1, 12)
    evaluate = Partial(lambda params, xs, ys: {"cost": mean_cost(params, xs, ys), "b": params[0].b}, xs=xs, ys=ys)
    state, history = train.run(KEY, GRAD, SGD, start(), (xs, ys), epochs=3, batch_size=4, evaluate=evaluate)
    assert history.losses.shape == (3, 3)
    assert history.metrics["b"].shape == (3, 5)
    looped = start()
    for t in range(3):
        looped, _ = train.epoch(jax.random.fold_in(KEY, t), GRAD, SGD, looped, (xs, ys), batch_size=4)
        np.testing.assert_allclose(history.metrics["cost"][t], mean_cost(looped.params, xs, ys), rtol=1e-5)
    assert relative_error(state.params, looped.params) < 1e-5


def test_validation_measures_the_mean_cost_of_held_out_examples():
    """By default under "error", which early stopping reads."""
    held_out = examples(2, 8)
    options = {"epochs": 2, "batch_size": 4, "validation": held_out, "stopping": stopping.error_change(window=2)}
    state, history = fit(**options)
    assert history.metrics.keys() == {"error"}
    np.testing.assert_allclose(history.metrics["error"].min(), mean_cost(state.params, *held_out), rtol=1e-6)
    again = train.run(KEY, GRAD, SGD, start(), DATA, **options)
    assert_same_bits(again, (state, history))


@pytest.mark.parametrize("side_by_side", [False, True], ids=["alone", "members"])
@pytest.mark.parametrize("in_chunks", [False, True], ids=["in memory", "in chunks"])
def test_fit_traces_a_gradient_once(side_by_side, in_chunks):
    """For each size of a chunk and of a mini-batch: the program that is looked for is the one that trains."""
    sizes, (xs, ys) = [], examples(1, 22)

    def grad(params, xs, ys):
        sizes.append(xs.shape[0])
        return GRAD(params, xs, ys)

    data = [(xs, ys), (xs, ys), (xs[:7], ys[:7])] if in_chunks else (xs, ys)
    for epochs in (2, 3):
        fit(data, grad=grad, epochs=epochs, **(members(4) if side_by_side else {}))
    assert sorted(sizes) == ([2, 3, 4, 4] if in_chunks else [2, 4])


# run and fit


def test_the_same_bits_by_epoch_run_and_fit():
    """And by a second call of each: same key, same device, same versions."""
    grad = train.mixed_precision(Partial(dropout.minibatch_value_and_grad, p=0.5))
    key, data, options = jax.random.key(4), examples(1, 22), {"batch_size": 4, "transform": regularize.append_key}
    found = []
    for _ in range(2):
        state, values = start(ADAM), []
        for t in range(3):
            state, losses = train.epoch(jax.random.fold_in(key, t), grad, ADAM, state, data, **options)
            values.append(losses)
        found.append((state, History(jnp.stack(values), None)))
        found.append(fit(data, key=key, grad=grad, optimizer=ADAM, epochs=3, **options))
        found.append(train.run(key, grad, ADAM, start(ADAM), data, epochs=3, **options))
    for other in found[1:]:
        assert_same_bits(other, found[0])


def test_run_vmaps_over_keys_learning_rates_and_regularisation():
    data = examples(1, 12)

    def decayed(params, xs, ys, lam):
        value, grads = GRAD(params, xs, ys)
        return value, jax.tree.map(lambda g, p: g + lam * p, grads, params)

    def train_one(key, eta, lam):
        optimizer = train.sgd(eta)
        return train.run(key, Partial(decayed, lam=lam), optimizer, start(optimizer), data, epochs=2, batch_size=4)

    keys, etas, lams = jax.random.split(KEY, 3), jnp.array([0.1, 1.0, 3.0]), jnp.array([0.0, 0.01, 0.1])
    state, history = train_one(keys[1], float(etas[1]), lams[1])
    for trained in (jax.jit(jax.vmap(train_one)), jax.vmap(train_one)):  # of the first transformation nothing is kept
        states, histories = trained(keys, etas, lams)
        assert histories.losses.shape == (3, 2, 3)
        assert relative_error(member(states.params, 1), state.params) < 1e-5
        np.testing.assert_allclose(histories.losses[1], history.losses, rtol=1e-5)
    slopes = jax.grad(lambda eta: train_one(keys[0], eta, lams[0])[1].losses[-1, -1])(etas[0])
    assert slopes < 0


def test_fit_trains_members_side_by_side():
    """A key of shape [S] and a state with a leading axis S: each member is the run with its own key and start."""
    data, options = examples(1, 11), {"epochs": 3, "batch_size": 4, "validation": examples(1, 8)}
    together = members(3, jax.random.key(5))
    fitted, history = fit(data, **together, **options)
    assert history.losses.shape == (3, 3, 3)
    for i in range(3):
        state, alone = train.run(together["key"][i], GRAD, SGD, member(together["state"], i), data, **options)
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
    stopped, record = trains(key, GRAD, SGD, state, data, stopping=stopping.error_change(window=3), **options)
    np.testing.assert_array_equal(record.metrics, -history.metrics)
    best = member((stopped, record), 0) if members else (stopped, record)
    assert best[1].best == 1 + jnp.argmin(best[1].metrics)
    np.testing.assert_array_equal(error(best[0].params), best[1].metrics[best[1].best - 1])


def test_callbacks_hear_of_every_epoch_and_may_stop(capsys):
    """And without a terminal there is no progress bar."""
    reports = []

    def listen(report):
        reports.append(report)
        return report.epoch == 3

    state, history = fit(epochs=9, validation=DATA, callbacks=[listen], progress=True)
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert history.losses.shape == (3, 2)
    assert relative_error(reports[-1].state, state) == 0
    np.testing.assert_allclose(history.metrics["error"], [report.metrics["error"] for report in reports])
    assert not capsys.readouterr().err


def test_only_true_ends_a_training():
    """Not what `file.write` returns, or an array; a comparison of arrays that is true does."""
    assert not any(map(monitor.is_true, (None, 1, 1.0, np.ones(3), jnp.ones(3, bool), False, np.False_)))
    assert all(map(monitor.is_true, (True, np.True_, jnp.array(True))))


@pytest.fixture
def terminal(capsys, monkeypatch):
    """What a terminal shows."""
    monkeypatch.setattr(monitor, "is_seen", lambda: True)
    return capsys


def test_the_bar_shows_the_cost_and_the_scalar_metrics(terminal):
    """With four digits, as means over the members, and the cost beside a metric of that name."""

    def evaluate(params):
        return {"half": jnp.asarray(0.5), "many": jnp.ones(3), "cost": jnp.asarray(1.23456e-5)}

    fit(**members(2), epochs=4, evaluate=evaluate, progress=True)
    shown = terminal.readouterr().err
    assert "4/4" in shown
    assert ", half=0.5" in shown
    assert ", evaluate.cost=1.235e-05" in shown
    assert "[" in shown.split("cost=")[0]
    assert "many" not in shown


def test_fit_trains_without_tqdm(monkeypatch, terminal):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "tqdm", raising=False)
    _, history = fit(progress=True)
    assert history.losses.shape == (2, 2)
    assert history.metrics is None
    assert not terminal.readouterr().err


DEBUGGING = {
    "numbers and types": {
        "jax_debug_nans": True,
        "jax_debug_infs": True,
        "jax_numpy_dtype_promotion": "strict",
        "jax_check_tracer_leaks": True,
        "jax_enable_checks": True,
        "jax_legacy_prng_key": "error",
    },
    "keys": {"jax_debug_key_reuse": True},
    "without programs": {"jax_disable_jit": True},
}


@pytest.mark.parametrize("flags", DEBUGGING)
def test_every_debugging_flag_of_jax(flags):
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
    with contextlib.ExitStack() as stack:
        for flag, value in DEBUGGING[flags].items():
            stack.callback(jax.config.update, flag, getattr(jax.config, flag))
            jax.config.update(flag, value)
        state = train.init(SGD, network(0, (8, 4, 3)))
        for program, criterion in ((train.run, by_error), (train.fit, by_weights)):
            _, history = program(jax.random.key(0), grad, SGD, state, data, **options, **criterion)
            assert int(history.epochs) == 2  # so that run fills the third
            assert np.isfinite(history.losses[:2]).all()
        gradcheck.assert_ok(mean_cost, GRAD, network(0, (3, 2)), *examples(1, 4, (3, 2)))


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


OTHER = start(ADAM)._replace(opt_state=ADAM.init(network(0, (6, 4, 4, 3))))
OPTIMIZER = r"optimizer must be an optax.GradientTransformation, such as train.sgd\(0.5\), got "


def epoch(data=DATA, *, key=KEY, grad=GRAD, optimizer=SGD, state=None, batch_size=4, **options):
    state = start() if state is None else state
    return train.epoch(key, grad, optimizer, state, data, batch_size=batch_size, **options)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (TypeError, lambda: epoch(state=network(0)), r"state must be what train.init\(.* returns, got tuple$"),
        (TypeError, lambda: epoch(state=(start(), None)), "got tuple of a state: unpack it, as in state, history = "),
        (ValueError, lambda: epoch(state=start(ADAM)), "state.opt_state is that of another optimizer; start with"),
        (ValueError, lambda: epoch(optimizer=ADAM, state=start()), "is that of another optimizer; start"),
        (ValueError, lambda: epoch(optimizer=ADAM, state=OTHER), r"parameters: 0.mu.0.w must .* \(5, 7\), got \(4, 6"),
        (TypeError, lambda: epoch(optimizer=optax.sgd), OPTIMIZER + "<function sgd.*>: call it"),
        (TypeError, lambda: train.init(0.1, network(0)), OPTIMIZER + "0.1$"),
        (TypeError, lambda: epoch(grad="mean_cost"), "grad must be a function, got 'mean_cost'"),
        (TypeError, lambda: epoch(grad=Partial(GRAD, cost="x")), "cost must be an array, got a str: .*Partial binds"),
        (TypeError, lambda: fit(evaluate=3), "evaluate must be a function, got 3"),
        (TypeError, lambda: fit(history=start()), "history must be the second that train.run or fit returned, got Sta"),
        (ValueError, lambda: fit(validation=(DATA[0][:0],)), "^validation must hold at least one example"),
        (ValueError, lambda: train.sgd(0), "eta must be positive and finite, got 0"),
        (ValueError, lambda: train.sgd(float("inf")), "eta must be positive and finite, got inf"),
        (TypeError, lambda: train.sgd("fast"), "eta must be a number, got 'fast'"),
        (ValueError, lambda: epoch(()), "share a leading axis"),
        (ValueError, lambda: epoch((DATA[0], DATA[1][:6])), r"must be equal.*\(8, 7\), data\[1\]: \(6, 3\)\)"),
        (TypeError, lambda: epoch(jnp.zeros((8, 7))), r"data must be a tuple of arrays, such as \(xs, ys\), got"),
        (ValueError, lambda: epoch(batch_size=0), "batch_size must be at least 1, got 0"),
        (ValueError, lambda: fit(epochs=0), "epochs must be at least 1, got 0"),
        (TypeError, lambda: epoch(key=jnp.zeros(2, jnp.uint32)), r"jax\.random\.key"),
        (TypeError, lambda: epoch(transform=lambda key, xs, ys: xs), "transform must return a tuple.*got"),
        (ValueError, lambda: fit(key=jax.random.split(KEY, 3)), r"with 3 keys state must .* 3 members, got .*\(5, 7\)"),
    ],
)
def test_bad_input(error, call, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.bad_input
@pytest.mark.parametrize(("program", "more"), [("epoch", {}), ("run", {"epochs": 2}), ("fit", {"epochs": 2})])
def test_every_program_checks_its_arguments(program, more):
    with pytest.raises(ValueError, match=r"at least one example.*data\[0\]: \(0, 7\)"):
        data = (jnp.zeros((0, 7)), jnp.zeros((0, 3)))
        getattr(train, program)(KEY, GRAD, SGD, start(), data, batch_size=4, **more)


@pytest.mark.bad_input
def test_notes_on_errors_of_the_users_functions():
    run = functools.partial(train.run, KEY, optimizer=SGD, state=start(), epochs=1, batch_size=4)
    with pytest.raises(TypeError) as raised:
        run(GRAD, data=DATA, evaluate=mlp.accuracy)
    assert any("evaluate was called with the parameters alone" in note for note in raised.value.__notes__)
    with pytest.raises(ValueError, match="data.one_hot makes them from labels") as raised:
        run(GRAD, data=(DATA[0], jnp.arange(8)))
    assert any("a mini-batch of shapes ((4, 7), (4,))" in note for note in raised.value.__notes__)


def test_fit_under_a_transformation():
    with pytest.raises(TypeError, match="fit runs on the host, .* use train.run under jit, vmap and sweep"):
        jax.vmap(lambda key: fit(key=key))(jax.random.split(KEY, 2))


def test_a_cost_that_is_not_finite_stops_fit_and_names_the_epoch():
    with pytest.raises(FloatingPointError, match=r"nan in epoch 1, mini-batch \d: data\[0\].*1 of 8 .*row 5"):
        fit((DATA[0].at[5, 2].set(jnp.nan), DATA[1]))
    quartic = jax.value_and_grad(lambda params, xs: jnp.mean(jnp.sum(params[None] - xs, axis=-1) ** 4))
    with pytest.raises(FloatingPointError, match=r"(inf|nan) in epoch \d, .*data are finite; lower the learning"):
        fit(DATA[:1], grad=quartic, state=train.init(SGD, jnp.full(7, 3.0)), epochs=9)


@pytest.mark.parametrize(
    "grad",
    [
        Partial(GRAD, cost=costs.cross_entropy),
        functools.partial(GRAD, cost=costs.hinge),
        regularize.penalised(functools.partial(GRAD, cost=costs.cross_entropy), regularize.l2(1e-3)),
    ],
    ids=["Partial", "functools.partial", "penalised"],
)
def test_a_cost_below_zero_is_reported_with_its_reason(grad):
    """The desired outputs are -1 and 1; the first epoch is compiled, so that no check sees them."""
    data = DATA[0], jnp.where(DATA[1] > 0.5, 1.0, -1.0)
    with pytest.warns(UserWarning, match=r"fell to -.* in epoch 1; costs.(cross|hinge).* in \[0, 1\] only: use \(y"):
        fit(data, grad=grad)


def test_a_member_that_diverges_is_named():
    keys, states = members(3).values()
    broken = states.params[0]._replace(b=states.params[0].b.at[1].set(jnp.nan))
    with pytest.raises(FloatingPointError, match=r"the cost of member 1 became nan in epoch 1"):
        fit(key=keys, state=states._replace(params=(broken, *states.params[1:])))


# Mixed precision


@pytest.mark.parametrize(
    ("cost", "by"), [(costs.quadratic, "hand"), (costs.cross_entropy, "autodiff"), (costs.log_likelihood, "hand")]
)
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
