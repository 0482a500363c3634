"""Label-preserving transforms of images (section 3.3.2), drawn independently for every image of every mini-batch.

Each is a pure function of a key and one image, [H, W] or [H, W, channels] with pixels in [0, 1]; its options bound how
strong the change is, and 0 leaves the image unchanged. `chain` composes them, and `rows` turns one into a `transform`
for `train.epoch`, `run` and `fit`, which then sees new images in every epoch. Angles are in degrees, lengths in pixels.
`brightness`, `contrast`, `mirror` and `colour` call dm-pix (Budden et al.) and raise ImportError without it; `distort`
and `blur` are several times faster than those of dm-pix (`python -m benchmarks.augment`).

All raise ValueError for an image that is not [H, W] or [H, W, channels] and for an amount that is negative. They raise
TypeError for an image of integers, for an amount that is not one number and for a key that is not a typed PRNG key
(`jax.random.key`).

Example:
  >>> distort = functools.partial(augment.distort, rotate=10, elastic=1.0)
  >>> transform = functools.partial(augment.rows, image_transform=distort, shape=(28, 28))

  A normalisation, or anything else that follows, goes into a transform of your own:

  >>> def normalised(key, xs, ys):
  ...     xs, ys = transform(key, xs, ys)
  ...     return (xs - 0.13) / 0.31, ys
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
"""A JAX or NumPy array in place of an `Image`."""

ImageTransform = Callable[[Key[Array, ""], ImageLike], Image]
"""(key, image) -> image: one of these functions with its options bound."""

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
    """Applies a random affine map about the centre and an elastic distortion, in one interpolation (section 3.3.2).

    The amounts of the affine map are drawn uniformly from their ranges; outside the image, the pixels of the border are
    repeated. The elastic displacements are white noise smoothed by a Gaussian of width `sigma` pixels (Simard,
    Steinkraus and Platt, 2003; their alpha, for noise from U(-1, 1), corresponds to `elastic = 0.163 alpha / sigma`,
    where 0.163 is 1 / sqrt(12 pi)). Only the principal components with 99 % of the variance of the noise are drawn: for
    28x28 pixels and the default `sigma`, 19 numbers for each axis instead of 784.

    Args:
      key: A typed PRNG key.
      image: The image, of at least 2x2 pixels.
      shift: The largest shift along each axis, in pixels.
      rotate: The largest rotation in either direction, in degrees.
      scale: The largest change of size: each axis is scaled by a factor from [1 - scale, 1 + scale], with `scale` at
        most 0.99.
      shear: The largest shear, in pixels sideways per pixel of height.
      elastic: The root mean square of the elastic displacements along each axis, in pixels.
      sigma: The width of the Gaussian, in pixels. Not used if `elastic` is 0.

    Returns:
      The distorted image.

    Raises:
      ValueError: If the image is smaller than 2x2, `scale` is above 0.99, or `sigma` is used and not positive.

    Example:
      >>> augment.distort(jax.random.key(0), jnp.ones((6, 8)), rotate=10, elastic=1.0).shape
      (6, 8)
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
    """Reads an image at arbitrary points, bilinearly; outside the image, at the nearest point of its border.

    Args:
      image: The image, of at least 2x2 pixels.
      yx: The row and the column of every point.

    Returns:
      The values at the points.

    Raises:
      ValueError: If the image is smaller than 2x2, or `yx` is not [2, h, w].

    Example:
      >>> augment.interpolate(jnp.eye(2), jnp.full((2, 1, 1), 0.5))
      Array([[0.5]], dtype=float32)
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
    """Shifts the image along each axis by a random distance.

    Args:
      key: A typed PRNG key.
      image: The image.
      pixels: The largest shift, in pixels.

    Returns:
      The shifted image.

    Raises:
      ValueError: As `distort` does.
    """
    return distort(key, image, shift=pixels)


def rotate(key: Key[Array, ""], image: ImageLike, *, degrees: Scalar) -> Image:
    """Rotates the image about its centre by a random angle.

    Args:
      key: A typed PRNG key.
      image: The image.
      degrees: The largest angle in either direction.

    Returns:
      The rotated image.

    Raises:
      ValueError: As `distort` does.
    """
    return distort(key, image, rotate=degrees)


def scale(key: Key[Array, ""], image: ImageLike, *, fraction: Scalar) -> Image:
    """Stretches each axis by a random factor.

    Args:
      key: A typed PRNG key.
      image: The image.
      fraction: The largest change of size: the factor is from [1 - fraction, 1 + fraction].

    Returns:
      The stretched image.

    Raises:
      ValueError: As `distort` does.
    """
    return distort(key, image, scale=fraction)


def shear(key: Key[Array, ""], image: ImageLike, *, fraction: Scalar) -> Image:
    """Shears the image by a random fraction.

    Args:
      key: A typed PRNG key.
      image: The image.
      fraction: The largest shear, in pixels sideways per pixel of height.

    Returns:
      The sheared image.

    Raises:
      ValueError: As `distort` does.
    """
    return distort(key, image, shear=fraction)


def elastic(key: Key[Array, ""], image: ImageLike, *, pixels: Scalar, sigma: float = 5.0) -> Image:
    """Displaces every pixel by a smooth random field.

    Args:
      key: A typed PRNG key.
      image: The image.
      pixels: The root mean square of the displacement along each axis, in pixels.
      sigma: The width of the Gaussian that smooths the field, in pixels.

    Returns:
      The distorted image.

    Raises:
      ValueError: As `distort` does.
    """
    return distort(key, image, elastic=pixels, sigma=sigma)


def blur(key: Key[Array, ""], image: ImageLike, *, sigma: Scalar) -> Image:
    """Smooths by a Gaussian of random width; its weights sum to 1 near the border too.

    Args:
      key: A typed PRNG key.
      image: The image.
      sigma: The largest width, in pixels.

    Returns:
      The blurred image.

    Example:
      >>> augment.blur(jax.random.key(0), jnp.ones((6, 8)), sigma=0).shape
      (6, 8)
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
    """Makes bright strokes on black thinner or thicker, and softer, as other pens and cameras do.

    Edges move by up to `thinner` pixels into the strokes or `thicker` pixels outwards: the image is smoothed by a
    Gaussian of width 1, where an edge moved by d has the value Phi(-d), and the contrast about this value is raised
    until an edge is one pixel wide. A fraction from [0, softer] of the smoothed image is then mixed in. The brightest
    pixel keeps its value.

    Args:
      key: A typed PRNG key.
      image: The image.
      thinner: The largest distance by which edges move inwards, at most 3 pixels.
      thicker: The largest distance by which edges move outwards, at most 3 pixels.
      softer: The largest fraction of the smoothed image.
      p: The probability of a change.

    Returns:
      The changed image.

    Raises:
      ValueError: If a distance is above 3, or `softer` or `p` is above 1.
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
    r"""Adds noise from :math:`N(0, \sigma^2)` to every pixel; nothing is clipped.

    Args:
      key: A typed PRNG key.
      image: The image.
      sigma: The standard deviation of the noise.

    Returns:
      The noisy image.

    Example:
      >>> augment.noise(jax.random.key(0), jnp.ones((1, 2)), sigma=0.0)
      Array([[1., 1.]], dtype=float32)
    """
    image = _checked(key, image, sigma=sigma)
    return image + sigma * jax.random.normal(key, image.shape, image.dtype)


def brightness(key: Key[Array, ""], image: ImageLike, *, amount: Scalar) -> Image:
    """Adds one random number to all pixels.

    Args:
      key: A typed PRNG key.
      image: The image.
      amount: The largest size of the number.

    Returns:
      The brighter or darker image.
    """
    image = _checked(key, image, amount=amount)
    return _pix(image, lambda pix, image: pix.random_brightness(key, image, max_delta=amount))


def contrast(key: Key[Array, ""], image: ImageLike, *, amount: Scalar) -> Image:
    """Scales the distances of all pixels from their mean by a random factor.

    Args:
      key: A typed PRNG key.
      image: The image.
      amount: The largest change: the factor is from [1 - amount, 1 + amount].

    Returns:
      The image with another contrast.

    Raises:
      ValueError: If `amount` is above 1, which could invert the image.
    """
    image = _checked(key, image, most=1, amount=amount)
    return _pix(image, lambda pix, image: pix.random_contrast(key, image, lower=1 - amount, upper=1 + amount))


def mirror(key: Key[Array, ""], image: ImageLike, *, p: Scalar = 0.5) -> Image:
    """Swaps left and right at random (section 3.3.2).

    A mirrored cat keeps its label, a mirrored 2, 3 or 7 is not a digit (the notes list mirroring without this
    exception).

    Args:
      key: A typed PRNG key.
      image: The image.
      p: The probability of a swap.

    Returns:
      The image or its mirror image.

    Raises:
      ValueError: If `p` is above 1.
    """
    image = _checked(key, image, most=1, p=p)
    return _pix(image, lambda pix, image: pix.random_flip_left_right(key, image, probability=p))


def colour(key: Key[Array, ""], image: Float[ArrayLike, "H W 3"], *, amount: Scalar) -> Float[Array, "H W 3"]:
    """Rotates the hue and scales the saturation at random.

    Args:
      key: A typed PRNG key.
      image: The image: red, green and blue.
      amount: The largest change: the hue turns by up to this fraction of a circle, and the factor of the saturation is
        from [1 - amount, 1 + amount].

    Returns:
      The image in other colours.

    Raises:
      ValueError: If the image is not [H, W, 3], or `amount` is above 1/2.
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
    """Composes several transforms, each of which gets its own key.

    Args:
      *transforms: The transforms, the first applied first.

    Returns:
      The composition, a transform.

    Example:
      >>> blur, noise = (functools.partial(f, sigma=0.1) for f in (augment.blur, augment.noise))
      >>> augment.chain(blur, noise)(jax.random.key(0), jnp.ones((6, 8))).shape
      (6, 8)
    """
    return functools.partial(_chain, transforms)


def rows(
    key: Key[Array, ""],
    xs: Float[ArrayLike, "m pixels"],
    *rest: PyTree,
    image_transform: ImageTransform,
    shape: Sequence[int],
) -> tuple[PyTree, ...]:
    """Transforms each row of xs as an image: a `transform` for training.

    Args:
      key: A typed PRNG key.
      xs: The images, one in each row.
      *rest: Arrays of the mini-batch that are returned as they are.
      image_transform: The transform of one image.
      shape: The shape of an image.

    Returns:
      The arrays of the mini-batch, with transformed images.

    Raises:
      ValueError: If the rows do not have as many pixels as `shape`.
      TypeError: If `shape` is traced, as a shape bound by `jax.tree_util.Partial` is.

    Example:
      >>> noise = functools.partial(augment.noise, sigma=0.0)
      >>> xs, ys = augment.rows(jax.random.key(0), jnp.ones((5, 6)), jnp.ones(5), image_transform=noise, shape=(2, 3))
      >>> xs.shape
      (5, 6)
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
