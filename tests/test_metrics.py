"""Metrics of predictions agree with scikit-learn, and work inside programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn

from jnn import activations, metrics
from tests.helpers import refuses

M, CLASSES = 50, 4
SCORES = jax.random.normal(jax.random.key(0), (M, CLASSES))
LABELS = jax.random.randint(jax.random.key(1), (M,), 0, CLASSES)
PREDICTED = SCORES.argmax(axis=1)
YS = jax.random.normal(jax.random.key(2), (M, CLASSES))


@pytest.mark.parametrize("k", [1, 2, CLASSES])
def test_top_k_is_that_of_sklearn(k):
    expected = sklearn.top_k_accuracy_score(LABELS, SCORES, k=k, labels=range(CLASSES)) if k < CLASSES else 1
    np.testing.assert_allclose(metrics.top_k(SCORES, LABELS, k), expected, rtol=1e-6)


def test_errors_of_a_regression_are_those_of_sklearn():
    np.testing.assert_allclose(metrics.rmse(SCORES, YS) ** 2, sklearn.mean_squared_error(YS, SCORES), rtol=1e-5)
    expected = sklearn.r2_score(YS, SCORES, multioutput="raw_values")
    np.testing.assert_allclose(metrics.r_squared(SCORES, YS), expected, rtol=1e-5)


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_calibration_error_is_the_weighted_mean_over_bins(bins):
    probabilities = activations.softmax(SCORES)
    confidence, right = np.asarray(probabilities).max(axis=1), np.asarray(PREDICTED == LABELS)
    inside = [(confidence > b / bins) & (confidence <= (b + 1) / bins) for b in range(bins)]
    expected = sum(rows.mean() * abs(confidence[rows].mean() - right[rows].mean()) for rows in inside if rows.any())
    np.testing.assert_allclose(metrics.calibration_error(probabilities, LABELS, bins=bins), expected, rtol=1e-5)


def test_certainty_falls_into_the_last_bin():
    assert metrics.calibration_error(jnp.eye(2), jnp.array([0, 1])) == 0
    assert metrics.calibration_error(jnp.eye(2), jnp.array([1, 0])) == 1


test_wrong_arguments_are_refused = refuses(
    (lambda: metrics.top_k(SCORES, LABELS, 5), ValueError, "k must be at most the 4 classes, got 5"),
    (lambda: metrics.top_k(SCORES, LABELS + 1, 1), ValueError, r"labels must be in 0 \.\.\. 3, got 4"),
    (lambda: metrics.top_k(SCORES, LABELS[1:], 1), ValueError, r"labels must have shape \(50,\), got \(49,\)"),
    (lambda: metrics.top_k(SCORES, SCORES, 1), TypeError, "labels must be integers, got float32"),
    (lambda: metrics.top_k(SCORES[:0], LABELS[:0], 1), ValueError, "scores must hold at least one example"),
    (lambda: metrics.rmse(YS[:, :0], YS[:, :0]), ValueError, "predicted must hold at least one output"),
    (lambda: metrics.rmse(SCORES, YS[1:]), ValueError, r"ys must have shape \(50, 4\), got \(49, 4\)"),
    (lambda: metrics.r_squared(LABELS, LABELS), TypeError, "predicted must have a floating dtype, got int32"),
    (lambda: metrics.calibration_error(SCORES, LABELS, bins=0), ValueError, "bins must be at least 1, got 0"),
    start="^",
)
