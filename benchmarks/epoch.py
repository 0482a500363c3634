"""One epoch of SGD on MNIST: by hand, by autodiff, and example by example in NumPy as the book's own program does.

All take turns in one process, after a warm-up, with the same data, mini-batches and sizes. The table gives medians
and minima over the rounds, and the ratio to the first row. `--out` receives them as JSON, too.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import timing
from jnn import backprop, costs, data, mlp, train


@dataclass(frozen=True)
class Config:
    """The defaults are Nielsen's first network."""

    sizes: tuple[int, ...] = (784, 30, 10)
    """Neurons in each layer."""
    batch_size: int = 10
    """Examples in a mini-batch."""
    eta: float = 3.0
    """The learning rate."""
    rounds: int = 20
    """How often each of the two programs takes its turn."""
    book_rounds: int = 1
    """How often the NumPy program does; 0 leaves it out."""
    out: Path = Path("out/benchmarks")
    """The folder that receives epoch.json."""


def mean_cost(params: mlp.Params, xs: jax.Array, ys: jax.Array) -> jax.Array:
    """The plain definition, for autodiff: the forward pass of a batch and the mean of the quadratic cost."""
    a = xs
    for w, b in params[:-1]:
        a = jax.nn.sigmoid(a @ w.T + b)
    w, b = params[-1]
    return jnp.mean(costs.quadratic.value(a @ w.T + b, ys))


def epochs(config: Config) -> dict[str, Callable[[], Any]]:
    """One epoch of each alternative, as a function without arguments that returns when its work is done."""
    digits = data.mnist().train
    xs, ys = digits.xs, data.one_hot(digits.labels, 10)
    key = jax.random.key(0)
    params = mlp.init(key, config.sizes)
    optimizer = train.sgd(config.eta)
    state = train.init(optimizer, params)

    def program(grad: train.Grad) -> Callable[[], Any]:
        return lambda: jax.block_until_ready(
            train.epoch(key, grad, optimizer, state, (xs, ys), batch_size=config.batch_size)
        )

    weights = [np.asarray(layer.w, np.float64) for layer in params]
    biases = [np.asarray(layer.b, np.float64) for layer in params]
    pairs = np.asarray(xs, np.float64), np.asarray(ys, np.float64)
    return {
        "by hand: backprop.minibatch_value_and_grad": program(backprop.minibatch_value_and_grad),
        "autodiff: jax.value_and_grad": program(jax.value_and_grad(mean_cost)),
        "NumPy, example by example": lambda: example_by_example(
            [w.copy() for w in weights], [b.copy() for b in biases], *pairs, config.batch_size, config.eta
        ),
    }


def example_by_example(
    weights: list[np.ndarray], biases: list[np.ndarray], xs: np.ndarray, ys: np.ndarray, m: int, eta: float
) -> None:
    """An epoch of the algorithm at the end of chapter 2: a loop over examples inside a loop over mini-batches."""
    order = np.random.default_rng(0).permutation(len(xs))
    for start in range(0, len(xs), m):
        rows = order[start : start + m]
        w_sums, b_sums = [np.zeros_like(w) for w in weights], [np.zeros_like(b) for b in biases]
        for x, y in zip(xs[rows], ys[rows], strict=True):
            below = [x]
            for w, b in zip(weights, biases, strict=True):
                below.append(1 / (1 + np.exp(-(w @ below[-1] + b))))
            a = below.pop()
            delta = (a - y) * a * (1 - a)
            for l in range(len(weights) - 1, -1, -1):
                w_sums[l] += np.outer(delta, below[l])
                b_sums[l] += delta
                delta = (weights[l].T @ delta) * below[l] * (1 - below[l])
        for w, w_sum in zip(weights, w_sums, strict=True):
            np.subtract(w, eta / len(rows) * w_sum, out=w)
        for b, b_sum in zip(biases, b_sums, strict=True):
            np.subtract(b, eta / len(rows) * b_sum, out=b)


def main(config: Config) -> None:
    """Time, print and write."""
    *programs, book = (alternatives := epochs(config))
    seconds = timing.interleaved({name: alternatives[name] for name in programs}, config.rounds)
    seconds |= timing.interleaved({book: alternatives[book]}, config.book_rounds, warm_up=0)
    timing.table(f"one epoch at {list(config.sizes)}, mini-batch {config.batch_size}", seconds)
    timing.write(config.out / "epoch.json", config, seconds, ())


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
