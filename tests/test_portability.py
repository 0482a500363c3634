"""Training programs are lowered for other platforms than this machine's, and the lowered modules are checked."""

import types
from functools import partial

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.tree_util import Partial

from experiments import common, load, names, runner
from jnn import (
    activations,
    augment,
    backprop,
    costs,
    dropout,
    gradcheck,
    language,
    lstm,
    mlp,
    parallel,
    regularize,
    rnn,
    stopping,
    train,
)
from tests.helpers import examples
from tests.lowering import lowered, recorded, strangers

SIZES = (16, 5, 3)
ADAM = optax.adam(0.01)
BY_HAND = backprop.minibatch_value_and_grad


def run(grad, optimizer=ADAM, **options):
    """A whole training, as a function of its key, its start and its data."""

    def program(key, params, *data):
        state = train.init(optimizer, params)
        return train.run(key, grad, optimizer, state, data, epochs=3, batch_size=4, **options)

    return program, (jax.random.key(0), mlp.init(jax.random.key(1), SIZES), *examples(2, 10, SIZES))


def recurrent(init, unroll, zero_state, memories):
    def loss(params, xs):
        return jnp.sum(memories(unroll(params, zero_state(5), xs)[1]) ** 2)

    params = init(jax.random.key(0), 3, 5)

    def program(params, xs):
        def grad(params, xs):
            return jax.value_and_grad(loss)(params, jnp.swapaxes(xs, 0, 1))

        return train.run(jax.random.key(0), grad, ADAM, train.init(ADAM, params), (xs,), epochs=2, batch_size=2)

    return program, (params, jnp.ones((4, 6, 3)))


def error(params):
    return jnp.mean(params[0].w ** 2)


def swept():
    def one(key, eta, xs, ys):
        optimizer = train.sgd(eta)
        state = train.init(optimizer, mlp.init(key, SIZES))
        return train.run(key, BY_HAND, optimizer, state, (xs, ys), epochs=2, batch_size=4)

    def program(keys, etas, xs, ys):
        return parallel.sweep(Partial(one, xs=xs, ys=ys), keys, etas, devices=jax.devices()[:1])

    return program, (jax.random.split(jax.random.key(0), 3), jnp.ones(3), *examples(2, 10, SIZES))


def language_model():
    """A training step by a text, and what is written after it."""
    params, optimizer = language.init(jax.random.key(0), 5, 3, 4, layers=2), optax.adam(0.1)
    grad = jax.value_and_grad(language.cost, has_aux=True)

    def program(key, windows):
        state = train.init(optimizer, params, carry=language.zero_states(params, 2))
        state, _ = train.epoch(key, grad, optimizer, state, (windows,), batch_size=2)
        return language.generate(key, state.params, state.carry, windows[:2, -1], 5)

    return program, (jax.random.key(1), jnp.zeros((6, 4), int))


