"""What every function asks of the arrays that it is given."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import sparse

from jnn import activations, convert, costs, data, gradcheck, gru, lstm, mlp, parallel, pictures, train, universal
from jnn._internal import checks

pytestmark = pytest.mark.bad_input


class Frame:
    """A table as other libraries have it, without a dtype."""

    def __init__(self, columns):
        self.columns = columns

    def to_numpy(self):
        return np.asarray(self.columns)

    def __array__(self, dtype=None, copy=None):
        return self.to_numpy()


class Unread:
    """An array of a file, which is not read to be checked."""

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("it was read")


MIXED = np.array([1, "a"], object)
REFUSED = {
    "text": (np.array(["a", "b"]), r"hold numbers, got text of dtype <U1: .* np.unique\(NAME, return_inverse=True\)"),
    "bytes": (np.array([b"a"]), "hold numbers, got text of dtype .S1"),
    "variable text": (np.array(["a"], np.dtypes.StringDType()), "hold numbers, got text of dtype StringDType"),
    "objects": (MIXED, r"have a dtype that JAX has, got object: convert it with NAME.astype\(np.float32\)"),
    "dates": (np.array(["2020-01-01"], np.datetime64), r"have a dtype that JAX has, got datetime64\[D\]"),
    "big-endian": (np.ones(1, ">f4"), "have a dtype that JAX has, got >f4"),
    "sparse": (sparse.csr_matrix(np.eye(2)), r"be an array, got a csr_matrix: convert it with NAME.toarray\(\)$"),
    "a string": ("abc", "be an array, got a str$"),
    "none": (object(), "be an array, got a object$"),
}
ONLY_ALONE = {
    "a frame": (Frame([1.0]), r"be an array, got a Frame: convert it with NAME.to_numpy\(\)$"),
    "a list": ([1.0], r"be an array, got a list: convert it with jnp.asarray\(NAME\)$"),
    "a tensor": (Unread("f4"), r"be an array, got a Unread: convert it with jnp.asarray\(NAME\)$"),
}
IN_A_TREE = {
    "a frame of objects": (Frame(MIXED), "have a dtype that JAX has, got object"),
    "a file of text": (Unread("S3"), "hold numbers, got text of dtype .S3"),
}


@pytest.mark.parametrize("kind", REFUSED | ONLY_ALONE)
def test_array_refuses_by_name(kind):
    value, message = (REFUSED | ONLY_ALONE)[kind]
    with pytest.raises(TypeError, match="^xs must " + message.replace("NAME", "xs")):
        checks.array("xs", value)


@pytest.mark.parametrize("kind", REFUSED | IN_A_TREE)
def test_arrays_refuses_by_path(kind):
    value, message = (REFUSED | IN_A_TREE)[kind]
    with pytest.raises(TypeError, match=r"^data\[1\]\['a'\] must " + message.replace("NAME", r"data\[1\]\['a'\]")):
        checks.arrays("data", (np.ones(1), {"a": value}))


@pytest.mark.parametrize("mask", [[True, False], False])
def test_masked_arrays_are_refused(mask):
    masked = np.ma.array([1.0, 2.0], mask=mask)
    with pytest.raises(ValueError, match=r"^xs must have no mask, got a masked array: .* xs.filled\(value\)"):
        checks.array("xs", masked)
    with pytest.raises(ValueError, match=r"^data\[0\] must have no mask"):
        checks.examples((masked,))


ARRAYS = (np.ones(1), jnp.ones(1), np.float16(1), 1, 1.0, 1j, True, jax.random.key(0), np.ones(1, jnp.bfloat16))


def test_arrays_and_numbers_pass():
    for value in ARRAYS:
        checks.array("xs", value)
        jax.jit(lambda traced: checks.array("xs", traced))(value)


def test_what_jax_converts_passes_in_a_tree():
    checks.arrays("data", (*ARRAYS, None, [Frame([1.0]), Unread("f4")]))


def masked(*shape, dtype=np.float32):
    return np.ma.array(np.ones(shape, dtype), mask=np.ones(shape, bool))


def layers(w=None, b=None):
    return (mlp.Layer(np.ones((3, 4)) if w is None else w, np.ones(3) if b is None else b),)


X, CELL = np.ones(3, np.float32), lstm.init(jax.random.key(0), 4, 3)
MASKED = {
    "z": lambda: activations.softmax(masked(3)),
    "y": lambda: costs.quadratic.value(X, masked(3)),
    "c": lambda: activations.softmax(X, masked()),
    "params[0].w": lambda: mlp.forward(layers(w=masked(3, 4)), np.ones(4)),
    "params[0].b": lambda: convert.export_network2("no/net", layers(b=masked(3)), costs.quadratic),
    "lower": lambda: universal.approximate(jnp.sum, masked(1), [2.0], 3),
    "bins": lambda: universal.approximate(jnp.sum, [0.0], [2.0], masked(1, dtype=int)),
    "eta": lambda: train.sgd(masked()),
    "picture": lambda: pictures.digits(masked(40, 40, dtype=np.uint8)),
    "labels": lambda: data.one_hot(masked(3, dtype=int), 2),
    "params": lambda: gradcheck.compare(jnp.sum, jnp.ones_like, masked(3)),
    "args[1]": lambda: gradcheck.compare(lambda p, x: jnp.sum(p), lambda p, x: jnp.ones(3), X, masked(3)),
    "gradient": lambda: gradcheck.compare(jnp.sum, lambda p: masked(3), X),
    "members[0]": lambda: parallel.sweep(jnp.sum, masked(3, 2)),
    "bound": lambda: parallel.sweep(Partial(lambda x, bound: x, bound=masked(3)), X),
    "tree[0]": lambda: parallel.place(parallel.mesh(devices=jax.devices()[:1]), (masked(3),)),
    "weight_hh_l0": lambda: convert.from_torch(convert.to_torch(CELL) | {"weight_hh_l0": masked(12, 3)}),
    "params.c": lambda: convert.to_torch(gru.init(jax.random.key(0), 4, 3)._replace(c=masked(3))),
}


@pytest.mark.parametrize("name", MASKED)
def test_no_function_drops_a_mask(name):
    with pytest.raises(ValueError, match=f"^{re.escape(name)} must have no mask, got a masked array"):
        MASKED[name]()


def test_what_partial_binds_must_be_arrays():
    advice = r"jax.tree_util.Partial binds arrays to f, functools.partial anything else"
    for value, kind in ((jnp.tanh, "PjitFunction"), ("mode", "str")):
        with pytest.raises(TypeError, match=rf"^hidden must be an array, got a {kind}: {advice}"):
            checks.bound("f", Partial(max, hidden=value))
    with pytest.raises(TypeError, match=r"^0 must be an array, got a object"):
        checks.bound("f", Partial(max, object()))
    checks.bound("f", Partial(functools.partial(max, key=jnp.tanh), np.ones(1), eta=0.1, none=None))


def test_an_error_of_tracing_names_the_counts():
    said = r"^flags.a=True, n=3 must be used as an array, .*functools.partial \(of JAX\)$"
    with pytest.raises(TypeError, match=said), checks.traced({"n": 3, "eta": 0.5, "flags": {"a": True}}):
        raise IndexError("of JAX\nand more")
    with pytest.raises(IndexError, match="of JAX"), checks.traced({"eta": 0.5}):
        raise IndexError("of JAX")


class Picture:
    """An image as Pillow has it."""

    def __init__(self, pixels):
        self.__array_interface__ = pixels.__array_interface__


def test_what_numpy_reads_is_a_picture():
    pixels = np.full((40, 40), 65535, np.uint16)
    pixels[10:30, 18:22] = 0
    expected = pictures.normalise(pixels)
    for same in (Picture(pixels), pixels.astype(">u2"), Frame(pixels), pixels.astype(np.longdouble) / 65535):
        np.testing.assert_allclose(pictures.normalise(same), expected, atol=1e-6)


def test_labels_of_another_library_are_compared():
    labels = np.array([2, 0])
    network = (mlp.Layer(np.eye(3, dtype=np.float32), np.zeros(3, np.float32)),)
    xs = np.array([[0, 0, 1], [0, 1, 0]], np.float32)
    assert mlp.accuracy(network, xs, Frame(labels)) == 0.5
