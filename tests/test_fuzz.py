"""Every public function with unexpected arguments: a result without NaN, or the error that it documents.

Arrays have any small shape, of any rank and dtype, and entries from 0 to where products still fit in float32; numbers
are negative, fractions, integers, infinite, NaN, booleans and arrays. Most arguments of a call are right, so that the
odd ones reach the code inside. `JNN_FUZZ_INPUTS=1000 pytest -m slow tests/test_fuzz.py` draws 1000 for every function.
"""

import inspect
import itertools
import operator
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
from jnn import activations, augment, backprop, costs, gru, language, lstm, mlp, regularize, rnn, train
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
    return st.tuples(*(st.builds(mlp.Layer, arrays(b, a), arrays(b)) for a, b in itertools.pairwise(sizes)))


keys = rarely(st.just(jax.random.key(0)), st.sampled_from([jax.random.PRNGKey(0), 0]))
ACTIVATIONS = st.sampled_from(SMOOTH)
COST_NAMES = ("quadratic", "cross_entropy", "log_likelihood", "huber", "absolute", "hinge")
COSTS = st.sampled_from([getattr(costs, name) for name in COST_NAMES])
images = rarely(arrays(6, 5, entries=PLAIN), arrays(4, 4, 3, entries=PLAIN))
gate = st.builds(lstm.Gate, arrays(D, P), arrays(D, D), arrays(D))
lstm_params = st.builds(lstm.Params, gate, gate, gate, gate)
lstm_state = rarely(st.builds(lstm.State, arrays(D), arrays(D)), st.builds(lstm.State, arrays(B, D), arrays(B, D)))
readout = st.builds(mlp.Layer, arrays(3, D), arrays(3))
language_params = st.builds(language.Params, arrays(3, P), st.tuples(lstm_params), readout)
characters = arrays(T, entries=np.arange(-1.0, 4.0), dtypes=[jnp.int32]).map(lambda a: a.astype(int))
CELLS = {
    "rnn": st.builds(rnn.Params, arrays(D, P), arrays(D, D), arrays(D)),
    "gru": st.builds(gru.Params, gate, gate, gate, arrays(D)),
    "lstm": lstm_params,
}
sequences = rarely(arrays(T, P), arrays(T, B, P))
flags = arrays(T, dtypes=[jnp.bool_]).map(lambda a: a > 0)
masks = st.one_of(st.none(), flags, arrays(T, B).map(lambda a: a > 0), arrays(T))
dtypes = rarely(st.just(jnp.float32), st.sampled_from(DTYPES))
labels = rarely(arrays(N, entries=np.arange(3.0), dtypes=[jnp.int32]).map(lambda a: a.astype(int)), arrays(N))
windows = st.tuples(*(arrays(n_out, n_in, entries=PLAIN) for n_in, n_out in itertools.pairwise(SIZES)))
image_shapes = rarely(st.just((1, 3)), st.sampled_from([(3,), (2, 2), (1.0, 3)]))
hessians = rarely(st.just(jnp.diag(jnp.arange(1.0, 4.0))), arrays(3, 3))
optimizers = st.sampled_from([optax.sgd(0.1), optax.adam(0.1)])
BY_HAND = backprop.minibatch_value_and_grad
batch, weighted_inputs = (arrays(N, P), arrays(N, 2)), st.tuples(arrays(D), arrays(2)).map(list)
states = st.builds(train.init, optimizers, st.just(mlp.init(jax.random.key(0), SIZES)))
training = keys, st.just(BY_HAND), st.just(optax.sgd(0.1)), states, st.tuples(*batch)
steepness, first = st.one_of(st.none(), numbers(100.0)), st.just(lambda x: x[0])


def of(*positional, **named):
    return st.tuples(*positional), st.fixed_dictionaries(named)