picture = partial(augment.distort, shift=1.0, rotate=10.0, scale=0.1, shear=0.1, elastic=1.0)
wm, h = (lambda states: states.wm), (lambda states: states)
PROGRAMS = {
    "quadratic": lambda: run(BY_HAND),
    "cross_entropy": lambda: run(Partial(BY_HAND, cost=costs.cross_entropy)),
    "log_likelihood and relu": lambda: run(Partial(BY_HAND, cost=costs.log_likelihood, hidden=activations.relu)),
    "hinge and elu": lambda: run(Partial(BY_HAND, cost=costs.hinge, hidden=activations.elu)),
    "huber and softplus": lambda: run(Partial(BY_HAND, cost=costs.huber, hidden=activations.softplus)),
    "per example": lambda: run(
        lambda p, xs, ys: jax.tree.map(
            lambda leaf: jnp.mean(leaf, axis=0), jax.vmap(backprop.value_and_grad, (None, 0, 0))(p, xs, ys)
        )
    ),
    "mixed precision": lambda: run(train.mixed_precision(BY_HAND)),
    "penalties": lambda: run(regularize.penalised(BY_HAND, regularize.l1(0.1), regularize.l2(0.1))),
    "dropout": lambda: run(Partial(dropout.minibatch_value_and_grad, p=0.5), transform=regularize.append_key),
    "noise on inputs": lambda: run(BY_HAND, transform=partial(regularize.input_noise, sigma=0.1)),
    "noise on gradients": lambda: run(regularize.gradient_noise(BY_HAND, 0.1), transform=regularize.append_key),
    "mixup": lambda: run(BY_HAND, transform=partial(regularize.mixup, beta=0.2)),
    "augmentation": lambda: run(BY_HAND, transform=partial(augment.rows, image_transform=picture, shape=(4, 4))),
    "stopping by the error": lambda: run(BY_HAND, evaluate=error, stopping=stopping.error_change(window=2)),
    "stopping by the weights": lambda: run(BY_HAND, stopping=stopping.weight_change(0.1, window=2)),
    "lstm.unroll": lambda: recurrent(lstm.init, lstm.unroll, lstm.zero_state, wm),
    "lstm.scan": lambda: recurrent(lstm.init, lstm.scan, lstm.zero_state, wm),
    "lstm.unroll in segments": lambda: recurrent(lstm.init, partial(lstm.unroll, remat_every=2), lstm.zero_state, wm),
    "rnn.unroll": lambda: recurrent(rnn.init, rnn.unroll, rnn.zero_state, h),
    "rnn.scan": lambda: recurrent(rnn.init, rnn.scan, rnn.zero_state, h),
    "language": language_model,
    "sweep": swept,
    "on two devices": lambda: run(BY_HAND, sharding=parallel.batches(parallel.mesh(devices=jax.devices()[:2]))),
}


QUICK = ("quadratic", "dropout", "augmentation", "stopping by the error", "lstm.unroll", "sweep")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in PROGRAMS]
)
def test_a_training_lowers_for_every_platform(name):
    program, arguments = PROGRAMS[name]()
    module = lowered(jax.jit(program), *arguments)
    assert strangers(module) == []
    if name.startswith("stopping"):
        assert "stablehlo.case" in module  # a stopped run skips the work


@pytest.mark.slow
@pytest.mark.lowering
@pytest.mark.parametrize("name", names())
def test_an_experiment_lowers_for_every_platform(name, tmp_path):
    """All that its quick run compiles, without float64; backprop_check alone has it, to compare the two dtypes."""
    experiment = load(name)
    with recorded(experiment, common, train, gradcheck) as programs:
        assert runner.main(experiment, ["--quick", "--out", str(tmp_path)]) == 0
    for program, args, kwargs in programs:
        leaves = jax.tree.leaves(args)
        double = name == "backprop_check" and any(getattr(leaf, "dtype", None) == "float64" for leaf in leaves)
        with jax.enable_x64(double), jax.default_matmul_precision("highest"):
            assert strangers(lowered(program, *args, **kwargs)) == (["float64"] if double else [])


def test_strangers_are_seen(x64):
    """`strangers` finds callbacks and float64."""

    def stranger(x):
        return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((), "float32"), x) + jnp.float64(x).astype("float32")

    (callback, double) = strangers(jax.jit(stranger).lower(jnp.float32(1)).as_text())
    assert "callback" in callback
    assert double == "float64"


def test_every_program_is_recorded():
    """Of a module and of `jax.jit`, once for equal shapes, and not those inside of others."""

    @jax.jit
    def inner(x):
        return x + 1

    module = types.SimpleNamespace(program=inner)
    with recorded(module) as programs:
        for x in (jnp.ones(3), jnp.zeros(3), jnp.ones(4)):
            module.program(x)
        jax.jit(lambda x: 2 * module.program(x))(jnp.ones(3))
    assert module.program is inner
    assert [program.__name__ for program, _, _ in programs] == ["inner", "inner", "<lambda>"]
    assert [lowered(program, *args).count("stablehlo.add") for program, args, _ in programs] == [1, 1, 1]
