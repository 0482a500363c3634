"""The networks of Nielsen's book, as JSON."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from jnn import costs, mlp
from jnn._internal import files
from jnn.convert.files import existing, write
from jnn.typing import PathLike

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
    write(path, lambda file: file.write_text(json.dumps(network)))


def load_network2(path: PathLike, *, dtype: jax.typing.DTypeLike = jnp.float32) -> tuple[mlp.Params, costs.Cost]:
    """The parameters and the cost of a network that `network2.save` of Nielsen's book, or `export_network2`, wrote.

    The file has numbers of 64 bits; float64 needs `jax_enable_x64`.

    Raises FileNotFoundError if there is no such file, ValueError if it is not such a file or its shapes do not fit.
    """
    path = existing(path)
    try:
        network = json.loads(path.read_text())
        cost = _NETWORK2[network["cost"]]
        weights, biases = ([np.array(part, np.float64) for part in network[name]] for name in ("weights", "biases"))
        params = tuple(
            mlp.Layer(jnp.asarray(w, dtype), jnp.asarray(b[:, 0], dtype)) for w, b in zip(weights, biases, strict=True)
        )
        if list(mlp.sizes(params)) != network["sizes"]:
            raise ValueError(f"sizes are {network['sizes']}, those of the weights {list(mlp.sizes(params))}")
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path} must be a file that network2.save wrote, with sizes, weights, biases and cost, one of "
            f"{', '.join(_NETWORK2)}: {type(error).__name__} {error}"
        ) from error
    return params, cost
