"""Training on a mesh: the cost of a mesh of one device, and the gain from two devices, for one network on MNIST.

On a CPU the devices share the cores, so any gain comes from splitting the work differently. The parameters must equal
those of a single device up to the order of sums; this is checked before anything is timed. Ratios are relative to
`train.epoch` without a mesh.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np
from jax.tree_util import Partial

from benchmarks import timing
from jnn import activations, backprop, costs, data, mlp, parallel, train

PACKAGES = ()


@dataclass(frozen=True)
class Config:
    """Sizes and number of timings."""

    quick: ClassVar[Mapping[str, Any]] = {"hidden": 30, "examples": 4_096, "rounds": 2}

    hidden: int = 800
    """Hidden neurons of [784, hidden, 10]."""
    batch_size: int = 1024
    """Examples in a mini-batch."""
    examples: int = 60_000
    """Training images of an epoch."""
    rounds: int = 20
    """Timings of each alternative."""


def measure(config: Config) -> Iterator[timing.Table]:
    """Yield one table: no mesh, and meshes of one device and of two."""
    digits = data.mnist().train
    examples = (digits.xs[: config.examples], data.one_hot(digits.labels[: config.examples], 10))
    optimizer, key = train.sgd(0.1), jax.random.key(0)
    grad = Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy, hidden=activations.sigmoid)
    start = train.init(optimizer, mlp.init(key, (784, config.hidden, 10)))

    def epoch(sharding: Any, state: train.State, rows: Any) -> Any:
        options = {"batch_size": config.batch_size, "sharding": sharding}
        return jax.block_until_ready(train.epoch(key, grad, optimizer, state, rows, **options))

    alternatives = {"no mesh": lambda: epoch(None, start, examples)}
    for devices in (1, 2):
        mesh = parallel.mesh(devices=jax.devices()[:devices])
        placed = parallel.place(mesh, start), parallel.place(mesh, examples)
        sharding = parallel.batches(mesh)
        alternatives[f"a mesh of {devices}"] = lambda sharding=sharding, placed=placed: epoch(sharding, *placed)
    alone, *others = (f() for f in alternatives.values())
    for name, other in zip(list(alternatives)[1:], others, strict=True):
        error = max(float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) for a, b in _pairs(alone, other))
        if not error < 1e-4:
            raise ValueError(f"{name} must reach the parameters of no mesh to 1e-4, got {error:.1e} off")
    title = f"[784, {config.hidden}, 10], mini-batch {config.batch_size}, {config.examples} images"
    yield timing.Table(title, timing.interleaved(alternatives, config.rounds))


def _pairs(a: Any, b: Any) -> Iterator[tuple[Any, Any]]:
    return zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", max(2, timing.cores()))
    sys.exit(timing.main(sys.modules[__name__]))
