"""Multilayer perceptrons: a tuple of layers, from random initialisation to output.

One example is the definition; `jax.vmap(mlp.forward, in_axes=(None, 0))` is a batch.

Parameters do not say which activation the hidden layers have. A network must be read with that of its training: another
one gives wrong outputs and no error. If it is not the default, bind it once to what trains and to what reads:

    options = {"hidden": activations.relu}
    grad = Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy, **options)
    logits, accuracy = Partial(mlp.logits, **options), Partial(mlp.accuracy, **options)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Int, Integer, Key

from jnn._internal import checks, dtypes, xla
from jnn._internal.named import Named
from jnn.activations import Activation, sigmoid
from jnn.typing import PRNGKey

# Classes are left out so that help() starts with the functions: pydoc lists classes first.
__all__ = ["accuracy", "classify", "forward", "init", "linear", "logits", "sizes"]


class Layer(NamedTuple):
    """The weights into one layer and its biases (section 2.1).

    `w[j, k]` goes from neuron k of the layer before to neuron j of this one (chapter 2's order; chapter 1 of the
    notes writes the indices the other way round).
    """

    w: Float[Array, "n_out n_in"]
    b: Float[Array, " n_out"]


Params = tuple[Layer, ...]
"""The layers of a network, from the first that has weights to the output."""


@dataclass(frozen=True, repr=False)
class Initialiser(Named):
    """Random initial weights or biases: calling it with (key, shape, dtype) draws them, as in `jax.nn.initializers`.

    The shape of weights is JAX's (n_in, n_out), here as there; `init` and the cells transpose what is drawn.

    `help` shows the docstring of `draw`.
    """

    draw: Initializer
    _described_by = "draw"

    def __call__(
        self, key: Key[Array, ""], shape: Sequence[int], dtype: Any = None, out_sharding: Any = None
    ) -> Float[Array, "..."]:
        return self.draw(key, shape, dtype, out_sharding)


def _scaled_normal(key: Key[Array, ""], shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
    """Weights from N(0, 1/n_in), so that weighted inputs start with a variance near 1 at any width."""
    draw = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=-1, out_axis=-2)
    return _transposed(draw, key, shape, dtype, out_sharding)


def _orthogonal(key: Key[Array, ""], shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
    """Random orthogonal weights of `shape` (n_in, n_out), which preserve the norm of their input unless n_out < n_in.

    For recurrent layers. Half-precision weights are drawn in float32, which the factorisation needs.

    Raises:
      ValueError: If the shape has fewer than two sizes.
      TypeError: If `key` is not a typed PRNG key (`jax.random.key`), or sizes are not integers.
    """
    checks.key("key", key)
    chosen = jnp.dtype(dtype or jnp.float32)
    wide = dtypes.single(chosen) if jnp.issubdtype(chosen, jnp.floating) else chosen
    return _transposed(jax.nn.initializers.orthogonal(), key, shape, wide, out_sharding).astype(chosen)


def _unit_normal(key: Key[Array, ""], shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
    """Weights or biases from N(0, 1), the start of Nielsen's chapter 1."""
    return _transposed(jax.nn.initializers.normal(1.0), key, shape, dtype, out_sharding)


