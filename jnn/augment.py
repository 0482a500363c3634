"""Label-preserving transforms of images (section 3.3.2), drawn independently for every image of every mini-batch.

Each is a pure function of a key and one image, [H, W] or [H, W, channels] with pixels in [0, 1]; its options bound how
strong the change is, and 0 leaves the image unchanged. `chain` composes them, and `rows` turns one into a `transform`
for `train.epoch`, `run` and `fit`, which then sees new images in every epoch:

    distort = functools.partial(augment.distort, rotate=10, elastic=1.0)
    transform = functools.partial(augment.rows, image_transform=distort, shape=(28, 28))

Anything after it, such as a normalisation, goes into a transform of your own:

    def transform(key, xs, ys):
        xs, ys = augment.rows(key, xs, ys, image_transform=distort, shape=(28, 28))
        return (xs - mean) / deviation, ys

Angles are in degrees, lengths in pixels. `brightness`, `contrast`, `mirror` and `colour` call dm-pix (Budden et al.)
and raise ImportError without it; `distort` and `blur` here are several times faster (`python -m benchmarks.augment`).

All raise TypeError for an image of integers, for an amount that is not one number and for a key that `jax.random.key`
did not make.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Key

from jnn._internal import checks, smoothing
from jnn.typing import PyTree, Scalar

Image = Float[Array, "H W *channels"]
"""[H, W], or [H, W, channels], with pixels in [0, 1]."""

ImageLike = Float[ArrayLike, "H W *channels"]
"""An `Image`, of JAX or of NumPy."""

ImageTransform = Callable[[Key[Array, ""], ImageLike], Image]
"""(key, image) -> image, such as one of these functions with its options bound."""

VARIANCE = 0.99
"""The fraction of the variance of smoothed noise that the components of an elastic distortion keep."""


def distort(
    key: Key[Array, ""],
    image: ImageLike,
    *,
    shift: Scalar = 0.0,
    rotate: Scalar = 0.0,
    scale: Scalar = 0.0,
    shear: Scalar = 0.0,
    elastic: Scalar = 0.0,
    sigma: float = 5.0,
) -> Image:
    """A random affine map about the centre and an elastic distortion, in one bilinear interpolation (section 3.3.2).

    shift: up to this many pixels along each axis. rotate: up to this many degrees in either direction. scale: each axis
    by a factor from [1 - scale, 1 + scale]. shear: up to this many pixels sideways per pixel of height. elastic: the
    root mean square of a random displacement along each axis, in pixels. Amounts are drawn uniformly from their ranges;
    pixels from outside the image repeat the border.

    The elastic displacements are white noise smoothed by a Gaussian of width `sigma` pixels (Simard, Steinkraus and
    Platt, 2003; their alpha, on noise from U(-1, 1), is an `elastic` of 0.163 alpha / sigma). They are drawn as the
    few components that have 99 % of its variance: 19 numbers for 28x28 pixels instead of 784.

    Raises ValueError for an image that is not [H, W] or [H, W, channels] of at least 2x2 pixels, a negative amount,
    a scale above 0.99 or a sigma that is not positive; TypeError for an image of integers.
    """
    image = _checked(key, _check_image(image, least=2), shift=shift, rotate=rotate, shear=shear, elastic=elastic)
    height, width, *_ = image.shape
    checks.in_range("scale", scale, most=0.99)
    affine_key, elastic_key = jax.random.split(key)
    matrix, offset = _affine(affine_key, image.dtype, shift, rotate, scale, shear)
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2], image.dtype)
    coefficients = jnp.concatenate([matrix, (centre + offset)[:, None]], axis=1)
    away = jnp.indices((height, width), image.dtype) - centre[:, None, None]
    basis = jnp.concatenate([away, jnp.ones((1, height, width), image.dtype)])
    if _enabled(elastic):
        down, across = (jnp.asarray(a, image.dtype) for a in _smooth_components(height, width, sigma))
        amplitudes = elastic * jax.random.normal(elastic_key, (2, len(down)), image.dtype)
        coefficients = jnp.concatenate([coefficients, amplitudes], axis=1)
        basis = jnp.concatenate([basis, down[:, :, None] * across[:, None, :]])
    yx = coefficients @ basis.reshape(len(basis), -1)  # one product, also for a whole mini-batch
    return interpolate(image, yx.reshape(2, height, width))


def interpolate(image: ImageLike, yx: Float[ArrayLike, "2 h w"]) -> Float[Array, "h w *channels"]:
    """The image at the points yx = (row, column), bilinearly; outside of it, at the nearest point of its border.

    Raises ValueError for an image of fewer than 2x2 pixels or a yx that is not [2, h, w].
    """
    image, yx = _check_image(image, least=2), jnp.asarray(yx)
    height, width, *_ = image.shape
    if jnp.ndim(yx) != 3 or jnp.shape(yx)[0] != 2:
        raise ValueError(f"yx must have shape [2, h, w], the row and the column of every point, got {jnp.shape(yx)}")
    y, x = jnp.clip(yx[0], 0, height - 1), jnp.clip(yx[1], 0, width - 1)
    top, left = jnp.minimum(y.astype(int), height - 2), jnp.minimum(x.astype(int), width - 2)
    channels = (1,) * (image.ndim - 2)
    down, right = ((a - i.astype(a.dtype)).reshape(*a.shape, *channels) for a, i in ((y, top), (x, left)))
    pixels = image.reshape(-1, *image.shape[2:])

    def row(i: PyTree) -> Array:
        start = i * width + left
        a, b = (pixels.at[start + k].get(mode="promise_in_bounds") for k in (0, 1))
        return a + right * (b - a)

    upper, lower = row(top), row(top + 1)
    return upper + down * (lower - upper)


def shift(key: Key[Array, ""], image: ImageLike, *, pixels: Scalar) -> Image:
    """Move the image by up to `pixels` along each axis; raises as `distort` does."""
    return distort(key, image, shift=pixels)


def rotate(key: Key[Array, ""], image: ImageLike, *, degrees: Scalar) -> Image:
    """Rotate the image about its centre by up to `degrees` in either direction; raises as `distort` does."""
    return distort(key, image, rotate=degrees)


def scale(key: Key[Array, ""], image: ImageLike, *, fraction: Scalar) -> Image:
    """Stretch each axis by a factor from [1 - fraction, 1 + fraction]; raises as `distort` does."""
    return distort(key, image, scale=fraction)


def shear(key: Key[Array, ""], image: ImageLike, *, fraction: Scalar) -> Image:
    """Shear the image by up to `fraction` pixels sideways per pixel of height; raises as `distort` does."""
    return distort(key, image, shear=fraction)


def elastic(key: Key[Array, ""], image: ImageLike, *, pixels: Scalar, sigma: float = 5.0) -> Image:
    """Displace every pixel by a smooth random field, `pixels` in root mean square; raises as `distort` does."""
    return distort(key, image, elastic=pixels, sigma=sigma)


def blur(key: Key[Array, ""], image: ImageLike, *, sigma: Scalar) -> Image:
    """Smooth by a Gaussian whose width is drawn from [0, sigma] pixels; its weights sum to 1 near the border too.

    Raises ValueError for an image that is not [H, W] or [H, W, channels] or a negative sigma.
    """
    image = _checked(key, image, sigma=sigma)
    return smoothing.gaussian(image, sigma * jax.random.uniform(key, dtype=image.dtype))


def thickness(
    key: Key[Array, ""],
    image: ImageLike,
    *,
    thinner: Scalar = 0.0,
    thicker: Scalar = 0.0,
    softer: Scalar = 0.0,
    p: Scalar = 1.0,
) -> Image:
    """With probability p, make bright strokes on black thinner or thicker, and softer, as other pens and cameras do.

    Edges move by up to `thinner` pixels into the strokes or `thicker` pixels outwards: the image is smoothed by a
    Gaussian of width 1, where an edge moved by d has the value Phi(-d), and the contrast about this value is raised
    until an edge is one pixel wide. A fraction from [0, softer] of the smoothed image is then mixed in. The brightest
    pixel keeps its value.

    Raises ValueError for an image that is not [H, W] or [H, W, channels], an amount that is negative or above 3 pixels,
    or a fraction `softer` or probability p above 1.
    """
    image = _checked(key, image, most=3, thinner=thinner, thicker=thicker)
    image = _checked(key, image, most=1, softer=softer, p=p)
    if not any(map(_enabled, (thinner, thicker, softer))):
        return image
    edge_key, soft_key, p_key = jax.random.split(key, 3)
    d = jax.random.uniform(edge_key, dtype=image.dtype) * (thinner + thicker) - thinner
    fraction = softer * jax.random.uniform(soft_key, dtype=image.dtype)
    down, along = (
        jnp.exp(smoothing.exponents(n, 1.0).astype(image.dtype)) / (2 * np.pi) ** 0.5 for n in image.shape[:2]
    )
    peak = functools.partial(jnp.max, axis=(0, 1), keepdims=True)
    smooth = jnp.einsum("hi,ij...,wj->hw...", down, image / jnp.maximum(peak(image), 1e-6), along)
    sharp = jnp.clip((smooth - jax.scipy.stats.norm.cdf(-d)) / jax.scipy.stats.norm.pdf(d) + 0.5, 0, 1)
    smooth, sharp = (a * peak(image) / jnp.maximum(peak(a), 1e-6) for a in (smooth, sharp))
    changed = sharp + fraction * (smooth - sharp)
    return jnp.where(jax.random.uniform(p_key, dtype=image.dtype) < p, changed, image)


def noise(key: Key[Array, ""], image: ImageLike, *, sigma: Scalar) -> Image:
    """Add N(0, sigma^2) to every pixel; nothing is clipped.

    Raises ValueError for an image that is not [H, W] or [H, W, channels] or a negative sigma.
    """
    image = _checked(key, image, sigma=sigma)
    return image + sigma * jax.random.normal(key, image.shape, image.dtype)


def brightness(key: Key[Array, ""], image: ImageLike, *, amount: Scalar) -> Image:
    """Add one number from [-amount, amount] to all pixels; raises as `noise` does."""
    image = _checked(key, image, amount=amount)
    return _pix(image, lambda pix, image: pix.random_brightness(key, image, max_delta=amount))


def contrast(key: Key[Array, ""], image: ImageLike, *, amount: Scalar) -> Image:
    """Scale the distances from the mean by a factor from [1 - amount, 1 + amount]; raises as `noise` does.

    Raises ValueError also for an amount above 1, which could invert the image.
    """
    image = _checked(key, image, most=1, amount=amount)
    return _pix(image, lambda pix, image: pix.random_contrast(key, image, lower=1 - amount, upper=1 + amount))


def mirror(key: Key[Array, ""], image: ImageLike, *, p: Scalar = 0.5) -> Image:
    """Swap left and right with probability p (section 3.3.2).

    Keeps the label of a cat, but not of a digit or a letter: a mirrored 2, 3 or 7 is not a digit (the notes list
    mirroring without this exception).
    Raises ValueError for an image that is not [H, W] or [H, W, channels] or a p outside [0, 1].
    """
    image = _checked(key, image, most=1, p=p)
    return _pix(image, lambda pix, image: pix.random_flip_left_right(key, image, probability=p))


def colour(key: Key[Array, ""], image: Float[ArrayLike, "H W 3"], *, amount: Scalar) -> Float[Array, "H W 3"]:
    """Rotate the hue by up to `amount` of a circle, scale the saturation by a factor from [1 - amount, 1 + amount].

    Raises ValueError for an image that is not [H, W, 3] or an amount that is negative or above 1/2.
    """
    if jnp.ndim(image) != 3 or jnp.shape(image)[-1] != 3:
        raise ValueError(f"image must have shape [H, W, 3], red, green and blue, got {jnp.shape(image)}")
    image = _checked(key, image, most=0.5, amount=amount)
    hue_key, saturation_key = jax.random.split(key)
    rotated = _pix(image, lambda pix, image: pix.random_hue(hue_key, image, max_delta=amount))
    return _pix(
        rotated, lambda pix, image: pix.random_saturation(saturation_key, image, lower=1 - amount, upper=1 + amount)
    )


def chain(*transforms: ImageTransform) -> ImageTransform:
    """The composition of several transforms, the first applied first, each with its own key."""
    return functools.partial(_chain, transforms)


def rows(
    key: Key[Array, ""],
    xs: Float[ArrayLike, "m pixels"],
    *rest: PyTree,
    image_transform: ImageTransform,
    shape: Sequence[int],
) -> tuple[PyTree, ...]:
    """A `transform` for training: `image_transform` of each row of xs, reshaped to `shape`; the rest is unchanged.

    Raises ValueError if the rows do not have as many pixels as `shape`, TypeError for a shape that is traced, as one
    bound by `jax.tree_util.Partial` is.
    """
    checks.key("key", key)
    if any(isinstance(n, Tracer) for n in shape):
        raise TypeError("shape must hold Python integers, but is traced: bind it with functools.partial")
    if jnp.ndim(xs) != 2 or jnp.shape(xs)[1] != np.prod(shape):
        raise ValueError(f"xs must have rows of {np.prod(shape)} pixels for images {tuple(shape)}, got {jnp.shape(xs)}")
    keys = jax.random.split(key, jnp.shape(xs)[0])
    images = jax.vmap(image_transform)(keys, jnp.reshape(xs, (-1, *shape)))
    return images.reshape(jnp.shape(xs)), *rest


def _chain(transforms: tuple[ImageTransform, ...], key: Key[Array, ""], image: PyTree) -> Image:
    for transform, transform_key in zip(transforms, jax.random.split(key, len(transforms)), strict=True):
        image = transform(transform_key, image)
    return image


def _affine(
    key: Key[Array, ""], dtype: jax.typing.DTypeLike, shift: Scalar, rotate: Scalar, scale: Scalar, shear: Scalar
) -> tuple[Float[Array, "2 2"], Float[Array, "2"]]:
    """The matrix and offset that map a pixel's position, relative to the centre, to its source."""
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
    checks.positive("sigma", sigma)
    (v, rows), (u, columns) = (np.linalg.eigh(_covariance(n, sigma)) for n in (height, width))
    shares = np.outer(v, u) / (height * width)
    largest = np.argsort(shares, axis=None)[::-1]
    k = int(np.searchsorted(np.cumsum(shares.ravel()[largest]), VARIANCE)) + 1
    i, j = np.unravel_index(largest[:k], shares.shape)
    amplitudes = np.sqrt(height * width * shares[i, j] / shares[i, j].sum())
    return amplitudes[:, None] * rows[:, i].T, columns[:, j].T


