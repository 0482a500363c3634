"""Parameters to and from other libraries: torch and flax LSTMs, and safetensors files.

`to_torch`, `to_flax` and `from_flax` do not check the shapes of arrays: JAX raises ValueError or TypeError for those
that do not fit.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnn import _checks, lstm
from jnn.typing import PathLike

_FLAX_GATES = {"rem": "f", "save": "i", "focus": "o", "ltm": "g"}


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


def from_torch(arrays: Mapping[str, Any], *, layer: int = 0) -> lstm.Params:
    """The parameters of one layer of a `torch.nn.LSTM`, from the arrays of its state_dict, `tensor.numpy()` each.

    Raises ValueError if an array is missing or does not have an LSTM's shape.
    """
    names = [f"{kind}_l{layer}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
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
    if missing := [kind + letter for letter in _FLAX_GATES.values() for kind in "ih" if kind + letter not in cell]:
        raise ValueError(f"{', '.join(missing)} must be in the parameters of an LSTMCell, got {', '.join(cell)}")
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

    A temporary file beside `path` is renamed once it is complete. Raises TypeError for leaves that are not arrays and
    OSError if the file cannot be written. Needs safetensors: pip install safetensors.
    """
    arrays = {}
    for where, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not isinstance(leaf, jax.Array | np.ndarray) or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise TypeError(f"params{jax.tree_util.keystr(where)} must be an array, got {type(leaf).__name__}")
        arrays[_checks.leaf_name(where)] = np.ascontiguousarray(leaf)
    path = Path(path)
    written = path.with_name(f".{path.name}.writing")
    try:
        _safetensors().save_file(arrays, str(written))
        written.replace(path)
    except Exception as error:
        written.unlink(missing_ok=True)
        raise OSError(f"cannot write {path}: {error}") from error


def load(path: PathLike, like: Any) -> Any:
    """The parameters in a file that `export` wrote, as a tree like `like`, such as `mlp.init` makes.

    Raises FileNotFoundError if there is no such file, ValueError if it is damaged or if names, shapes or dtypes of its
    arrays differ from those of `like`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path must be a file that convert.export wrote, got {path}, which does not exist")
    try:
        arrays = _safetensors().load_file(str(path))
    except Exception as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error})") from error
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    expected = {_checks.leaf_name(where): f"{leaf.dtype}{list(leaf.shape)}" for where, leaf in leaves}
    found = {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}
    if found != expected:
        difference = _checks.difference("arrays", found, expected)
        raise ValueError(f"{path} holds {difference}: pass `like` with the same sizes")
    return jax.tree.unflatten(structure, [jnp.asarray(arrays[name]) for name in expected])


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("export and load need safetensors: pip install safetensors") from error
    return safetensors.numpy
