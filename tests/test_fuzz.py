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


def just(usual, *odd):
    return rarely(st.just(usual), st.sampled_from(odd)) if odd else st.just(usual)


COST_NAMES = ("quadratic", "cross_entropy", "log_likelihood", "huber", "absolute", "hinge")
dtypes, images = just(jnp.float32, *DTYPES), rarely(arrays(6, 5, entries=PLAIN), arrays(4, 4, 3, entries=PLAIN))
gate = st.builds(lstm.Gate, arrays(D, P), arrays(D, D), arrays(D))
lstm_params, one_state = st.builds(lstm.Params, gate, gate, gate, gate), st.builds(lstm.State, arrays(D), arrays(D))
lstm_state = rarely(one_state, st.builds(lstm.State, arrays(B, D), arrays(B, D)))
readout = st.builds(mlp.Layer, arrays(3, D), arrays(3))
characters = arrays(T, entries=np.arange(-1.0, 4.0), dtypes=[jnp.int32]).map(lambda a: a.astype(int))
sequences = rarely(arrays(T, P), arrays(T, B, P))
labels = rarely(arrays(N, entries=np.arange(3.0), dtypes=[jnp.int32]).map(lambda a: a.astype(int)), arrays(N))
flags = arrays(T, dtypes=[jnp.bool_]).map(lambda a: a > 0)
masks = st.one_of(st.none(), flags, arrays(T, B).map(lambda a: a > 0), arrays(T))
TORCH = {"weight_ih_l0": arrays(4 * D, P), "weight_hh_l0": arrays(4 * D, D)}
TORCH |= {"bias_ih_l0": arrays(4 * D), "bias_hh_l0": arrays(4 * D)}
OPTIMIZERS = st.sampled_from([optax.sgd(0.1), optax.adam(0.1)])
INPUTS = {
    **dict.fromkeys(("amount", "degrees", "elastic", "fraction", "pixels", "rotate", "scale", "shear"), numbers()),
    **dict.fromkeys(("shift", "sigma", "softer", "thicker", "thinner", "epsilon", "floor", "margin"), numbers()),
    **dict.fromkeys(("alpha", "beta", "c", "eta", "lam", "p", "rho", "seconds", "t", "temperature"), numbers()),
    **dict.fromkeys(("universal.lower", "universal.s"), numbers(0)),
    **dict.fromkeys(("rem_bias", "threshold", "activations.c", "universal.upper"), numbers(1.0)),
    **dict.fromkeys(("batch_size", "bins", "further", "keep", "model", "window"), counts()),
    **dict.fromkeys(("epochs", "k", "n", "samples", "convert.layer", "language.layers"), counts(1)),
    **dict.fromkeys(("characters", "classes", "steps"), counts(3)),
    **dict.fromkeys(("a", "b", "deltas", "predicted", "rest", "ys", "costs.z", "costs.y"), arrays(N, 2)),
    **dict.fromkeys(("eigenvalues", "members", "w", "w_star", "activations.z", "regularize.noise.a"), arrays(3)),
    **dict.fromkeys(("activations", "xs"), arrays(N, P)),
    **dict.fromkeys(("backwards", "convert.params", "forwards", "lstm.params"), lstm_params),
    **dict.fromkeys(("gru.xs", "lstm.xs", "rnn.xs", "mlp.linear.xs"), sequences),
    **dict.fromkeys(("hidden", "output"), st.sampled_from(SMOOTH)),
    **dict.fromkeys(("image", "picture"), images),
    **dict.fromkeys(("regularize.lp.p", "regularize.lp_norm.p"), numbers(2.0)),
    "arrays": st.fixed_dictionaries(TORCH),
    "augment.colour.image": arrays(4, 4, 3, entries=PLAIN),
    "augment.rows.xs": arrays(N, 20),
    "augment.shape": just((4, 5), (3, 3)),
    "backprop.minibatch_value_and_grad.weights": arrays(N),
    "convert.from_torch.layer": just(0, 1),
    "cost": st.sampled_from([getattr(costs, name) for name in COST_NAMES]),
    "costs.binary_entropy.y": arrays(3, entries=PLAIN),
    "d": counts(4),
    "data": st.tuples(arrays(N, P), arrays(N, 2)),
    "data.xs": arrays(N, P, entries=PLAIN),
    "derivatives": arrays(T, D),
    "dropout.shape": st.just((3, 2)),
    "dtype": dtypes,
    "first": rarely(characters.map(lambda a: jnp.atleast_1d(a)[:1]), characters),
    "folder": st.just("folder"),
    "grad": st.just(backprop.minibatch_value_and_grad),
    "gradient": layers(),
    "gradient_flow.chain_gradient.y": arrays(),
    "gradient_flow.weights": arrays(T, 2),
    "gradient_flow.x": arrays(2),
    "gru.params": st.builds(gru.Params, gate, gate, gate, arrays(D)),
    "hessian": rarely(st.just(jnp.diag(jnp.arange(1.0, 4.0))), arrays(3, 3)),
    "image_transform": st.just(augment.mirror),
    "inputs": counts(P),
    "key": just(jax.random.key(0), jax.random.PRNGKey(0), 0),
    "labels": labels,
    "language.cost.xs": rarely(characters.map(lambda a: a[None]), characters),
    "language.generate.states": st.tuples(one_state),
    "language.params": st.builds(language.Params, arrays(3, P), st.tuples(lstm_params), readout),
    "language.xs": characters,
    "language.zero_states.batch": counts(B),
    "lengths": arrays(B, entries=PLAIN, dtypes=[jnp.int32]),
    "lstm.layers": st.tuples(lstm_params),
    "lstm.state": lstm_state,
    "mask": masks,
    "matvec": st.just(lambda v: v),
    "mlp.layer": st.builds(mlp.Layer, arrays(D, P), arrays(D)),
    "mlp.shape": st.tuples(counts(3), counts(4)),
    "optimizer": st.just(optax.sgd(0.1)),
    "parallel.f": st.just(jnp.sum),
    "params": layers(),
    "penalties": st.sampled_from([regularize.l2(0.1), 0.1]),
    "perceptron.bits_layer.c": numbers(20.0),
    "probabilities": arrays(N, 3, entries=PLAIN),
    "progress": st.just(False),
    "receptive.sizes": just((6, 4, 2), (6, 2), (6,), (6.0, 4, 2), (6, 0, 2), ()),
    "receptive.smooth.shape": just((1, 3), (3,), (2, 2), (1.0, 3)),
    "receptive.windows": st.tuples(*(arrays(b, a, entries=PLAIN) for a, b in itertools.pairwise(SIZES))),
    "receptive.windows.shape": just((2, 3), (6,), (3, 3), (2.0, 3), (1, 6), ()),
    "regularize.lam": rarely(arrays(N, entries=PLAIN), numbers()),
    "regularize.noisy_squared_loss.w": arrays(P),
    "regularize.noisy_squared_loss.ys": arrays(N),
    "relative": st.booleans(),
    "remat_every": st.one_of(st.none(), counts(2)),
    "rnn.params": st.builds(rnn.Params, arrays(D, P), arrays(D, D), arrays(D)),
    "scores": arrays(N, 3),
    "sizes": st.tuples(counts(3), counts(4), counts(2)),
    "state": rarely(arrays(D), arrays(B, D)),
    "states": st.tuples(lstm_state),
    "train.state": st.builds(train.init, OPTIMIZERS, st.just(mlp.init(jax.random.key(0), SIZES))),
    "units": counts(D),
    "universal.bins": counts(4),
    "universal.f": st.just(lambda x: x[0]),
    "universal.h": numbers(100.0),
    "universal.s1": numbers(0.25),
    "universal.s2": numbers(0.75),
    "universal.step.w": numbers(1024.0),
    "universal.w": st.one_of(st.none(), numbers(100.0)),
    "widths": st.tuples(numbers()),
    "x": arrays(P),
    "y": arrays(2),
    "yx": arrays(2, 3, 4),
    "zs": st.tuples(arrays(D), arrays(2)).map(list),
}
"""What to draw for an argument: of this name, or in this module, or of this function of it."""

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


