"""Every public function with unexpected arguments: a result without NaN, or the error that it documents.

Arrays have any small shape, of any rank and dtype, and entries from 0 to where products still fit in float32; numbers
are negative, fractions, integers, infinite, NaN, booleans and arrays. Most arguments of a call are right, so that the
odd ones reach the code inside. `JNN_FUZZ_INPUTS=1000 pytest -m slow tests/test_fuzz.py` draws 1000 for every function.
"""

import inspect
import itertools
import os
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jnn
from jnn import (
    activations,
    augment,
    backprop,
    cell,
    convert,
    costs,
    dropout,
    gradient_flow,
    gru,
    language,
    lstm,
    metrics,
    mlp,
    parallel,
    perceptron,
    pictures,
    receptive,
    recurrent,
    regularize,
    ridge,
    rnn,
    stopping,
    train,
    universal,
)
from tests.helpers import ELEMENTWISE, MODULES, SMOOTH

DTYPES = (jnp.float32, jnp.float16, jnp.bfloat16, jnp.int32, jnp.uint8, jnp.bool_)
ENTRIES = np.array([0.0, -0.0, 1e-38, -1e-30, 1e-8, 0.5, -0.5, 1.0, -1.0, 2.0, -3.0, 1e4, -1e4, 1e9, -1e9])
PLAIN = np.array([0.0, 0.25, 0.5, 1.0])
NUMBERS = (0, 0.0, 0.3, 0.5, 1, 1.0, 2, 7, 1e-30, 1e4, 1e9, -1, -0.25, np.inf, -np.inf, np.nan)
KINDS = (lambda x: x, np.float32, jnp.float32, lambda x: jnp.full(2, x), bool)
COUNTS = (1, 2, 3, 4, 0, -1, 2.0, 0.5, True, np.int64(2), np.float32(2))
MANY = int(os.environ.get("JNN_FUZZ_INPUTS", "20"))
B, P, D, T, N = 2, 3, 4, 3, 5
SIZES = (P, D, 2)


def rarely(usual, odd):
    """Mostly the one, in one case of eight the other."""
    return st.integers(0, 7).flatmap(lambda i: odd if i == 0 else usual)


@st.composite
def arrays(draw, *shape, entries=ENTRIES, dtypes=DTYPES):
    """Mostly float32 of this shape; else of another shape, rank or dtype."""
    odd_shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)
    shape = draw(rarely(st.just(shape), odd_shapes))
    dtype = draw(rarely(st.just(jnp.float32), st.sampled_from(dtypes)))
    rows = np.random.default_rng(draw(st.integers(0, 99))).choice(entries, shape)
    return jnp.asarray(np.clip(rows, 0, 200) if dtype in (jnp.uint8, jnp.bool_) else rows).astype(dtype)


def numbers(usual=0.5):
    odd = st.builds(lambda kind, x: kind(x), st.sampled_from(KINDS), st.sampled_from(NUMBERS))
    return st.one_of(st.just(usual), odd)


def counts(usual=2):
    return rarely(st.just(usual), st.sampled_from(COUNTS))


def layers(sizes=SIZES):
    return st.tuples(
        *(st.builds(mlp.Layer, arrays(n_out, n_in), arrays(n_out)) for n_in, n_out in itertools.pairwise(sizes))
    )


