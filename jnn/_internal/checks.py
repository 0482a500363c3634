"""Argument checks, from static shapes, dtypes and Python values only, so that they work under `jit`.

Each message says what must hold, what was given and, where that helps, what to do.
"""

import contextlib
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import Partial

from jnn.typing import PyTree, Scalar


def number(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is one number, ValueError unless it is finite; a traced value passes."""
    if np.ndim(value) != 0 or not jnp.issubdtype(getattr(value, "dtype", type(value)), jnp.number):
        raise TypeError(f"{name} must be one number, got {value!r}")
    if not isinstance(value, Tracer) and not np.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def positive(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is a number, ValueError unless it is finite and above 0; a traced value passes.

    Every entry of an array is checked, such as one learning rate for each member.
    """
    if isinstance(value, Tracer):
        return
    unmasked(name, value)
    if not jnp.issubdtype(np.asarray(value).dtype, jnp.number):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not np.all((np.asarray(value) > 0) & np.isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def positive_number(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is one number, ValueError unless finite and above 0; a traced value passes."""
    number(name, value)
    positive(name, value)


def in_range(name: str, value: Any, least: Scalar = 0, most: Scalar = np.inf) -> None:
    """Raise TypeError unless `value` is one number, ValueError unless finite and in [least, most]; a tracer passes."""
    number(name, value)
    if not isinstance(value, Tracer) and not least <= np.asarray(value) <= most:
        bounds = f"in [{least:g}, {most:g}]" if np.isfinite(most) else f"at least {least:g}"
        raise ValueError(f"{name} must be {bounds}, got {value}")


def below(low_name: str, low: Any, high_name: str, high: Any) -> None:
    """Raise TypeError unless both are numbers, ValueError unless low < high and both are finite."""
    number(low_name, low)
    number(high_name, high)
    if not np.asarray(low) < np.asarray(high):
        raise ValueError(f"{low_name} must be less than {high_name}, got {low} and {high}")


def key(name: str, value: Any) -> None:
    """Raise TypeError unless `value` holds typed PRNG keys."""
    if not jnp.issubdtype(getattr(value, "dtype", None) or type(value), jax.dtypes.prng_key):
        raise TypeError(f"{name} must be a key made by jax.random.key(seed), got {value!r}")


def path(name: str, value: Any) -> Path:
    """The absolute path, with "~" expanded. Raise TypeError unless it is a path, ValueError without a home folder."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {reprlib.repr(value)}")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{name} must start with a home folder that exists, got {value}: write it without ~") from None


def count(name: str, value: Any, least: int = 1) -> None:
    """Raise TypeError unless `value` is a Python or NumPy integer, ValueError unless it is at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def unmasked(name: str, value: Any) -> None:
    """Raise ValueError for a masked array: `np.asarray`, and `jnp.asarray` with a dtype, drop its mask."""
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(f"{name} must have no mask, got a masked array: fill its gaps with {name}.filled(value)")


def unlisted(name: str, value: Any) -> None:
    """Raise TypeError for a list or a tuple, ValueError for a masked array."""
    unmasked(name, value)
    if isinstance(value, list | tuple):
        raise TypeError(f"{name} must be an array, got a {type(value).__name__}: convert it with jnp.asarray({name})")


def array(name: str, value: Any, advice: str = "") -> None:
    """Raise TypeError unless `value` is an array or a number of a dtype that JAX has, ValueError for a masked array.

    `advice` is for objects that no call converts to an array.
    """
    unlisted(name, value)
    if hasattr(value, "__jax_array__"):
        return
    if not isinstance(value, jax.Array | np.ndarray | np.generic | int | float | complex):
        how = [f"{name}.{method}()" for method in ("toarray", "to_numpy") if hasattr(value, method)]
        how += [f"jnp.asarray({name})"] if hasattr(value, "__array__") else []
        advice = f"convert it with {how[0]}" if how else advice
        raise TypeError(f"{name} must be an array, got a {type(value).__name__}{advice and ': '}{advice}")
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "") in ("U", "S", "T"):
        how = f"number its classes with np.unique({name}, return_inverse=True)"
        raise TypeError(f"{name} must hold numbers, got text of dtype {dtype}: {how}")
    try:
        jnp.result_type(value)
    except TypeError:
        how = f"convert it with {name}.astype(np.float32)"
        raise TypeError(f"{name} must have a dtype that JAX has, got {dtype}: {how}") from None


def arrays(name: str, tree: PyTree, advice: str = "") -> None:
    """`array` for every leaf, but accepts what `jnp.asarray` converts, such as tensors and frames of numbers."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = getattr(leaf, "dtype", None)
        unread = _is_foreign(leaf) and isinstance(dtype, np.dtype)  # it may be in a file
        array(f"{name}{jax.tree_util.keystr(path)}", np.empty(0, dtype) if unread else converted(leaf), advice)


def converted(leaf: Any) -> Any:
    """An array of another library as a NumPy array; other values unchanged."""
    return np.asarray(leaf) if _is_foreign(leaf) else leaf


def _is_foreign(leaf: Any) -> bool:
    return hasattr(leaf, "__array__") and not isinstance(leaf, jax.Array | np.ndarray)


def floating(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is an array of floating dtype."""
    array(name, value)
    dtype = jnp.result_type(value)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name} must have a floating dtype, got {dtype}: convert it with {name}.astype(jnp.float32)")


def labels(name: str, value: Any, classes: int) -> None:
    """Raise TypeError unless `value` holds integers, ValueError for one outside 0 ... classes-1; a tracer passes."""
    array(name, value)
    if not jnp.issubdtype(dtype := jnp.result_type(value), jnp.integer):
        raise TypeError(f"{name} must be integers, got {dtype}: convert them with {name}.astype(int)")
    if found := _first_outside(value, 0, classes - 1):
        raise ValueError(f"{name} must be in 0 ... {classes - 1}, got {found}")


def targets(name: str, value: Any, cost: Any) -> None:
    """Raise ValueError for an entry outside of `cost.targets`, where the cost has no least value; a tracer passes."""
    least, most = cost.targets
    if found := _first_outside(value, least - 0.01, most + 0.01):  # rounding, of bfloat16 too
        bounds = f"in [{least:g}, {most:g}]" if np.isfinite(most) else f"at least {least:g}"
        advice = "use (y + 1) / 2 for -1 and 1, y - 1 for 1 and 2, data.one_hot for labels"
        raise ValueError(f"{name} must be {bounds} for {cost!r}, got {found}: {advice}")


def _first_outside(value: Any, least: Scalar, most: Scalar) -> str:
    """The first entry outside of [least, most] and its index; "" if there is none, or if the entries are not local."""
    if isinstance(value, Tracer) or not getattr(value, "is_fully_addressable", True):
        return ""
    given = np.asarray(value)
    if given.size == 0 or (given.min() >= least and given.max() <= most):  # fast, and without NaN all that is needed
        return ""
    wrong = np.argwhere((given < least) | (given > most))
    return f"{given[tuple(wrong[0])]} at {tuple(wrong[0].tolist())}" if len(wrong) else ""


def matrix(name: str, value: Any) -> tuple[int, ...]:
    """The two sizes of a matrix; raise ValueError for another rank, and as `unlisted` does."""
    unlisted(name, value)
    if jnp.ndim(value) != 2:
        raise ValueError(f"{name} must be a matrix, got shape {jnp.shape(value)}")
    return jnp.shape(value)


def shape(name: str, value: Any, expected: tuple[int, ...], advice: str) -> None:
    """Raise ValueError unless `value` has the shape `expected`, or as `unlisted` does; `advice` says what to do."""
    unlisted(name, value)
    if jnp.shape(value) != expected:
        raise ValueError(f"{name} must have shape {expected}, got {jnp.shape(value)}: {advice}")


def sizes(value: Sequence[int]) -> None:
    """Raise ValueError unless `value` lists at least two layer widths, each at least 1; TypeError for non-integers."""
    if len(value) < 2:
        raise ValueError(f"sizes must have an input and an output width, as in (784, 30, 10), got {tuple(value)}")
    for i, width in enumerate(value):
        count(f"sizes[{i}]", width)


def examples(data: PyTree, name: str = "data", each: str = "example") -> int:
    """The number N of examples in the tuple `data`, the leading axis that all its arrays share.

    Raises TypeError when data is not a tuple of arrays, ValueError when it has none, when an array is masked or has no
    axis, when the leading axes differ or when N = 0. `name` and `each` are what the messages call the tuple and one of
    its N.
    """
    if not isinstance(data, tuple | list):
        chunks = callable(data) or (hasattr(data, "__iter__") and not hasattr(data, "dtype"))
        hint = ": only train.fit takes chunks of data" if chunks and name == "data" else ""
        if isinstance(data, Mapping):
            such = ", ".join(f"{name}[{key!r}]" for key in data)
            hint = f": pass its arrays in the order of grad's arguments, such as ({such})"
        raise TypeError(f"{name} must be a tuple of arrays, such as (xs, ys), got {type(data).__name__}{hint}")
    for i, part in enumerate(data):
        if isinstance(part, list):
            array(f"{name}[{i}]", part)
    arrays(name, data)
    shapes = {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(data)}
    given = ", ".join(f"{name}{path}: {shape}" for path, shape in shapes.items())
    if not shapes or not all(shapes.values()):
        raise ValueError(f"the arrays in {name} must share a leading axis of N {each}s, got ({given})")
    if len({shape[0] for shape in shapes.values()}) > 1:
        raise ValueError(f"the leading axes of {name} must be equal, one row for each {each}, got ({given})")
    n = next(iter(shapes.values()))[0]
    if n == 0:
        raise ValueError(f"{name} must hold at least one {each}, got ({given})")
    return n


def function(name: str, value: Any, kind: str = "a function", attribute: str = "__call__") -> None:
    """Raise TypeError unless `value` has the attribute that this kind of function has."""
    if not hasattr(value, attribute):
        raise TypeError(f"{name} must be {kind}, got {value!r}")


def bound(name: str, f: Any) -> Partial:
    """The function as a pytree of the arrays that are bound to it; raise as `function` and, for these, `array` do."""
    function(name, f)
    f = f if isinstance(f, Partial) else Partial(f)
    for path, leaf in jax.tree_util.tree_leaves_with_path((f.args, f.keywords)):
        advice = f"jax.tree_util.Partial binds arrays to {name}, functools.partial anything else"
        array(leaf_name(path[1:]), leaf, advice)
    return f


@contextlib.contextmanager
def traced(values: Mapping[str, PyTree]) -> Iterator[None]:
    """Replace a JAX error by a TypeError with advice, if Python integers or booleans are among the values."""
    try:
        yield
    except (TypeError, IndexError) as error:
        leaves = jax.tree_util.tree_leaves_with_path(values)
        given = [f"{leaf_name(path)}={leaf}" for path, leaf in leaves if isinstance(leaf, int)]
        if not given:
            raise
        what, said = ", ".join(given), str(error).splitlines()[0]
        advice = "bind counts and flags with functools.partial"
        raise TypeError(f"{what} must be used as an array, which is traced: {advice} ({said})") from error


@contextlib.contextmanager
def noted(note: str) -> Iterator[None]:
    """Add a note to an error in a function that the user passed."""
    try:
        yield
    except (TypeError, ValueError) as error:
        error.add_note(note)
        raise


def not_traced(arrays: PyTree) -> None:
    """Raise TypeError for traced arguments of `fit`, as under `jax.jit`, `jax.vmap` and `parallel.sweep`."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arrays)):
        raise TypeError("fit runs on the host, but its arguments are traced: use train.run under jit, vmap and sweep")


def one_dtype(**trees: PyTree) -> None:
    """Raise TypeError unless all leaves have one dtype."""
    dtypes = {name: {str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)} for name, tree in trees.items()}
    if len(set().union(*dtypes.values())) > 1:
        given = ", ".join(f"{name}: {'/'.join(sorted(found))}" for name, found in dtypes.items())
        raise TypeError(f"all arrays must have the same dtype, got {given}: convert them with astype")


def leaf_name(path: tuple[PyTree, ...]) -> str:
    """The path of a leaf in a tree as a name: "0.w"."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def difference(what: str, found: PyTree, expected: PyTree) -> str:
    """Describes the first entry in which `found` and `expected` differ."""
    if isinstance(found, dict):
        missing = "missing"
        name = next(key for key in [*found, *expected] if found.get(key, missing) != expected.get(key, missing))
        return f"other {what}: {name} is {found.get(name, missing)} there and {expected.get(name, missing)} here"
    return f"another {what}: {found} there and {expected} here"
