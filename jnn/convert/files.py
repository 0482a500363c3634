"""Safetensors files of parameters, which know the structure of their tree."""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnn._internal import checks, structure
from jnn.typing import PathLike, PyTree

_DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64", "complex64"),
)


def export(path: PathLike, params: PyTree, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes a pytree of arrays to a safetensors file.

    The arrays are named by their paths in the tree: "0.w", "0.b", "1.w", ... If the tree consists of tuples, lists,
    dicts, None and NamedTuples, the file also holds its structure, so that `load` needs no template. The file is
    written under a temporary name and renamed once it is complete.

    Args:
      path: The file; "~" is your home.
      params: The tree. Python numbers are written as arrays of 64 bits without axes.
      metadata: Further values to store, as JSON types or arrays (stored as lists), such as {"hidden": "relu"}. The
        function `metadata` reads them, and `getattr(activations, "relu")` is relu; look up one of your own by its name.

    Raises:
      TypeError: If a leaf is not an array or a number, if its dtype does not exist in the file format, or if `metadata`
        cannot be stored as JSON.
      ValueError: If two leaves have the same name, or one is named "__metadata__".
      OSError: If the file cannot be written.
      ImportError: Without safetensors: pip install safetensors.

    Example:
      >>> import tempfile
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     convert.export(f"{folder}/net.safetensors", params, {"hidden": "relu"})
      ...     restored = convert.load(f"{folder}/net.safetensors")
      ...     about = convert.metadata(f"{folder}/net.safetensors")
      >>> mlp.sizes(restored), about
      ((3, 4, 2), {'hidden': 'relu'})
    """
    path = checks.path("path", path)
    arrays: dict[str, np.ndarray] = {}
    for where, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = checks.leaf_name(where)
        if name in arrays or name == "__metadata__":
            raise ValueError(f"the names of arrays must differ, and not be __metadata__, got {name!r}: rename a key")
        arrays[name] = _plain(f"params{jax.tree_util.keystr(where)}", leaf)
    try:
        text = json.dumps(dict(metadata or {}), default=lambda array: _plain("metadata", array).tolist())
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata must be a dict of what JSON holds: {error}") from error
    about = {"metadata": text}
    with contextlib.suppress(TypeError):
        about |= {"structure": json.dumps(structure.encode(params)), "names": json.dumps(list(arrays))}
    write(path, lambda file: _safetensors().numpy.save_file(arrays, str(file), about))


def load(path: PathLike, like: PyTree = None) -> PyTree:
    """Loads the tree of arrays that `export` wrote.

    Every array has the bits, dtype and shape that were written; Python numbers are restored as such. An array that JAX
    would narrow, such as float64 without `jax_enable_x64`, is returned as a NumPy array.

    Args:
      path: The file; "~" is your home.
      like: A tree with the structure, shapes and dtypes to expect, such as `mlp.init` makes. Only needed if the file
        does not hold the structure of its tree.

    Returns:
      The tree.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is damaged, if it needs `like`, or if its arrays differ from those of `like` in name, shape or
        dtype.
      TypeError: If `like` has leaves that `export` would not write.
      ImportError: Without safetensors: pip install safetensors.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     convert.export(f"{folder}/scale.safetensors", {"scale": jnp.arange(3.0)})
      ...     convert.load(f"{folder}/scale.safetensors")["scale"].tolist()
      [0.0, 1.0, 2.0]
    """
    path = existing(path)
    arrays = _read(path, lambda file: {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    if like is None:
        return _restored(path, arrays)
    leaves, tree = jax.tree_util.tree_flatten_with_path(like)
    named = {checks.leaf_name(where): leaf for where, leaf in leaves}
    if len(named) < len(leaves):
        given = ", ".join(checks.leaf_name(where) for where, _ in leaves)
        raise ValueError(f"the names of arrays in like must differ, got {given}")
    expected = {name: _described(f"like.{name}", leaf) for name, leaf in named.items()}
    found = {name: _described(name, array) for name, array in arrays.items()}
    if found != expected:
        difference = checks.difference("arrays", found, expected)
        raise ValueError(f"{path} holds {difference}: pass `like` with the same sizes")
    return jax.tree.unflatten(tree, [_as(leaf, arrays[name]) for name, leaf in named.items()])


def metadata(path: PathLike) -> dict[str, Any]:
    """Returns the metadata in a file that `export` wrote; empty if there are none.

    Args:
      path: The file; "~" is your home.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is damaged.
      ImportError: Without safetensors: pip install safetensors.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     convert.export(f"{folder}/scale.safetensors", {"scale": jnp.ones(3)}, {"unit": "cm"})
      ...     convert.metadata(f"{folder}/scale.safetensors")
      {'unit': 'cm'}
    """
    return _about(existing(path), "metadata") or {}


def existing(path: PathLike) -> Path:
    path = checks.path("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"path must be a file that jnn.convert wrote, got {path}, which does not exist")
    return path


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file beside `path`, and rename it once it is complete."""
    written = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.writing")
    try:
        save(written)
        written.replace(path)
    except Exception as error:
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            written.unlink(missing_ok=True)


def _about(path: Path, name: str) -> PyTree:
    """The entry of this name in the file's metadata; None if there is none."""
    return _read(path, lambda file: json.loads((file.metadata() or {}).get(name, "null")))


def _read(path: Path, read: Callable[[Any], Any]) -> Any:
    """What `read` returns for the open file."""
    safe_open = _safetensors().safe_open
    try:
        with safe_open(str(path), framework="numpy") as file:
            return read(file)
    except Exception as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error})") from error


def _restored(path: Path, arrays: Mapping[str, np.ndarray]) -> PyTree:
    names = _about(path, "names")
    if names is None:
        raise ValueError(f"{path} does not hold the structure of its tree: pass `like`, a tree like the one written")
    try:
        leaves, tree = jax.tree.flatten(structure.decode(_about(path, "structure")))
        named = [arrays[name] for name in names]
        kinds: list[PyTree] = [0 if leaf == "number" else array for leaf, array in zip(leaves, named, strict=True)]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return jax.tree.unflatten(tree, list(map(_as, kinds, named)))


def _plain(name: str, leaf: PyTree) -> np.ndarray:
    """The leaf as an array that a safetensors file holds; raise TypeError for others."""
    held = isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float)
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    if not held or is_key or isinstance(leaf, np.ma.MaskedArray):
        raise TypeError(f"{name} must be an array or a number, got {type(leaf).__name__}")
    array = np.asarray(leaf, order="C")
    too_large = isinstance(leaf, int) and array.dtype == np.uint64
    if array.dtype.name not in _DTYPES or not array.dtype.isnative or too_large:
        raise TypeError(f"{name} must be of dtype {', '.join(_DTYPES)}, in native byte order, got {array.dtype}")
    return array


def _described(name: str, leaf: PyTree) -> str:
    array = leaf if hasattr(leaf, "dtype") else _plain(name, leaf)
    return f"{array.dtype}{list(array.shape)}"


def _as(leaf: PyTree, array: np.ndarray) -> PyTree:
    if not hasattr(leaf, "dtype"):
        return array.item()
    narrowed = jax.device_put(array)  # which, unlike jnp.asarray, compiles nothing
    return narrowed if narrowed.dtype == array.dtype else array


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("export and load need safetensors: pip install safetensors") from error
    return safetensors
