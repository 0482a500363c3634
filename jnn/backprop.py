r"""Backpropagation by hand: equations (2.1) to (2.9) for one example, and the mean over a mini-batch in matrix form.

.. math::

  \begin{aligned}
    \delta^L &= \nabla_{a^L} C \odot \sigma'(z^L) && (2.1) \\
    \delta^l &= \bigl( (w^{l+1})^\mathsf{T} \delta^{l+1} \bigr) \odot \sigma'(z^l) && (2.3) \\
    \frac{\partial C}{\partial b_j^l} &= \delta_j^l && (2.7) \\
    \frac{\partial C}{\partial w_{jk}^l} &= a_k^{l-1} \delta_j^l && (2.8)
  \end{aligned}

Together they are (2.9). The derivatives are written out; `jax.grad` appears nowhere. Equation (2.1) covers outputs that
act elementwise. For softmax the Jacobian :math:`\operatorname{diag}(a) - a a^\mathsf{T}` takes the place of
:math:`\sigma'`, and the product simplifies to a - y, (3.6): each cost has its own :math:`\delta^L`.

`feedforward`, `value_and_grad` and `minibatch_value_and_grad` raise ValueError for shapes that do not fit, and
TypeError for inputs that are not floating; the last two also for a cost or an activation without its derivative.
`errors` and `layer_gradient` are steps of the other functions and do not check their arguments: JAX raises ValueError
or TypeError for shapes and dtypes that do not fit.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from jnn import costs, metrics, mlp
from jnn._internal import checks, xla
from jnn.activations import Activation, sigmoid
from jnn.costs import Cost
from jnn.mlp import Layer, Params
from jnn.typing import PRNGKey


def feedforward(
    params: Params, x: Float[Array, " n_in"], *, hidden: Activation = sigmoid
) -> tuple[list[Float[Array, " _"]], list[Float[Array, " _"]]]:
    r"""Computes the weighted inputs and activations of all layers, for one example (step 1a of section 2.2).

    Args:
      params: The parameters.
      x: One example.
      hidden: The activation of the hidden layers.

    Returns:
      The weighted inputs :math:`[z^2, \ldots, z^L]` and the activations :math:`[a^1, \ldots, a^{L-1}]` below them.

    Example:
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> zs, below = backprop.feedforward(params, jnp.ones(3))
      >>> [z.shape for z in zs], [a.shape for a in below]
      ([(4,), (2,)], [(3,), (4,)])
    """
    checks.shape("x", x, mlp.sizes(params)[:1], "one example; for a batch use minibatch_value_and_grad, or jax.vmap")
    checks.floating("x", x)
    zs, activations = [], [x]
    for w, b in params:
        zs.append(w @ activations[-1] + b)
        activations.append(hidden(zs[-1]))
    return zs, activations[:-1]


def errors(
    params: Params,
    zs: list[Float[Array, " _"]],
    y: Float[Array, " n_out"],
    *,
    cost: Cost = costs.quadratic,
    hidden: Activation = sigmoid,
) -> list[Float[Array, " _"]]:
    r"""Computes the errors :math:`\delta^l = \partial C / \partial z^l` of all layers, for one example.

    The last comes from the cost, by (2.1) and (2.2), the others from (2.3) for l = L-1, ..., 2 (the notes print the
    range as L-1 <= l <= 2). Neuron by neuron (2.3) is

    .. math::

      \begin{aligned}
        \frac{\partial C}{\partial a_j^l} &= \sum_k \delta_k^{l+1} \frac{\partial z_k^{l+1}}{\partial a_j^l} && (2.4) \\
        &= \sum_k \delta_k^{l+1} w_{kj}^{l+1}, && (2.5) \\
        \delta_j^l &= \sigma'(z_j^l) \sum_k \delta_k^{l+1} w_{kj}^{l+1}. && (2.6)
      \end{aligned}

    Args:
      params: The parameters.
      zs: The weighted inputs :math:`[z^2, \ldots, z^L]`, from `feedforward`.
      y: The desired output.
      cost: The cost.
      hidden: The activation of the hidden layers.

    Returns:
      The errors :math:`[\delta^2, \ldots, \delta^L]`.

    Example:
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> zs, _ = backprop.feedforward(params, jnp.ones(3))
      >>> [delta.shape for delta in backprop.errors(params, zs, jnp.ones(2))]
      [(4,), (2,)]
    """
    deltas = [cost.delta(zs[-1], y)]  # (2.1), (2.2)
    for l in range(len(params) - 2, -1, -1):
        deltas.append((params[l + 1].w.T @ deltas[-1]) * hidden.prime(zs[l]))  # (2.3)
    return deltas[::-1]


def value_and_grad(
    params: Params,
    x: Float[Array, " n_in"],
    y: Float[Array, " n_out"],
    *,
    cost: Cost = costs.quadratic,
    hidden: Activation = sigmoid,
) -> tuple[Float[Array, ""], Params]:
    """Computes the cost of one example and its gradient with respect to every weight and bias, (2.9).

    The sum inside the notes' (2.8) runs over layer l-1.

    Args:
      params: The parameters.
      x: One example.
      y: The desired output.
      cost: The cost.
      hidden: The activation of the hidden layers.

    Returns:
      The cost, and its gradient, which has the structure of `params`.

    Example:
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> value, grads = backprop.value_and_grad(params, jnp.ones(3), jnp.ones(2))
      >>> grads[0].w.shape
      (4, 3)
    """
    _check_functions(cost, hidden)
    zs, activations = feedforward(params, x, hidden=hidden)
    checks.shape("y", y, zs[-1].shape, "one entry for each output neuron; data.one_hot makes it from a label")
    deltas = errors(params, zs, y, cost=cost, hidden=hidden)
    grads = tuple(
        Layer(w=jnp.outer(delta, a), b=delta)  # (2.8), (2.7)
        for delta, a in zip(deltas, activations, strict=True)
    )
    return cost.value(zs[-1], y), grads


def layer_gradient(deltas: Float[Array, "m n_out"], activations: Float[Array, "m n_in"]) -> Layer:
    r"""Computes the gradient of one layer, summed over the rows of a mini-batch: (2.8) and (2.7).

    Args:
      deltas: The errors :math:`\delta^l` of the layer.
      activations: The activations :math:`a^{l-1}` of the layer below.

    Returns:
      The gradient with respect to the layer's weights and biases.

    Example:
      >>> backprop.layer_gradient(jnp.ones((5, 2)), jnp.ones((5, 4))).b
      Array([5., 5.], dtype=float32)
    """
    return Layer(w=xla.sum_of_outer(deltas, activations), b=jnp.sum(deltas, axis=0))  # (2.8), (2.7)


def minibatch_value_and_grad(
    params: Params,
    xs: Float[Array, "m n_in"],
    ys: Float[Array, "m n_out"],
    *,
    cost: Cost = costs.quadratic,
    hidden: Activation = sigmoid,
    masks: Sequence[Bool[Array, "m _"]] | None = None,
    weights: Float[Array, " m"] | None = None,
) -> tuple[Float[Array, ""], Params]:
    r"""Computes the mean cost of a mini-batch and its gradient (section 2.2), which is the `grad` for training.

    The gradient is the mean of those of `value_and_grad` over the examples x, for weights and biases

    .. math::

      \frac{1}{m} \sum_x \delta^l(x) \, a^{l-1}(x)^\mathsf{T}, \qquad \frac{1}{m} \sum_x \delta^l(x).

    The arrays have one row for each example, so that each step is one matrix product for the whole batch.

    With dropout masks, the activations are :math:`a^l = r^l \odot \mathrm{hidden}(z^l)` for :math:`r^l` of zeros and
    ones, and the errors of the hidden layers are

    .. math::

      \delta^l = \bigl( (w^{l+1})^\mathsf{T} \delta^{l+1} \bigr) \odot r^l \odot \mathrm{hidden}'(z^l),

    which is (2.3) with the mask: a dropped neuron has activation 0 and error 0.

    Args:
      params: The parameters.
      xs: The examples, one in each row.
      ys: The desired outputs, one in each row.
      cost: The cost.
      hidden: The activation of the hidden layers.
      masks: For each hidden layer, of n neurons, a mask [m, n], as `jnn.dropout` draws it: False where a neuron is
        dropped.
      weights: The weight of each example, such as `class_weights[labels]`: the mean cost is the sum of weight times
        C(x) over the examples, divided by m.

    Returns:
      The mean cost, and its gradient, which has the structure of `params`.

    Example:
      >>> params = mlp.init(jax.random.key(0), (3, 4, 2))
      >>> value, grads = backprop.minibatch_value_and_grad(params, jnp.ones((5, 3)), jnp.ones((5, 2)))
      >>> grads[0].w.shape
      (4, 3)
    """
    m = checks.examples((xs, ys))
    n_in, *widths, n_out = mlp.sizes(params)
    checks.shape("xs", xs, (m, n_in), "one row for each example; for one example use value_and_grad")
    advice = "ys[:, None] makes them from numbers" if n_out == 1 else "data.one_hot makes them from labels"
    checks.shape("ys", ys, (m, n_out), f"one row for each example; {advice}")
    checks.floating("xs", xs)
    _check_functions(cost, hidden)
    keep = _masking(masks, m, widths)
    if weights is not None:
        checks.shape("weights", weights, (m,), "one weight for each example")
    zs, activations = [], [xs]
    for l, (w, b) in enumerate(params):
        zs.append(activations[-1] @ w.T + b[None])
        if l < len(widths):
            activations.append(keep(l, hidden(zs[-1])))

    delta = cost.delta(zs[-1], ys) / m  # (2.1); the 1/m of the mean is applied where the arrays are smallest
    value = cost.value(zs[-1], ys)
    if weights is not None:
        delta, value = weights[:, None] * delta, weights * value
    grads = []
    for l in range(len(params) - 1, -1, -1):
        grads.append(layer_gradient(delta, activations[l]))  # (2.8), (2.7)
        if l > 0:
            delta = keep(l - 1, (delta @ params[l].w) * hidden.prime(zs[l - 1]))  # (2.3)
    return jnp.mean(value), tuple(grads[::-1])


class Network(NamedTuple):
    """A multilayer perceptron as pure functions with its sizes, activation and cost bound once.

    Attributes:
      init: `init(key)` draws parameters, as `mlp.init`.
      logits: `logits(params, x)`, as `mlp.logits`.
      predict: `predict(params, xs)` with the output activation of the cost, as `mlp.predict`.
      classify: `classify(params, xs)`, as `mlp.classify`.
      accuracy: `accuracy(params, xs, labels)`, as `mlp.accuracy`.
      value_and_grad: `value_and_grad(params, xs, ys)`, as `minibatch_value_and_grad`.
      metrics: `metrics(params, xs, ys)`, a dict with the mean cost as "error": `train.fit(..., evaluate=net.metrics,
        validation=(xs, ys))`. Costs of classes (the entropies and `costs.hinge`) add "accuracy", other costs
        "rmse" and "r_squared", a mean over the outputs. All are scalars.
    """

    init: Callable[[PRNGKey], Params]
    logits: Callable[..., Array]
    predict: Callable[..., Array]
    classify: Callable[..., Array]
    accuracy: Callable[..., Array]
    value_and_grad: Callable[..., tuple[Array, Params]]
    metrics: Callable[..., dict[str, Array]]


def network(
    sizes: Sequence[int],
    *,
    hidden: Activation = sigmoid,
    cost: Cost = costs.quadratic,
    weights: Initializer = mlp.scaled_normal,
    biases: Initializer = mlp.zeros,
) -> Network:
    """Binds the choices of a multilayer perceptron once, so that what trains it and what reads it agree.

    Its functions compute the same bits, in the same programs, as those of `mlp` and this module with these options.

    Args:
      sizes: The numbers of neurons of the layers, the input layer first.
      hidden: The activation of the hidden layers.
      cost: The cost, which also provides the output activation of the network.
      weights: Initialises the weights, as in `mlp.init`.
      biases: Initialises the biases, as in `mlp.init`.

    Raises:
      ValueError: If there are fewer than two sizes, or a size is below 1.

    Example:
      >>> net = backprop.network((3, 4, 2), hidden=activations.relu, cost=costs.log_likelihood)
      >>> params = net.init(jax.random.key(0))
      >>> net.predict(params, jnp.ones((5, 3))).shape
      (5, 2)
    """
    checks.sizes(sizes)
    _check_functions(cost, hidden)
    options = {"weights": weights, "biases": biases}
    return Network(
        functools.partial(mlp.init, sizes=tuple(sizes), **options),
        *(Partial(mlp.logits, hidden=hidden), Partial(mlp.predict, hidden=hidden, output=cost.output)),
        *(Partial(mlp.classify, hidden=hidden), Partial(mlp.accuracy, hidden=hidden)),
        Partial(minibatch_value_and_grad, hidden=hidden, cost=cost),
        Partial(_metrics, hidden=hidden, cost=cost),
    )


def _metrics(
    params: Params, xs: Float[Array, "m n_in"], ys: Float[Array, "m n_out"], *, hidden: Activation, cost: Cost
) -> dict[str, Array]:
    found = {"error": minibatch_value_and_grad(params, xs, ys, hidden=hidden, cost=cost)[0]}
    if cost in (costs.cross_entropy, costs.log_likelihood, costs.hinge):
        labels = jnp.argmax(ys, axis=1) if ys.shape[1] > 1 else (ys[:, 0] > 0.5).astype(int)
        return found | {"accuracy": mlp.accuracy(params, xs, labels, hidden=hidden)}
    predicted = mlp.predict(params, xs, hidden=hidden, output=cost.output)
    return found | {"rmse": metrics.rmse(predicted, ys), "r_squared": jnp.mean(metrics.r_squared(predicted, ys))}


def _check_functions(cost: Cost, hidden: Activation) -> None:
    """Raise TypeError unless both know their derivatives."""
    checks.function("cost", cost, "a cost with its delta, such as costs.cross_entropy", "delta")
    checks.function("hidden", hidden, "an activation with its derivative, such as activations.tanh", "prime")


def _masking(masks: Sequence[Array] | None, m: int, widths: Sequence[int]) -> Callable[[int, Array], Array]:
    """(l, a) -> a with the neurons dropped that the l-th mask drops; a itself without masks."""
    if masks is None:
        return lambda _, a: a
    if len(masks) != len(widths):
        raise ValueError(f"masks must have one array for each of {len(widths)} hidden layers, got {len(masks)}")
    for l, width in enumerate(widths):
        checks.shape(f"masks[{l}]", masks[l], (m, width), "one row for each example, one column for each neuron")
    return lambda l, a: jnp.where(masks[l], a, 0)
