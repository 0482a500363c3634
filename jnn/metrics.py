"""Metrics of predictions, for `evaluate` and under `jit` and `vmap`; accuracy is `mlp.accuracy`.

The mean absolute error is `jnp.mean(jnp.abs(predicted - ys))`, the mean negative log-likelihood
`jnp.mean(costs.log_likelihood.value(logits, ys))`. On the host, `sklearn.metrics` has many more, such as the confusion
matrix, precision and recall of `mlp.classify(params, xs)`.

All raise ValueError for shapes that do not fit, without any example, and for labels out of range, unless they are
traced, and TypeError for labels that are not integers.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jnn._internal import checks
from jnn.typing import PyTree


def top_k(scores: Float[Array, "m classes"], labels: Integer[Array, " m"], k: int) -> Float[Array, ""]:
    """The fraction of examples whose label is among the k classes with the highest scores.

    Args:
      scores: Logits or probabilities.
      labels: The right classes, from 0.
      k: How many classes count.

    Raises:
      ValueError: Unless 1 <= k <= classes.

    Example:
      >>> scores = jnp.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]])
      >>> [float(metrics.top_k(scores, jnp.array([2, 0]), k)) for k in (1, 2)]
      [0.5, 1.0]
    """
    _check(scores, labels)
    checks.count("k", k)
    if k > scores.shape[-1]:
        raise ValueError(f"k must be at most the {scores.shape[-1]} classes, got {k}")
    return jnp.mean(jnp.any(jax.lax.top_k(scores, k)[1] == labels[:, None], axis=-1))


def rmse(predicted: Float[Array, "*shape"], ys: Float[Array, "*shape"]) -> Float[Array, ""]:
    """The root-mean-square error over all entries.

    Args:
      predicted: The outputs of the network.
      ys: The desired outputs.

    Example:
      >>> float(metrics.rmse(jnp.array([[3.0], [5.0]]), jnp.array([[1.0], [3.0]])))
      2.0
    """
    _check_alike(predicted, ys)
    return jnp.sqrt(jnp.mean((predicted - ys) ** 2))


def r_squared(predicted: Float[Array, "m n_out"], ys: Float[Array, "m n_out"]) -> Float[Array, " n_out"]:
    """The coefficient of determination of every output: 1 - (squared errors) / (squared distances from the mean).

    It is 1 for perfect predictions, 0 for those of the mean, and NaN or -inf for an output that is constant.

    Args:
      predicted: The outputs of the network.
      ys: The desired outputs.

    Example:
      >>> metrics.r_squared(jnp.array([[0.0], [1.0], [1.0]]), jnp.array([[0.0], [1.0], [2.0]])).tolist()
      [0.5]
    """
    _check_alike(predicted, ys)
    return 1 - jnp.sum((ys - predicted) ** 2, axis=0) / jnp.sum((ys - jnp.mean(ys, axis=0, keepdims=True)) ** 2, axis=0)


def calibration_error(
    probabilities: Float[Array, "m classes"], labels: Integer[Array, " m"], *, bins: int = 15
) -> Float[Array, ""]:
    """The expected calibration error (Guo et al., 2017): how far confidence is from accuracy.

    Examples are binned by their highest probability; the error is the mean over the bins, weighted by their examples,
    of the difference between mean confidence and accuracy.

    Args:
      probabilities: The outputs of a softmax.
      labels: The right classes, from 0.
      bins: The number of equal intervals of [0, 1].

    Example:
      >>> probabilities = jnp.array([[0.75, 0.25], [0.75, 0.25]])
      >>> float(metrics.calibration_error(probabilities, jnp.array([0, 1])))
      0.25
    """
    _check(probabilities, labels)
    checks.count("bins", bins)
    confidence = jnp.max(probabilities, axis=-1)
    excess = confidence - (jnp.argmax(probabilities, axis=-1) == labels)
    i = jnp.clip((confidence * bins).astype(int), 0, bins - 1)
    return jnp.sum(jnp.abs(jnp.zeros(bins, excess.dtype).at[i].add(excess))) / len(labels)


def _check(scores: PyTree, labels: PyTree) -> None:
    m, classes = checks.matrix("scores", scores)
    checks.examples((scores,), "scores")
    checks.floating("scores", scores)
    checks.labels("labels", labels, classes)
    checks.shape("labels", labels, (m,), "one label for each row of scores")


def _check_alike(predicted: PyTree, ys: PyTree) -> None:
    checks.floating("predicted", predicted)
    checks.examples((jnp.ravel(predicted),), "predicted", "output")
    checks.shape("ys", ys, jnp.shape(predicted), "one desired output for each prediction")
