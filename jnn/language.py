"""Chapter 5: language models of characters, which read a text with a stack of LSTMs and continue it in its style.

Characters are numbers 0, ..., n - 1. Each is embedded in R^p, the layers of `lstm.stack` read it, and a linear layer
gives the logits of the next character from the highest working memory (Graves, 2013). To learn from B texts at once,
window by window, the memories are the carry of `train.init` (truncated backpropagation through time; Williams and Peng,
1990).

All functions raise ValueError for shapes that do not fit and, unless they are traced, for characters outside 0 ... n-1.
They raise TypeError for characters, sizes and steps that are not integers, and for a key that is not a typed PRNG key
(`jax.random.key`).

Example:
  >>> params = language.init(jax.random.key(0), characters=5, inputs=3, units=4)
  >>> grad = jax.value_and_grad(language.cost, has_aux=True)
  >>> state = train.init(train.sgd(0.1), params, carry=language.zero_states(params, 2))
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Integer, Key

from jnn import cell, lstm, mlp
from jnn._internal import checks, varying
from jnn.typing import Scalar

# The class is left out so that help() starts with the functions: pydoc lists classes first.
__all__ = ["cost", "generate", "init", "logits", "zero_states"]

States = tuple[lstm.State, ...]
"""The memories of each layer, [d] for one text or [B, d] for several."""


class Params(NamedTuple):
    """The parameters of a language model.

    Attributes:
      embedding: The embedding of each character.
      layers: The LSTMs, the lowest first.
      readout: The linear layer from the highest working memory to the logits.
    """

    embedding: Float[Array, "n p"]
    layers: tuple[lstm.Params, ...]
    readout: mlp.Layer


def init(key: Key[Array, ""], characters: int, inputs: int, units: int, *, layers: int = 1) -> Params:
    """Draws random parameters of a language model.

    The embedding is drawn from N(0, 1); the layers are those of `lstm.init`, the readout that of `mlp.init`.

    Args:
      key: A typed PRNG key.
      characters: The number n of characters, at least 2.
      inputs: The size p of the embedding.
      units: The number d of memory cells of each layer.
      layers: The number of layers.

    Returns:
      The parameters.

    Raises:
      ValueError: If a size is below 1, or there is a single character, which teaches nothing.
    """
    checks.key("key", key)
    checks.count("characters", characters, least=2)
    for name, size in (("inputs", inputs), ("units", units), ("layers", layers)):
        checks.count(name, size)
    embedding_key, readout_key, *keys = jax.random.split(key, 2 + layers)
    (readout,) = mlp.init(readout_key, (units, characters))
    return Params(
        embedding=jax.random.normal(embedding_key, (characters, inputs), jnp.float32),
        layers=tuple(lstm.init(key, inputs if i == 0 else units, units) for i, key in enumerate(keys)),
        readout=readout,
    )


def zero_states(params: Params, batch: int | None = None) -> States:
    """Returns memories of zeros for each layer.

    Args:
      params: The parameters.
      batch: The number B of texts, or None.

    Returns:
      The memories, [B, d], or [d] without `batch`.

    Raises:
      ValueError: As `lstm.zero_state` does.
    """
    return tuple(lstm.zero_state(len(layer.rem.b), batch, dtype=layer.rem.b.dtype) for layer in params.layers)


def logits(
    params: Params, states: States, xs: Integer[ArrayLike, "T *batch"]
) -> tuple[States, Float[Array, "T *batch n"]]:
    """Reads characters, and computes the logits of the next character after each.

    Args:
      params: The parameters.
      states: The memories before the first character.
      xs: The characters, [T] or [T, B].

    Returns:
      The memories after the last character, and the logits after each, [T, n] or [T, B, n].

    Raises:
      ValueError: As `lstm.stack` does.
      TypeError: As `lstm.stack` does.

    Example:
      >>> params = language.init(jax.random.key(0), characters=5, inputs=3, units=4)
      >>> states, z = language.logits(params, language.zero_states(params), jnp.array([0, 1, 0]))
      >>> z.shape
      (3, 5)
    """
    lasts, after = lstm.stack(params.layers, states, params.embedding[_characters("xs", xs, params)])
    return lasts, mlp.linear(params.readout, after[-1].wm)


def cost(params: Params, states: States, xs: Integer[ArrayLike, "B T_plus_1"]) -> tuple[Float[Array, ""], States]:
    """Computes the mean negative log-likelihood of the last T characters of each text, each given those before it.

    It is in nats; in bits it is 1/log(2) = 1.4427 times as large.

    Args:
      params: The parameters.
      states: The memories before the first character.
      xs: The texts, one in each row.

    Returns:
      The cost, and the memories before the last character, from which the next window, which begins with it, continues.

    Raises:
      ValueError: If `xs` has another shape or T is 0, or as `logits` does.
      TypeError: As `logits` does.

    Example:
      >>> params = language.init(jax.random.key(0), characters=5, inputs=3, units=4)
      >>> value, states = language.cost(params, language.zero_states(params, 2), jnp.zeros((2, 4), int))
      >>> value.shape, states[0].wm.shape
      ((), (2, 4))
    """
    xs = _characters("xs", xs, params).T
    if xs.ndim != 2 or len(xs) < 2:
        what = f"have shape [B, T + 1], got {xs.shape[::-1]}" if xs.ndim != 2 else "have at least 2 characters, got 1"
        raise ValueError(f"xs must {what}")
    states, z = logits(params, states, xs[:-1])
    ours = jnp.take_along_axis(z, xs[1:, :, None], axis=-1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(z, axis=-1) - ours), states


def generate(
    key: Key[Array, ""],
    params: Params,
    states: States,
    first: Integer[ArrayLike, "*batch"],
    steps: int,
    *,
    temperature: Scalar = 1.0,
) -> tuple[States, Int[Array, "steps *batch"]]:
    """Writes `steps` characters after the first one, with one `jax.lax.scan`.

    Each is drawn from the softmax of the logits divided by the temperature.

    Args:
      key: A typed PRNG key.
      params: The parameters.
      states: The memories before the first character.
      first: The first character, or one for each of B texts.
      steps: The number of characters to write.
      temperature: At 1 characters are drawn as learned, below 1 likely characters become likelier, and 0 takes the
        likeliest.

    Returns:
      The memories before the last character, and the characters. With both, another call continues the text.

    Raises:
      ValueError: If `temperature` is negative or `steps` below 1, or as `logits` does.
      TypeError: If `temperature` is not a number, or as `logits` does.

    Example:
      >>> params = language.init(jax.random.key(0), characters=5, inputs=3, units=4)
      >>> states, text = language.generate(jax.random.key(1), params, language.zero_states(params), 0, steps=6)
      >>> text.shape
      (6,)
    """
    checks.key("key", key)
    checks.count("steps", steps)
    checks.in_range("temperature", temperature)
    x = _characters("first", first, params)

    def write(carry: tuple[States, Array], key: Key[Array, ""]) -> tuple[tuple[States, Array], Array]:
        states, x = carry
        states, (z,) = logits(params, states, x[None])
        drawn = jax.random.categorical(key, z / jnp.where(temperature > 0, temperature, 1))
        x = jnp.where(temperature > 0, drawn, jnp.argmax(z, axis=-1)).astype(x.dtype)
        return (states, x), x

    states = jax.tree.map(
        lambda memory, zero: cell.broadcast("states", memory, x.shape, len(zero)), tuple(states), zero_states(params)
    )
    params, states, x, keys = varying.match(params, states, x, jax.random.split(key, steps))
    (states, _), written = jax.lax.scan(write, (states, x), keys)
    return states, written


def _characters(name: str, xs: ArrayLike, params: Params) -> Int[Array, "*shape"]:
    """The characters as an array of at least 32 bits; raise TypeError or ValueError for other arrays."""
    checks.labels(name, xs, len(params.embedding))
    return jnp.asarray(xs, jnp.promote_types(jnp.result_type(xs), jnp.int32))