keys = rarely(st.just(jax.random.key(0)), st.sampled_from([jax.random.PRNGKey(0), 0]))
ACTIVATIONS = st.sampled_from(SMOOTH)
EVERY_COST = (
    *(costs.quadratic, costs.cross_entropy, costs.log_likelihood),
    *(costs.huber, costs.absolute, costs.hinge),
)
COSTS = st.sampled_from(EVERY_COST)
images = rarely(arrays(6, 5, entries=PLAIN), arrays(4, 4, 3, entries=PLAIN))
gate = st.builds(lstm.Gate, arrays(D, P), arrays(D, D), arrays(D))
lstm_params = st.builds(lstm.Params, gate, gate, gate, gate)
lstm_state = rarely(st.builds(lstm.State, arrays(D), arrays(D)), st.builds(lstm.State, arrays(B, D), arrays(B, D)))
language_params = st.builds(
    language.Params, arrays(3, P), st.tuples(lstm_params), st.builds(mlp.Layer, arrays(3, D), arrays(3))
)
characters = arrays(T, entries=np.arange(-1.0, 4.0), dtypes=[jnp.int32]).map(lambda a: a.astype(int))
CELLS = {
    rnn: st.builds(rnn.Params, arrays(D, P), arrays(D, D), arrays(D)),
    gru: st.builds(gru.Params, gate, gate, gate, arrays(D)),
    lstm: lstm_params,
}
sequences = rarely(arrays(T, P), arrays(T, B, P))
masks = st.one_of(
    st.none(), arrays(T, dtypes=[jnp.bool_]).map(lambda a: a > 0), arrays(T, B).map(lambda a: a > 0), arrays(T)
)
dtypes = rarely(st.just(jnp.float32), st.sampled_from(DTYPES))
labels = rarely(arrays(N, entries=np.arange(3.0), dtypes=[jnp.int32]).map(lambda a: a.astype(int)), arrays(N))
windows = st.tuples(*(arrays(n_out, n_in, entries=PLAIN) for n_in, n_out in itertools.pairwise(SIZES)))
hessians = rarely(st.just(jnp.diag(jnp.arange(1.0, 4.0))), arrays(3, 3))
optimizers = st.sampled_from([optax.sgd(0.1), optax.adam(0.1)])
BY_HAND = backprop.minibatch_value_and_grad
batch = arrays(N, P), arrays(N, 2)
states = st.builds(train.init, optimizers, st.just(mlp.init(jax.random.key(0), SIZES)))
training = keys, st.just(BY_HAND), st.just(optax.sgd(0.1)), states, st.tuples(*batch)
steepness, first = st.one_of(st.none(), numbers(100.0)), st.just(lambda x: x[0])
SHAPES = (4, 5), (3, 3)


def of(f, *positional, **named):
    return f, st.tuples(*positional), st.fixed_dictionaries(named)


def of_cell(cell, params):
    """The functions that every recurrent cell has."""
    state = lstm_state if cell is lstm else rarely(arrays(D), arrays(B, D))
    yield of(cell.init, keys, counts(P), counts(D), dtype=dtypes, **{"rem_bias": numbers(1.0)} if cell is lstm else {})
    yield of(cell.zero_state, counts(D), dtype=dtypes)
    yield of(cell.step, params, state, arrays(P))
    yield of(cell.scan, params, state, sequences, mask=masks)
    yield of(cell.unroll, params, state, sequences, mask=masks, remat_every=st.one_of(st.none(), counts(2)))


