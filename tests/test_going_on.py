"""Trainings that end and go on: histories, Ctrl-C, the order of the data, a carry, and programs found again."""

import functools
import signal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from jnn import backprop, checkpoint, costs, gradcheck, lstm, regularize, stopping, train
from jnn.train import loop, program
from jnn.typing import History
from tests.helpers import assert_same_bits, examples, network, normal, raises, relative_error

GRAD = backprop.minibatch_value_and_grad
ADAM = optax.adam(0.01)
SIZES = (6, 5, 3)
KEY = jax.random.key(0)
DATA = examples(1, 22, SIZES)


def error(params):
    return {"error": jnp.mean(params[0].w ** 2), "count": jnp.sum(params[0].b > 0)}


def start(optimizer=ADAM, seed=0):
    return train.init(optimizer, network(seed, SIZES))


# Going on


FITS = [train.run, functools.partial(train.fit, progress=False)]


@pytest.mark.parametrize("fit", FITS)
def test_two_epochs_and_three_more_are_five(fit):
    options = {"batch_size": 4, "evaluate": error, "transform": functools.partial(regularize.input_noise, sigma=0.1)}
    whole = fit(KEY, GRAD, ADAM, start(), DATA, epochs=5, **options)
    state, history = fit(KEY, GRAD, ADAM, start(), DATA, epochs=2, **options)
    assert_same_bits(fit(KEY, GRAD, ADAM, state, DATA, epochs=3, history=history, **options), whole)


def test_members_go_on_with_checkpoints(tmp_path):
    keys = jax.random.split(KEY, 2)
    state = jax.vmap(functools.partial(train.init, ADAM))(jax.vmap(lambda _: network(0, SIZES))(jnp.arange(2)))
    fit = functools.partial(train.fit, keys, GRAD, ADAM, data=DATA, batch_size=4, evaluate=error, progress=False)
    whole = fit(state, epochs=5)
    state, history = fit(state, epochs=2)
    on = functools.partial(fit, state, history=history, checkpoints=checkpoint.Checkpoints(tmp_path))
    assert_same_bits(on(epochs=1), fit(state, epochs=1, history=history))
    assert_same_bits(on(epochs=3), whole)  # from the checkpoint of the third epoch
    assert {path.name for path in tmp_path.iterdir() if path.name.isdecimal()} >= {"4", "5"}
    other = history._replace(losses=history.losses + 1)
    with pytest.raises(ValueError, match="history"):
        fit(state, epochs=3, history=other, checkpoints=checkpoint.Checkpoints(tmp_path))


@pytest.mark.parametrize("fit", FITS)
def test_stopping_begins_anew(fit):
    """The epochs are counted from the first of all."""
    options = {"batch_size": 4, "evaluate": error, "stopping": stopping.error_change(window=2)}
    history = History(jnp.zeros((3, 6)), {"error": jnp.zeros(3), "count": jnp.zeros(3, int)})
    _, after = fit(KEY, GRAD, ADAM, start(), DATA, epochs=4, history=history, **options)
    assert after.losses.shape[0] == 7 or after.epochs == after.losses.shape[0]
    assert 3 <= after.best <= after.epochs <= 7
    assert np.array_equal(after.losses[:3], history.losses)


@pytest.mark.parametrize("fit", FITS)
def test_a_history_of_another_training(fit):
    history = History(jnp.zeros((2, 6)), None)
    on = functools.partial(fit, KEY, GRAD, ADAM, start(), DATA, epochs=2, history=history)
    with pytest.raises(ValueError, match=r"same mini-batches and metrics: .* \(\(3,\), None\) here, got \(\(6,\)"):
        on(batch_size=8)
    with pytest.raises(ValueError, match="same mini-batches and metrics"):
        on(batch_size=4, evaluate=error)


def test_another_learning_rate_does_not_compile_again():
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=0.01)
    state, history = train.run(KEY, GRAD, optimizer, start(optimizer), DATA, epochs=2, batch_size=4)
    compiled = program.jitted_run._cache_size()
    for zero in (0.0, jnp.asarray(0.0), np.float32(0.0)):
        slower = state._replace(opt_state=optax.tree.set(state.opt_state, learning_rate=zero))
        after, _ = train.run(KEY, GRAD, optimizer, slower, DATA, epochs=2, batch_size=4, history=history)
        assert program.jitted_run._cache_size() == compiled
        assert_same_bits(after.params, state.params)
    assert after.opt_state.inner_state[0].count == 24


# Ctrl-C


