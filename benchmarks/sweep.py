"""K networks over seeds, learning rates and lambdas: `parallel.sweep`, one run after another, and one `vmap`.

Every network trains on MNIST with mini-batches of 10. On a CPU each core counts as a device. The members of the sweep
must reach the parameters of the single runs; this is checked before anything is timed. Ratios are relative to
`parallel.sweep`.
"""

import functools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from benchmarks import timing
from jnn import backprop, costs, data, mlp, parallel, regularize, train

PACKAGES = ()


@dataclass(frozen=True)
class Config:
    """Sizes and number of timings."""

    quick: ClassVar[Mapping[str, Any]] = {"members": (4,), "hidden": (30,), "examples": 1_000, "rounds": 2}

    members: tuple[int, ...] = (16, 64)
    """Numbers of networks, K."""
    hidden: tuple[int, ...] = (30, 100)
    """Hidden neurons of [784, hidden, 10]."""
    examples: int = 10_000
    """Training images of an epoch."""
    rounds: int = 5
    """Timings of each alternative."""


def one(
    key: jax.Array, eta: jax.Array, lam: jax.Array, xs: jax.Array, ys: jax.Array, hidden: int = 30
) -> tuple[train.State, train.History]:
    """A training run of one epoch."""
    init_key, train_key = jax.random.split(key)
    optimizer = train.sgd(eta)
    grad = regularize.penalised(
        Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy), regularize.l2(lam)
    )
    state = train.init(optimizer, mlp.init(init_key, (784, hidden, 10)))
    return train.run(train_key, grad, optimizer, state, (xs, ys), epochs=1, batch_size=10)


def measure(config: Config) -> Iterator[timing.Table]:
    """Yield a table for each number of members and each size."""
    digits = data.mnist().train
    xs, ys = digits.xs[: config.examples], data.one_hot(digits.labels[: config.examples], 10)
    for hidden in config.hidden:
        plain = functools.partial(one, hidden=hidden)
        f = Partial(plain, xs=xs, ys=ys)
        single, together = jax.jit(plain), jax.jit(jax.vmap(plain, (0, 0, 0, None, None)))
        for k in config.members:
            keys = jax.random.split(jax.random.key(0), k)
            etas, lams = jnp.linspace(0.1, 1.0, k), jnp.geomspace(1e-6, 1e-4, k)

            def after(keys: Any = keys, etas: Any = etas, lams: Any = lams, single: Any = single) -> Any:
                members = zip(keys, etas, lams, strict=True)
                return [jax.block_until_ready(single(*member, xs, ys)) for member in members]

            alternatives = {
                "parallel.sweep": lambda a=(keys, etas, lams), f=f: jax.block_until_ready(parallel.sweep(f, *a)),
                "one after another": after,
                "vmap": lambda a=(keys, etas, lams), f=together: jax.block_until_ready(f(*a, xs, ys)),
            }
            error = _largest_difference(alternatives["parallel.sweep"](), after())
            if not error < 1e-5:
                raise ValueError(f"a member of the sweep must equal its own run to 1e-5, got {error:.1e} off")
            title = f"K = {k}, [784, {hidden}, 10], {config.examples} images"
            note = f"largest difference from a member's own run: {error:.1g}; devices: {jax.local_device_count()}"
            yield timing.Table(title, timing.interleaved(alternatives, config.rounds, warm_up=1), notes=(note,))


def _largest_difference(swept: Any, runs: list[Any]) -> float:
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *runs)
    return max(float(np.max(np.abs(a - b))) for a, b in zip(*map(jax.tree.leaves, (swept, stacked)), strict=True))


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", timing.cores())
    sys.exit(timing.main(sys.modules[__name__]))