AUGMENT = {
    augment.distort: ("shift", "rotate", "scale", "shear", "elastic", "sigma"),
    augment.shift: ("pixels",),
    augment.rotate: ("degrees",),
    augment.scale: ("fraction",),
    augment.shear: ("fraction",),
    augment.elastic: ("pixels", "sigma"),
    augment.blur: ("sigma",),
    augment.thickness: ("thinner", "thicker", "softer", "p"),
    augment.noise: ("sigma",),
    augment.brightness: ("amount",),
    augment.contrast: ("amount",),
    augment.mirror: ("p",),
}
"""Transforms of images, and what they take that is a number."""
FUZZED = [
    *(of(a, arrays(3)) for a in ELEMENTWISE),
    *(of(a.prime, arrays(3)) for a in SMOOTH if a is not activations.identity),
    of(activations.softmax, arrays(3), numbers(1.0)),
    of(activations.softmax_jacobian, arrays(3), numbers(1.0)),
    *(of(f, keys, images, **dict.fromkeys(names, numbers())) for f, names in AUGMENT.items()),
    of(augment.interpolate, images, arrays(2, 3, 4)),
    of(augment.colour, keys, arrays(4, 4, 3, entries=PLAIN), amount=numbers()),
    of(augment.rows, keys, arrays(N, 20), image_transform=st.just(augment.mirror), shape=rarely(*map(st.just, SHAPES))),
    of(backprop.feedforward, layers(), arrays(P), hidden=ACTIVATIONS),
    of(backprop.errors, layers(), st.tuples(arrays(D), arrays(2)).map(list), arrays(2), cost=COSTS, hidden=ACTIVATIONS),
    of(backprop.value_and_grad, layers(), arrays(P), arrays(2), cost=COSTS, hidden=ACTIVATIONS),
    of(backprop.layer_gradient, arrays(N, 2), arrays(N, P)),
    of(backprop.minibatch_value_and_grad, layers(), *batch, cost=COSTS, hidden=ACTIVATIONS, weights=arrays(N)),
    of(backprop.network, st.tuples(counts(3), counts(4), counts(2)), hidden=ACTIVATIONS, cost=COSTS),
    of(metrics.top_k, arrays(N, 3), labels, counts(2)),
    of(metrics.calibration_error, arrays(N, 3, entries=PLAIN), labels, bins=counts()),
    of(metrics.rmse, arrays(N, 2), arrays(N, 2)),
    *(of(f, arrays(N, 2), arrays(N, 2)) for c in EVERY_COST for f in (c.value, c.delta)),
    of(costs.huber_with, numbers(1.0)),
    of(costs.binary_entropy, arrays(3, entries=PLAIN)),
    of(jnn.data.one_hot, labels, counts(3)),
    of(jnn.data.standardise, arrays(N, P, entries=PLAIN)),
    of(language.init, keys, counts(3), counts(P), counts(D), layers=counts(1)),
    of(language.zero_states, language_params, counts(B)),
    of(language.logits, language_params, st.tuples(lstm_state), characters),
    of(language.cost, language_params, st.tuples(lstm_state), rarely(characters.map(lambda a: a[None]), characters)),
    of(
        language.generate,
        keys,
        language_params,
        st.tuples(st.builds(lstm.State, arrays(D), arrays(D))),
        rarely(characters.map(lambda a: jnp.atleast_1d(a)[:1]), characters),
        counts(3),
        temperature=numbers(),
    ),
    *itertools.chain.from_iterable(of_cell(cell, params) for cell, params in CELLS.items()),
    of(recurrent.mask, arrays(B, entries=PLAIN, dtypes=[jnp.int32]), counts(3)),
    of(lstm.stack, st.tuples(lstm_params), st.tuples(lstm_state), sequences, mask=masks),
    of(lstm.both_directions, lstm_params, lstm_params, lstm_state, sequences, mask=masks),
    of(convert.to_torch, lstm_params, layer=counts(1)),
    of(
        convert.from_torch,
        st.fixed_dictionaries(
            {
                "weight_ih_l0": arrays(4 * D, P),
                "weight_hh_l0": arrays(4 * D, D),
                "bias_ih_l0": arrays(4 * D),
                "bias_hh_l0": arrays(4 * D),
            }
        ),
        layer=st.sampled_from([0, 0, 0, 1]),
    ),
    of(jnn.checkpoint.Checkpoints, st.just("folder"), keep=counts(), seconds=numbers()),
    of(parallel.mesh, model=counts()),
    of(mlp.orthogonal, keys, st.tuples(counts(3), counts(4)), dtypes),
    of(mlp.init, keys, st.tuples(counts(3), counts(4), counts(2)), dtype=dtypes),
    of(mlp.sizes, layers()),
    of(mlp.classify, layers(), arrays(N, P), hidden=ACTIVATIONS),
    of(mlp.predict, layers(), arrays(N, P), hidden=ACTIVATIONS, output=ACTIVATIONS),
    of(mlp.accuracy, layers(), arrays(N, P), arrays(N), hidden=ACTIVATIONS),
    of(mlp.linear, st.builds(mlp.Layer, arrays(D, P), arrays(D)), sequences),
    of(mlp.logits, layers(), arrays(P), hidden=ACTIVATIONS),
    of(mlp.forward, layers(), arrays(P), hidden=ACTIVATIONS, output=ACTIVATIONS),
    of(perceptron.forward, layers(), arrays(P)),
    of(perceptron.scale, layers(), numbers()),
    of(perceptron.bits_layer, numbers(20.0), dtype=dtypes),
    of(perceptron.steepest_step, layers(), numbers()),
    of(pictures.normalise, images),
    of(pictures.digits, images),
    of(pictures.find, images),
    of(pictures.ink, images),
    of(pictures.page, images),
    of(
        receptive.windows,
        rarely(st.just((6, 4, 2)), st.sampled_from([(6, 2), (6,), (6.0, 4, 2), (6, 0, 2), ()])),
        rarely(st.just((2, 3)), st.sampled_from([(6,), (3, 3), (2.0, 3), (1, 6), ()])),
        widths=st.tuples(numbers()),
        margin=numbers(),
    ),
    of(receptive.smooth, layers(), rarely(st.just((1, 3)), st.sampled_from([(3,), (2, 2), (1.0, 3)])), sigma=numbers()),
    of(receptive.localise, layers(), windows),
    of(receptive.localised, st.just(BY_HAND), windows, floor=numbers()),
    of(regularize.lp_norm, arrays(3), numbers(2.0)),
    of(regularize.weights, layers()),
    of(regularize.l1, numbers()),
    of(regularize.l2, numbers()),
    of(regularize.lp, numbers(), numbers(2.0)),
    of(regularize.penalised, st.just(BY_HAND), st.sampled_from([regularize.l2(0.1), 0.1])),
    of(ridge.solve, hessians, arrays(3), numbers()),
    of(ridge.solve_spectral, hessians, arrays(3), numbers()),
    of(ridge.shrinkage, arrays(3), numbers()),
    of(ridge.lanczos, keys, st.just(lambda v: v), counts(4), counts(1), steps=counts(2)),
    of(regularize.input_noise, keys, arrays(N, P), arrays(N, 2), sigma=numbers()),
    of(regularize.label_noise, keys, arrays(N, P), arrays(N, 2), sigma=numbers()),
    of(regularize.gradient_noise, st.just(BY_HAND), numbers()),
    of(regularize.weight_noise, st.just(BY_HAND), numbers()),
    of(regularize.noise, keys, arrays(3), numbers()),
    of(regularize.noisy_squared_loss, arrays(P), arrays(N, P), arrays(N), numbers()),
    of(regularize.mix, rarely(arrays(N, entries=PLAIN), numbers()), arrays(N, 2), arrays(N, 2)),
    of(regularize.mixup, keys, arrays(N, P), arrays(N, 2), beta=numbers()),
    of(dropout.mask, keys, st.just((3, 2)), numbers()),
    of(dropout.minibatch_value_and_grad, layers(), *batch, keys, p=numbers(), cost=COSTS, hidden=ACTIVATIONS),
    of(dropout.at_test, layers(), numbers()),
    of(gradient_flow.norms, arrays(T, D)),
    of(gradient_flow.chain, arrays(T, 2), arrays(2)),
    of(gradient_flow.chain_gradient, arrays(T, 2), arrays(2), arrays()),
    of(stopping.error_change, window=counts(), further=counts()),
    of(stopping.weight_change, numbers(), window=counts(), relative=st.booleans()),
    of(train.sgd, numbers()),
    of(train.epoch, *training, batch_size=counts()),
    of(train.run, *training, batch_size=counts(), epochs=counts(1)),
    of(train.fit, *training, batch_size=counts(), epochs=counts(1), progress=st.just(False)),
    of(parallel.sweep, st.just(jnp.sum), arrays(3)),
    of(universal.step, numbers(), numbers(1024.0), dtype=dtypes),
    of(universal.rectangle, numbers(0.25), numbers(0.75), w=steepness, h=numbers(100.0), dtype=dtypes),
    of(universal.tower, numbers(0.25), numbers(0.75), w=steepness, h=numbers(100.0), dtype=dtypes),
    of(
        universal.approximate,
        first,
        numbers(0),
        numbers(1),
        counts(4),
        samples=counts(1),
        h=numbers(100.0),
        dtype=dtypes,
    ),
    of(universal.leak, counts(4), numbers(), h=numbers(100.0)),
    of(universal.parameter_bytes, counts(4), counts(1), dtype=dtypes),
]

