"""Dataset augmentation (section 3.3.2): each transform by its definition, and training runs that use them."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.tree_util import Partial

from jnn import augment
from tests.helpers import refuses

KEY = jax.random.key(0)
PIX = {
    "brightness": functools.partial(augment.brightness, amount=0.2),
    "contrast": functools.partial(augment.contrast, amount=0.4),
    "mirror": augment.mirror,
}
OURS = {
    "shift": functools.partial(augment.shift, pixels=2.0),
    "rotate": functools.partial(augment.rotate, degrees=20.0),
    "scale": functools.partial(augment.scale, fraction=0.2),
    "shear": functools.partial(augment.shear, fraction=0.3),
    "elastic": functools.partial(augment.elastic, pixels=1.5, sigma=2.0),
    "blur": functools.partial(augment.blur, sigma=2.0),
    "noise": functools.partial(augment.noise, sigma=0.2),
    "thickness": functools.partial(augment.thickness, thinner=0.5, thicker=1.0, softer=1.0),
}
ALL = {**OURS, **PIX}
NOTHING = {
    "distort": augment.distort,
    "rotate": functools.partial(augment.rotate, degrees=0.0),
    "elastic": functools.partial(augment.elastic, pixels=jnp.zeros(())),
    "blur": functools.partial(augment.blur, sigma=0.0),
    "noise": functools.partial(augment.noise, sigma=0.0),
    "thickness": functools.partial(augment.thickness, thicker=1.0, p=0.0),
    "thickness of no amount": augment.thickness,
    "brightness": functools.partial(augment.brightness, amount=0.0),
    "contrast": functools.partial(augment.contrast, amount=0.0),
    "mirror": functools.partial(augment.mirror, p=0.0),
    "colour": functools.partial(augment.colour, amount=0.0),
}


def image(*shape, seed=1):
    """Random pixels; height and width differ, so that swapped axes cannot pass."""
    return jnp.asarray(np.random.default_rng(seed).integers(2**16, size=shape or (9, 12)) / 2**16, jnp.float32)


def many(picture, x, n=2000):
    return jax.jit(jax.vmap(picture, in_axes=(0, None)))(jax.random.split(KEY, n), x)


# Every transform


@pytest.mark.parametrize("name", ALL)
def test_the_key_decides_and_channels_move_together(name):
    """Shape and dtype are kept; an array of NumPy is an image, too."""
    x = image()
    grey, colours = many(ALL[name], x, 20), many(ALL[name], jnp.stack([x, 2 * x, 3 * x], axis=-1), 20)
    assert (grey.shape, colours.shape) == ((20, 9, 12), (20, 9, 12, 3))
    assert grey.dtype == colours.dtype == x.dtype
    assert len(np.unique(np.asarray(grey).reshape(20, -1), axis=0)) > 1
    if name not in ("noise", "brightness"):
        np.testing.assert_allclose(colours, np.stack([grey, 2 * grey, 3 * grey], axis=-1), atol=1e-5)
    of_numpy = jax.jit(functools.partial(ALL[name], image=np.asarray(x, np.float64)))(jax.random.split(KEY, 20)[3])
    np.testing.assert_allclose(of_numpy, grey[3], atol=1e-5)


@pytest.mark.parametrize("name", NOTHING)
def test_a_strength_of_zero_changes_nothing(name):
    x = image(9, 12, 3)
    np.testing.assert_allclose(jax.jit(NOTHING[name])(KEY, x), x, atol=2e-6)


# One interpolation


def brute_force(x, y_at, x_at):
    """Bilinear interpolation as it is defined, pixel by pixel; outside, the nearest point of the border."""
    height, width = x.shape
    out = np.zeros(y_at.shape)
    for i in np.ndindex(y_at.shape):
        y, z = min(max(y_at[i], 0), height - 1), min(max(x_at[i], 0), width - 1)
        for r in range(height):
            for c in range(width):
                out[i] += x[r, c] * max(0, 1 - abs(y - r)) * max(0, 1 - abs(z - c))
    return out


@pytest.mark.equation("section 3.3.2, augmentation")
@given(st.integers(0, 10_000))
def test_interpolation_by_its_definition(seed):
    x, at = image(4, 6, seed=seed), 9 * jax.random.normal(jax.random.key(seed), (2, 3, 5)) + 2
    np.testing.assert_allclose(augment.interpolate(x, at), brute_force(np.asarray(x), *np.asarray(at)), atol=1e-5)


def test_interpolation_at_the_pixels_is_exact():
    x = image(5, 7)
    np.testing.assert_array_equal(augment.interpolate(x, jnp.mgrid[:5, :7].astype(float)), x)


# Geometry


def spot(height=41, width=51, at=(20, 25)):
    """A smooth blob, whose centre of mass tells where it went."""
    y, x = np.mgrid[:height, :width]
    return jnp.asarray(np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 8), jnp.float32)


def centres(images):
    y, x = np.mgrid[: images.shape[1], : images.shape[2]]
    mass = np.asarray(images, float)
    return np.stack([(mass * a).sum((1, 2)) / mass.sum((1, 2)) for a in (y, x)], axis=1)


def test_shift_is_uniform_along_each_axis():
    moved = centres(many(functools.partial(augment.shift, pixels=3.0), spot())) - [20, 25]
    assert np.abs(moved).max() < 3.01
    np.testing.assert_allclose(moved.mean(axis=0), 0, atol=0.2)
    np.testing.assert_allclose(moved.std(axis=0), 3 / np.sqrt(3), rtol=0.05)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.1


@pytest.mark.equation("section 3.3.2, augmentation")
def test_rotate_keeps_the_distance_from_the_centre():
    x = spot(at=(20, 35))
    moved = centres(many(functools.partial(augment.rotate, degrees=30.0), x)) - [20, 25]
    np.testing.assert_allclose(np.hypot(*moved.T), 10, atol=0.05)
    angles = np.degrees(np.arctan2(moved[:, 0], moved[:, 1]))
    assert 29 < np.abs(angles).max() < 30.1
    np.testing.assert_allclose(angles.std(), 30 / np.sqrt(3), rtol=0.05)


def test_scale_stretches_each_axis_by_itself():
    x = spot(at=(26, 35))
    moved = centres(many(functools.partial(augment.scale, fraction=0.2), x)) - [20, 25]
    for distances, was in zip(moved.T, (6, 10), strict=True):  # a place from factor * distance: factors 0.8 to 1.2
        assert was / 1.21 < distances.min() < was / 1.18
        assert was / 0.82 < distances.max() < was / 0.79
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.1


def test_shear_moves_sideways_with_height():
    above, below = (centres(many(functools.partial(augment.shear, fraction=0.3), spot(at=(y, 25)))) for y in (12, 28))
    np.testing.assert_allclose(above[:, 0], 12, atol=0.05)
    assert 2.2 < np.abs(above[:, 1] - 25).max() < 2.45
    np.testing.assert_allclose(above[:, 1] - 25, 25 - below[:, 1], atol=0.05)


@pytest.mark.equation("section 3.3.2, augmentation")
@pytest.mark.parametrize(("options", "sigma"), [({"sigma": 2.0}, 2), ({}, 5)])
def test_elastic_fields_have_the_statistics_of_smoothed_noise(options, sigma):
    """Variance pixels^2 everywhere, correlation exp(-d^2 / (4 sigma^2)), two independent axes."""
    ramp = jnp.stack(jnp.mgrid[:24, :32], axis=-1).astype(float)  # at each place the place itself
    moved = many(functools.partial(augment.elastic, pixels=0.5, **options), ramp, 3000) - ramp[None]
    moved = np.asarray(moved)[:, 4:-4, 4:-4]
    np.testing.assert_allclose(moved.std(axis=0), 0.5, rtol=0.12)
    np.testing.assert_allclose(moved.std(), 0.5, rtol=0.04)
    for d in (1, 3, 6):
        correlation = np.mean(moved[:, :, d:] * moved[:, :, :-d]) / np.mean(moved**2)
        np.testing.assert_allclose(correlation, np.exp(-(d**2) / (4 * sigma**2)), atol=0.06)
    assert abs(np.mean(moved[..., 0] * moved[..., 1])) < 0.01


# Pixels


def test_blur_is_a_gaussian_and_keeps_a_flat_image():
    flat = jnp.full((9, 12), 0.7)
    np.testing.assert_allclose(augment.blur(KEY, flat, sigma=3.0), flat, rtol=1e-5)
    blurred = np.asarray(many(functools.partial(augment.blur, sigma=2.0), spot(), 500))
    y, x = np.mgrid[:41, :51]
    mass = blurred.sum((1, 2))
    down, across = ((blurred * a**2).sum((1, 2)) / mass - 4 for a in (y - 20, x - 25))  # beyond the blob's own 2^2
    np.testing.assert_allclose(down.mean(), 4 / 3, rtol=0.1)  # the mean square of U(0, 2)
    assert 1.9**2 < down.max() < 2.05**2
    np.testing.assert_allclose(across, down, atol=0.05)


def test_thickness_moves_edges_uniformly():
    """A bar of 6 pixels between its two edges, each of which moves by the same d from [-0.5, 1]."""
    bar = jnp.zeros((9, 16)).at[:, 5:11].set(0.7)
    bars = np.asarray(many(functools.partial(augment.thickness, thinner=0.5, thicker=1.0), bar))
    np.testing.assert_allclose(bars.max((1, 2)), 0.7, rtol=1e-5)
    d = (bars[:, 4].sum(1) / 0.7 - 6) / 2
    np.testing.assert_allclose([d.min(), d.max()], [-0.5, 1.0], atol=0.1)
    np.testing.assert_allclose(np.quantile(d, [0.25, 0.5, 0.75]), [-0.125, 0.25, 0.625], atol=0.06)


def test_thickness_softens_some_of_the_images():
    """With p = 1/4 three in four are as they were; the steepest step of the others is less than before."""
    bar = jnp.zeros((9, 16)).at[:, 5:11].set(1.0)
    bars = np.asarray(many(functools.partial(augment.thickness, softer=1.0, p=0.25), bar))
    changed = np.any(bars != np.asarray(bar), axis=(1, 2))
    assert abs(changed.mean() - 0.25) < 0.03
    steepest = np.diff(bars[changed][:, 4], axis=1).max(1)
    np.testing.assert_allclose([steepest.min(), steepest.max()], [0.4, 1.0], atol=0.03)


def test_noise_has_its_variance():
    apart = many(functools.partial(augment.noise, sigma=0.3), image()) - image()[None]
    np.testing.assert_allclose(np.std(apart), 0.3, rtol=0.02)
    assert abs(np.mean(apart)) < 0.01


@pytest.mark.equation("section 3.3.2, augmentation")
def test_brightness_contrast_and_mirror():
    x = image(9, 12)
    bright = np.asarray(many(PIX["brightness"], x) - x[None])
    np.testing.assert_allclose(bright, np.broadcast_to(bright[:, :1, :1], bright.shape), atol=1e-6)
    assert 0.19 < np.abs(bright).max() <= 0.2 + 1e-6
    contrasts = np.asarray(many(PIX["contrast"], x)).std(axis=(1, 2)) / np.std(x)
    assert 0.59 < contrasts.min() < 0.62
    assert 1.38 < contrasts.max() < 1.41
    mirrored = np.asarray(many(PIX["mirror"], x))
    swapped = (mirrored == np.asarray(x)[:, ::-1]).all(axis=(1, 2))
    assert ((mirrored == np.asarray(x)).all(axis=(1, 2)) ^ swapped).all()
    assert 0.45 < swapped.mean() < 0.55


def test_colour_keeps_grey_and_changes_the_rest():
    colour = jax.jit(functools.partial(augment.colour, KEY, amount=0.3))
    grey, x = jnp.broadcast_to(image(5, 6, 1), (5, 6, 3)), image(5, 6, 3)
    np.testing.assert_allclose(colour(grey), grey, atol=1e-5)
    assert np.abs(colour(x) - x).max() > 0.01


# Composition and training


def test_chain_is_one_after_the_other():
    x, (first, second) = image(), jax.random.split(KEY)
    chained = augment.chain(OURS["blur"], OURS["noise"])(KEY, x)
    np.testing.assert_array_equal(chained, OURS["noise"](second, OURS["blur"](first, x)))


def test_rows_are_images_each_with_a_key_of_its_own():
    xs, ys = image(5, 9 * 12), jnp.arange(5)
    got, same = augment.rows(KEY, xs, ys, image_transform=OURS["blur"], shape=(9, 12))
    wanted = [OURS["blur"](k, x.reshape(9, 12)).ravel() for k, x in zip(jax.random.split(KEY, 5), xs, strict=True)]
    np.testing.assert_allclose(got, jnp.stack(wanted), atol=1e-6)
    assert same is ys


# Bad input


@pytest.mark.bad_input
@pytest.mark.parametrize("name", [*ALL, "distort"])
@pytest.mark.parametrize("shape", [(), (9,), (2, 3, 4, 5)])
def test_images_of_the_wrong_rank(name, shape):
    with pytest.raises(ValueError, match=r"image must have shape \[H, W\] or \[H, W, channels\].*got"):
        {**ALL, "distort": augment.distort}[name](KEY, jnp.zeros(shape))


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["shift", "rotate", "scale", "shear", "elastic"])
@pytest.mark.parametrize("amount", [-0.1, np.nan, np.inf])
def test_bad_amounts(name, amount):
    with pytest.raises(ValueError, match=f"{name} must be .*got {amount}"):
        augment.distort(KEY, image(), **{name: amount})


ROWS = Partial(augment.rows, image_transform=Partial(augment.noise, sigma=0.1), shape=(4, 4))
test_bad_input = refuses(
    (lambda: augment.distort(KEY, image(), scale=1.0), ValueError, r"scale must be in \[0, 0.99\], got 1.0"),
    (lambda: augment.elastic(KEY, image(), pixels=1, sigma=0), ValueError, "sigma must be positive and finite, got 0"),
    (lambda: augment.blur(KEY, image(), sigma=-1.0), ValueError, "sigma must be at least 0, got -1.0"),
    (lambda: augment.thickness(KEY, image(), thicker=4.0), ValueError, r"thicker must be in \[0, 3\], got 4.0"),
    (lambda: augment.thickness(KEY, image(), p=2.0), ValueError, r"p must be in \[0, 1\], got 2.0"),
    (lambda: augment.noise(KEY, image(), sigma=-1.0), ValueError, "sigma must be at least 0, got -1.0"),
    (lambda: augment.brightness(KEY, image(), amount=-1.0), ValueError, "amount must be at least 0, got -1.0"),
    (lambda: augment.contrast(KEY, image(), amount=1.5), ValueError, r"amount must be in \[0, 1\], got 1.5"),
    (lambda: augment.mirror(KEY, image(), p=1.5), ValueError, r"p must be in \[0, 1\], got 1.5"),
    (lambda: augment.colour(KEY, image(), amount=0.1), ValueError, r"image must .* \[H, W, 3\].*got \(9, 12\)"),
    (lambda: augment.colour(KEY, image(5, 6, 3), amount=0.6), ValueError, r"amount must be in \[0, 0.5\], got 0.6"),
    (lambda: augment.distort(KEY, image(1, 12)), ValueError, "at least 2x2 pixels, got"),
    (lambda: augment.distort(KEY, np.zeros((9, 12), int)), TypeError, "image must have a floating dtype, got int"),
    (lambda: ROWS(KEY, image(4, 41)), ValueError, "must have rows of 16 pixels"),
    (lambda: jax.jit(lambda rows: rows(KEY, image(2, 16)))(ROWS), TypeError, "shape must hold .* functools.partial"),
)


@pytest.mark.bad_input
def test_a_missing_dm_pix_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dm_pix", None)
    with pytest.raises(ImportError, match="pip install dm-pix"):
        augment.mirror(KEY, image())
