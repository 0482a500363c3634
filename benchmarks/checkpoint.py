"""The cost of saving a checkpoint after every epoch of a training run on MNIST: `train.fit` with and without them.

The time is that of the complete call, so it includes orbax's background writes as far as they delay training. Ratios
are relative to no checkpoints.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
from jax.tree_util import Partial

from benchmarks import timing
from jnn import backprop, costs, data, mlp, train
from jnn.checkpoint import Checkpoints

PACKAGES = ("orbax-checkpoint",)


@dataclass(frozen=True)
class Config:
    """Sizes and number of timings."""

    quick: ClassVar[Mapping[str, Any]] = {"hidden": 30, "epochs": 2, "rounds": 2}

    hidden: int = 800
    """Hidden neurons of [784, hidden, 10]."""
    batch_size: int = 128
    """Examples in a mini-batch."""
    epochs: int = 10
    """Epochs of each training run."""
    seconds: tuple[float, ...] = (0.0, 30.0)
    """Minimum seconds between two checkpoints; 0 saves one after every epoch."""
    rounds: int = 5
    """Timings of each alternative."""


def measure(config: Config) -> Iterator[timing.Table]:
    """Yield one table: no checkpoints, and checkpoints at each of the intervals in `seconds`."""
    digits = data.mnist().train
    examples = (digits.xs, data.one_hot(digits.labels, 10))
    optimizer, key = train.sgd(0.1), jax.random.key(0)
    grad = Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy)
    start = train.init(optimizer, mlp.init(key, (784, config.hidden, 10)))

    with tempfile.TemporaryDirectory() as scratch:

        def fit(seconds: float | None) -> Any:
            folder = Path(scratch) / str(seconds)
            shutil.rmtree(folder, ignore_errors=True)
            checkpoints = None if seconds is None else Checkpoints(folder, seconds=seconds)
            options = {"epochs": config.epochs, "batch_size": config.batch_size, "progress": False}
            return jax.block_until_ready(
                train.fit(key, grad, optimizer, start, examples, checkpoints=checkpoints, **options)
            )

        alternatives = {"none": lambda: fit(None)}
        for seconds in config.seconds:
            name = f"one in {seconds:g} s" if seconds else "one an epoch"
            alternatives[name] = lambda seconds=seconds: fit(seconds)
        title = f"[784, {config.hidden}, 10], mini-batch {config.batch_size}, {config.epochs} epochs"
        yield timing.Table(title, timing.interleaved(alternatives, config.rounds, warm_up=1))


if __name__ == "__main__":
    sys.exit(timing.main(sys.modules[__name__]))
