"""The arrays of a tree by number, for files that do not depend on its classes; keys as their data."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnn import _fingerprint, parallel


def plain(tree: Any) -> dict[str, np.ndarray]:
    """Numbered arrays, keys as their data: the files do not depend on the classes of the tree."""
    return {f"{i:06}": _fingerprint.plain(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def blank(tree: Any) -> dict[str, np.ndarray]:
    """Zeros with the shapes of `plain`'s arrays: the template that orbax reads into."""

    def one(leaf: Any) -> np.ndarray:
        data = jax.eval_shape(jax.random.key_data, leaf) if _fingerprint.is_key(leaf) else array(leaf)
        return np.broadcast_to(np.zeros((), data.dtype), data.shape)

    return {f"{i:06}": one(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def like(tree: Any, arrays: Mapping[str, Any]) -> Any:
    """The tree of `plain`'s arrays; sharded ones get their sharding back."""
    leaves, structure = jax.tree.flatten(tree)

    def one(leaf: Any, array: Any) -> Any:
        if _fingerprint.is_key(leaf):
            array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
        several = isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1
        return parallel.put(array, leaf.sharding) if several else jnp.asarray(array)

    return jax.tree.unflatten(structure, [one(leaf, arrays[f"{i:06}"]) for i, leaf in enumerate(leaves)])


def array(leaf: Any) -> Any:
    return leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)


def digest(tree: Mapping[str, Any]) -> str:
    return _fingerprint.digest(*(tree[name] for name in sorted(tree)))
