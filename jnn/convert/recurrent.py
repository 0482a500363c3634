"""Recurrent cells of torch."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnn import gru, lstm, rnn
from jnn._internal import checks
from jnn.cell import Gate, check_params
from jnn.typing import PyTree

Cell = lstm.Params | gru.Params | rnn.Params
"""The parameters of a recurrent cell."""

_TORCH = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def to_torch(params: Cell, *, layer: int = 0) -> dict[str, Float[Array, "..."]]:
    """Converts a recurrent cell to the arrays of one layer of `torch.nn.LSTM`, `GRU` or `RNN`.

    The arrays of a stack are `to_torch(lowest) | to_torch(next, layer=1) | ...`.

    Args:
      params: The parameters of the cell, which determine the kind.
      layer: The number of the layer, from 0.

    Returns:
      The arrays by their names in the state_dict. What the recurrent bias adds to the other is 0.

    Raises:
      ValueError: If `layer` is below 0, or if shapes do not belong together.
      TypeError: If `params` is of another kind, or `layer` is not an integer.

    Example:
      >>> arrays = convert.to_torch(gru.init(jax.random.key(0), inputs=3, units=4))
      >>> {name: array.shape for name, array in arrays.items()}
      {'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4), 'bias_ih_l0': (12,), 'bias_hh_l0': (12,)}
    """
    checks.count("layer", layer, least=0)
    _check_cell(params)
    if isinstance(params, lstm.Params):
        gates: PyTree = params.save, params.rem, params.ltm, params.focus  # torch's order: i, f, g, o
    else:
        gates = params[:3] if isinstance(params, gru.Params) else (params,)
    w, u, b = (jnp.concatenate(parts) for parts in zip(*gates, strict=True))
    b_hh = jnp.zeros_like(b)
    if isinstance(params, gru.Params):
        b_hh = b_hh.at[-len(params.c) :].set(params.c)
    return {f"{name}_l{layer}": array for name, array in zip(_TORCH, (w, u, b, b_hh), strict=True)}


def from_torch(arrays: Mapping[str, PyTree], *, layer: int = 0, reverse: bool = False) -> Cell:
    """Converts one layer of a `torch.nn.LSTM`, `GRU` or `RNN` (with tanh) to the parameters of a cell.

    Args:
      arrays: The state_dict, as NumPy arrays: `tensor.numpy()` each. weight_hh [k d, d] determines the kind: k is 4 for
        an LSTM, 3 for a GRU and 1 for an RNN.
      layer: The number of the layer, from 0.
      reverse: Whether to convert the layer's reverse direction.

    Returns:
      The parameters. Biases are 0 if the network was made with `bias=False`.

    Raises:
      ValueError: If an array is missing or has another shape, if the network has projections, or if `layer` is below 0.
      TypeError: If `arrays` is not a dict of floating arrays, or `layer` is not an integer.

    Example:
      >>> arrays = convert.to_torch(rnn.init(jax.random.key(0), inputs=3, units=4))
      >>> convert.from_torch(arrays).W.shape
      (4, 3)
    """
    checks.count("layer", layer, least=0)
    if not isinstance(arrays, Mapping):
        raise TypeError(f"arrays must be a state_dict, arrays by their names, got a {type(arrays).__name__}")
    end = f"_l{layer}{'_reverse' * bool(reverse)}"
    names = [kind + end for kind in _TORCH]
    if not any(name in arrays for name in names[2:]) and names[0] in arrays:
        zeros = np.zeros_like(arrays[names[0]], shape=np.shape(arrays[names[0]])[:1])
        arrays = dict(arrays) | dict.fromkeys(names[2:], zeros)
    if missing := [name for name in names if name not in arrays]:
        wanted = f"{', '.join(missing)} must be in the state_dict of an LSTM, a GRU or an RNN"
        raise ValueError(f"{wanted}, got {', '.join(map(str, arrays))}")
    if f"weight_hr{end}" in arrays:
        raise ValueError(f"the network must have no projections, got weight_hr{end}: make it without proj_size")
    w, u, b_ih, b_hh = (_floating(name, arrays[name]) for name in names)
    (_, p), (rows, d) = checks.matrix(names[0], w), checks.matrix(names[1], u)
    if not d or rows not in (d, 3 * d, 4 * d):
        kinds = "k = 4 for an LSTM, 3 for a GRU and 1 for an RNN"
        raise ValueError(f"{names[1]} must have shape [k d, d], {kinds}, got {u.shape}")
    for name, value, expected in zip(names, (w, u, b_ih, b_hh), ((rows, p), (rows, d), (rows,), (rows,)), strict=True):
        checks.shape(name, value, expected, f"one row for each of the {rows} rows of {names[1]}")
    k = rows // d
    c = b_hh[-d:]
    b = b_ih + (b_hh.at[-d:].set(0) if k == 3 else b_hh)
    gates: PyTree = [Gate(*parts) for parts in zip(*(jnp.split(a, k) for a in (w, u, b)), strict=True)]
    if k == 4:
        save, rem, ltm, focus = gates
        return lstm.Params(rem, save, focus, ltm)
    return gru.Params(*gates, c=c) if k == 3 else rnn.Params(*gates[0])


def _check_cell(params: PyTree) -> None:
    """Raise TypeError for parameters of another kind, ValueError for shapes that do not belong together."""
    if not isinstance(params, lstm.Params | gru.Params | rnn.Params):
        given = f"{type(params).__module__}.{type(params).__name__}".removeprefix("builtins.").removeprefix("jnn.")
        advice = "convert a stack cell by cell; an mlp's w and b are those of torch.nn.Linear"
        raise TypeError(f"params must be lstm.Params, gru.Params or rnn.Params, got {given}: {advice}")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda leaf: leaf is None):
        checks.array(f"params.{checks.leaf_name(path)}", leaf)
    check_params(params)


def _floating(name: str, value: PyTree) -> Array:
    """The value as a JAX array; raise TypeError unless it is an array, or rows in a list, of floating dtype."""
    value = np.asarray(value) if isinstance(value, list) else checks.converted(value)
    checks.floating(name, value)
    return jnp.asarray(value)