def of_cell(cell, params):
    """The functions that every recurrent cell has."""
    state = lstm_state if cell == "lstm" else rarely(arrays(D), arrays(B, D))
    bias = {"rem_bias": numbers(1.0)} if cell == "lstm" else {}
    yield f"{cell}.init", of(keys, counts(P), counts(D), dtype=dtypes, **bias)
    yield f"{cell}.zero_state", of(counts(D), dtype=dtypes)
    yield f"{cell}.step", of(params, state, arrays(P))
    yield f"{cell}.scan", of(params, state, sequences, mask=masks)
    remat_every = st.one_of(st.none(), counts(2))
    yield f"{cell}.unroll", of(params, state, sequences, mask=masks, remat_every=remat_every)


AUGMENT = {
    "distort": ("shift", "rotate", "scale", "shear", "elastic", "sigma"),
    "shift": ("pixels",),
    "rotate": ("degrees",),
    "scale": ("fraction",),
    "shear": ("fraction",),
    "elastic": ("pixels", "sigma"),
    "blur": ("sigma",),
    "thickness": ("thinner", "thicker", "softer", "p"),
    "noise": ("sigma",),
    "brightness": ("amount",),
    "contrast": ("amount",),
    "mirror": ("p",),
}
"""Transforms of images, and what they take that is a number."""
TORCH = {"weight_ih_l0": arrays(4 * D, P), "weight_hh_l0": arrays(4 * D, D)}
TORCH |= {"bias_ih_l0": arrays(4 * D), "bias_hh_l0": arrays(4 * D)}
FUZZED = {
    **{f"activations.{a.name}": of(arrays(3)) for a in ELEMENTWISE},
    **{f"activations.{a.name}.prime": of(arrays(3)) for a in SMOOTH if a is not activations.identity},
    **{f"augment.{f}": of(keys, images, **dict.fromkeys(names, numbers())) for f, names in AUGMENT.items()},
    **{f"costs.{c}.{part}": of(arrays(N, 2), arrays(N, 2)) for c in COST_NAMES for part in ("value", "delta")},
    **{name: inputs for cell, params in CELLS.items() for name, inputs in of_cell(cell, params)},
    **{f"pictures.{f}": of(images) for f in ("normalise", "digits", "find", "ink", "page")},
    "activations.softmax": of(arrays(3), numbers(1.0)),
    "activations.softmax_jacobian": of(arrays(3), numbers(1.0)),
    "augment.interpolate": of(images, arrays(2, 3, 4)),
    "augment.colour": of(keys, arrays(4, 4, 3, entries=PLAIN), amount=numbers()),
    "augment.rows": of(
        keys, arrays(N, 20), image_transform=st.just(augment.mirror), shape=rarely(st.just((4, 5)), st.just((3, 3)))
    ),
    "backprop.feedforward": of(layers(), arrays(P), hidden=ACTIVATIONS),
    "backprop.errors": of(layers(), weighted_inputs, arrays(2), cost=COSTS, hidden=ACTIVATIONS),
    "backprop.value_and_grad": of(layers(), arrays(P), arrays(2), cost=COSTS, hidden=ACTIVATIONS),
    "backprop.layer_gradient": of(arrays(N, 2), arrays(N, P)),
    "backprop.minibatch_value_and_grad": of(layers(), *batch, cost=COSTS, hidden=ACTIVATIONS, weights=arrays(N)),
    "backprop.network": of(st.tuples(counts(3), counts(4), counts(2)), hidden=ACTIVATIONS, cost=COSTS),
    "checkpoint.Checkpoints": of(st.just("folder"), keep=counts(), seconds=numbers()),
    "convert.to_torch": of(lstm_params, layer=counts(1)),
    "convert.from_torch": of(st.fixed_dictionaries(TORCH), layer=rarely(st.just(0), st.just(1))),
    "costs.huber_with": of(numbers(1.0)),
    "costs.binary_entropy": of(arrays(3, entries=PLAIN)),
    "data.one_hot": of(labels, counts(3)),
    "data.standardise": of(arrays(N, P, entries=PLAIN)),
    "dropout.mask": of(keys, st.just((3, 2)), numbers()),
    "dropout.minibatch_value_and_grad": of(layers(), *batch, keys, p=numbers(), cost=COSTS, hidden=ACTIVATIONS),
    "dropout.at_test": of(layers(), numbers()),
    "gradient_flow.norms": of(arrays(T, D)),
    "gradient_flow.chain": of(arrays(T, 2), arrays(2)),
    "gradient_flow.chain_gradient": of(arrays(T, 2), arrays(2), arrays()),
    "language.init": of(keys, counts(3), counts(P), counts(D), layers=counts(1)),
    "language.zero_states": of(language_params, counts(B)),
    "language.logits": of(language_params, st.tuples(lstm_state), characters),
    "language.cost": of(language_params, st.tuples(lstm_state), rarely(characters.map(lambda a: a[None]), characters)),
    "language.generate": of(
        keys,
        language_params,
        st.tuples(st.builds(lstm.State, arrays(D), arrays(D))),
        rarely(characters.map(lambda a: jnp.atleast_1d(a)[:1]), characters),
        counts(3),
        temperature=numbers(),
    ),
    "lstm.stack": of(st.tuples(lstm_params), st.tuples(lstm_state), sequences, mask=masks),
    "lstm.both_directions": of(lstm_params, lstm_params, lstm_state, sequences, mask=masks),
    "metrics.top_k": of(arrays(N, 3), labels, counts(2)),
    "metrics.calibration_error": of(arrays(N, 3, entries=PLAIN), labels, bins=counts()),
    "metrics.rmse": of(arrays(N, 2), arrays(N, 2)),
    "mlp.orthogonal": of(keys, st.tuples(counts(3), counts(4)), dtypes),
    "mlp.init": of(keys, st.tuples(counts(3), counts(4), counts(2)), dtype=dtypes),
    "mlp.sizes": of(layers()),
    "mlp.classify": of(layers(), arrays(N, P), hidden=ACTIVATIONS),
    "mlp.predict": of(layers(), arrays(N, P), hidden=ACTIVATIONS, output=ACTIVATIONS),
    "mlp.accuracy": of(layers(), arrays(N, P), arrays(N), hidden=ACTIVATIONS),
    "mlp.linear": of(st.builds(mlp.Layer, arrays(D, P), arrays(D)), sequences),
    "mlp.logits": of(layers(), arrays(P), hidden=ACTIVATIONS),
    "mlp.forward": of(layers(), arrays(P), hidden=ACTIVATIONS, output=ACTIVATIONS),
    "parallel.mesh": of(model=counts()),
    "parallel.sweep": of(st.just(jnp.sum), arrays(3)),
    "perceptron.forward": of(layers(), arrays(P)),
    "perceptron.scale": of(layers(), numbers()),
    "perceptron.bits_layer": of(numbers(20.0), dtype=dtypes),
    "perceptron.steepest_step": of(layers(), numbers()),
    "receptive.windows": of(
        rarely(st.just((6, 4, 2)), st.sampled_from([(6, 2), (6,), (6.0, 4, 2), (6, 0, 2), ()])),
        rarely(st.just((2, 3)), st.sampled_from([(6,), (3, 3), (2.0, 3), (1, 6), ()])),
        widths=st.tuples(numbers()),
        margin=numbers(),
    ),
    "receptive.smooth": of(
        layers(), rarely(st.just((1, 3)), st.sampled_from([(3,), (2, 2), (1.0, 3)])), sigma=numbers()
    ),
    "receptive.localise": of(layers(), windows),
    "receptive.localised": of(st.just(BY_HAND), windows, floor=numbers()),
    "recurrent.mask": of(arrays(B, entries=PLAIN, dtypes=[jnp.int32]), counts(3)),
    "regularize.lp_norm": of(arrays(3), numbers(2.0)),
    "regularize.weights": of(layers()),
    "regularize.l1": of(numbers()),
    "regularize.l2": of(numbers()),
    "regularize.lp": of(numbers(), numbers(2.0)),
    "regularize.penalised": of(st.just(BY_HAND), st.sampled_from([regularize.l2(0.1), 0.1])),
    "regularize.input_noise": of(keys, arrays(N, P), arrays(N, 2), sigma=numbers()),
    "regularize.label_noise": of(keys, arrays(N, P), arrays(N, 2), sigma=numbers()),
    "regularize.gradient_noise": of(st.just(BY_HAND), numbers()),
    "regularize.weight_noise": of(st.just(BY_HAND), numbers()),
    "regularize.noise": of(keys, arrays(3), numbers()),
    "regularize.noisy_squared_loss": of(arrays(P), arrays(N, P), arrays(N), numbers()),
    "regularize.mix": of(rarely(arrays(N, entries=PLAIN), numbers()), arrays(N, 2), arrays(N, 2)),
    "regularize.mixup": of(keys, arrays(N, P), arrays(N, 2), beta=numbers()),
    "ridge.solve": of(hessians, arrays(3), numbers()),
    "ridge.solve_spectral": of(hessians, arrays(3), numbers()),
    "ridge.shrinkage": of(arrays(3), numbers()),
    "ridge.lanczos": of(keys, st.just(lambda v: v), counts(4), counts(1), steps=counts(2)),
    "stopping.error_change": of(window=counts(), further=counts()),
    "stopping.weight_change": of(numbers(), window=counts(), relative=st.booleans()),
    "train.sgd": of(numbers()),
    "train.epoch": of(*training, batch_size=counts()),
    "train.run": of(*training, batch_size=counts(), epochs=counts(1)),
    "train.fit": of(*training, batch_size=counts(), epochs=counts(1), progress=st.just(False)),
    "universal.step": of(numbers(), numbers(1024.0), dtype=dtypes),
    "universal.rectangle": of(numbers(0.25), numbers(0.75), w=steepness, h=numbers(100.0), dtype=dtypes),
    "universal.tower": of(numbers(0.25), numbers(0.75), w=steepness, h=numbers(100.0), dtype=dtypes),
    "universal.approximate": of(
        first, numbers(0), numbers(1), counts(4), samples=counts(1), h=numbers(100.0), dtype=dtypes
    ),
    "universal.leak": of(counts(4), numbers(), h=numbers(100.0)),
    "universal.parameter_bytes": of(counts(4), counts(1), dtype=dtypes),
}

