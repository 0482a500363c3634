"""What every function asks of the arrays that it is given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

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
