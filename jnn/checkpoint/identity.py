"""The identity of a training run: a description of its inputs that is the same on any devices."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.stages import Traced

from jnn._internal import checks
from jnn.typing import PyTree


def describe(
    config: PyTree, key: jax.Array, start: PyTree, inputs: PyTree, settings: PyTree, programs: Sequence[Traced]
) -> Mapping[str, Any]:
    """Describes a training run as JSON types.

    Args:
      config: The configuration given by the user.
      key: The key or keys of the run.
      start: The first state.
      inputs: The data, and the functions with the arrays that are bound to them.
      settings: What else must be the same, by the names used in messages.
      programs: The programs of an epoch.
    """
    return {
        "config": json.loads(json.dumps(dict(config), default=str)),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "settings": {name: str(value) for name, value in settings.items()},
        "inputs": hashes(inputs),
        "initial arrays": hashes(start),
        "versions": versions(),
        "program": digest_of_programs(programs),
    }


def difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Describes the first difference between a checkpoint and a training run; "" if there is none.

    Other versions of the libraries trace other programs, so programs are only compared between equal versions.
    """
    if "program" not in found:
        return "a training run that an older jnn described in another way"
    for what in expected:
        if what not in ("versions", "program") and found.get(what) != expected[what]:
            return checks.difference(what, found.get(what), expected[what])
    if found["versions"] == expected["versions"] and found["program"] != expected["program"]:
        return "another program: its gradient, optimizer, transform or evaluate differs"
    return ""


def versions() -> dict[str, str]:
    """The versions of the libraries that trace programs."""
    return {name: version(name) for name in ("jax", "optax")}


def digest_of_programs(programs: Sequence[Traced]) -> str:
    """A hash of the programs' equations and of the arrays that they captured."""
    whole = hashlib.sha256()
    for traced in programs:
        text = traced.jaxpr.pretty_print(use_color=False)
        whole.update(re.sub(r" at 0x[0-9a-f]+", "", text).encode())
        whole.update(digest(*_captured(traced.jaxpr)).encode())
    return whole.hexdigest()


def hashes(tree: PyTree) -> dict[str, str]:
    """The dtype, shape and hash of each array by its name, except arrays that are split between processes."""
    return {
        checks.leaf_name(path): f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))} sha256:{digest(leaf)[:16]}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated
    }


def digest(*arrays: jax.typing.ArrayLike) -> str:
    """The SHA-256 of the arrays' bytes."""
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(np.ascontiguousarray(plain(array)).reshape(-1).view(np.uint8).data)
    return whole.hexdigest()


def plain(leaf: jax.typing.ArrayLike) -> np.ndarray:
    """The leaf as a NumPy array; for keys, their data."""
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def is_key(leaf: PyTree) -> bool:
    """Whether the leaf holds random keys."""
    return jnp.issubdtype(getattr(leaf, "dtype", None) or jnp.result_type(leaf), jax.dtypes.prng_key)


def _captured(jaxpr: PyTree) -> Iterator[jax.Array]:
    """The constants of a program and of its subprograms, which its text does not show."""
    if isinstance(jaxpr, core.ClosedJaxpr):
        yield from jaxpr.consts
        jaxpr = jaxpr.jaxpr
    if isinstance(jaxpr, core.Jaxpr):
        for equation in jaxpr.eqns:
            for part in jax.tree.leaves(equation.params):
                yield from _captured(part)
