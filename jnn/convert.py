"""Parameters to and from other libraries: torch and flax LSTMs, and safetensors files.

`to_torch`, `to_flax` and `from_flax` do not check the shapes of arrays: JAX raises ValueError or TypeError for those
that do not fit.
"""

import contextlib
import os
import threading
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnn import _checks, _files, lstm
from jnn.typing import PathLike

_FLAX_GATES = {"rem": "f", "save": "i", "focus": "o", "ltm": "g"}
_DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64", "complex64"),
)


def to_torch(params: lstm.Params) -> dict[str, Float[Array, "..."]]:
    """The arrays of a one-layer `torch.nn.LSTM`, by the names in its state_dict; its second bias is 0."""
    gates = (params.save, params.rem, params.ltm, params.focus)  # torch's order: i, f, g, o
    b = jnp.concatenate([gate.b for gate in gates])
    return {
        "weight_ih_l0": jnp.concatenate([gate.W for gate in gates]),
        "weight_hh_l0": jnp.concatenate([gate.U for gate in gates]),
        "bias_ih_l0": b,
        "bias_hh_l0": jnp.zeros_like(b),
    }


def from_torch(arrays: Mapping[str, Any], *, layer: int = 0, reverse: bool = False) -> lstm.Params:
    """The parameters of one layer of a `torch.nn.LSTM`, from the arrays of its state_dict, `tensor.numpy()` each.

    `reverse` gives those of the layer's reverse direction. The biases are 0 if the network was made with `bias=False`.

    Raises ValueError if an array is missing or does not have an LSTM's shape.
    """
    end = f"_l{layer}{'_reverse' * bool(reverse)}"
    names = [kind + end for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    if not any(name in arrays for name in names[2:]) and names[0] in arrays:
        zeros = np.zeros_like(arrays[names[0]], shape=jnp.shape(arrays[names[0]])[:1])
        arrays = dict(arrays) | dict.fromkeys(names[2:], zeros)
    if missing := [name for name in names if name not in arrays]:
        raise ValueError(f"{', '.join(missing)} must be in the state_dict of an LSTM, got {', '.join(arrays)}")
    w, u, b_ih, b_hh = (jnp.asarray(arrays[name]) for name in names)
    rows, p = _checks.matrix(names[0], w)
    for name, value, expected in zip(names[1:], (u, b_ih, b_hh), ((rows, rows // 4), (rows,), (rows,)), strict=True):
        _checks.shape(name, value, expected, f"{names[0]} holds four gates [d, {p}] in its {rows} rows")
    save, rem, ltm, focus = (
        lstm.Gate(*parts) for parts in zip(*(jnp.split(a, 4) for a in (w, u, b_ih + b_hh)), strict=True)
    )
    return lstm.Params(rem, save, focus, ltm)


def to_flax(params: lstm.Params) -> dict[str, dict[str, Array]]:
    """The parameters of flax.linen's `LSTMCell` and `OptimizedLSTMCell`: kernels [p, d] and [d, d], one bias."""
    cell: dict[str, dict[str, Array]] = {}
    for name, letter in _FLAX_GATES.items():
        gate: lstm.Gate = getattr(params, name)
        cell["i" + letter] = {"kernel": gate.W.T}
        cell["h" + letter] = {"kernel": gate.U.T, "bias": gate.b}
    return cell


def from_flax(cell: Mapping[str, Mapping[str, Any]]) -> lstm.Params:
    """The inverse of `to_flax`. Raises ValueError if a kernel or bias is missing."""
    given = [f"{part}.{name}" for part, arrays in cell.items() for name in arrays]
    letters = _FLAX_GATES.values()
    needed = [name for x in letters for name in (f"i{x}.kernel", f"h{x}.kernel", f"h{x}.bias")]
    if missing := [name for name in needed if name not in given]:
        raise ValueError(f"{', '.join(missing)} must be in the parameters of an LSTMCell, got {', '.join(given)}")
    return lstm.Params(
        **{
            name: lstm.Gate(
                jnp.asarray(cell["i" + letter]["kernel"]).T,
                jnp.asarray(cell["h" + letter]["kernel"]).T,
                jnp.asarray(cell["h" + letter]["bias"]),
            )
            for name, letter in _FLAX_GATES.items()
        }
    )


def export(path: PathLike, params: Any) -> None:
    """Write the arrays of `params` to a safetensors file, named by their path in the tree: "0.w", "0.b", "1.w", ...

    "~" in the path is your home. A temporary file beside `path` is renamed once it is complete. Python numbers are
    written as arrays of 64 bits without axes.

    Raises TypeError for leaves that are neither arrays nor numbers or have a dtype that the file cannot hold,
    ValueError for leaves of the same name, and OSError if the file cannot be written. Needs safetensors: pip install
    safetensors.
    """
    path = _files.expanded("path", path)
    arrays: dict[str, np.ndarray] = {}
    for where, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = _checks.leaf_name(where)
        if name in arrays or name == "__metadata__":
            raise ValueError(f"the names of arrays must differ, and not be __metadata__, got {name!r}: rename a key")
        arrays[name] = _plain(f"params{jax.tree_util.keystr(where)}", leaf)
    written = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.writing")
    try:
        _safetensors().save_file(arrays, str(written))
        written.replace(path)
    except Exception as error:
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            written.unlink(missing_ok=True)


def load(path: PathLike, like: Any) -> Any:
    """The parameters in a file that `export` wrote, as a tree like `like`, such as `mlp.init` makes.

    Each has the bits, dtype and shape that were written: a Python number in `like` gives one, and an array that JAX
    would narrow, as float64 without `jax_enable_x64`, stays NumPy's.

    Raises FileNotFoundError if there is no such file, ValueError if it is damaged or if names, shapes or dtypes of its
    arrays differ from those of `like`, TypeError for leaves of `like` that `export` would not write.
    """
    path = _files.expanded("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"path must be a file that convert.export wrote, got {path}, which does not exist")
    try:
        arrays = _safetensors().load_file(str(path))
    except Exception as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error})") from error
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    named = {_checks.leaf_name(where): leaf for where, leaf in leaves}
    expected = {name: _described(f"like.{name}", leaf) for name, leaf in named.items()}
    found = {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}
    if found != expected:
        difference = _checks.difference("arrays", found, expected)
        raise ValueError(f"{path} holds {difference}: pass `like` with the same sizes")
    return jax.tree.unflatten(structure, [_as(leaf, arrays[name]) for name, leaf in named.items()])


def _plain(name: str, leaf: Any) -> np.ndarray:
    """The leaf as an array that a safetensors file holds; raise TypeError for others."""
    held = isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float)
    if not held or isinstance(leaf, np.ma.MaskedArray) or jnp.issubdtype(_dtype(leaf), jax.dtypes.extended):
        raise TypeError(f"{name} must be an array or a number, got {type(leaf).__name__}")
    array = np.asarray(leaf, order="C")
    if array.dtype.name not in _DTYPES or not array.dtype.isnative or array.dtype != _dtype(leaf):
        raise TypeError(f"{name} must be of dtype {', '.join(_DTYPES)}, in native byte order, got {array.dtype}")
    return array


def _dtype(leaf: Any) -> Any:
    """The dtype of an array, or of 64 bits for a Python number."""
    if hasattr(leaf, "dtype"):
        return leaf.dtype
    return np.dtype(bool if isinstance(leaf, bool) else np.int64 if isinstance(leaf, int) else np.float64)


def _described(name: str, leaf: Any) -> str:
    array = leaf if hasattr(leaf, "dtype") else _plain(name, leaf)
    return f"{array.dtype}{list(array.shape)}"


def _as(leaf: Any, array: np.ndarray) -> Any:
    if not hasattr(leaf, "dtype"):
        return array.item()
    narrowed = jnp.asarray(array)
    return narrowed if narrowed.dtype == array.dtype else array


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("export and load need safetensors: pip install safetensors") from error
    return safetensors.numpy