@pytest.fixture
def ctrl_c():
    """SIGINT raises KeyboardInterrupt, also in a process that was started to ignore it, as one in the background is."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_in(epoch):
    def callback(report):
        if report.epoch == epoch:
            signal.raise_signal(signal.SIGINT)

    return callback


def fit(*callbacks, epochs=5, **options):
    options = {"batch_size": 4, "evaluate": error, "progress": False, **options}
    return train.fit(KEY, GRAD, ADAM, start(), DATA, epochs=epochs, callbacks=callbacks, **options)


def test_ctrl_c_returns_what_was_trained(ctrl_c, capsys):
    state, history = fit(interrupt_in(3))
    assert (
        capsys.readouterr().err
        == "interrupted: train.fit returns what it had after epoch 3 of 5; continue with epochs=2, history=history\n"
    )
    assert_same_bits((state, history), fit(epochs=3))
    options = {"batch_size": 4, "evaluate": error, "progress": False}
    assert_same_bits(train.fit(KEY, GRAD, ADAM, state, DATA, epochs=2, history=history, **options), fit())


def test_ctrl_c_raises_where_it_is_not_caught(ctrl_c, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        fit(interrupt_in(3), catch_interrupt=False)
    interrupted = raises(KeyboardInterrupt())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(program, "train", interrupted)
        fit()  # before an epoch has ended
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_save", interrupted)  # a second Ctrl-C, while the first is handled
        fit(interrupt_in(3), checkpoints=checkpoint.Checkpoints(tmp_path, seconds=1000))


def test_ctrl_c_saves_the_last_epoch(ctrl_c, tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path, seconds=1000)
    fit(interrupt_in(3), checkpoints=checkpoints)
    assert (tmp_path / "3").is_dir()
    assert_same_bits(fit(checkpoints=checkpoints), fit())


def test_ctrl_c_where_early_stopping_ends_it(ctrl_c, tmp_path):
    options = {"evaluate": lambda params: 0 * error(params)["error"], "stopping": stopping.error_change(window=1)}
    checkpoints = checkpoint.Checkpoints(tmp_path)
    whole = fit(**options)
    assert whole[1].losses.shape[0] == 2
    assert_same_bits(fit(interrupt_in(2), checkpoints=checkpoints, **options), whole)
    assert_same_bits(fit(checkpoints=checkpoints, **options), whole)


# Order and carry


def test_the_order_of_the_data_is_kept():
    def first(params, xs):
        return xs[0, 0], jax.tree.map(jnp.zeros_like, params)

    xs = (jnp.arange(10.0)[:, None],)
    _, history = train.run(KEY, first, ADAM, start(), xs, epochs=2, batch_size=4, shuffle=False)
    np.testing.assert_array_equal(history.losses, [[0, 4, 8], [0, 4, 8]])


def counting(params, carry, xs):
    """The value is the sum of all xs so far, which the carry holds."""
    carry = {"sum": carry["sum"] + jnp.sum(xs)}
    return (carry["sum"], carry), jax.tree.map(jnp.ones_like, params)


def test_a_carry_goes_from_mini_batch_to_mini_batch_and_from_epoch_to_epoch(tmp_path):
    xs = (jnp.arange(1.0, 6.0)[:, None],)
    state = train.init(ADAM, network(0, SIZES), carry={"sum": jnp.zeros(())})
    options = {"batch_size": 2, "shuffle": False}
    after, history = train.run(KEY, counting, ADAM, state, xs, epochs=2, **options)
    np.testing.assert_array_equal(history.losses, [[3, 10, 15], [18, 25, 30]])
    assert after.carry["sum"] == 30
    fitted = functools.partial(train.fit, KEY, counting, ADAM, state, xs, progress=False, **options)
    folder = checkpoint.Checkpoints(tmp_path)
    fitted(epochs=1, checkpoints=folder)
    assert_same_bits(fitted(epochs=2, checkpoints=folder), (after, history))
    kept = train.run(KEY, counting, ADAM, state, xs, epochs=2, batch_size=2)  # the default for a state with a carry
    assert_same_bits(kept, (after, history))
    shuffled, history = train.run(KEY, counting, ADAM, state, xs, epochs=1, batch_size=2, shuffle=True)
    assert shuffled.carry["sum"] == history.losses[0, -1] == 15
    assert history.losses[0, 0] != 3


def test_text_window_by_window():
    """The recipe in the docstring of `init`: windows of 5 steps of 2 texts hand on the state, as in a loop."""
    params, texts = lstm.init(jax.random.key(1), 3, 4), normal(0, 2, 30, 3)

    def loss(params, state, windows):
        last, states = lstm.unroll(params, state, jnp.swapaxes(windows, 0, 1))
        return jnp.mean(states.wm**2), last

    grad = jax.value_and_grad(loss, has_aux=True)
    zero = lstm.zero_state(4, 2)
    optimizer = train.sgd(0.1)
    state = train.init(optimizer, params, carry=zero)
    windows = texts.reshape(2, 6, 5, 3).swapaxes(0, 1).reshape(12, 5, 3)
    trained, losses = train.epoch(KEY, grad, optimizer, state, (windows,), batch_size=2)
    for i, value in enumerate(losses):
        (expected, zero), grads = grad(params, zero, texts[:, 5 * i : 5 * i + 5])
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        assert abs(value - expected) < 1e-6
    assert relative_error((trained.params, trained.carry), (params, zero)) < 1e-5


def penalised(grad):
    return regularize.penalised(grad, regularize.l2(0.1))


@pytest.mark.parametrize("wrapped", [train.mixed_precision, penalised])
def test_gradients_with_a_carry_can_be_wrapped(wrapped):
    def grad(params, carry, xs, ys):
        value, grads = GRAD(params, xs, ys)
        return (value, carry + 1), grads

    state = train.init(ADAM, network(0, SIZES), carry=jnp.zeros(()))
    after, _ = train.epoch(KEY, wrapped(grad), ADAM, state, DATA, batch_size=4)
    plain, _ = train.epoch(KEY, wrapped(GRAD), ADAM, start(), DATA, batch_size=4, shuffle=False)
    assert_same_bits(after.params, plain.params)
    assert after.carry == 6


@pytest.mark.bad_input
def test_what_grad_must_return_with_a_carry():
    state = train.init(ADAM, network(0, SIZES), carry=jnp.zeros(2))
    wrong = {
        r"another carry: \(2,\) went in, and came back as none, as without has_aux=True": (
            lambda params, carry, *batch: GRAD(params, *batch)
        ),
        r"another carry: \(2,\) went in, and came back as \(\)": (
            lambda params, carry, *batch: ((GRAD(params, *batch)[0], carry[0]), params)
        ),
    }
    for said, grad in wrong.items():
        with pytest.raises(TypeError, match=rf"grad must return \(\(value, carry\), gradient\), .*; got {said}"):
            train.epoch(KEY, grad, ADAM, state, DATA, batch_size=4)


# Programs that are reused


def error_over(params, xs):
    return {"error": jnp.mean(params[0].w ** 2) + jnp.mean(xs)}


def scaled(params, xs, ys, *, cost, scale):
    return jax.tree.map(lambda a: scale * a, GRAD(params, xs, ys, cost=cost))


def compiled():
    return sum(each._cache_size() for each in (program.jitted_run, program.train, program.measure))


@pytest.mark.parametrize("fit", FITS)
def test_equal_optimizers_and_bindings_reuse_the_program(fit):
    """Arrays that are bound are arguments of the program; `sgd` of an equal number is the same optimizer."""

    def trained(value, eta):
        optimizer, grad = train.sgd(eta), Partial(scaled, cost=costs.cross_entropy, scale=jnp.asarray(value))
        options = {"epochs": 1, "batch_size": 22, "evaluate": Partial(error_over, xs=jnp.full(3, value))}
        return fit(KEY, grad, optimizer, start(optimizer), DATA, **options)[1]

    first = trained(1.0, 0.25)
    before = compiled()
    second = trained(2.0, np.float64(0.25))
    assert compiled() == before
    np.testing.assert_allclose(second.losses, 2 * first.losses, rtol=1e-6)
    assert second.metrics["error"] > first.metrics["error"] + 0.5


class Pair(NamedTuple):
    a: jax.Array
    b: jax.Array


def test_each_function_is_called_with_its_own_kind_of_tree():
    """The same formula on a dict and on a NamedTuple, with parts that are None, or not, is two programs."""

    def loss_of(a, b, xs, mask=None):
        return jnp.sum((a * xs + b) ** 2) if mask is None else jnp.sum(mask * (a * xs + b) ** 2)

    def of_dict(params, xs):
        return loss_of(params["a"], params["b"], xs)

    def of_pair(params, xs, mask=None):
        return loss_of(params.a, params.b, xs, mask)

    values = {"a": jnp.ones(()), "b": jnp.ones(())}
    xs = jnp.arange(4.0)
    for f, params in ((of_dict, values), (of_pair, Pair(**values))):
        gradcheck.assert_ok(f, jax.grad(f), params, xs)
        fitted, optimizer = functools.partial(train.fit, epochs=1, batch_size=2, progress=False), train.sgd(0.01)
        state, _ = fitted(KEY, jax.value_and_grad(f), optimizer, train.init(optimizer, params), (xs,))
        assert type(state.params) is type(params)
    fitted(KEY, jax.value_and_grad(of_pair), optimizer, state, (xs, None))
