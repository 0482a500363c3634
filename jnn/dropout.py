"""Dropout (section 3.3.2): random masks on the hidden layers, and the weights for the test phase.

All functions raise ValueError for a p outside [0, 1), and TypeError for a p that is not one number and for a key that
is not a typed PRNG key (`jax.random.key`).
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
    """Draws a mask of the neurons to keep, each with probability 1 - p.

    Args:
      key: A typed PRNG key.
      shape: The shape of the mask.
      p: The probability of dropping a neuron, in [0, 1).

    Returns:
      The mask, True for the neurons to keep.

    Example:
      >>> dropout.mask(jax.random.key(0), (3,), p=0.0)
      Array([ True,  True,  True], dtype=bool)
    """
    checks.key("key", key)
    _check_fraction(p)
    threshold = jnp.minimum(jnp.asarray(p * 2.0**32, jnp.float32), 2.0**32 - 256).astype(jnp.uint32)
    return jax.random.bits(key, shape, jnp.uint32) >= threshold  # cheaper than uniform numbers


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
    """Computes the mean cost of a mini-batch and its gradient, with dropout on every hidden layer (section 3.3.2).

    A mask of zeros and ones is drawn for every hidden layer, example and call, the l-th with the l-th of as many keys
    split off `key` as there are hidden layers; `backprop.minibatch_value_and_grad` applies them, and raises for the
    other arguments. As a `grad` for training it needs the transform `regularize.append_key`. At test time nothing is
    dropped, and `at_test` scales by 1 - p.

    Args:
      params: The parameters.
      xs: The examples, one in each row.
      ys: The desired outputs, one in each row.
      key: A typed PRNG key.
      p: The fraction of every hidden layer that is dropped.
      cost: The cost.
      hidden: The activation of the hidden layers.

    Returns:
      The mean cost, and its gradient, which has the structure of `params`.

    Example:
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> batch = jnp.ones((5, 3)), jnp.ones((5, 2)), jax.random.key(1)
      >>> value, grads = dropout.minibatch_value_and_grad(params, *batch, p=0.5)
      >>> grads[0].w.shape
      (4, 3)
    """
    checks.key("key", key)
    _check_fraction(p)
    m = checks.examples((xs, ys))
    widths = mlp.sizes(params)[1:-1]
    keys = jax.random.split(key, max(1, len(widths)))
    masks = [mask(k, (m, width), p) for k, width in zip(keys, widths, strict=False)]
    return backprop.minibatch_value_and_grad(params, xs, ys, cost=cost, hidden=hidden, masks=masks)


def at_test(params: Params, p: Scalar) -> Params:
    """Scales parameters for the test phase: the weights out of hidden layers times 1 - p (section 3.3.2).

    1 - p is the fraction that training kept. It equals scaling the activations, so `mlp.forward` needs no change. The
    notes scale by p, which is right only for p = 1/2.

    Args:
      params: The parameters after training.
      p: The fraction that training dropped.

    Returns:
      The parameters for evaluation.

    Example:
      >>> layers = (mlp.Layer(jnp.eye(2), jnp.ones(2)), mlp.Layer(jnp.ones((1, 2)), jnp.ones(1)))
      >>> dropout.at_test(layers, p=0.25)[1].w
      Array([[0.75, 0.75]], dtype=float32)
    """
    _check_fraction(p)
    first, *rest = params
    return first, *(Layer(w=(1 - p) * w, b=b) for w, b in rest)


def _check_fraction(p: PyTree) -> None:
    checks.in_range("p", p)
    if not isinstance(p, Tracer) and not p < 1:
        raise ValueError(f"p, the fraction dropped, must be in [0, 1), got {p}")
