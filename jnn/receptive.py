"""Receptive fields for multilayer perceptrons: hidden neurons learn first from the pixels that are near them.

Each hidden neuron has a place on the image. Its weights from nearby start large and learn faster than those from far
away: a prior like that of a convolution, without shared weights. No weight is left out, so the trained network is an
ordinary one, which `jnn.mlp` evaluates. Receptive fields in the visual cortex (Hubel and Wiesel, 1962) led to networks
with local connections (LeCun, 1989); fully connected ones can find them by training (Neyshabur, 2020).

All functions raise ValueError for shapes that do not fit, and TypeError for sizes and shapes that are not integers and
for an option that is not one number.

Example:
  >>> windows = receptive.windows((6, 4, 2), (2, 3), widths=(1.5,), margin=0.5)
  >>> params = mlp.init(jax.random.key(0), (6, 4, 2))
  >>> params = receptive.localise(receptive.smooth(params, (2, 3), sigma=0.7), windows)
  >>> grad = receptive.localised(backprop.minibatch_value_and_grad, windows, floor=0.1)
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
    r"""Computes the windows of a network: how near each neuron is to each neuron of the layer below.

    A window is :math:`e^{-d^2 / (2 \, \mathrm{width}^2)}` for neurons at a distance of d pixels. The places of the
    inputs are those of the pixels; hidden neurons are spread evenly over the image without its margin, by the sequence
    of Roberts (2018). The output neurons have no place: their window is 1 everywhere.

    Args:
      sizes: The numbers of neurons of the layers, the input layer first.
      shape: The shape [H, W] of an image.
      widths: The width of the windows of each hidden layer, in pixels.
      margin: The margin of the image that has no hidden neurons, in pixels.

    Returns:
      One window for each layer of weights.

    Raises:
      ValueError: If the first size is not the number of pixels, there is not one positive width for each hidden layer,
        or the margin leaves no part of the image.
      TypeError: If a width is not one number, or a size is not an integer.

    Example:
      >>> [window.shape for window in receptive.windows((6, 4, 2), (2, 3), widths=(1.5,))]
      [(4, 6), (2, 4)]
    """
    checks.sizes(sizes)
    _check_shape(shape, sizes[0])
    if len(widths) != len(sizes) - 2:
        raise ValueError(f"widths must have one entry for each of {len(sizes) - 2} hidden layers, got {len(widths)}")
    checks.in_range("margin", margin)
    if 2 * margin >= min(shape):
        raise ValueError(f"margin must be below half of the image's {min(shape)} pixels, got {margin}")
    below = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in shape), indexing="ij"), axis=-1).reshape(-1, 2)
    hidden = []
    for n, width in zip(sizes[1:-1], widths, strict=True):
        checks.positive_number("widths", width)
        unit = (np.arange(1, n + 1)[:, None] / PLASTIC ** np.arange(1, 3)) % 1
        places = margin + unit * (np.array(shape) - 2 * margin)
        squared = np.sum((places[:, None] - below[None]) ** 2, axis=-1)
        hidden.append(jnp.asarray(np.exp(-squared / (2 * width**2)), jnp.float32))
        below = places
    return *hidden, jnp.ones((sizes[-1], sizes[-2]))


def smooth(params: Params, shape: Sequence[int], *, sigma: Scalar) -> Params:
    """Smooths the weights of each first-layer neuron over the image, and scales them to their norm before.

    Weights that are drawn independently respond to noise between neighbouring pixels, and still do after training.

    Args:
      params: The parameters.
      shape: The shape [H, W] of an image.
      sigma: The standard deviation of the Gaussian, in pixels; its weights sum to 1 near the border too.

    Returns:
      The parameters with smooth weights.

    Raises:
      ValueError: If `shape` does not have one pixel for each input, or `sigma` is negative.
    """
    _check_shape(shape, mlp.sizes(params)[0])
    checks.in_range("sigma", sigma)
    first, *others = params
    columns = first.w.T
    w = smoothing.gaussian(columns.reshape(*shape, -1), sigma).reshape(columns.shape).T
    return first._replace(w=_with_norms_of(first.w, w)), *others


def localise(params: Params, windows: Windows) -> Params:
    """Multiplies each weight by its window, and scales each neuron's incoming weights to their norm before.

    Args:
      params: The parameters.
      windows: The windows.

    Returns:
      The parameters with local weights.
    """
    _check(params, windows)
    local = _scaled(params, windows)
    return tuple(layer._replace(w=_with_norms_of(layer.w, new.w)) for layer, new in zip(params, local, strict=True))


def localised(grad: Grad, windows: Windows, *, floor: Scalar) -> Partial:
    """Multiplies each weight's derivative by floor + (1 - floor) window: gradient descent with a rate for each weight.

    Penalties and noise that are added to the result act on all weights alike.

    Args:
      grad: The gradient function.
      windows: The windows.
      floor: The fraction of the learning rate that remains far away, from 0 (the network stays local) to 1.

    Returns:
      The gradient function with local rates; it checks its parameters when it is called.

    Raises:
      ValueError: If `floor` is outside [0, 1].
    """
    checks.in_range("floor", floor, most=1)
    return Partial(_localised, grad if isinstance(grad, Partial) else Partial(grad), windows, floor)


def _localised(
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
    norms, scaled = (jnp.linalg.norm(a, axis=1, keepdims=True) for a in (before, w))
    return w / jnp.where(scaled > 0, scaled, 1) * norms


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