OTHERS = {
    "functions of functions, whose mistakes are their own": {
        "augment.chain",
        "gradcheck.assert_ok",
        "gradcheck.compare",
        "ridge.hvp",
        "regularize.append_key",
        "gradient_flow.flow",
        "train.init",
        "train.mixed_precision",
        "stopping.check",
        "stopping.observe",
        "stopping.start",
        "stopping.unless_stopped",
        "train.step",
    },
    "parts of recurrent cells, which are fuzzed": {f"cell.{name}" for name in cell.__all__}
    | {f"recurrent.{name}" for name in ("both_directions", "rematerialise", "scan", "stack", "where")},
    "NaN where it is not defined, in test_metrics": {"metrics.r_squared"},
    "files, in test_data and test_checkpoint": {
        "checkpoint.load",
        "convert.export",
        "convert.export_network2",
        "convert.load",
        "convert.load_network2",
        "convert.metadata",
        "data.digits",
        "data.idx_folder",
        "data.mnist",
        "data.read_idx",
    },
    "devices and processes, in test_parallel": {
        "parallel.batches",
        "parallel.broadcast",
        "parallel.local",
        "parallel.place",
        "parallel.start",
    },
}


def name_of(f):
    return f"{room_of(f)}.{f.__name__}"


def room_of(f):
    """The public module of a function, which a package defines in an inner one."""
    return f"{f.__module__}.".split(".")[1]


