"""Masks over the steps of sequences, which end shorter sequences of a batch early."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from jnn import _checks


def cleared(xs: Float[Array, "T *batch p"], mask: Any) -> Float[Array, "T *batch p"]:
    """`xs` with 0 where the mask is False: padding, even NaN, then reaches no value and no gradient.

    Raises ValueError for a mask of another shape than [T] or [T, B], TypeError for one that is not boolean.
    """
    if mask is None:
        return xs
    advice = "one entry for each time and sequence, time first as in xs [T, B, p], False after its end"
    _checks.shape("mask", mask, xs.shape[:-1], advice)
    if not jnp.issubdtype(jnp.result_type(mask), jnp.bool_):
        raise TypeError(f"mask must be boolean, got {jnp.result_type(mask)}: convert it with mask.astype(bool)")
    return where(mask, xs, jnp.zeros_like(xs))


def mask(lengths: Int[Array, " B"], steps: int) -> Bool[Array, "steps B"]:
    """True at the first `lengths[i]` of the `steps` times of each sequence i: the mask of a padded batch.

    Raises TypeError for lengths or steps that are not integers; ValueError for lengths that are not a vector, for steps
    below 1, and for a length outside 0 ... steps unless it is traced.
    """
    _checks.array("lengths", lengths)
    _checks.count("steps", steps)
    if not jnp.issubdtype(jnp.result_type(lengths), jnp.integer):
        raise TypeError(f"lengths must be integers, got {jnp.result_type(lengths)}")
    if jnp.ndim(lengths) != 1:
        raise ValueError(f"lengths must have one entry for each sequence, got shape {jnp.shape(lengths)}")
    if not isinstance(lengths, Tracer) and (np.min(lengths, initial=0) < 0 or np.max(lengths, initial=0) > steps):
        raise ValueError(f"lengths must be in 0 ... {steps}, the number of steps, got {lengths}")
    return jnp.arange(steps)[:, None] < jnp.asarray(lengths)[None]


def where(mask: Bool[Array, "*batch"] | None, new: Any, old: Any) -> Any:
    """`new` where the mask is True, else `old`; without a mask, `new`."""
    return new if mask is None else jax.tree.map(lambda a, b: jnp.where(mask[..., None], a, b), new, old)
