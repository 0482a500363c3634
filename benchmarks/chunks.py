"""`train.fit` on data in chunks against the same data in memory.

60,000 examples of 784 float32 numbers, random ones, in chunks that NumPy arrays hold: each is copied to the device
while the one before trains. A few epochs of each alternative in turn; compilation is not timed.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np
from jax.tree_util import Partial

from benchmarks import timing
from jnn import backprop, costs, mlp, train

PACKAGES = ("optax",)


@dataclass(frozen=True)
class Config:
    """Sizes and number of timings."""

    quick: ClassVar[Mapping[str, Any]] = {"examples": 4000, "chunk": 1000, "epochs": 2, "rounds": 2}

    examples: int = 60_000
    """Examples of an epoch."""
    chunk: int = 10_000
    """Examples of a chunk."""
    epochs: int = 3
    """Epochs of a training run."""
    rounds: int = 15
    """Timings of each alternative."""


ROWS = (((784, 30, 10), 10), ((784, 100, 10), 100), ((784, 800, 10), 100))
"""Networks, and their mini-batches."""


def measure(config: Config) -> Iterator[timing.Table]:
    """Yield a table for each network."""
    draws = np.random.default_rng(0)
    xs = draws.random((config.examples, 784), np.float32)
    ys = np.eye(10, dtype=np.float32)[draws.integers(10, size=config.examples)]
    parts = [slice(i, i + config.chunk) for i in range(0, config.examples, config.chunk)]
    optimizer = train.sgd(0.1)
    grad = Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy)
    held = jax.device_put((xs, ys))
    for sizes, batch_size in ROWS:
        state = train.init(optimizer, mlp.init(jax.random.key(1), sizes))

        def fit(data: Any, state: Any = state, batch_size: int = batch_size) -> None:
            options = {"epochs": config.epochs, "batch_size": batch_size, "progress": False}
            jax.block_until_ready(train.fit(jax.random.key(0), grad, optimizer, state, data, **options))

        alternatives = {
            "in memory": lambda: fit(held),
            f"chunks of {config.chunk:,}": lambda: fit([(xs[part], ys[part]) for part in parts]),
        }
        yield timing.Table(f"{list(sizes)}, mini-batch {batch_size}", timing.interleaved(alternatives, config.rounds))


if __name__ == "__main__":
    sys.exit(timing.main(sys.modules[__name__]))