OTHERS = {
    "functions of functions, whose mistakes are their own": """
        augment.chain gradcheck.assert_ok gradcheck.compare gradient_flow.flow regularize.append_key ridge.hvp
        stopping.check stopping.observe stopping.start stopping.unless_stopped train.init train.mixed_precision
        train.step""",
    "parts of recurrent cells, which are fuzzed": """
        recurrent.both_directions recurrent.rematerialise recurrent.scan recurrent.stack recurrent.where """
    + " ".join(f"cell.{name}" for name in jnn.cell.__all__),
    "NaN where it is not defined, in test_metrics": "metrics.r_squared",
    "files, in test_data, test_convert and test_checkpoint": """
        checkpoint.load convert.export convert.export_network2 convert.load convert.load_network2 convert.metadata
        data.digits data.idx_folder data.mnist data.read_idx""",
    "devices and processes, in test_parallel": """
        parallel.batches parallel.broadcast parallel.local parallel.place parallel.start""",
}


def room_of(f):
    """The public module of a function, which a package defines in an inner one."""
    return f"{f.__module__}.".split(".")[1]


def public():
    """Every public function of every module."""
    for room in MODULES:
        for name, value in vars(getattr(jnn, room)).items():
            if not name.startswith("_") and isinstance(value, types.FunctionType) and room_of(value) == room:
                yield f"{room}.{name}"


def test_no_function_is_forgotten():
    assert set(public()) - set(FUZZED) == set(" ".join(OTHERS.values()).split())


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
@pytest.mark.parametrize("name", FUZZED)
def test_a_result_or_the_documented_error(name, inputs):
    f = operator.attrgetter(name)(jnn)

    @settings(max_examples=inputs, suppress_health_check=list(HealthCheck), database=None)
    @given(*FUZZED[name])
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
