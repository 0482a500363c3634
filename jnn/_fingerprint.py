"""What a training run was given, as short texts: equal in every process that is given the same, on any devices."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jnn import _checks


def versions() -> dict[str, str]:
    """Of the libraries that turn functions into a program."""
    return {name: version(name) for name in ("jax", "optax")}


def program(traced: Any) -> dict[str, str]:
    """The lines of a traced program, and a hash of each array that it captured."""
    text = traced.jaxpr.pretty_print(use_color=False)
    lines = re.sub(r" at 0x[0-9a-f]+", "", text).splitlines()
    arrays = {f"captured array {i}": digest(array) for i, array in enumerate(_captured(traced.jaxpr))}
    return {f"line {i} of the program": line.strip() for i, line in enumerate(lines, 1)} | arrays


def hashes(tree: Any) -> dict[str, str]:
    """A hash of each array, by its name; without those that are split between processes, which none holds whole."""
    return {
        _checks.leaf_name(path): f"sha256:{digest(leaf)[:16]}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated
    }


def difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The first thing in which a checkpoint and a training run differ, for a message; "" if only versions differ."""
    there, here = found.get("versions", {}), expected["versions"]
    if not there:
        return "a training run that an older jnn did not describe"
    for what, value in expected.items():
        given = found.get(what, type(value)())
        if what == "versions" or given == value:
            continue
        said = _checks.difference(what, given, value)
        if what == "instructions" and there != here:
            said += f", perhaps only because of {_checks.difference('versions', there, here)}"
        return said
    return ""


def digest(*arrays: Any) -> str:
    """The SHA-256 of the arrays' bytes."""
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(np.ascontiguousarray(plain(array)).reshape(-1).view(np.uint8).data)
    return whole.hexdigest()


def plain(leaf: Any) -> np.ndarray:
    """An array of NumPy's; of keys, their data."""
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def is_key(leaf: Any) -> bool:
    """Whether the leaf holds random keys."""
    return jnp.issubdtype(getattr(leaf, "dtype", None) or jnp.result_type(leaf), jax.dtypes.prng_key)


def _captured(jaxpr: Any) -> Iterator[Any]:
    """The constants of a program and of those in it, which its text does not show."""
    if isinstance(jaxpr, core.ClosedJaxpr):
        yield from jaxpr.consts
        jaxpr = jaxpr.jaxpr
    if isinstance(jaxpr, core.Jaxpr):
        for equation in jaxpr.eqns:
            for part in jax.tree.leaves(equation.params):
                yield from _captured(part)