FUZZED = [
    *sorted({*public()} - {*" ".join(OTHERS.values()).split()}),
    *("checkpoint.Checkpoints", "mlp.orthogonal"),
    *(f"activations.{a.name}" for a in ELEMENTWISE),
    *(f"activations.{a.name}.prime" for a in SMOOTH if a is not activations.identity),
    *(f"costs.{name}.{part}" for name in COST_NAMES for part in ("value", "delta")),
]


def drawn(name):
    """The arguments of a function and those with names, but for those that may be left out and are not in INPUTS."""
    function, room = operator.attrgetter(name)(jnn), name.partition(".")[0]
    positional, named = [], {}
    for argument in inspect.signature(function).parameters.values():
        keys = (f"{name}.{argument.name}", f"{room}.{argument.name}", argument.name)
        key = next((key for key in keys if key in INPUTS), argument.name)
        if key in INPUTS or argument.default is argument.empty:
            if argument.kind is argument.KEYWORD_ONLY:
                named[argument.name] = INPUTS[key]
            else:
                positional.append(INPUTS[key])
    return st.tuples(*positional), st.fixed_dictionaries(named)


def test_the_functions_that_are_not_fuzzed_are_there():
    assert {*" ".join(OTHERS.values()).split()} <= {*public()}


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
    @given(*drawn(name))
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
