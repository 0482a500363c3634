"""Masks over the steps of sequences, which end shorter sequences of a batch early."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jnn._internal import checks


def cleared(xs: Float[Array, "T *batch p"], mask: Any) -> Float[Array, "T *batch p"]:
    """`xs` with 0 where the mask is False: padding, even NaN, then reaches no value and no gradient.

    Raises ValueError for a mask of another shape than [T] or [T, B], TypeError for one that is not boolean.
    """
    if mask is None:
        return xs
    advice = "one entry for each time and sequence, time first as in xs [T, B, p], False after its end"
    checks.shape("mask", mask, xs.shape[:-1], advice)
    if not jnp.issubdtype(jnp.result_type(mask), jnp.bool_):
        raise TypeError(f"mask must be boolean, got {jnp.result_type(mask)}: convert it with mask.astype(bool)")
    return where(mask, xs, jnp.zeros_like(xs))


def where(mask: Bool[Array, "*batch"] | None, new: Any, old: Any) -> Any:
    """`new` where the mask is True, else `old`; without a mask, `new`."""
    return new if mask is None else jax.tree.map(lambda a, b: jnp.where(mask[..., None], a, b), new, old)
