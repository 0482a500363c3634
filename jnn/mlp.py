"""Multilayer perceptrons: a tuple of layers, from random initialisation to output.

Functions of one example x become functions of a batch with `jax.vmap(mlp.forward, in_axes=(None, 0))`. All functions of
parameters raise ValueError for shapes that do not fit, and TypeError for parameters that are not a tuple of layers, for
inputs that are not floating and for activations that are not functions.

Parameters do not record the activation of the hidden layers. A network must be evaluated with the activation that it
was trained with: another one gives wrong outputs and no error. If it is not the default, bind it once for training and
evaluation:

Example:
  >>> options = {"hidden": activations.relu}
  >>> grad = functools.partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy, **options)
  >>> accuracy = functools.partial(mlp.accuracy, **options)
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
from jnn.activations import Activation, Elementwise, sigmoid
from jnn.typing import PRNGKey

# Classes are left out so that help() starts with the functions: pydoc lists classes first.
__all__ = ["accuracy", "classify", "forward", "init", "linear", "logits", "predict", "sizes"]


class Layer(NamedTuple):
    """The weights into one layer and its biases (section 2.1).

    Attributes:
      w: The weights; `w[j, k]` goes from neuron k of the layer below to neuron j of this layer (the order of chapter 2;
        chapter 1 of the notes writes the indices the other way round).
      b: The biases.
    """

    w: Float[Array, "n_out n_in"]
    b: Float[Array, " n_out"]


Params = tuple[Layer, ...]
"""The layers of a network, from the first hidden layer to the output layer."""


@dataclass(frozen=True, repr=False)
class Initialiser(Named):
    """Random initial weights or biases, drawn by calling it with (key, shape, dtype) as in `jax.nn.initializers`.

    The shape of weights is (n_in, n_out), as in JAX; `init` and the cells transpose the result. `help` shows the
    docstring of `draw`.

    Attributes:
      name: The name under which it is printed.
      draw: The function of (key, shape, dtype, out_sharding).
    """

    draw: Initializer
    _described_by = "draw"

    def __call__(
        self, key: Key[Array, ""], shape: Sequence[int], dtype: Any = None, out_sharding: Any = None
    ) -> Float[Array, "..."]:
        return self.draw(key, shape, dtype, out_sharding)


def _scaled_normal(key: Key[Array, ""], shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
    """Weights from N(0, 1/n_in), so that weighted inputs start with a variance near 1 at any width.

    Example:
      >>> mlp.scaled_normal(jax.random.key(0), (4, 3)).shape
      (4, 3)
    """
    draw = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=-1, out_axis=-2)
    return _transposed(draw, key, shape, dtype, out_sharding)


def _orthogonal(key: Key[Array, ""], shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
    """Random orthogonal weights, which preserve the norm of their input unless n_out < n_in.

    They suit recurrent layers. Half-precision weights are drawn in float32, which the factorisation needs.

    Raises:
      ValueError: If the shape has fewer than two sizes.
      TypeError: If `key` is not a typed PRNG key (`jax.random.key`), or sizes are not integers.

    Example:
      >>> w = mlp.orthogonal(jax.random.key(0), (4, 4))
      >>> bool(jnp.allclose(w @ w.T, jnp.eye(4), atol=1e-6))
      True
    """
    checks.key("key", key)
    chosen = jnp.dtype(dtype or jnp.float32)
    wide = dtypes.single(chosen) if jnp.issubdtype(chosen, jnp.floating) else chosen
    return _transposed(jax.nn.initializers.orthogonal(), key, shape, wide, out_sharding).astype(chosen)


def _unit_normal(key: Key[Array, ""], shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
    """Weights or biases from N(0, 1), the initialisation of Nielsen's chapter 1.

    Example:
      >>> mlp.unit_normal(jax.random.key(0), (4, 3)).shape
      (4, 3)
    """
    return _transposed(jax.nn.initializers.normal(1.0), key, shape, dtype, out_sharding)


def _zeros(key: Key[Array, ""], shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
    """Weights or biases of 0.

    Example:
      >>> mlp.zeros(jax.random.key(0), (3,))
      Array([0., 0., 0.], dtype=float32)
    """
    return jax.nn.initializers.zeros(key, shape, dtype, out_sharding)


def _transposed(draw: Initializer, key: PRNGKey, shape: Sequence[int], dtype: Any, out_sharding: Any) -> Array:
    """What `draw` draws for `Layer.w`, [n_out, n_in], in JAX's layout (n_in, n_out): each number keeps its neurons."""
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
      weights: The initialiser of the weights, called as `weights(key, (n_in, n_out), dtype)`: one of jnn, such as
        `scaled_normal`, or from `jax.nn.initializers`.
      biases: The initialiser of the biases, called as `biases(key, (n_out,), dtype)`.
      dtype: The dtype of the parameters.

    Returns:
      A `Layer` for each layer but the first; (784, 30, 10) gives w [30, 784], b [30] and w [10, 30], b [10].

    Raises:
      ValueError: If there are fewer than two sizes, or a size is below 1.
      TypeError: If a size is not an integer, or `key` is not a typed PRNG key (`jax.random.key`).

    Example:
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> params[0].w.shape
      (4, 3)
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2), weights=jax.nn.initializers.he_normal())
    """
    checks.key("key", key)
    checks.sizes(sizes)
    keys = jax.random.split(key, (len(sizes) - 1, 2))
    return tuple(
        Layer(w=weights(w_key, (n_in, n_out), dtype).T, b=biases(b_key, (n_out,), dtype))
        for (w_key, b_key), n_in, n_out in zip(keys, sizes[:-1], sizes[1:], strict=True)
    )


def sizes(params: Params) -> tuple[int, ...]:
    """Returns the number of neurons of every layer, the input layer first, as passed to `init`.

    Args:
      params: The parameters.

    Raises:
      ValueError: If there is no layer, or the shapes of consecutive layers do not fit.
      TypeError: If `params` is not a tuple of layers.

    Example:
      >>> mlp.sizes(mlp.init(jax.random.key(0), (3, 4, 2)))
      (3, 4, 2)
    """
    if not isinstance(params, tuple | list):
        raise TypeError(f"params must be a tuple of mlp.Layer(w, b), got a {type(params).__name__}")
    if not params:
        raise ValueError("params must have at least one mlp.Layer(w, b), as mlp.init makes, got none")
    if not all(hasattr(layer, "w") and hasattr(layer, "b") for layer in params):
        raise TypeError(f"params must be a tuple of mlp.Layer(w, b), got {[type(layer).__name__ for layer in params]}")
    checks.unlisted("params[0].w", params[0].w)
    widths = [jnp.shape(params[0].w)[-1] if jnp.ndim(params[0].w) else 0]
    for i, (w, b) in enumerate(params):
        checks.unlisted(f"params[{i}].b", b)
        n_out = jnp.shape(b)[0] if jnp.ndim(b) else 0
        advice = f"one row for each of its {n_out} biases, one column for each of {widths[-1]} neurons below"
        checks.shape(f"params[{i}].w", w, (n_out, widths[-1]), advice)
        widths.append(n_out)
    return tuple(widths)


def logits(params: Params, x: Float[Array, " n_in"], *, hidden: Activation = sigmoid) -> Float[Array, " n_out"]:
    r"""Computes the weighted input :math:`z^L` to the last layer, for one example (sections 2.1 and 2.2).

    .. math::

      z^l = w^l a^{l-1} + b^l, \qquad a^l = \mathrm{hidden}(z^l), \qquad 2 \le l \le L

    (The notes once call z the weighted output.)

    Args:
      params: The parameters.
      x: One example, which is :math:`a^1`.
      hidden: The activation of the hidden layers, the one used in training.

    Returns:
      The logits.

    Example:
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> mlp.logits(params, jnp.ones(3)).shape
      (2,)
      >>> jax.vmap(mlp.logits, in_axes=(None, 0))(params, jnp.ones((5, 3))).shape
      (5, 2)
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
    r"""Computes the output :math:`a^L = \mathrm{output}(z^L)` of the network, for one example (section 2.1).

    Args:
      params: The parameters.
      x: One example.
      hidden: The activation of the hidden layers, the one used in training.
      output: The activation of the output layer. For softmax outputs use `activations.softmax(mlp.logits(params, x))`.

    Returns:
      The output.

    Example:
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> mlp.forward(params, jnp.ones(3), output=activations.identity).shape
      (2,)
    """
    checks.function("output", output, "an activation, such as activations.identity")
    return output(logits(params, x, hidden=hidden))


