"""Each leaf's error is its largest difference from autodiff in float64 on the host, over its largest entry.

It should be about as large as the effect of rounding parameters and inputs to the device's precision, computed in
float64; "of bound" is the error as a fraction of 16 times that. bfloat16 is `train.mixed_precision`.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.chapter_2 import backprop_check
from experiments.device import seen
from experiments.device.rows import Config, Row
from jnn import activations, backprop, costs, dropout, lstm, mlp, rnn, train

FACTOR = 16
"""The largest error, as a multiple of what rounding the parameters and the inputs explains."""

DRAWS = 4
"""The number of random roundings of parameters and inputs; the one that changes the gradient most counts."""

SIZES = (100, 30, 20, 10)
DROPPED = 0.3


class Case(NamedTuple):
    """A gradient by hand and by autodiff, as functions of (params, *batch), and float64 arrays for both."""

    name: str
    by_hand: Callable[..., Any]
    autodiff: Callable[..., Any]
    arguments: tuple[Any, ...]


def rows(config: Config) -> Iterator[Row]:
    """Yield the errors of each leaf of each gradient, at each precision."""
    chosen = {"default": seen.roundoff("default"), "highest": seen.roundoff("highest"), "bfloat16": 2.0**-8}
    for case in cases(config):
        expected = {u: explained(case, u) for u in set(chosen.values())}
        errors = {precision: compare(case, precision) for precision in chosen}
        for leaf in errors["highest"]:
            row: Row = {"gradient": case.name, "leaf": leaf}
            shares = []
            for precision, u in chosen.items():
                error = errors[precision][leaf]
                shares.append(error / (FACTOR * expected[u][leaf]))
                row |= {f"{precision}: error": error, f"{precision}: of bound": shares[-1]}
            yield row | {"holds": all(share <= 1 for share in shares)}


def cases(config: Config) -> Iterator[Case]:
    """Yield perceptrons with every cost whose error has no jumps, dropout, and both recurrent nets."""
    continuous = [cost for cost in backprop_check.COSTS if cost not in (costs.absolute, costs.hinge)]
    for i, cost in enumerate(continuous[3:4] if config.quick else continuous):
        yield perceptron(cost, (activations.sigmoid, activations.tanh)[i % 2])
    yield dropped()
    yield recurrent("LSTM", lstm, lambda key: lstm.init(key, 16, 32), lambda states: states.wm)
    yield recurrent("RNN", rnn, lambda key: rnn.init(key, 16, 32), lambda states: states)


def perceptron(cost: costs.Cost, hidden: activations.Activation) -> Case:
    """[100, 30, 20, 10] on 32 examples, whose desired outputs suit every cost."""

    def mean_cost(params: mlp.Params, xs: jax.Array, ys: jax.Array) -> jax.Array:
        logits = functools.partial(mlp.logits, hidden=hidden)
        return jnp.mean(jax.vmap(cost.value)(jax.vmap(logits, (None, 0))(params, xs), ys))

    by_hand = functools.partial(backprop.minibatch_value_and_grad, cost=cost, hidden=hidden)
    return Case(f"{cost.name}, {hidden.name}", by_hand, jax.value_and_grad(mean_cost), _images())


def dropped() -> Case:
    """The same network with dropout, the cross-entropy and hidden sigmoids."""
    key = jax.random.key(7)

    def by_hand(params: mlp.Params, xs: jax.Array, ys: jax.Array) -> Any:
        return dropout.minibatch_value_and_grad(params, xs, ys, key, p=DROPPED, cost=costs.cross_entropy)

    def mean_cost(params: mlp.Params, xs: jax.Array, ys: jax.Array) -> jax.Array:
        *below, last = params
        for one, layer in zip(jax.random.split(key, len(below)), below, strict=True):
            a = activations.sigmoid(mlp.linear(layer, xs))
            xs = jnp.where(dropout.mask(one, a.shape, DROPPED), a, 0)
        return jnp.mean(costs.cross_entropy.value(mlp.linear(last, xs), ys))

    return Case("dropout", by_hand, jax.value_and_grad(mean_cost), _images())


def recurrent(name: str, net: Any, init: Callable[[Any], Any], memory: Callable[[Any], jax.Array]) -> Case:
    """50 steps of 8 sequences, and a loss that is linear in the memories."""
    draws = np.random.default_rng(1)
    params = _doubled(init(jax.random.key(2)))

    def gradient(run: Callable[..., Any]) -> Callable[..., Any]:
        def loss(params: Any, xs: jax.Array, weights: jax.Array) -> jax.Array:
            state = net.zero_state(weights.shape[-1], dtype=xs.dtype)
            return jnp.mean(memory(run(params, state, xs)[1]) * weights)

        return jax.value_and_grad(loss)

    return Case(
        name,
        gradient(net.unroll),
        gradient(net.scan),
        (params, draws.normal(size=(50, 8, 16)), draws.normal(size=(50, 8, 32))),
    )


def compare(case: Case, precision: str) -> dict[str, float]:
    """The error of each leaf of the gradient by hand on the device."""
    arguments = _as(jnp.float32, case.arguments)
    mixed = precision == "bfloat16"
    with jax.default_matmul_precision("highest" if mixed else precision):
        _, grads = jax.jit(train.mixed_precision(case.by_hand) if mixed else case.by_hand)(*arguments)
    reference = _reference(case, case.arguments)
    return {name: _apart(_leaves(grads)[name], leaf) / _largest(leaf) for name, leaf in _leaves(reference).items()}


def explained(case: Case, u: float) -> dict[str, float]:
    """The error of each leaf that follows from relative errors up to u of all arguments, and of the leaf itself."""
    reference, draws = _leaves(_reference(case, case.arguments)), np.random.default_rng(3)
    apart = dict.fromkeys(reference, 0.0)
    for _ in range(DRAWS):
        rounded = jax.tree.map(lambda a: a * (1 + u * draws.uniform(-1, 1, np.shape(a))), case.arguments)
        for name, leaf in _leaves(_reference(case, rounded)).items():
            apart[name] = max(apart[name], _apart(leaf, reference[name]) / _largest(reference[name]))
    return {name: u + error for name, error in apart.items()}


def _reference(case: Case, arguments: Any) -> Any:
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        return jax.jit(case.autodiff)(*_as(jnp.float64, arguments))[1]


def _images() -> tuple[Any, ...]:
    draws = np.random.default_rng(0)
    params = _doubled(mlp.init(jax.random.key(0), SIZES))
    return params, draws.uniform(size=(32, SIZES[0])), draws.dirichlet(np.ones(SIZES[-1]), size=32)


def _doubled(tree: Any) -> Any:
    """In double precision, as NumPy arrays."""
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def _as(dtype: Any, tree: Any) -> Any:
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


def _leaves(tree: Any) -> dict[str, np.ndarray]:
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf, np.float64) for path, leaf in found}


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference; infinite if there is a NaN."""
    return float(np.max(np.nan_to_num(np.abs(a - b), nan=np.inf)))


def _largest(a: np.ndarray) -> float:
    return float(np.max(np.abs(a)))
