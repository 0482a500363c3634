"""Gaussian filters as one matrix product along each axis of an image."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jnn.typing import Scalar


def gaussian(image: Float[Array, "H W *channels"], sigma: Scalar) -> Float[Array, "H W *channels"]:
    """The image smoothed by a Gaussian of width sigma, in pixels; its weights sum to 1 near the border too."""
    height, width, *_ = image.shape
    sigma = jnp.maximum(jnp.asarray(sigma, image.dtype), 1e-3)  # narrower ones change nothing
    down, along = (jax.nn.softmax(exponents(n, sigma), axis=1) for n in (height, width))
    return jnp.einsum("hi,ij...,wj->hw...", down, image, along)


def exponents(n: int, sigma: Scalar) -> Float[Array, "n n"]:
    """The exponents of Gaussians of width sigma about each of n pixels."""
    i = jnp.arange(n, dtype=jnp.result_type(sigma))
    return -(((i[:, None] - i[None]) / sigma) ** 2) / 2