def public():
    """Every public function of every module."""
    for room in MODULES:
        for name, value in vars(getattr(jnn, room)).items():
            if not name.startswith("_") and isinstance(value, types.FunctionType) and room_of(value) == room:
                yield name_of(value)


def test_no_function_is_forgotten():
    fuzzed = {name_of(f) for f, _, _ in FUZZED if isinstance(f, types.FunctionType)}
    assert set(public()) - fuzzed == set().union(*OTHERS.values())


def documented(f):
    """What documents the errors of f: its docstring, its module's, or those of the functions it refers to."""
    module = inspect.getmodule(type(f) if isinstance(f, activations.Activation) else f)
    said = f"{f.__doc__} {module.__doc__} {getattr(jnn, module.__name__.split('.')[1]).__doc__}"
    return "ValueError TypeError" if "aises as" in said else said


def numbers_in(tree):
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, int | float | np.number | np.ndarray | jax.Array):
            dtype = jnp.result_type(leaf)
            if jnp.issubdtype(dtype, jnp.floating):
                yield np.asarray(leaf).astype(np.float64)


@pytest.mark.bad_input
@pytest.mark.parametrize("inputs", [2, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("f", "positional", "named"), FUZZED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_result_or_the_documented_error(f, positional, named, inputs):
    @settings(max_examples=inputs, suppress_health_check=list(HealthCheck), database=None)
    @given(positional, named)
    def tried(positional, named):
        try:
            result = f(*positional, **named)
        except (ValueError, TypeError) as error:
            kind, message = type(error).__name__, str(error)
        else:
            kind = message = None
        if kind:
            assert message
            assert kind in documented(f)
        elif all(np.isfinite(a).all() for a in numbers_in((positional, named))):
            assert not any(np.isnan(a).any() for a in numbers_in(result))

    tried()