def _covariance(n: int, sigma: float) -> np.ndarray:
    i = np.arange(n)
    with np.errstate(over="ignore"):  # for small sigma the square overflows, and its exponential is 0
        return np.exp(-(((i[:, None] - i[None]) / (2 * float(sigma))) ** 2))


def _enabled(amount: Scalar) -> bool:
    """False only for a Python 0; a traced amount may be nonzero."""
    return not isinstance(amount, int | float | np.number) or amount != 0


def _checked(key: PyTree, image: PyTree, *, most: Scalar = np.inf, **amounts: PyTree) -> Array:
    """`image` as an array; raise unless all arguments are right, each amount being in [0, most]."""
    checks.key("key", key)
    image = _check_image(image)
    for name, amount in amounts.items():
        checks.in_range(name, amount, most=most)
    return image


def _check_image(image: PyTree, least: int = 1) -> Array:
    """`image` as an array; raise ValueError unless it is [H, W] or [H, W, channels], TypeError for integers."""
    checks.array("image", image)
    if jnp.ndim(image) not in (2, 3) or min(jnp.shape(image)[:2]) < least:
        raise ValueError(
            f"image must have shape [H, W] or [H, W, channels] with at least {least}x{least} pixels, got "
            f"{jnp.shape(image)}: reshape rows of pixels, and use jax.vmap or augment.rows for many images"
        )
    checks.floating("image", image)
    return jnp.asarray(image)


def _pix(image: Image, change: Callable[[PyTree, Array], Array]) -> Image:
    """`change(dm_pix, image)`, with the channel axis that dm-pix needs."""
    try:
        import dm_pix
    except ImportError as error:
        raise ImportError("this transform needs dm-pix: pip install dm-pix") from error
    return change(dm_pix, image.reshape(*image.shape[:2], -1)).reshape(image.shape)