def linear(layer: Layer, xs: Float[Array, "*batch n_in"]) -> Float[Array, "*batch n_out"]:
    """Computes the weighted inputs w x + b of one layer, for arrays with any leading axes.

    It reads the memories of a recurrent net at every step.

    Args:
      layer: The layer.
      xs: The inputs, [..., n_in].

    Returns:
      The weighted inputs, [..., n_out].

    Example:
      >>> layer = mlp.Layer(w=jnp.eye(2), b=jnp.ones(2))
      >>> mlp.linear(layer, jnp.zeros((3, 2)))[0]
      Array([1., 1.], dtype=float32)
    """
    n_in, _ = sizes((layer,))
    checks.shape("xs", xs, (*jnp.shape(xs)[:-1], n_in), "the last axis must be the layer's input")
    checks.floating("xs", xs)
    z = xs @ layer.w.T
    return z + jnp.broadcast_to(layer.b, z.shape)


def predict(
    params: Params, xs: Float[Array, "m n_in"], *, hidden: Activation = sigmoid, output: Elementwise = sigmoid
) -> Float[Array, "m n_out"]:
    """Computes the outputs of the network for m examples: `forward` of every row.

    Args:
      params: The parameters.
      xs: The examples, one in each row.
      hidden: The activation of the hidden layers, the one used in training.
      output: The activation of the output layer: that of a cost is `cost.output`.

    Returns:
      The outputs, one row for each example.

    Example:
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> mlp.predict(params, jnp.ones((5, 3))).shape
      (5, 2)
    """
    checks.function("output", output, "an activation, such as activations.identity")
    return output(_weighted_inputs(params, xs, hidden).T)


