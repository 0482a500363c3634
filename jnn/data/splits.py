"""Held-out examples, folds, and standardised inputs."""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from jnn._internal import checks
from jnn.typing import PRNGKey, PyTree


def split(key: PRNGKey, data: PyTree, *, held_out: float) -> tuple[PyTree, PyTree]:
    """Splits examples at random into a part to train on and a part to hold out.

    Args:
      key: A typed PRNG key.
      data: A tuple of arrays with a leading axis of N examples.
      held_out: The fraction of the examples to hold out.

    Returns:
      Both parts, trees like `data`.

    Raises:
      ValueError: If one of the parts would be empty, or if the leading axes differ.
      TypeError: If `data` are not a tuple of arrays, or the key is not a typed PRNG key.

    Example:
      >>> train, validation = data.split(jax.random.key(0), (jnp.ones((10, 3)), jnp.zeros(10)), held_out=0.2)
      >>> train[0].shape, validation[1].shape
      ((8, 3), (2,))
    """
    checks.key("key", key)
    checks.number("held_out", held_out)
    n = checks.examples(data)
    m = round(held_out * n)
    if not 0 < m < n:
        raise ValueError(f"held_out must leave examples in both parts, got {held_out} of {n} examples")
    order = jax.random.permutation(key, n)
    kept, away = (jax.tree.map(lambda leaf, rows=rows: leaf[rows], data) for rows in (order[m:], order[:m]))
    return kept, away


def folds(key: PRNGKey, n: int, k: int) -> tuple[Int[Array, "k _"], Int[Array, "k _"]]:
    """The rows of k-fold cross-validation, equally many in each fold, so that `jax.vmap` can run over the folds.

    Args:
      key: A typed PRNG key.
      n: The number of examples.
      k: The number of folds.

    Returns:
      The rows to train on, [k, n - n/k], and the rows that are held out, [k, n/k].

    Raises:
      ValueError: If k is below 2 or does not divide n.
      TypeError: If they are not integers, or the key is not a typed PRNG key.

    Example:
      >>> training, held_out = data.folds(jax.random.key(0), 10, k=5)
      >>> training.shape, held_out.shape
      ((5, 8), (5, 2))
    """
    checks.key("key", key)
    checks.count("n", n)
    checks.count("k", k, least=2)
    if n % k:
        raise ValueError(f"k must divide the number of examples, got {k} and {n}: leave {n % k} of them out")
    held_out = jax.random.permutation(key, n).reshape(k, -1)
    others = [[j for j in range(k) if j != i] for i in range(k)]
    return held_out[jnp.array(others)].reshape(k, -1), held_out


def standardise(xs: Float[Array, "N *features"]) -> Partial:
    """Fits a function that gives every feature the mean 0 and the standard deviation 1, as it has in these examples.

    Apply it to the training, validation and test inputs alike. Constant features become 0.

    Args:
      xs: The training inputs.

    Returns:
      A function of inputs; its mean and standard deviation are leaves of the `Partial`.

    Raises:
      TypeError: If `xs` is not a floating array.
      ValueError: If it has no examples.

    Example:
      >>> scale = data.standardise(jnp.array([[1.0, 5.0], [3.0, 5.0]]))
      >>> scale(jnp.array([[5.0, 5.0]])).tolist()
      [[3.0, 0.0]]
    """
    checks.floating("xs", xs)
    checks.examples((xs,))
    deviation = jnp.std(xs, axis=0, keepdims=True)
    return Partial(_standardised, jnp.mean(xs, axis=0, keepdims=True), jnp.where(deviation > 0, deviation, 1))


def _standardised(mean: Float[Array, "..."], deviation: Float[Array, "..."], xs: Float[Array, "..."]) -> Array:
    return (xs - mean) / deviation
