"""The networks of Nielsen's book, as JSON."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from jnn import costs, mlp
from jnn._internal import checks
from jnn.convert.files import existing, write
from jnn.typing import PathLike

_NETWORK2 = {"QuadraticCost": costs.quadratic, "CrossEntropyCost": costs.cross_entropy}


def export_network2(path: PathLike, params: mlp.Params, cost: costs.Cost) -> None:
    """Writes the JSON file that `network2.load` of Nielsen's book reads: sizes, weights, biases and the cost's name.

    Args:
      path: The file.
      params: A network with sigmoid neurons, as all of the book's.
      cost: `costs.quadratic` or `costs.cross_entropy`.

    Raises:
      ValueError: If the cost is another one, or if shapes do not fit.
      TypeError: If `params` are not real layers, or `path` is not a path.
      OSError: If the file cannot be written.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     convert.export_network2(f"{folder}/net.json", mlp.init(jax.random.key(0), (2, 3, 1)), costs.quadratic)
      ...     params, cost = convert.load_network2(f"{folder}/net.json")
      >>> mlp.sizes(params), cost
      ((2, 3, 1), costs.quadratic)
    """
    path, sizes = checks.path("path", path), mlp.sizes(params)
    for where, leaf in jax.tree_util.tree_leaves_with_path(params):
        if np.asarray(leaf).dtype.kind in "cUSTO":
            raise TypeError(f"params{jax.tree_util.keystr(where)} must hold real numbers, got {np.asarray(leaf).dtype}")
    name = next((name for name, known in _NETWORK2.items() if known is cost), None)
    if name is None:
        raise ValueError(f"cost must be costs.quadratic or costs.cross_entropy, which the book has, got {cost!r}")
    network = {
        "sizes": list(sizes),
        "weights": [np.asarray(layer.w, np.float64).tolist() for layer in params],
        "biases": [np.asarray(layer.b, np.float64)[:, None].tolist() for layer in params],
        "cost": name,
    }
    write(path, lambda file: file.write_text(json.dumps(network)))


def load_network2(path: PathLike, *, dtype: jax.typing.DTypeLike = jnp.float32) -> tuple[mlp.Params, costs.Cost]:
    """Returns the parameters and the cost of a network that `network2.save` of the book, or `export_network2`, wrote.

    Args:
      path: The file.
      dtype: The dtype of the parameters. The file has numbers of 64 bits; float64 needs `jax_enable_x64`.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is not such a file, or its shapes do not fit.
      TypeError: If `dtype` is not floating, or `path` is not a path.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     convert.export_network2(f"{folder}/net.json", mlp.init(jax.random.key(0), (2, 1)), costs.cross_entropy)
      ...     params, cost = convert.load_network2(f"{folder}/net.json")
      >>> cost.output(mlp.logits(params, jnp.zeros(2))).shape
      (1,)
    """
    path = existing(path)
    if not jnp.issubdtype(jnp.dtype(dtype), jnp.floating):
        raise TypeError(f"dtype must be floating, got {jnp.dtype(dtype)}")
    try:
        network = json.loads(path.read_text())
        cost = _NETWORK2[network["cost"]]
        weights, biases = (list(map(_numbers, network[name])) for name in ("weights", "biases"))
        params = tuple(
            mlp.Layer(jnp.asarray(w, dtype), jnp.asarray(b.reshape(len(b)), dtype))
            for w, b in zip(weights, biases, strict=True)
        )
        if list(mlp.sizes(params)) != network["sizes"]:
            raise ValueError(f"sizes are {network['sizes']}, those of the weights {list(mlp.sizes(params))}")
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path} must be a file that network2.save wrote, with sizes, weights, biases and cost, one of "
            f"{', '.join(_NETWORK2)}: {type(error).__name__} {error}"
        ) from error
    return params, cost


def _numbers(rows: list[list[float]]) -> np.ndarray:
    array = np.array(rows)
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise ValueError(f"weights and biases must be rows of numbers, got {array.dtype} of shape {array.shape}")
    return array.astype(np.float64)
