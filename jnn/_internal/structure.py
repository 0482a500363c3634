"""The structure of a tree as JSON, so that a file of arrays knows which tree it holds."""

import collections
import re
import sys
from importlib import import_module

import jax
import jax.numpy as jnp

from jnn.typing import PyTree


def encode(tree: PyTree) -> PyTree:
    """JSON of nested tuples, lists, dicts, None and NamedTuples; each leaf is "array", "number" or "key:" and its kind.

    Raises TypeError for a container of another kind, or a dict with other keys than text, which only a tree like it can
    restore.
    """
    if tree is None:
        return None
    kind, leaf = type(tree), tree
    if kind in (tuple, list):
        return {kind.__name__: [encode(part) for part in tree]}
    if _is_named_tuple(kind):
        _, *module = kind.__module__.split(".")
        ours = ".".join([*module[:1], kind.__name__])
        if _ours(ours) is kind:
            return {ours: [encode(part) for part in tree]}
        fields = {name: encode(part) for name, part in zip(tree._fields, tree, strict=True)}
        return {"NamedTuple": [kind.__module__, kind.__name__, fields]}
    if kind is dict and all(isinstance(key, str) for key in tree):
        return {"dict": {key: encode(part) for key, part in tree.items()}}
    if hasattr(leaf, "dtype"):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return f"key:{jax.random.key_impl(leaf)}" if is_key else "array"
    if isinstance(tree, int | float):
        return "number"
    raise TypeError(f"a {kind.__name__}, or its keys, are restored only by a tree like it")


def decode(structure: PyTree) -> PyTree:
    """The tree, with texts such as "array" as leaves. Raises ValueError for what `encode` does not write.

    A NamedTuple of another library or of a script becomes its own class if that is imported already, else a new class
    with the same name and fields: nothing that a file names is imported.
    """
    if structure is None or structure in ("array", "number") or str(structure).startswith("key:"):
        return structure
    try:
        ((kind, parts),) = structure.items()
        if kind == "dict":
            return {key: decode(part) for key, part in parts.items()}
        if kind == "NamedTuple":
            module, name, fields = parts
            return _theirs(module, name, tuple(fields))(*map(decode, fields.values()))
        decoded = [decode(part) for part in parts]
        return {"tuple": tuple, "list": list}[kind](decoded) if kind in ("tuple", "list") else _ours(kind)(*decoded)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"the structure of its tree is not known, got {structure}") from error


def _ours(kind: str) -> PyTree:
    """The NamedTuple "module.Class" of a public module of jnn, or None.

    The name is that of a module in which the class is an attribute: files hold train.State, which jnn.typing defines.
    """
    module, _, name = kind.partition(".")
    try:
        found = getattr(import_module(f"jnn.{module}"), name, None) if re.fullmatch("[a-z]\\w*", module) else None
    except ImportError:
        return None
    return found if _is_named_tuple(found) else None


def _theirs(module: str, name: str, fields: tuple[str, ...]) -> PyTree:
    found: PyTree = getattr(sys.modules.get(module), name, None)
    return found if _is_named_tuple(found) and found._fields == fields else collections.namedtuple(name, fields)


def _is_named_tuple(kind: PyTree) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
