"""Dropout (section 3.3.2): random masks on the hidden layers, and the weights for the test phase.

Both random functions raise TypeError for a p that is not one number and a key that `jax.random.key` did not make.
"""

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Key

from jnn import backprop, costs, mlp
from jnn._internal import checks
from jnn.activations import Activation, sigmoid
from jnn.costs import Cost
from jnn.mlp import Layer, Params
from jnn.typing import PyTree, Scalar


def mask(key: Key[Array, ""], shape: tuple[int, ...], p: Scalar) -> Bool[Array, "*shape"]:
    """True for the neurons that are kept, each with probability 1 - p. Raises ValueError for p outside [0, 1)."""
    checks.key("key", key)
    _check_fraction(p)
    threshold = jnp.minimum(jnp.asarray(p * 2.0**32, jnp.float32), 2.0**32 - 256).astype(jnp.uint32)
    return jax.random.bits(key, shape, jnp.uint32) >= threshold  # no uniform numbers are needed


def minibatch_value_and_grad(
    params: Params,
    xs: Float[Array, "m n_in"],
    ys: Float[Array, "m n_out"],
    key: Key[Array, ""],
    *,
    p: Scalar,
    cost: Cost = costs.quadratic,
    hidden: Activation = sigmoid,
) -> tuple[Float[Array, ""], Params]:
    """The mean cost of a mini-batch and its gradient with a fraction p of every hidden layer dropped (section 3.3.2).

    A mask of zeros and ones is drawn for every hidden layer, example and call, layer l's from the l-th of L - 2 keys
    split off `key`; `backprop.minibatch_value_and_grad` applies them. As a `grad` for training it needs the transform
    `regularize.append_key`. At test time nothing is dropped, and `at_test` scales by 1 - p.

    Raises as `backprop.minibatch_value_and_grad` does, and ValueError for p outside [0, 1).
    """
    checks.key("key", key)
    _check_fraction(p)
    m = checks.examples((xs, ys))
    widths = mlp.sizes(params)[1:-1]
    keys = jax.random.split(key, max(1, len(widths)))
    masks = [mask(k, (m, width), p) for k, width in zip(keys, widths, strict=False)]
    return backprop.minibatch_value_and_grad(params, xs, ys, cost=cost, hidden=hidden, masks=masks)


def at_test(params: Params, p: Scalar) -> Params:
    """Parameters for the test phase: the weights out of hidden layers times 1 - p, the fraction that training kept.

    This ends dropout (section 3.3.2). It equals scaling the activations, so `mlp.forward` needs no change. The notes
    scale by p, which is right only for p = 1/2. Raises ValueError for p outside [0, 1).
    """
    _check_fraction(p)
    first, *rest = params
    return first, *(Layer(w=(1 - p) * w, b=b) for w, b in rest)


def _check_fraction(p: PyTree) -> None:
    checks.in_range("p", p)
    if not isinstance(p, Tracer) and not p < 1:
        raise ValueError(f"p, the fraction dropped, must be in [0, 1), got {p}")
