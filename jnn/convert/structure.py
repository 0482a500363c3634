"""The structure of a tree as JSON, so that a file of arrays knows which tree it holds."""

import re
from importlib import import_module

from jnn.typing import PyTree


def encode(tree: PyTree) -> PyTree:
    """JSON of nested tuples, lists, dicts, None and jnn's own kinds; each leaf is "array" or "number".

    Raises TypeError for a container of another kind, or a dict with other keys than text, which only a tree like it can
    restore.
    """
    if tree is None:
        return None
    if isinstance(tree, tuple | list):
        _, *module = type(tree).__module__.split(".")
        kind = ".".join([*module[:1], type(tree).__name__])
        if _class(kind) is type(tree):
            return {kind: [encode(part) for part in tree]}
    elif type(tree) is dict and all(isinstance(key, str) for key in tree):
        return {"dict": {key: encode(part) for key, part in tree.items()}}
    elif hasattr(tree, "dtype"):
        return "array"
    elif isinstance(tree, int | float):
        return "number"
    raise TypeError(f"a {type(tree).__name__} is restored only by a tree like it")


def decode(structure: PyTree) -> PyTree:
    """The tree, with the texts "array" and "number" as leaves. Raises ValueError for what `encode` does not write."""
    if structure is None or structure in ("array", "number"):
        return structure
    try:
        ((kind, parts),) = structure.items()
        if kind == "dict":
            return {key: decode(part) for key, part in parts.items()}
        decoded = [decode(part) for part in parts]
        return _class(kind)(decoded) if kind in ("tuple", "list") else _class(kind)(*decoded)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"the structure of its tree is not known, got {structure}") from error


def _class(kind: str) -> PyTree:
    """The class of tuples of that name: "tuple", "list", or "module.Class" for a NamedTuple of a public module of jnn.

    The name is that of a module in which the class is an attribute: files hold train.State, which jnn.typing defines.
    None for other names.
    """
    if kind in ("tuple", "list"):
        return tuple if kind == "tuple" else list
    module, _, name = kind.partition(".")
    try:
        found = getattr(import_module(f"jnn.{module}"), name, None) if re.fullmatch("[a-z]\\w*", module) else None
    except ImportError:
        return None
    return found if isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_fields") else None
