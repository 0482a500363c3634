"""Chapter 5: language models of characters, which read a text with a stack of LSTMs and write on in its style.

Characters are numbers 0, ..., n - 1. Each is embedded in R^p, the layers of `lstm.stack` read it, and a linear layer
gives the logits of the next character from the highest working memory (Graves, 2013). To learn from B texts at once,
window by window, the memories are the carry of `train.init` (truncated backpropagation through time; Williams and
Peng, 1990):

    params = language.init(key, characters, inputs, units)
    grad = jax.value_and_grad(language.cost, has_aux=True)
    state = train.init(optimizer, params, carry=language.zero_states(params, B))
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Integer, Key

from jnn import cell, lstm, mlp
from jnn._internal import checks
from jnn._internal.varying import match_varying
from jnn.typing import Scalar

# The class is left out so that help() starts with the functions: pydoc lists classes first.
__all__ = ["cost", "generate", "init", "logits", "zero_states"]

States = tuple[lstm.State, ...]
"""The memories of each layer, [d] for one text or [B, d] for several."""


class Params(NamedTuple):
    """The embedding of the characters, the layers from the lowest to the highest, and the linear layer that reads."""

    embedding: Float[Array, "n p"]
    layers: tuple[lstm.Params, ...]
    readout: mlp.Layer


def init(key: Key[Array, ""], characters: int, inputs: int, units: int, *, layers: int = 1) -> Params:
    """Random parameters for n = `characters`, embedded in R^p, p = `inputs`, and layers of d = `units` cells each.

    The embedding is drawn from N(0, 1); the layers are those of `lstm.init`, the readout is that of `mlp.init`.

    Raises ValueError for sizes below 1, or a single character, which teaches nothing; TypeError for sizes that
    are not integers and a key that `jax.random.key` did not make.
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
    """Memories of zeros for each layer, [d] or [B, d] with B = `batch`; raises as `lstm.zero_state` does."""
    return tuple(lstm.zero_state(len(layer.rem.b), batch, dtype=layer.rem.b.dtype) for layer in params.layers)


def logits(
    params: Params, states: States, xs: Integer[ArrayLike, "T *batch"]
) -> tuple[States, Float[Array, "T *batch n"]]:
    """The memories after the characters xs, [T] or [T, B], and the logits of the character after each of them.

    Raises as `lstm.stack` does, TypeError for characters that are not integers; ValueError for characters outside of
    0 ... n - 1, unless they are traced.
    """
    lasts, after = lstm.stack(params.layers, states, params.embedding[_characters("xs", xs, params)])
    return lasts, mlp.linear(params.readout, after[-1].wm)


def cost(params: Params, states: States, xs: Integer[ArrayLike, "B T_plus_1"]) -> tuple[Float[Array, ""], States]:
    """The mean log-likelihood cost, in nats, of the last T characters of each text, each given those before it.

    Also returns the memories before the last character, with which the window that begins there goes on. In bits it
    is 1/log(2) = 1.4427 times as large.

    Raises as `logits` does, and ValueError for xs of another shape or for T = 0.
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
    """Write `steps` characters after `first`, which is one character, or one for each of B texts.

    Each is drawn from the softmax of the logits divided by the temperature: 1 is what was learned, below 1 likely
    characters become likelier, and 0 takes the likeliest. Also returns the memories before the last character; with
    both, another call goes on. One `lax.scan`.

    Raises as `logits` does, ValueError for a temperature that is negative or steps below 1, TypeError for those that
    are not numbers, and for a key that `jax.random.key` did not make.
    """
    checks.key("key", key)
    checks.count("steps", steps)
    checks.in_range("temperature", temperature)

    x = _characters("first", first, params)

    def one(carry: tuple[States, Array], key: Key[Array, ""]) -> tuple[tuple[States, Array], Array]:
        states, x = carry
        states, (z,) = logits(params, states, x[None])
        drawn = jax.random.categorical(key, z / jnp.where(temperature > 0, temperature, 1))
        x = jnp.where(temperature > 0, drawn, jnp.argmax(z, axis=-1)).astype(x.dtype)
        return (states, x), x

    states = jax.tree.map(
        lambda memory, zero: cell.broadcast_state("states", memory, x.shape, len(zero)),
        tuple(states),
        zero_states(params),
    )
    params, states, x, keys = match_varying(params, states, x, jax.random.split(key, steps))
    (states, _), written = jax.lax.scan(one, (states, x), keys)
    return states, written


def _characters(name: str, xs: ArrayLike, params: Params) -> Int[Array, "*shape"]:
    """The characters as an array of at least 32 bits; raise TypeError or ValueError for what are none."""
    checks.labels(name, xs, len(params.embedding))
    return jnp.asarray(xs, jnp.promote_types(jnp.result_type(xs), jnp.int32))
