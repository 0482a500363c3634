import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.tree_util import Partial

from jnn import backprop, costs, mlp, receptive
from tests.helpers import examples, refuses

SIZES, SHAPE, WIDTHS, MARGIN = (42, 9, 5, 3), (6, 7), (0.8, 2.0), 0.5
WINDOWS = receptive.windows(SIZES, SHAPE, widths=WIDTHS, margin=MARGIN)
PARAMS = mlp.init(jax.random.key(0), SIZES)
GRAD = Partial(backprop.minibatch_value_and_grad, cost=costs.log_likelihood)


def place(j):
    """Of hidden neuron j, in pixels from the top left corner: Roberts' sequence, inside the margin."""
    root = max(np.roots([1, 0, -1, -1]), key=np.real).real
    return [
        MARGIN + (side - 2 * MARGIN) * ((j + 1) / root**power % 1) for power, side in zip((1, 2), SHAPE, strict=True)
    ]


def test_windows_fall_with_the_distance_of_two_places():
    pixels = [(row + 0.5, column + 0.5) for row in range(6) for column in range(7)]
    below = (pixels, [place(k) for k in range(9)])
    for window, n, places, width in zip(WINDOWS, SIZES[1:], below, WIDTHS, strict=False):
        wanted = [
            [np.exp(-(np.hypot(*np.subtract(place(j), p)) ** 2) / (2 * width**2)) for p in places] for j in range(n)
        ]
        np.testing.assert_allclose(window, wanted, rtol=1e-5)
    np.testing.assert_array_equal(WINDOWS[-1], np.ones((3, 5)))


def test_localised_weights_are_from_nearby_and_keep_their_norm():
    local = receptive.localise(PARAMS, WINDOWS)
    for layer, before, window in zip(local, PARAMS, WINDOWS, strict=True):
        np.testing.assert_allclose(np.linalg.norm(layer.w, axis=1), np.linalg.norm(before.w, axis=1), rtol=1e-5)
        ratio = layer.w / (before.w * window)  # one number for each neuron
        np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-4)
        np.testing.assert_array_equal(layer.b, before.b)
    np.testing.assert_allclose(local[-1].w, PARAMS[-1].w, rtol=1e-6)


def test_smoothed_weights_are_those_of_a_gaussian_filter_with_their_norm():
    """Away from the border, where the filter's weights sum to 1 differently."""
    params = mlp.init(jax.random.key(1), (15 * 17, 4, 3))
    (found, *others) = receptive.smooth(params, (15, 17), sigma=0.8)
    for row, before in zip(np.asarray(found.w), np.asarray(params[0].w), strict=True):
        np.testing.assert_allclose(np.linalg.norm(row), np.linalg.norm(before), rtol=1e-5)
        wanted = scipy.ndimage.gaussian_filter(before.reshape(15, 17), 0.8, truncate=8)[4:-4, 4:-4]
        ratio = row.reshape(15, 17)[4:-4, 4:-4] / wanted
        np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0, 0], ratio.shape), rtol=1e-3)
    assert jax.tree.all(jax.tree.map(np.array_equal, (found.b, others), (params[0].b, list(params[1:]))))
    np.testing.assert_allclose(receptive.smooth(params, (15, 17), sigma=0.0)[0].w, params[0].w, rtol=1e-6)


@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
def test_localised_gradient_is_the_gradient_times_a_rate(floor):
    xs, ys = examples(0, 4, SIZES)
    value, grads = jax.jit(GRAD)(PARAMS, xs, ys)
    local_value, local = jax.jit(receptive.localised(GRAD, WINDOWS, floor=floor))(PARAMS, xs, ys)
    np.testing.assert_allclose(local_value, value, rtol=1e-6)
    for found, grad, window in zip(local, grads, WINDOWS, strict=True):
        np.testing.assert_allclose(found.w, grad.w * (floor + (1 - floor) * np.asarray(window)), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(found.b, grad.b, rtol=1e-5, atol=1e-7)


def test_dtypes_of_weights_and_gradients_are_kept():
    half = jnp.bfloat16
    params = receptive.localise(mlp.init(jax.random.key(0), SIZES, dtype=half), WINDOWS)
    xs, ys = (a.astype(half) for a in examples(0, 4, SIZES))
    _, grads = jax.jit(receptive.localised(GRAD, WINDOWS, floor=0.1))(params, xs, ys)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, grads))} == {jnp.dtype(half)}


def test_a_neuron_that_sees_nothing_starts_without_weights():
    large = (PARAMS[0]._replace(w=1e9 * PARAMS[0].w), *PARAMS[1:])
    local = receptive.localise(large, (jnp.zeros((9, 42)), *WINDOWS[1:]))
    np.testing.assert_array_equal(local[0].w, np.zeros((9, 42)))


def windows(shape=SHAPE, widths=WIDTHS, margin=MARGIN):
    return lambda: receptive.windows(SIZES, shape, widths=widths, margin=margin)


def localised(windows=WINDOWS, floor=0.1):
    return lambda: receptive.localised(GRAD, windows, floor=floor)(PARAMS, *examples(0, 4, SIZES))


test_bad_input = refuses(
    (windows(shape=(6, 6)), ValueError, r"one pixel for each of 42 inputs, got \(6, 6\)"),
    (windows(shape=(42,)), ValueError, r"shape must be \[H, W\]"),
    (windows(widths=(1.0,)), ValueError, "one entry for each of 2 hidden layers, got 1"),
    (windows(widths=(np.ones(2), 1.0)), TypeError, "widths must be one number"),
    (windows(widths=(1.0, 0.0)), ValueError, "widths must be positive and finite, got 0.0"),
    (windows(margin=3.0), ValueError, "below half of the image's 6 pixels, got 3.0"),
    (windows(margin=-1.0), ValueError, "margin must be at least 0, got -1.0"),
    (lambda: receptive.smooth(PARAMS, (6, 6), sigma=1.0), ValueError, r"one pixel for each of 42 inputs, got \(6, 6\)"),
    (lambda: receptive.smooth(PARAMS, SHAPE, sigma=-1.0), ValueError, r"sigma must be at least 0, got -1.0"),
    (lambda: receptive.localise(PARAMS, WINDOWS[:-1]), ValueError, "one array for each of 3 layers, got 2"),
    (localised(WINDOWS[:-1]), ValueError, "one array for each of 3 layers, got 2"),
    (localised((WINDOWS[0].T, *WINDOWS[1:])), ValueError, r"windows\[0\] must have shape \(9, 42\)"),
    (localised(floor=1.5), ValueError, r"floor must be in \[0, 1\], got 1.5"),
)
