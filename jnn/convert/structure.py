"""The structure of a tree as JSON, so that a file of arrays knows which tree it holds."""

from typing import Any

from jnn import language, lstm, mlp, rnn
from jnn.typing import CarryState, State

_KINDS: dict[str, Any] = {
    "mlp.Layer": mlp.Layer,
    "language.Params": language.Params,
    "lstm.Gate": lstm.Gate,
    "lstm.Params": lstm.Params,
    "lstm.State": lstm.State,
    "rnn.Params": rnn.Params,
    "train.State": State,
    "train.CarryState": CarryState,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(tree: Any) -> Any:
    """JSON of nested tuples, lists, dicts, None and jnn's own kinds; each leaf is "array" or "number".

    Raises TypeError for a container of another kind, or a dict with other keys than text, which only a tree like it can
    restore.
    """
    if tree is None:
        return None
    if isinstance(tree, tuple | list):
        kind = _NAMES.get(type(tree), type(tree).__name__)
        if type(tree) not in (*_NAMES, tuple, list):
            raise TypeError(f"a {kind} is restored only by a tree like it")
        return {kind: [encode(part) for part in tree]}
    if isinstance(tree, dict):
        if type(tree) is not dict or not all(isinstance(key, str) for key in tree):
            raise TypeError("only a dict with text as keys is restored")
        return {"dict": {key: encode(part) for key, part in tree.items()}}
    if hasattr(tree, "dtype"):
        return "array"
    if isinstance(tree, int | float):
        return "number"
    raise TypeError(f"a {type(tree).__name__} is restored only by a tree like it")


def decode(structure: Any) -> Any:
    """The tree, with the texts "array" and "number" as leaves. Raises ValueError for what `encode` does not write."""
    if structure is None or structure in ("array", "number"):
        return structure
    try:
        ((kind, parts),) = structure.items()
        if kind == "dict":
            return {key: decode(part) for key, part in parts.items()}
        decoded = [decode(part) for part in parts]
        return {"tuple": tuple, "list": list}[kind](decoded) if kind in ("tuple", "list") else _KINDS[kind](*decoded)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"the structure of its tree is not known, got {structure}") from error
