"""A page to draw digits on, which shows while one is drawn what a network makes of it.

`html` returns the whole page, for a browser without a network connection: the weights are part of it, and `reading.js`
computes what `pictures.normalise` and `mlp.forward` compute. What is seen is in `paper.html`, `paper.css` and
`paper.js`. On the page, `reader.image` and `reader.outputs` are the pixels that the network sees and its outputs, or
null before anything is drawn.
"""

import base64
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from jnn import mlp, pictures

MOST_PARAMETERS = 300_000
"""The most parameters: the page then has less than a million bytes."""


def html(params: mlp.Params, sure: float) -> str:
    """The page for a network [784, ..., 10], and a `sure`, as `network` takes them."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html").render(network=network(params, sure), heading="h2")


def network(params: mlp.Params, sure: float) -> dict[str, Any]:
    """What the scripts need of a network [784, ..., 10] with hidden layers of relu neurons and softmax outputs.

    It answers "uncertain" when the largest output is below `sure`. Weights and biases are rounded to half precision.

    Raises ValueError for a network of other sizes or with more than `MOST_PARAMETERS`, for parameters that half
    precision cannot hold, and for a `sure` outside of [0, 1].
    """
    sizes = mlp.sizes(params)
    values = np.concatenate([np.ravel(array) for layer in params for array in (layer.w, layer.b)])
    if len(sizes) < 3 or (sizes[0], sizes[-1]) != (pictures.SIDE**2, 10) or len(values) > MOST_PARAMETERS:
        raise ValueError(
            f"params must be a network [784, ..., 10] of up to {MOST_PARAMETERS:,} parameters, got {list(sizes)}"
        )
    if not 0 <= sure <= 1:
        raise ValueError(f"sure must be from 0 to 1, got {sure}")
    most = float(np.finfo(np.float16).max)
    if not np.all(np.abs(values) <= most):
        raise ValueError(f"params must be finite and at most {most:.0f} in size, got {np.max(np.abs(values))}")
    return {
        "sizes": sizes,
        "sure": float(sure),
        "side": pictures.SIDE,
        "fit": pictures.FIT,
        "faint": pictures.FAINT,
        "strong": pictures.STRONG,
        "beside": pictures.BESIDE,
        "parameters": base64.b64encode(values.astype("<f2").tobytes()).decode(),
    }
