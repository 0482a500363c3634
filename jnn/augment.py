"""Label-preserving transforms of images (section 3.3.2), drawn anew for every image of every mini-batch.

Each is a pure function of a key and one image, [H, W] or [H, W, channels] with pixels in [0, 1]; its options say how
strong the change may be, and 0 leaves the image alone. `chain` composes them, and `rows` makes of one a `transform`
for `train.epoch`, `run` and `fit`, which then sees new images in every epoch:

    picture = functools.partial(augment.distort, rotate=10, elastic=1.0)
    transform = functools.partial(augment.rows, picture=picture, shape=(28, 28))

Angles are in degrees, lengths in pixels. `brightness`, `contrast`, `mirror` and `colour` are dm-pix's (Budden et al.),
with one calling convention; they raise ImportError where it is missing. `distort` and `blur` are written here because
they are several times faster on a CPU (`python -m benchmarks.augment`).

All raise TypeError for an image of integers, for an amount that is no single number and for a key that
`jax.random.key` did not make.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jnn import _checks

Image = Float[Array, "H W *channels"]
"""[H, W], or [H, W, channels], with pixels in [0, 1]."""

Picture = Callable[[Key[Array, ""], Image], Image]
"""A transform with its options bound: (key, image) -> image."""

Amount = _checks.Scalar
"""One number, which may be traced."""

VARIANCE = 0.99
"""How much of the variance of smoothed noise the components of an elastic distortion keep."""


def distort(
    key: Key[Array, ""],
    image: Image,
    *,
    shift: Amount = 0.0,
    rotate: Amount = 0.0,
    scale: Amount = 0.0,
    shear: Amount = 0.0,
    elastic: Amount = 0.0,
    sigma: float = 5.0,
) -> Image:
    """A random affine map about the centre and an elastic distortion, in one bilinear interpolation (section 3.3.2).

    shift: up to this many pixels along each axis. rotate: up to this many degrees either way. scale: each axis by a
    factor from [1 - scale, 1 + scale]. shear: up to this many pixels sideways a pixel of height. elastic: the root
    mean square of a random displacement along each axis, in pixels. Amounts are drawn uniformly from their ranges;
    what is moved in from outside repeats the border.

    The elastic displacements are white noise smoothed by a Gaussian of width `sigma` pixels (Simard, Steinkraus and
    Platt, 2003; their alpha, on noise from U(-1, 1), is an `elastic` of 0.163 alpha / sigma). They are drawn as the
    few components that the smoothing leaves, with 99 % of its variance: 19 numbers for 28x28 pixels, not 784.

    Raises ValueError for an image that is not [H, W] or [H, W, channels] of at least 2x2 pixels, a negative amount,
    a scale above 0.99 or a sigma that is not positive; TypeError for an image of integers.
    """
    _checks.key("key", key)
    height, width = _check_image(image, least=2)
    for name, amount in (("shift", shift), ("rotate", rotate), ("shear", shear), ("elastic", elastic)):
        _checks.amount(name, amount)
    _checks.amount("scale", scale, most=0.99)
    affine_key, elastic_key = jax.random.split(key)
    matrix, offset = _affine(affine_key, image.dtype, shift, rotate, scale, shear)
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2], image.dtype)
    coefficients = jnp.concatenate([matrix, (centre + offset)[:, None]], axis=1)
    away = jnp.indices((height, width), image.dtype) - centre[:, None, None]
    basis = jnp.concatenate([away, jnp.ones((1, height, width), image.dtype)])
    if _wanted(elastic):
        down, across = (jnp.asarray(a, image.dtype) for a in _smooth_components(height, width, sigma))
        amplitudes = elastic * jax.random.normal(elastic_key, (2, len(down)), image.dtype)
        coefficients = jnp.concatenate([coefficients, amplitudes], axis=1)
        basis = jnp.concatenate([basis, down[:, :, None] * across[:, None, :]])
    yx = coefficients @ basis.reshape(len(basis), -1)  # one product, also for a whole mini-batch
    return interpolate(image, yx.reshape(2, height, width))


def interpolate(image: Image, yx: Float[Array, "2 h w"]) -> Float[Array, "h w *channels"]:
    """The image at the points yx = (row, column), bilinearly; outside of it, at the nearest point of its border.

    Raises ValueError for an image of fewer than 2x2 pixels or a yx that is not [2, h, w].
    """
    height, width = _check_image(image, least=2)
    if jnp.ndim(yx) != 3 or jnp.shape(yx)[0] != 2:
        raise ValueError(f"yx has shape {jnp.shape(yx)}; [2, h, w] is wanted: the row and the column of every point")
    y, x = jnp.clip(yx[0], 0, height - 1), jnp.clip(yx[1], 0, width - 1)
    top, left = jnp.minimum(y.astype(int), height - 2), jnp.minimum(x.astype(int), width - 2)
    channels = (1,) * (image.ndim - 2)
    down, right = (y - top).reshape(*y.shape, *channels), (x - left).reshape(*x.shape, *channels)
    pixels = image.reshape(-1, *image.shape[2:])

    def row(i: Any) -> Array:
        start = i * width + left
        a, b = (pixels.at[start + k].get(mode="promise_in_bounds") for k in (0, 1))
        return a + right * (b - a)

    upper, lower = row(top), row(top + 1)
    return upper + down * (lower - upper)


def shift(key: Key[Array, ""], image: Image, *, pixels: Amount) -> Image:
    """Move the image by up to `pixels` along each axis; raises as `distort` does."""
    return distort(key, image, shift=pixels)


def rotate(key: Key[Array, ""], image: Image, *, degrees: Amount) -> Image:
    """Turn the image about its centre by up to `degrees` either way; raises as `distort` does."""
    return distort(key, image, rotate=degrees)


def scale(key: Key[Array, ""], image: Image, *, fraction: Amount) -> Image:
    """Stretch each axis by a factor from [1 - fraction, 1 + fraction]; raises as `distort` does."""
    return distort(key, image, scale=fraction)


def shear(key: Key[Array, ""], image: Image, *, fraction: Amount) -> Image:
    """Slant the image by up to `fraction` pixels sideways a pixel of height; raises as `distort` does."""
    return distort(key, image, shear=fraction)


def elastic(key: Key[Array, ""], image: Image, *, pixels: Amount, sigma: float = 5.0) -> Image:
    """Displace every pixel by a smooth random field, `pixels` in root mean square; raises as `distort` does."""
    return distort(key, image, elastic=pixels, sigma=sigma)


def blur(key: Key[Array, ""], image: Image, *, sigma: Amount) -> Image:
    """Smooth by a Gaussian whose width is drawn from [0, sigma] pixels; near the border its weights sum to 1 too.

    Raises ValueError for an image that is not [H, W] or [H, W, channels] or a negative sigma.
    """
    _checks.key("key", key)
    height, width = _check_image(image)
    _checks.amount("sigma", sigma)
    drawn = jnp.maximum(sigma * jax.random.uniform(key, dtype=image.dtype), 1e-3)  # narrower ones leave it alone

    def weights(n: int) -> Float[Array, "n n"]:
        i = jnp.arange(n, dtype=image.dtype)
        return jax.nn.softmax(-(((i[:, None] - i[None]) / drawn) ** 2) / 2, axis=1)

    return jnp.einsum("hi,ij...,wj->hw...", weights(height), image, weights(width))


def noise(key: Key[Array, ""], image: Image, *, sigma: Amount) -> Image:
    """Add N(0, sigma^2) to every pixel; nothing is clipped.

    Raises ValueError for an image that is not [H, W] or [H, W, channels] or a negative sigma.
    """
    _checks.key("key", key)
    _check_image(image)
    _checks.amount("sigma", sigma)
    return image + sigma * jax.random.normal(key, image.shape, image.dtype)


def brightness(key: Key[Array, ""], image: Image, *, amount: Amount) -> Image:
    """Add one number from [-amount, amount] to all pixels; raises as `noise` does."""
    _checks.key("key", key)
    _checks.amount("amount", amount)
    return _pix(image, lambda pix, picture: pix.random_brightness(key, picture, max_delta=amount))


def contrast(key: Key[Array, ""], image: Image, *, amount: Amount) -> Image:
    """Scale the distances from the mean by a factor from [1 - amount, 1 + amount]; raises as `noise` does.

    Raises ValueError for an amount above 1 too: the image could turn into its negative.
    """
    _checks.key("key", key)
    _checks.amount("amount", amount, most=1)
    return _pix(image, lambda pix, picture: pix.random_contrast(key, picture, lower=1 - amount, upper=1 + amount))


def mirror(key: Key[Array, ""], image: Image, *, p: Amount = 0.5) -> Image:
    """Swap left and right with probability p (section 3.3.2).

    Keeps the label of a cat, not of a digit or a letter: a mirrored 2, 3 or 7 is none (the notes list it for all).
    Raises ValueError for an image that is not [H, W] or [H, W, channels] or a p outside [0, 1].
    """
    _checks.key("key", key)
    _checks.amount("p", p, most=1)
    return _pix(image, lambda pix, picture: pix.random_flip_left_right(key, picture, probability=p))


def colour(key: Key[Array, ""], image: Float[Array, "H W 3"], *, amount: Amount) -> Float[Array, "H W 3"]:
    """Turn the hue by up to `amount` of a circle, scale the saturation by a factor from [1 - amount, 1 + amount].

    Raises ValueError for an image that is not [H, W, 3] or an amount that is negative or above 1/2.
    """
    if jnp.ndim(image) != 3 or jnp.shape(image)[-1] != 3:
        raise ValueError(f"image has shape {jnp.shape(image)}; [H, W, 3] is wanted: red, green and blue")
    _checks.key("key", key)
    _checks.amount("amount", amount, most=0.5)
    hue_key, saturation_key = jax.random.split(key)
    turned = _pix(image, lambda pix, picture: pix.random_hue(hue_key, picture, max_delta=amount))
    return _pix(
        turned, lambda pix, picture: pix.random_saturation(saturation_key, picture, lower=1 - amount, upper=1 + amount)
    )


def chain(*pictures: Picture) -> Picture:
    """One transform after the other, each with a key of its own."""
    return functools.partial(_chain, pictures)


def rows(
    key: Key[Array, ""],
    xs: Float[Array, "m pixels"],
    *rest: Any,
    picture: Picture,
    shape: Sequence[int],
) -> tuple[Any, ...]:
    """A `transform` for training: `picture` on each row of xs, read as an image of `shape`; the rest is passed on.

    Raises ValueError when the rows do not have as many pixels as `shape`.
    """
    _checks.key("key", key)
    if jnp.ndim(xs) != 2 or jnp.shape(xs)[1] != np.prod(shape):
        raise ValueError(f"xs has shape {jnp.shape(xs)}; rows of {np.prod(shape)} pixels are wanted for {tuple(shape)}")
    keys = jax.random.split(key, len(xs))
    images = jax.vmap(picture)(keys, xs.reshape(-1, *shape))
    return images.reshape(xs.shape), *rest


def _chain(pictures: tuple[Picture, ...], key: Key[Array, ""], image: Image) -> Image:
    for picture, picture_key in zip(pictures, jax.random.split(key, len(pictures)), strict=True):
        image = picture(picture_key, image)
    return image


def _affine(
    key: Key[Array, ""], dtype: Any, shift: Amount, rotate: Amount, scale: Amount, shear: Amount
) -> tuple[Float[Array, "2 2"], Float[Array, "2"]]:
    """The matrix and the offset that take a pixel's place, from the centre, to where it comes from."""
    angle, slant, tall, wide, down, right = jax.random.uniform(key, (6,), dtype, minval=-1)
    c, s = jnp.cos(jnp.deg2rad(rotate * angle)), jnp.sin(jnp.deg2rad(rotate * angle))
    turn = jnp.stack([c, -s, s, c]).reshape(2, 2)
    stretch = jnp.stack([1 + scale * tall, jnp.zeros_like(c), shear * slant, 1 + scale * wide]).reshape(2, 2)
    return turn @ stretch, shift * jnp.stack([down, right])