def _zeros(key: Key[Array, ""], shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
    """Weights or biases of 0."""
    return jax.nn.initializers.zeros(key, shape, dtype, out_sharding)


def _transposed(draw: Initializer, key: PRNGKey, shape: Sequence[int], dtype: Any, out_sharding: Any) -> Array:
    """What `draw` draws in the layout of `Layer.w`, [n_out, n_in], in that of JAX: the numbers keep their neurons."""
    if len(shape) < 2:
        return draw(key, shape, dtype, out_sharding)
    drawn = jnp.swapaxes(draw(key, (*shape[:-2], shape[-1], shape[-2]), dtype), -2, -1)
    return drawn if out_sharding is None else jax.sharding.reshard(drawn, out_sharding)


scaled_normal = Initialiser("scaled_normal", _scaled_normal)
orthogonal = Initialiser("orthogonal", _orthogonal)
unit_normal = Initialiser("unit_normal", _unit_normal)
zeros = Initialiser("zeros", _zeros)


def init(
    key: Key[Array, ""],
    sizes: Sequence[int],
    *,
    weights: Initializer = scaled_normal,
    biases: Initializer = zeros,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Params:
    """Draws random parameters of a network.

    Args:
      key: A typed PRNG key.
      sizes: The numbers of neurons of the layers, the input layer first.
      weights: Initialises the weights: any of `jax.nn.initializers`, or a function of (key, (n_in, n_out), dtype).
      biases: Initialises the biases, in the same way, of shape (n_out,).
      dtype: The dtype of the parameters.

    Returns:
      A `Layer` for each layer but the first: (784, 30, 10) gives w [30, 784], b [30] and w [10, 30], b [10].

    Raises:
      ValueError: If there are fewer than two sizes, or a size is below 1.
      TypeError: If a size is not an integer, or `key` is not a typed PRNG key (`jax.random.key`).

    Example:
      >>> params = mlp.init(jax.random.key(0), (784, 30, 10))
      >>> params[0].w.shape
      (30, 784)
      >>> params = mlp.init(jax.random.key(0), (784, 30, 10), weights=jax.nn.initializers.he_normal())
    """
    checks.key("key", key)
    checks.sizes(sizes)
    keys = jax.random.split(key, (len(sizes) - 1, 2))
    return tuple(
        Layer(w=weights(w_key, (n_in, n_out), dtype).T, b=biases(b_key, (n_out,), dtype))
        for (w_key, b_key), n_in, n_out in zip(keys, sizes[:-1], sizes[1:], strict=True)
    )


def sizes(params: Params) -> tuple[int, ...]:
    """The number of neurons of every layer, the input layer first, as passed to `init`.

    Raises ValueError if there is no layer or if the shapes of consecutive layers do not fit, TypeError for anything
    but layers.
    """
    if not isinstance(params, tuple | list):
        raise TypeError(f"params must be a tuple of mlp.Layer(w, b), got a {type(params).__name__}")
    if not params:
        raise ValueError("params must have at least one mlp.Layer(w, b), as mlp.init makes, got none")
    if not all(hasattr(layer, "w") and hasattr(layer, "b") for layer in params):
        raise TypeError(f"params must be a tuple of mlp.Layer(w, b), got {[type(layer).__name__ for layer in params]}")
    for i, (w, b) in enumerate(params):
        checks.unlisted(f"params[{i}].w", w)
        checks.unlisted(f"params[{i}].b", b)
    widths = [jnp.shape(params[0].w)[-1] if jnp.ndim(params[0].w) else 0]
    for i, (w, b) in enumerate(params):
        n_out = jnp.shape(b)[0] if jnp.ndim(b) else 0
        advice = (
            f"one row for each of its {n_out} biases, one column for each of {widths[-1]} neurons in the layer below"
        )
        checks.shape(f"params[{i}].w", w, (n_out, widths[-1]), advice)
        widths.append(n_out)
    return tuple(widths)


def logits(params: Params, x: Float[Array, " n_in"], *, hidden: Activation = sigmoid) -> Float[Array, " n_out"]:
    """z^L, the weighted input to the last layer, for one example x.

    z^l = w^l a^(l-1) + b^l and a^l = hidden(z^l) for 2 <= l <= L (sections 2.1 and 2.2; the notes once call z the
    weighted output). Pass the `hidden` used in training; `params` do not store it.

    Raises ValueError for shapes that do not fit, TypeError for an x of integers.
    """
    checks.shape("x", x, sizes(params)[:1], "one example; for a batch use jax.vmap(f, in_axes=(None, 0))")
    checks.floating("x", x)
    checks.function("hidden", hidden, "an activation, such as activations.tanh")
    *below, last = params
    a = x
    for w, b in below:
        a = hidden(w @ a + b)
    return last.w @ a + last.b


def forward(
    params: Params, x: Float[Array, " n_in"], *, hidden: Activation = sigmoid, output: Activation = sigmoid
) -> Float[Array, " n_out"]:
    """a^L = output(z^L), the output of the network for one example x (section 2.1); raises as `logits` does."""
    checks.function("output", output, "an activation, such as activations.identity")
    return output(logits(params, x, hidden=hidden))


def linear(layer: Layer, xs: Float[Array, "*batch n_in"]) -> Float[Array, "*batch n_out"]:
    """The weighted inputs w x + b of one layer, for arrays with any leading axes.

    Reads the memories of a recurrent net at every step.

    Raises ValueError for shapes that do not fit, TypeError for xs of integers.
    """
    n_in, _ = sizes((layer,))
    checks.shape("xs", xs, (*jnp.shape(xs)[:-1], n_in), "the last axis must be the layer's input")
    checks.floating("xs", xs)
    z = xs @ layer.w.T
    return z + jnp.broadcast_to(layer.b, z.shape)


def classify(params: Params, xs: Float[Array, "m n_in"], *, hidden: Activation = sigmoid) -> Int[Array, " m"]:
    """The predicted label for each of m examples: the index of the most active output neuron.

    With a single output neuron it is 1 where z > 0, where sigma(z) is above 1/2, and else 0.

    Raises ValueError for shapes that do not fit, TypeError for xs of integers.
    """
    checks.shape("xs", xs, (checks.examples((xs,)), sizes(params)[0]), "one row for each example")
    checks.floating("xs", xs)
    checks.function("hidden", hidden, "an activation, such as activations.tanh")
    *below, last = params
    a = xs.T
    for w, b in below:
        a = hidden(xla.weighted_inputs(w, b, a))
    z = xla.weighted_inputs(*last, a)
    return jnp.argmax(z, axis=0) if len(z) > 1 else (z[0] > 0).astype(int)


def accuracy(
    params: Params, xs: Float[Array, "m n_in"], labels: Integer[Array, " m"], *, hidden: Activation = sigmoid
) -> Float[Array, ""]:
    """The fraction of m examples that the network classifies correctly, from 0 to 1.

    labels: the index of the right output neuron, from 0; for a single output neuron 0 or 1. hidden: as in training,
    which `params` do not say; with another one the network is read wrongly.

    Raises as `classify` does, ValueError unless there is one label for each example and, unless it is traced, for one
    that no neuron stands for; TypeError for labels that are not integers.

    Example:
      >>> hidden = {"hidden": activations.relu}
      >>> grad = functools.partial(backprop.minibatch_value_and_grad, **hidden)
      >>> accuracy = functools.partial(mlp.accuracy, **hidden)
      >>> params = mlp.init(jax.random.key(0), (3, 5, 2))
      >>> float(accuracy(params, jnp.ones((4, 3)), jnp.array([0, 0, 0, 1])))
      0.75
    """
    labels = checks.converted(labels)
    checks.labels("labels", labels, max(sizes(params)[-1], 2))
    checks.shape("labels", labels, jnp.shape(xs)[:1], "one label for each example")
    return jnp.mean(classify(params, xs, hidden=hidden) == labels)
