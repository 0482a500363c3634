"""Parameters to and from other libraries: recurrent cells of torch and flax, safetensors files, Nielsen's book.

`to_torch`, `to_flax` and `from_flax` do not check the shapes of arrays: JAX raises ValueError or TypeError for those
that do not fit.
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnn import costs, gru, lstm, mlp, rnn
from jnn._internal import checks, files
from jnn.convert import structure
from jnn.recurrent import Gate
from jnn.typing import PathLike

Cell = lstm.Params | gru.Params | rnn.Params
"""The parameters of a recurrent cell."""

_TORCH = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_FLAX: dict[type, tuple[str, dict[str, str]]] = {  # which of flax's two layers has the bias, and each gate's letter
    lstm.Params: ("h", {"rem": "f", "save": "i", "focus": "o", "ltm": "g"}),
    gru.Params: ("i", {"reset": "r", "update": "z", "candidate": "n"}),
}
_ABOUT = ("metadata", "structure", "names")
_DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64", "complex64"),
)


def to_torch(params: Cell, *, layer: int = 0) -> dict[str, Float[Array, "..."]]:
    """Converts a recurrent cell to the arrays of one layer of `torch.nn.LSTM`, `GRU` or `RNN`.

    The arrays of a stack are `to_torch(lowest) | to_torch(next, layer=1) | ...`.

    Args:
      params: The parameters of the cell, which determine the kind.
      layer: The number of the layer, from 0.

    Returns:
      The arrays by their names in the state_dict. What the recurrent bias adds to the other is 0.

    Raises:
      ValueError: If `layer` is below 0.
      TypeError: If `params` is of another kind, or `layer` is not an integer.

    Example:
      >>> arrays = convert.to_torch(gru.init(jax.random.key(0), inputs=3, units=4))
      >>> {name: array.shape for name, array in arrays.items()}
      {'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4), 'bias_ih_l0': (12,), 'bias_hh_l0': (12,)}
    """
    checks.count("layer", layer, least=0)
    if not isinstance(params, lstm.Params | gru.Params | rnn.Params):
        raise TypeError(f"params must be lstm.Params, gru.Params or rnn.Params, got {type(params).__name__}")
    if isinstance(params, lstm.Params):
        gates: Any = params.save, params.rem, params.ltm, params.focus  # torch's order: i, f, g, o
    else:
        gates = params[:3] if isinstance(params, gru.Params) else (params,)
    w, u, b = (jnp.concatenate(parts) for parts in zip(*gates, strict=True))
    b_hh = jnp.zeros_like(b)
    if isinstance(params, gru.Params):
        b_hh = b_hh.at[-len(params.c) :].set(params.c)
    return {f"{name}_l{layer}": array for name, array in zip(_TORCH, (w, u, b, b_hh), strict=True)}


def from_torch(arrays: Mapping[str, Any], *, layer: int = 0, reverse: bool = False) -> Cell:
    """Converts one layer of a `torch.nn.LSTM`, `GRU` or `RNN` (with tanh) to the parameters of a cell.

    Args:
      arrays: The state_dict, as NumPy arrays: `tensor.numpy()` each. weight_hh [k d, d] determines the kind: k is 4 for
        an LSTM, 3 for a GRU and 1 for an RNN.
      layer: The number of the layer, from 0.
      reverse: Whether to convert the layer's reverse direction.

    Returns:
      The parameters. Biases are 0 if the network was made with `bias=False`.

    Raises:
      ValueError: If an array is missing or has another shape, or if the network has projections.

    Example:
      >>> arrays = convert.to_torch(rnn.init(jax.random.key(0), inputs=3, units=4))
      >>> convert.from_torch(arrays).W.shape
      (4, 3)
    """
    end = f"_l{layer}{'_reverse' * bool(reverse)}"
    names = [kind + end for kind in _TORCH]
    if not any(name in arrays for name in names[2:]) and names[0] in arrays:
        zeros = np.zeros_like(arrays[names[0]], shape=jnp.shape(arrays[names[0]])[:1])
        arrays = dict(arrays) | dict.fromkeys(names[2:], zeros)
    if missing := [name for name in names if name not in arrays]:
        wanted = f"{', '.join(missing)} must be in the state_dict of an LSTM, a GRU or an RNN"
        raise ValueError(f"{wanted}, got {', '.join(arrays)}")
    if f"weight_hr{end}" in arrays:
        raise ValueError(f"the network must have no projections, got weight_hr{end}: make it without proj_size")
    w, u, b_ih, b_hh = (jnp.asarray(arrays[name]) for name in names)
    (_, p), (rows, d) = checks.matrix(names[0], w), checks.matrix(names[1], u)
    if rows not in (d, 3 * d, 4 * d):
        kinds = "k = 4 for an LSTM, 3 for a GRU and 1 for an RNN"
        raise ValueError(f"{names[1]} must have shape [k d, d], {kinds}, got {u.shape}")
    for name, value, expected in zip(names, (w, u, b_ih, b_hh), ((rows, p), (rows, d), (rows,), (rows,)), strict=True):
        checks.shape(name, value, expected, f"one row for each of the {rows} rows of {names[1]}")
    k = rows // d
    c = b_hh[-d:]
    b = b_ih + (b_hh.at[-d:].set(0) if k == 3 else b_hh)
    gates: Any = [Gate(*parts) for parts in zip(*(jnp.split(a, k) for a in (w, u, b)), strict=True)]
    if k == 4:
        save, rem, ltm, focus = gates
        return lstm.Params(rem, save, focus, ltm)
    return gru.Params(*gates, c=c) if k == 3 else rnn.Params(*gates[0])


def to_flax(params: lstm.Params | gru.Params) -> dict[str, dict[str, Float[Array, "..."]]]:
    """Converts an LSTM or a GRU to the parameters of flax.linen's `LSTMCell`, `OptimizedLSTMCell` or `GRUCell`.

    Args:
      params: The parameters of the cell, which determine the kind.

    Returns:
      Kernels [p, d] and [d, d] and biases [d] by the names of flax.

    Raises:
      TypeError: If `params` is of another kind.

    Example:
      >>> cell = convert.to_flax(lstm.init(jax.random.key(0), inputs=3, units=4))
      >>> cell["if"]["kernel"].shape
      (3, 4)
    """
    if type(params) not in _FLAX:
        raise TypeError(f"params must be lstm.Params or gru.Params, got {type(params).__name__}")
    with_bias, letters = _FLAX[type(params)]
    cell: dict[str, dict[str, Array]] = {}
    for name, letter in letters.items():
        gate: Gate = getattr(params, name)
        cell |= {"i" + letter: {"kernel": gate.W.T}, "h" + letter: {"kernel": gate.U.T}}
        cell[with_bias + letter]["bias"] = gate.b
    if isinstance(params, gru.Params):
        cell["hn"]["bias"] = params.c
    return cell


def from_flax(cell: Mapping[str, Mapping[str, Any]]) -> lstm.Params | gru.Params:
    """Converts the parameters of flax.linen's `LSTMCell`, `OptimizedLSTMCell` or `GRUCell`: the inverse of `to_flax`.

    Args:
      cell: The parameters. Those of a `GRUCell`, unlike those of an LSTM, have an "in" or "hn".

    Returns:
      The parameters.

    Raises:
      ValueError: If a kernel or bias is missing.

    Example:
      >>> params = gru.init(jax.random.key(0), inputs=3, units=4)
      >>> convert.from_flax(convert.to_flax(params)).c.shape
      (4,)
    """
    kind: Any = gru.Params if {"in", "hn"} & set(cell) else lstm.Params
    with_bias, letters = _FLAX[kind]
    given = [f"{part}.{name}" for part, arrays in cell.items() for name in arrays]
    needed = [name for x in letters.values() for name in (f"i{x}.kernel", f"h{x}.kernel", f"{with_bias}{x}.bias")]
    needed += ["hn.bias"] if kind is gru.Params else []
    if missing := [name for name in needed if name not in given]:
        name = "a GRUCell" if kind is gru.Params else "an LSTMCell"
        raise ValueError(f"{', '.join(missing)} must be in the parameters of {name}, got {', '.join(given)}")

    def gate(letter: str) -> Gate:
        W, U = (jnp.asarray(cell[part + letter]["kernel"]).T for part in "ih")
        return Gate(W, U, jnp.asarray(cell[with_bias + letter]["bias"]))

    gates: dict[str, Any] = {name: gate(letter) for name, letter in letters.items()}
    return kind(**gates, c=jnp.asarray(cell["hn"]["bias"])) if kind is gru.Params else kind(**gates)


def export(path: PathLike, params: Any, metadata: Mapping[str, Any] | None = None) -> None:
    """Write the arrays of `params` to a safetensors file, named by their path in the tree: "0.w", "0.b", "1.w", ...

    "~" in the path is your home. A temporary file beside `path` is renamed once it is complete. Python numbers are
    written as arrays of 64 bits without axes. The file also holds the structure of the tree, if it is made of tuples,
    lists, dicts, None and jnn's own parameters and states, so that `load` needs no tree like it.

    metadata: what else to know of them, in types that JSON has or as arrays, which it holds as lists, such as
    {"hidden": "relu", "scale": 1 / 255}; the function `metadata` reads it, and `getattr(activations, "relu")` is relu.

    Raises TypeError for leaves that are neither arrays nor numbers or have a dtype that the file cannot hold, and for
    metadata that JSON cannot hold; ValueError for leaves of the same name, and OSError if the file cannot be written.
    Needs safetensors: pip install safetensors.
    """
    path = files.expanded("path", path)
    arrays: dict[str, np.ndarray] = {}
    for where, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = checks.leaf_name(where)
        if name in arrays or name == "__metadata__":
            raise ValueError(f"the names of arrays must differ, and not be __metadata__, got {name!r}: rename a key")
        arrays[name] = _plain(f"params{jax.tree_util.keystr(where)}", leaf)
    try:
        about = {
            "metadata": json.dumps(
                dict(metadata or {}), default=lambda array: np.asarray(_plain("metadata", array)).tolist()
            )
        }
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata must be a dict of what JSON holds: {error}") from error
    with contextlib.suppress(TypeError):
        about |= {"structure": json.dumps(structure.encode(params)), "names": json.dumps(list(arrays))}
    _write(path, lambda file: _safetensors().save_file(arrays, str(file), about))


def load(path: PathLike, like: Any = None) -> Any:
    """The parameters in a file that `export` wrote, as the tree that was written, or as a tree like `like`.

    `like`, such as `mlp.init` makes, is needed where the file does not hold the structure of its tree, and also checks
    that the parameters have its sizes.

    Each has the bits, dtype and shape that were written: a Python number gives one, and an array that JAX would narrow,
    as float64 without `jax_enable_x64`, stays NumPy's.

    Raises FileNotFoundError if there is no such file, ValueError if it is damaged, if it does not hold the structure of
    its tree and there is no `like`, or if names, shapes or dtypes of its arrays differ from those of `like`; TypeError
    for leaves of `like` that `export` would not write.
    """
    path = _existing(path)
    try:
        arrays = _safetensors().load_file(str(path))
    except Exception as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error})") from error
    if like is None:
        return _restored(path, arrays)
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    named = {checks.leaf_name(where): leaf for where, leaf in leaves}
    expected = {name: _described(f"like.{name}", leaf) for name, leaf in named.items()}
    found = {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}
    if found != expected:
        difference = checks.difference("arrays", found, expected)
        raise ValueError(f"{path} holds {difference}: pass `like` with the same sizes")
    return jax.tree.unflatten(structure, [_as(leaf, arrays[name]) for name, leaf in named.items()])


def metadata(path: PathLike) -> dict[str, Any]:
    """The metadata in a file that `export` wrote; empty for files without any.

    Raises FileNotFoundError if there is no such file, ValueError if it is damaged.
    """
    return _about(_existing(path)).get("metadata", {})


_NETWORK2 = {"QuadraticCost": costs.quadratic, "CrossEntropyCost": costs.cross_entropy}


def export_network2(path: PathLike, params: mlp.Params, cost: costs.Cost) -> None:
    """Write the JSON file that `network2.load` of Nielsen's book reads: sizes, weights, biases and the cost's name.

    The book's networks have sigmoid neurons, and the quadratic or the cross-entropy cost.

    Raises ValueError for another cost and for shapes that do not fit, OSError if the file cannot be written.
    """
    path, sizes = files.expanded("path", path), mlp.sizes(params)
    name = next((name for name, known in _NETWORK2.items() if known is cost), None)
    if name is None:
        raise ValueError(f"cost must be costs.quadratic or costs.cross_entropy, which the book has, got {cost!r}")
    network = {
        "sizes": list(sizes),
        "weights": [np.asarray(layer.w, np.float64).tolist() for layer in params],
        "biases": [np.asarray(layer.b, np.float64)[:, None].tolist() for layer in params],
        "cost": name,
    }
    _write(path, lambda file: file.write_text(json.dumps(network)))


def load_network2(path: PathLike, *, dtype: jax.typing.DTypeLike = jnp.float32) -> tuple[mlp.Params, costs.Cost]:
    """The parameters and the cost of a network that `network2.save` of Nielsen's book, or `export_network2`, wrote.

    The file has numbers of 64 bits; float64 needs `jax_enable_x64`.

    Raises FileNotFoundError if there is no such file, ValueError if it is not such a file or its shapes do not fit.
    """
    path = _existing(path)
    try:
        network = json.loads(path.read_text())
        cost = _NETWORK2[network["cost"]]
        layers = [
            mlp.Layer(
                w=jnp.asarray(np.array(w, np.float64), dtype), b=jnp.asarray(np.array(b, np.float64)[:, 0], dtype)
            )
            for w, b in zip(network["weights"], network["biases"], strict=True)
        ]
        if list(mlp.sizes(tuple(layers))) != network["sizes"]:
            raise ValueError(f"sizes are {network['sizes']}, those of the weights {list(mlp.sizes(tuple(layers)))}")
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path} must be a file that network2.save wrote, with sizes, weights, biases and cost, one of "
            f"{', '.join(_NETWORK2)}: {type(error).__name__} {error}"
        ) from error
    return tuple(layers), cost


def _existing(path: PathLike) -> Path:
    path = files.expanded("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"path must be a file that jnn.convert wrote, got {path}, which does not exist")
    return path


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file beside `path`, and rename it once it is complete."""
    written = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.writing")
    try:
        write(written)
        written.replace(path)
    except Exception as error:
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            written.unlink(missing_ok=True)


def _about(path: Path) -> dict[str, Any]:
    _safetensors()
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: json.loads(text) for name, text in (file.metadata() or {}).items() if name in _ABOUT}
    except Exception as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error})") from error


def _restored(path: Path, arrays: Mapping[str, np.ndarray]) -> Any:
    about = _about(path)
    if "structure" not in about:
        raise ValueError(f"{path} does not hold the structure of its tree: pass `like`, a tree like the one written")
    try:
        leaves, tree = jax.tree.flatten(structure.decode(about["structure"]))
        named = [arrays[name] for name in about["names"]]
        kinds: list[Any] = [0 if leaf == "number" else array for leaf, array in zip(leaves, named, strict=True)]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return jax.tree.unflatten(tree, list(map(_as, kinds, named)))


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
    narrowed = jax.device_put(array)  # which, unlike jnp.asarray, compiles nothing
    return narrowed if narrowed.dtype == array.dtype else array


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("export and load need safetensors: pip install safetensors") from error
    return safetensors.numpy
