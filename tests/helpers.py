"""What several test modules share."""

import jax
import jax.numpy as jnp
import numpy as np

from jnn import activations, costs, mlp

COSTS = (
    costs.quadratic,
    costs.quadratic_with(activations.identity),
    costs.quadratic_with(activations.tanh),
    costs.quadratic_with(activations.relu),
    costs.cross_entropy,
    costs.log_likelihood,
)
ELEMENTWISE = (activations.sigmoid, activations.tanh, activations.relu, activations.identity, activations.step)
SMOOTH = ELEMENTWISE[:4]
SIZES = (7, 5, 4, 3)  # all different, so that no transposed or swapped axis can pass


def network(seed, sizes=SIZES, dtype=jnp.float32):
    return mlp.init(jax.random.key(seed), sizes, biases=mlp.unit_normal, dtype=dtype)


def examples(seed, m, sizes=SIZES, dtype=jnp.float32):
    """xs [m, n_in], and ys [m, n_out] that suit every cost: positive, with a sum of 1."""
    x_key, y_key = jax.random.split(jax.random.key(seed))
    xs = jax.random.normal(x_key, (m, sizes[0]), dtype)
    return xs, activations.softmax(jax.random.normal(y_key, (m, sizes[-1]), dtype))


def relative_error(a, b):
    """The largest difference over the largest entry of b, in the worst leaf of two equal trees."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    worst = 0.0
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.shape == y.shape
        apart = np.max(np.abs(np.asarray(x) - np.asarray(y)), initial=0.0)
        assert np.isfinite(apart)
        worst = max(worst, 0.0 if apart == 0 else apart / np.max(np.abs(y)))
    return worst
