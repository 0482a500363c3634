"""The errors that everyone raises, from static shapes, dtypes and Python values only, so they work under `jit`.

Each message says what was got, what is wanted and what to do.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Scalar = int | float | np.number | jax.Array
"""One number."""


def number(name: str, value: Any) -> None:
    """Raise unless `value` is one finite number, TypeError where it is none; a traced one is not known yet."""
    if np.ndim(value) != 0 or not jnp.issubdtype(getattr(value, "dtype", type(value)), jnp.number):
        raise TypeError(f"{name} is {value!r}; one number is wanted")
    if not isinstance(value, Tracer) and not np.isfinite(value):
        raise ValueError(f"{name} is {value}; a finite number is wanted")


def positive(name: str, value: Any) -> None:
    """Raise unless `value` is a finite number above zero, TypeError for no number; a traced one is not known yet.

    An array, as of one learning rate for each member, has every entry checked.
    """
    if isinstance(value, Tracer):
        return
    if not jnp.issubdtype(getattr(value, "dtype", np.asarray(value).dtype), jnp.number):
        raise TypeError(f"{name} is {value!r}; a number above 0 is wanted")
    if not np.all((np.asarray(value) > 0) & np.isfinite(value)):
        raise ValueError(f"{name} is {value}; a finite number above 0 is wanted")


def below(low_name: str, low: Any, high_name: str, high: Any) -> None:
    """Raise ValueError unless low < high, both finite; TypeError for what is no number."""
    number(low_name, low)
    number(high_name, high)
    if not low < high:
        raise ValueError(f"{low_name} is {low} and {high_name} is {high}; {low_name} < {high_name} is wanted")


def key(name: str, value: Any) -> None:
    """Raise TypeError unless `value` holds new-style random keys."""
    if not jnp.issubdtype(getattr(value, "dtype", None) or type(value), jax.dtypes.prng_key):
        raise TypeError(f"{name} is {value!r}; a key of jax.random.key(seed) is wanted")


def count(name: str, value: Any, least: int = 1) -> None:
    """Raise TypeError unless `value` is a Python whole number, ValueError unless it is at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} is {value!r}; a whole number is wanted")
    if value < least:
        raise ValueError(f"{name} is {value}; at least {least} is wanted")


def floating(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is an array of floating dtype."""
    dtype = jnp.result_type(value)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {dtype}; a floating dtype is wanted: {name}.astype(jnp.float32)")


def matrix(name: str, value: Any) -> tuple[int, ...]:
    """The two sizes of a matrix; raise ValueError for another rank."""
    if jnp.ndim(value) != 2:
        raise ValueError(f"{name} has shape {jnp.shape(value)}; a matrix is wanted")
    return jnp.shape(value)


def shape(name: str, value: Any, wanted: tuple[int, ...], advice: str) -> None:
    """Raise ValueError unless `value` has the shape `wanted`; `advice` says what to do."""
    if jnp.shape(value) != wanted:
        raise ValueError(f"{name} has shape {jnp.shape(value)}; {wanted} is wanted: {advice}")


def sizes(value: Sequence[int]) -> None:
    """Raise ValueError unless `value` lists at least two layer widths, each a whole number above 0."""
    if len(value) < 2:
        raise ValueError(f"sizes is {tuple(value)}; at least an input and an output width are wanted, as (784, 30, 10)")
    for i, width in enumerate(value):
        count(f"sizes[{i}]", width)


def examples(data: Any, name: str = "data", each: str = "example") -> int:
    """The number N of examples in the tuple `data`, the leading axis that all its arrays share.

    Raises TypeError when data is no tuple, ValueError when it has no array, when one has no axis, when the leading
    axes differ or when N = 0. `name` and `each` are what the messages call the tuple and one of its N.
    """
    if not isinstance(data, tuple | list):
        raise TypeError(f"{name} is of type {type(data).__name__}; a tuple of arrays is wanted, as (xs, ys)")
    shapes = {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(data)}
    said = ", ".join(f"{name}{path}: {shape}" for path, shape in shapes.items())
    if not shapes or not all(shapes.values()):
        raise ValueError(f"{name} is ({said}); arrays that share a leading axis of N {each}s are wanted")
    if len({shape[0] for shape in shapes.values()}) > 1:
        raise ValueError(f"the leading axes of {name} differ ({said}); one row of each {each} is wanted")
    n = next(iter(shapes.values()))[0]
    if n == 0:
        raise ValueError(f"{name} holds no {each} ({said}); at least one is wanted")
    return n


def sequence(xs: Any, p: int) -> tuple[int, ...]:
    """The batch axes () or (B,) of sequences [T, p] or [T, B, p]; raise ValueError for others and for T = 0."""
    if jnp.ndim(xs) not in (2, 3) or jnp.shape(xs)[-1] != p or jnp.shape(xs)[0] == 0:
        raise ValueError(
            f"xs has shape {jnp.shape(xs)}; [T, {p}] or [T, B, {p}] is wanted, with time first and T at least 1"
        )
    floating("xs", xs)
    return jnp.shape(xs)[1:-1]


def one_dtype(**trees: Any) -> None:
    """Raise TypeError unless all leaves have one dtype."""
    dtypes = {name: {str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)} for name, tree in trees.items()}
    if len(set().union(*dtypes.values())) > 1:
        said = ", ".join(f"{name}: {'/'.join(sorted(found))}" for name, found in dtypes.items())
        raise TypeError(f"the dtypes differ ({said}); one is wanted: use astype")


def memory(name: str, value: Any, batch: tuple[int, ...], d: int) -> jax.Array:
    """`value` with the batch axes; raise ValueError unless it is [d] or [*batch, d]."""
    if jnp.shape(value) not in ((d,), (*batch, d)):
        also = f", or ({d},) for all sequences alike" if batch else ""
        raise ValueError(f"{name} has shape {jnp.shape(value)}; {(*batch, d)} is wanted{also}")
    return jnp.broadcast_to(value, (*batch, d))


def amount(name: str, value: Any, least: Scalar = 0, most: Scalar = np.inf) -> None:
    """Raise ValueError unless `value` is finite, from [least, most]; TypeError for no number; not for a traced one."""
    number(name, value)
    if not isinstance(value, Tracer) and not least <= value <= most:
        wanted = f"a number in [{least:g}, {most:g}]" if np.isfinite(most) else f"a number of at least {least:g}"
        raise ValueError(f"{name} is {value}; {wanted} is wanted")