def classify(params: Params, xs: Float[Array, "m n_in"], *, hidden: Activation = sigmoid) -> Int[Array, " m"]:
    r"""Predicts the labels of m examples: the index of the most active output neuron.

    A single output neuron predicts 1 where z > 0, that is where :math:`\sigma(z)` is above 1/2, and else 0.

    Args:
      params: The parameters.
      xs: The examples, one in each row.
      hidden: The activation of the hidden layers, the one used in training.

    Returns:
      The predicted labels.

    Example:
      >>> layer = mlp.Layer(w=jnp.eye(2), b=jnp.zeros(2))
      >>> mlp.classify((layer,), jnp.array([[1.0, 0.0], [0.0, 1.0]]))
      Array([0, 1], dtype=int32)
    """
    z = _weighted_inputs(params, xs, hidden)
    return jnp.argmax(z, axis=0) if len(z) > 1 else (z[0] > 0).astype(int)


def accuracy(
    params: Params, xs: Float[Array, "m n_in"], labels: Integer[Array, " m"], *, hidden: Activation = sigmoid
) -> Float[Array, ""]:
    """Computes the fraction of the examples that the network classifies correctly, from 0 to 1.

    Args:
      params: The parameters.
      xs: The examples, one in each row.
      labels: The index of the correct output neuron for each example, from 0; with a single output neuron, 0 or 1.
      hidden: The activation of the hidden layers, the one used in training.

    Returns:
      The accuracy.

    Raises:
      ValueError: If there is not one label for each example, or a label is not in the range of the output neurons
        (traced labels are not checked).
      TypeError: If labels are not integers.

    Example:
      >>> layer = mlp.Layer(w=jnp.eye(2), b=jnp.zeros(2))
      >>> mlp.accuracy((layer,), jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 0]))
      Array(0.5, dtype=float32)
    """
    labels = checks.converted(labels)
    checks.labels("labels", labels, max(sizes(params)[-1], 2))
    checks.shape("labels", labels, jnp.shape(xs)[:1], "one label for each example")
    return jnp.mean(classify(params, xs, hidden=hidden) == labels)


def _weighted_inputs(params: Params, xs: Float[Array, "m n_in"], hidden: Activation) -> Float[Array, "n_out m"]:
    """The weighted inputs of the last layer, a column for each example."""
    checks.shape("xs", xs, (checks.examples((xs,)), sizes(params)[0]), "one row for each example")
    checks.floating("xs", xs)
    checks.function("hidden", hidden, "an activation, such as activations.tanh")
    *below, last = params
    a = xs.T
    for w, b in below:
        a = hidden(xla.weighted_inputs(w, b, a))
    return xla.weighted_inputs(*last, a)