@functools.lru_cache(maxsize=32)
def _smooth_components(height: int, width: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Smooth noise of variance 1 is the sum of down[i] across[i]^T with weights from N(0, 1): [k, H] and [k, W].

    Smoothed white noise has the covariance exp(-d^2 / (4 sigma^2)) at a distance d, a product of one factor for each
    axis; its eigenvectors are those of the factors, multiplied, and few are needed (Karhunen and Loeve).
    """
    _checks.positive("sigma", sigma)
    (v, rows), (u, columns) = (np.linalg.eigh(_covariance(n, sigma)) for n in (height, width))
    shares = np.outer(v, u) / (height * width)
    largest = np.argsort(shares, axis=None)[::-1]
    k = int(np.searchsorted(np.cumsum(shares.ravel()[largest]), VARIANCE)) + 1
    i, j = np.unravel_index(largest[:k], shares.shape)
    amplitudes = np.sqrt(height * width * shares[i, j] / shares[i, j].sum())
    return amplitudes[:, None] * rows[:, i].T, columns[:, j].T


def _covariance(n: int, sigma: float) -> np.ndarray:
    i = np.arange(n)
    with np.errstate(over="ignore"):  # of a narrow one, the exponential is 0
        return np.exp(-(((i[:, None] - i[None]) / (2 * float(sigma))) ** 2))


def _wanted(amount: Amount) -> bool:
    """Whether to compute it: a traced amount may be 0, a Python 0 is."""
    return not isinstance(amount, int | float | np.number) or amount != 0


def _check_image(image: Any, least: int = 1) -> tuple[int, int]:
    """Height and width of [H, W] or [H, W, channels]; raise ValueError for others, TypeError for integers."""
    if jnp.ndim(image) not in (2, 3) or min(jnp.shape(image)[:2]) < least:
        raise ValueError(
            f"image has shape {jnp.shape(image)}; [H, W] or [H, W, channels] of at least {least}x{least} pixels is "
            "wanted: reshape rows of pixels, and use jax.vmap or augment.rows for many images"
        )
    _checks.floating("image", image)
    return jnp.shape(image)[0], jnp.shape(image)[1]


def _pix(image: Image, change: Callable[[Any, Array], Array]) -> Image:
    """`change(dm_pix, image)`, with the axis of channels that dm-pix wants."""
    _check_image(image)
    try:
        import dm_pix
    except ImportError as error:
        raise ImportError("this transform is dm-pix's: pip install dm-pix") from error
    return change(dm_pix, image.reshape(*image.shape[:2], -1)).reshape(image.shape)
