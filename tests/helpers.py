"""What several test modules share."""

import ast
import contextlib
import dataclasses
import itertools
import pkgutil
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import jnn
from jnn import activations, costs, mlp, train

MODULES = tuple(module.name for module in pkgutil.iter_modules(jnn.__path__) if not module.name.startswith("_"))
COSTS = (
    costs.quadratic,
    costs.quadratic_with(activations.identity),
    costs.quadratic_with(activations.tanh),
    costs.quadratic_with(activations.relu),
    costs.cross_entropy,
    costs.log_likelihood,
    costs.huber,
    costs.absolute,
    costs.hinge,
)
ELEMENTWISE = tuple(value for value in vars(activations).values() if isinstance(value, activations.Activation))
SMOOTH = tuple(activation for activation in ELEMENTWISE if activation is not activations.step)
NEURONS = [(cost, activations.tanh) for cost in COSTS] + [(costs.cross_entropy, hidden) for hidden in SMOOTH]
SIZES = (7, 5, 4, 3)  # all different, so that no transposed or swapped axis can pass


def normal(seed, *shape, dtype=jnp.float32):
    """Numbers from N(0, 1), drawn by NumPy: nothing is compiled for a new shape."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def network(seed, sizes=SIZES, dtype=jnp.float32):
    """A network with weights from N(0, 1/n_in) and biases from N(0, 1)."""
    return tuple(
        mlp.Layer(
            w=normal([seed, l, 0], n_out, n_in, dtype=dtype) / np.sqrt(n_in).astype(dtype),
            b=normal([seed, l, 1], n_out, dtype=dtype),
        )
        for l, (n_in, n_out) in enumerate(itertools.pairwise(sizes))
    )


def examples(seed, m, sizes=SIZES, dtype=jnp.float32):
    """xs [m, n_in], and ys [m, n_out] that suit every cost: positive, with a sum of 1."""
    draws = np.random.default_rng(seed)
    xs, e = draws.normal(size=(m, sizes[0])), np.exp(draws.normal(size=(m, sizes[-1])))
    return jnp.asarray(xs, dtype), jnp.asarray(e / e.sum(axis=1, keepdims=True), dtype)


def cell_case(cell, seed, T=6, B=4, p=3, d=5, dtype=jnp.float32):
    """Random parameters of a recurrent cell, biases included, an initial state, and xs."""
    batch = () if B is None else (B,)
    draws = np.random.default_rng(seed)
    like = jax.eval_shape(lambda key: (cell.init(key, p, d), cell.zero_state(d, B)), jax.random.key(0))
    params, state = jax.tree.map(lambda leaf: draws.normal(size=leaf.shape), like)
    params = jax.tree.map(lambda a: a / a.shape[1] ** 0.5 if a.ndim == 2 else a, params)
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), (params, state, draws.normal(size=(T, *batch, p))))


def split_in_two(f, inputs, outputs):
    """`f` inside `jax.shard_map` on two devices; the specs name the axis "d"."""
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    return jax.jit(jax.shard_map(f, mesh=mesh, in_specs=inputs, out_specs=outputs))


def relative_error(a, b):
    """The largest difference over the largest entry of b, in the worst leaf of two equal trees."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    worst = 0.0
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.shape == y.shape
        apart = np.max(np.abs(np.asarray(x) - np.asarray(y)), initial=0.0)
        assert np.isfinite(apart)
        worst = max(worst, 0.0 if apart == 0 else apart / np.max(np.abs(y)))
    return worst


def raises(error):
    """A function that raises this error, whatever it is given."""

    def raise_it(*args, **options):
        raise type(error)(*error.args)

    return raise_it


def refuses(*rows, start=""):
    """A test of bad input for each row: a call, the error that it raises, and a pattern that is in its message."""

    @pytest.mark.bad_input
    @pytest.mark.parametrize(("call", "error", "message"), rows)
    def test(call, error, message):
        with pytest.raises(error, match=start + message):
            call()

    return test


@contextlib.contextmanager
def interrupted_fit(epoch, call=1):
    """Inside, `train.fit` saves after every epoch, and Ctrl-C comes in this epoch of its n-th call."""
    fit, calls = train.fit, itertools.count(1)

    def interrupted(*args, checkpoints, **options):
        def interrupt(report):
            if now == call and report.epoch == epoch:
                raise KeyboardInterrupt

        now = next(calls)
        return fit(*args, callbacks=[interrupt], checkpoints=dataclasses.replace(checkpoints, seconds=0), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "fit", interrupted)
        yield


def imports(path):
    """The modules that a file imports, at its top or late; what it imports of a module after a dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph(root, folder):
    """The modules of a folder by their names, each with those that it imports."""
    paths = {".".join(path.relative_to(root).with_suffix("").parts): path for path in (root / folder).rglob("*.py")}
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items()}

    def module(imported, by):
        return max((name for name in paths if f"{imported}.".startswith(f"{name}.")), key=len, default=by)

    return {name: {module(imported, by=name) for imported in imports(path)} - {name} for name, path in paths.items()}


KINDS = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx(array):
    """The bytes of an IDX file."""
    start = struct.pack(f">HBB{array.ndim}I", 0, KINDS[array.dtype.name], array.ndim, *array.shape)
    return start + array.astype(array.dtype.newbyteorder(">")).tobytes()


def assert_same_bits(a, b):
    """Raise AssertionError unless the trees are equal, to the last bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


class Tensor:
    """An array of another library, whose dtype NumPy does not know."""

    dtype = "other.float32"

    def __init__(self, array):
        self.array = np.asarray(array)
        self.shape = self.array.shape

    def __len__(self):
        return len(self.array)

    def __array__(self, dtype=None, copy=None):
        return self.array
