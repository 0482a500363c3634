"""Backpropagation by hand: equations (2.1) to (2.9) for one example, and the mini-batch mean in matrix form.

The derivatives are written out; `jax.grad` appears nowhere. The notes' (2.1) covers outputs that act elementwise.
For softmax the Jacobian diag(a) - a a^T takes the place of sigma', and the product simplifies to a - y, (3.6): each
cost has its own delta^L.

`feedforward`, `errors` and `layer_gradient` are steps of the others and do not check their arguments: JAX raises
ValueError or TypeError for shapes and dtypes that do not fit.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jnn import costs, mlp
from jnn._internal import checks, xla
from jnn.activations import Activation, sigmoid
from jnn.costs import Cost
from jnn.mlp import Layer, Params


def feedforward(
    params: Params, x: Float[Array, " n_in"], *, hidden: Activation = sigmoid
) -> tuple[list[Float[Array, " _"]], list[Float[Array, " _"]]]:
    """The weighted inputs [z^2 ... z^L] and the activations [a^1 ... a^(L-1)] below them, for one example.

    Step 1a of section 2.2.
    """
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
    """The errors [delta^2 ... delta^L], delta^l = dC/dz^l, for one example whose weighted inputs are `zs`.

    The last comes from the cost, (2.1) and (2.2); the others from (2.3), which is (2.4) to (2.6) in matrix form,
    for l = L-1, ..., 2 (the notes print the range as L-1 <= l <= 2).
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
    """C(x) and its gradient by every weight and bias, for one example: equations (2.9).

    The gradient has the structure of `params`. The sum inside the notes' (2.8) runs over layer l-1.

    Raises ValueError for shapes that do not fit, TypeError for an x of integers.
    """
    n_in, *_, n_out = mlp.sizes(params)
    checks.shape("x", x, (n_in,), "one example; for a batch use minibatch_value_and_grad, or jax.vmap")
    checks.shape("y", y, (n_out,), "one entry for each output neuron; data.one_hot makes it from a label")
    checks.floating("x", x)
    _check_functions(cost, hidden)
    zs, activations = feedforward(params, x, hidden=hidden)
    deltas = errors(params, zs, y, cost=cost, hidden=hidden)
    grads = tuple(
        Layer(w=jnp.outer(delta, a), b=delta)  # (2.8), (2.7)
        for delta, a in zip(deltas, activations, strict=True)
    )
    return cost.value(zs[-1], y), grads


def layer_gradient(deltas: Float[Array, "m n_out"], activations: Float[Array, "m n_in"]) -> Layer:
    """The gradient by one layer's weights and biases, summed over the rows of a mini-batch: (2.8) and (2.7).

    deltas: the layer's errors delta^l. activations: those of the layer below, a^(l-1).
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
) -> tuple[Float[Array, ""], Params]:
    """The mean of C(x) over a mini-batch and its gradient, (1/m) sum_x delta^l (a^(l-1))^T, as section 2.2 has it.

    The same as the mean of `jax.vmap(value_and_grad)`, with one row for each example: each line is one matrix product
    for the whole batch. This is the gradient that trains.

    masks: one array [m, n] for each hidden layer, as `jnn.dropout` draws them, False for the neurons that are dropped.
    With a^l = r^l hidden(z^l) for a mask r^l of zeros and ones, the error of a hidden layer is

        delta^l = ((w^(l+1))^T delta^(l+1)) r^l hidden'(z^l),

    (2.3) with the mask: a dropped neuron has activation 0 and error 0.

    Raises ValueError for shapes that do not fit, TypeError for xs of integers.
    """
    m = checks.examples((xs, ys))
    n_in, *widths, n_out = mlp.sizes(params)
    checks.shape("xs", xs, (m, n_in), "one row for each example; for one example use value_and_grad")
    advice = "ys[:, None] makes them from numbers" if n_out == 1 else "data.one_hot makes them from labels"
    checks.shape("ys", ys, (m, n_out), f"one row for each example; {advice}")
    checks.floating("xs", xs)
    _check_functions(cost, hidden)
    keep = _masking(masks, m, widths)
    zs, activations = [], [xs]
    for l, (w, b) in enumerate(params):
        zs.append(activations[-1] @ w.T + b[None])
        if l < len(widths):
            activations.append(keep(l, hidden(zs[-1])))

    delta = cost.delta(zs[-1], ys) / m  # (2.1); the 1/m of the mean is applied where the arrays are smallest
    grads = []
    for l in range(len(params) - 1, -1, -1):
        grads.append(layer_gradient(delta, activations[l]))  # (2.8), (2.7)
        if l > 0:
            delta = keep(l - 1, (delta @ params[l].w) * hidden.prime(zs[l - 1]))  # (2.3)
    return jnp.mean(cost.value(zs[-1], ys)), tuple(grads[::-1])


def _check_functions(cost: Cost, hidden: Activation) -> None:
    """Raise TypeError unless both know their derivatives."""
    checks.function("cost", cost, "a cost with its delta, such as costs.cross_entropy", "delta")
    checks.function("hidden", hidden, "an activation with its derivative, such as activations.tanh", "prime")


def _masking(masks: Sequence[Array] | None, m: int, widths: Sequence[int]) -> Callable[[int, Array], Array]:
    """(l, a) -> a with the neurons dropped that the l-th mask drops, or a itself where there are no masks."""
    if masks is None:
        return lambda _, a: a
    if len(masks) != len(widths):
        raise ValueError(f"masks must have one array for each of {len(widths)} hidden layers, got {len(masks)}")
    for l, width in enumerate(widths):
        checks.shape(f"masks[{l}]", masks[l], (m, width), "one row for each example, one column for each neuron")
    return lambda l, a: jnp.where(masks[l], a, 0)
