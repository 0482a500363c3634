"""Networks constructed without training: seconds to construct and to evaluate, as bins and inputs grow."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from benchmarks import timing
from jnn import mlp, universal

PACKAGES = ()


@dataclass(frozen=True)
class Config:
    """Sizes and number of timings."""

    quick: ClassVar[Mapping[str, Any]] = {"bins": (10, 100), "cells": (4, 8), "points": 1_000, "rounds": 2}

    bins: tuple[int, ...] = (10, 100, 1_000)
    """Bins for a function of one variable, with 2 hidden neurons each."""
    cells: tuple[int, ...] = (8, 16, 32)
    """Bins along each axis for a function of two variables."""
    points: int = 10_000
    """Points per evaluation."""
    rounds: int = 10
    """Timings of each alternative."""


def wave(x: jax.Array) -> jax.Array:
    """A smooth function of any number of variables."""
    return jnp.sin(3 * jnp.sum(x)) + 0.5 * jnp.cos(5 * x[0])


def measure(config: Config) -> Iterator[timing.Table]:
    """Yield the tables of construction, then of evaluation, with one input and with two."""
    for n, sizes in ((1, config.bins), (2, config.cells)):
        lower, upper = (0.0,) * n, (1.0,) * n
        points = jax.random.uniform(jax.random.key(0), (config.points, n))
        construct, evaluate, rates = {}, {}, {}
        for bins in sizes:
            name = f"{bins} bins"
            net = universal.approximate(wave, lower, upper, bins)
            compiled = jax.jit(lambda net, xs: jax.lax.map(partial(mlp.logits, net), xs, batch_size=1_000))
            construct[name] = lambda bins=bins, lower=lower, upper=upper: jax.block_until_ready(
                universal.approximate(wave, lower, upper, bins)
            )
            evaluate[name] = lambda f=compiled, net=net, xs=points: jax.block_until_ready(f(net, xs))
            rates[name] = f"{sum(w.size for w, _ in net):,} weights"
        yield timing.Table(f"construction, {n} inputs", timing.interleaved(construct, config.rounds), rates)
        title = f"evaluation at {config.points} points, {n} inputs"
        yield timing.Table(title, timing.interleaved(evaluate, config.rounds), rates)


if __name__ == "__main__":
    sys.exit(timing.main(sys.modules[__name__]))
