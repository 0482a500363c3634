"""Images and labels as arrays: the small digits that come with the package, one-hot outputs, standardised inputs."""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, Integer

from jnn._internal import checks


class Split(NamedTuple):
    """Images and their labels.

    Attributes:
      xs: One row of pixels for each image, from 0 to 1.
      labels: The class of each image.
    """

    xs: Float[Array, "N pixels"]
    labels: Int[Array, " N"]


class Dataset(NamedTuple):
    """A training set and a test set.

    Attributes:
      train: The examples to train on.
      test: Those held out.
    """

    train: Split
    test: Split


def digits() -> Dataset:
    """Returns 1,797 handwritten digits of 8x8 pixels that come with the package: 1,437 for training, 360 for testing.

    The split is fixed and balanced over the digits, which are shuffled, so the last training rows can serve for
    validation. The images are the test set of the Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998;
    UCI Machine Learning Repository, CC BY 4.0), which scikit-learn has, too.

    Example:
      >>> train, test = data.digits()
      >>> train.xs.shape, test.labels.shape
      ((1437, 64), (360,))
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    return Dataset(rows(images[:1437], labels[:1437], 16), rows(images[1437:], labels[1437:], 16))


def one_hot(labels: Integer[Array, "*N"], classes: int) -> Float[Array, "*N classes"]:
    """Returns the desired output y of each label: 1 at the label, 0 elsewhere, float32.

    Args:
      labels: The labels, 0 ... classes-1, in an array of any shape.
      classes: How many classes there are.

    Raises:
      TypeError: If `labels` are not an array of integers.
      ValueError: If a label is outside 0 ... classes-1; a traced one outside gives a row of NaN.

    Example:
      >>> data.one_hot(jnp.array([2, 0]), classes=3).tolist()
      [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    checks.count("classes", classes)
    checks.labels("labels", labels, classes)
    return _one_hot(labels, int(classes))


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


@functools.partial(jax.jit, static_argnames="classes")
def _one_hot(labels: Integer[Array, "*N"], classes: int) -> Float[Array, "*N classes"]:
    inside = (labels >= 0) & (labels < classes)
    return jnp.where(inside[..., None], jax.nn.one_hot(labels, classes, dtype=jnp.float32), jnp.nan)


def rows(images: np.ndarray, labels: np.ndarray, white: int) -> Split:
    xs = images.reshape(len(images), -1) / np.float32(white)
    return Split(jnp.asarray(xs, jnp.float32), jnp.asarray(labels.astype(np.int32)))


def _standardised(mean: Float[Array, "..."], deviation: Float[Array, "..."], xs: Float[Array, "..."]) -> Array:
    return (xs - mean) / deviation
