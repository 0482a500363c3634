"""Receptive fields for multilayer perceptrons: hidden neurons with places on an image learn what is near them first.

Each hidden neuron has a place on the image. Its weights from nearby start large and learn faster than those from far
away: a prior like that of a convolution, without shared weights. No weight is left out, so what is trained is an
ordinary network, which `jnn.mlp` evaluates. Receptive fields in the visual cortex (Hubel and Wiesel, 1962) led to
networks with local connections (LeCun, 1989); fully connected ones can find them by training (Neyshabur, 2020).

    windows = receptive.windows(sizes, (28, 28), widths=(1.5, 2.0, 4.0), margin=4.0)
    params = receptive.localize(receptive.smooth(mlp.init(key, sizes), (28, 28), sigma=0.7), windows)
    grad = receptive.localized(backprop.minibatch_value_and_grad, windows, floor=0.1)
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from jnn import mlp
from jnn._internal import checks, smoothing
from jnn.mlp import Params
from jnn.typing import Grad, PyTree, Scalar

Windows = tuple[Float[Array, "_ _"], ...]
"""For every layer, how near each neuron is to each neuron of the layer below: from 0 to 1 at the same place."""

PLASTIC = 1.3247179572447460
"""The real root of x^3 = x + 1: multiples of 1/x and 1/x^2, without their integers, cover a square evenly."""


def windows(sizes: Sequence[int], shape: Sequence[int], *, widths: Sequence[float], margin: float = 0.0) -> Windows:
    """The windows exp(-d^2 / (2 width^2)) of a network with layers of `sizes` neurons, on images of `shape` [H, W].

    d: the distance in pixels between the places of two neurons. The inputs' are those of the pixels; hidden neurons
    have theirs on the image without a margin of `margin` pixels, spread evenly by the sequence of Roberts (2018). The
    output neurons have none: their window is 1 everywhere. widths: one for each hidden layer, in pixels.

    Raises ValueError unless the first size is the number of pixels, there is one positive width for each hidden layer
    and the margin leaves a part of the image; TypeError for sizes or a shape that are not integers, widths that are not
    numbers and a margin that is not one number.
    """
    checks.sizes(sizes)
    _check_shape(shape, sizes[0])
    if len(widths) != len(sizes) - 2:
        raise ValueError(f"widths must have one entry for each of {len(sizes) - 2} hidden layers, got {len(widths)}")
    checks.in_range("margin", margin)
    if 2 * margin >= min(shape):
        raise ValueError(f"margin must be below half of the image's {min(shape)} pixels, got {margin}")
    below = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in shape), indexing="ij"), axis=-1).reshape(-1, 2)
    found = []
    for n, width in zip(sizes[1:-1], widths, strict=True):
        checks.positive("widths", width)
        unit = (np.arange(1, n + 1)[:, None] / PLASTIC ** np.arange(1, 3)) % 1
        places = margin + unit * (np.array(shape) - 2 * margin)
        squared = np.sum((places[:, None] - below[None]) ** 2, axis=-1)
        found.append(jnp.asarray(np.exp(-squared / (2 * width**2)), jnp.float32))
        below = places
    return *found, jnp.ones((sizes[-1], sizes[-2]))


def smooth(params: Params, shape: Sequence[int], *, sigma: Scalar) -> Params:
    """The network with each first-layer neuron's weights smoothed over the image, and scaled to their norm before.

    Weights that are drawn independently respond to noise between neighbouring pixels, and go on doing so after
    training. sigma: the standard deviation of the Gaussian, in pixels; its weights sum to 1 near the border too.

    Raises ValueError unless shape is [H, W] with one pixel for each input, and for a negative sigma; TypeError for a
    shape that does not hold integers and a sigma that is not one number.
    """
    _check_shape(shape, mlp.sizes(params)[0])
    checks.in_range("sigma", sigma)
    first, *others = params
    columns = first.w.T
    w = smoothing.gaussian(columns.reshape(*shape, -1), sigma).reshape(columns.shape).T
    return first._replace(w=_with_norms_of(first.w, w)), *others


def localize(params: Params, windows: Windows) -> Params:
    """The network with each weight times its window, and each neuron's incoming weights scaled to their norm before.

    Raises ValueError for shapes that do not fit.
    """
    _check(params, windows)
    local = _scaled(params, windows)
    return tuple(layer._replace(w=_with_norms_of(layer.w, new.w)) for layer, new in zip(params, local, strict=True))


def localized(grad: Grad, windows: Windows, *, floor: Scalar) -> Partial:
    """`grad` with each weight's derivative times floor + (1 - floor) window: gradient descent with a rate for each.

    floor: the fraction of the learning rate that remains far away, from 0 (the network stays local) to 1. Penalties and
    noise that are added to the result act on all weights alike.

    Raises ValueError for a floor outside [0, 1] and, when it is called, for shapes that do not fit; TypeError for a
    floor that is not one number.
    """
    checks.in_range("floor", floor, most=1)
    return Partial(_localized, grad if isinstance(grad, Partial) else Partial(grad), windows, floor)


def _localized(
    grad: Callable[..., PyTree], windows: Windows, floor: Scalar, params: Params, *batch: PyTree
) -> tuple[PyTree, Params]:
    _check(params, windows)
    value, grads = grad(params, *batch)
    return value, _scaled(grads, [floor + (1 - floor) * window for window in windows])


def _scaled(layers: Params, rates: Sequence[Array]) -> Params:
    pairs = zip(layers, rates, strict=True)
    return tuple(layer._replace(w=layer.w * rate.astype(layer.w.dtype)) for layer, rate in pairs)


def _with_norms_of(before: Float[Array, "n_out n_in"], w: Float[Array, "n_out n_in"]) -> Float[Array, "n_out n_in"]:
    """The rows of w, each scaled to the norm of the same row of `before`, or 0 where it is 0."""
    wanted, found = (jnp.linalg.norm(a, axis=1, keepdims=True) for a in (before, w))
    return w / jnp.where(found > 0, found, 1) * wanted


def _check_shape(shape: Sequence[int], inputs: int) -> None:
    for n in shape:
        checks.count("shape", n)
    if len(shape) != 2 or np.prod(shape) != inputs:
        raise ValueError(f"shape must be [H, W] with one pixel for each of {inputs} inputs, got {tuple(shape)}")


def _check(params: Params, windows: Windows) -> None:
    mlp.sizes(params)
    if len(windows) != len(params):
        raise ValueError(f"windows must have one array for each of {len(params)} layers, got {len(windows)}")
    for i, (layer, window) in enumerate(zip(params, windows, strict=True)):
        checks.shape(f"windows[{i}]", window, jnp.shape(layer.w), "one entry for each weight")
