"""Hand-derived gradients against autodiff: time, memory, compilation time; per-example gradients also against torch.

Perceptrons, without and with dropout, on a mini-batch at the sizes of `benchmarks.mlp`; the LSTM on sequences. Program
memory is what the compiler allocates in addition to arguments and results. Ratios are relative to the gradient by hand.
"""

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from benchmarks import timing
from benchmarks.lstm import by, problem
from benchmarks.mlp import ROWS
from jnn import backprop, costs, dropout, lstm, mlp

PACKAGES = ("torch",)
Program = tuple[Callable[[], Any], str]


@dataclass(frozen=True)
class Config:
    """Sizes and number of timings."""

    quick: ClassVar[Mapping[str, Any]] = {"rows": ("a",), "lstms": ((4, 32, 8, 16),), "rounds": 3}

    rows: tuple[str, ...] = ("a", "b", "c", "d")
    """Perceptron sizes, as in `benchmarks.mlp`."""
    lstms: tuple[tuple[int, int, int, int], ...] = ((32, 128, 64, 128), (8, 512, 32, 64))
    """(B, T, p, d) of each LSTM."""
    rounds: int = 200
    """Timings of each alternative."""


def compiled(f: Callable[..., Any], *args: Any) -> Program:
    """Compile f for args: returns a function of no arguments, and its memory and compilation time as text."""
    start = time.perf_counter()
    program = jax.jit(f).lower(*args).compile()
    seconds = time.perf_counter() - start
    kib = timing.memory(program) / 2**10
    return lambda: jax.block_until_ready(program(*args)), f"{kib:.0f} KiB, compiled in {seconds:.2f} s"


def table(title: str, programs: Mapping[str, Program], rounds: int) -> timing.Table:
    """Times the programs interleaved; the remarks are their memory and compilation time."""
    seconds = timing.interleaved({name: run for name, (run, _) in programs.items()}, rounds)
    return timing.Table(title, seconds, {name: needs for name, (_, needs) in programs.items() if needs})


def autodiff_of(params: mlp.Params, xs: jax.Array, ys: jax.Array, masks: tuple[jax.Array, ...] | None = None) -> Any:
    """Value and autodiff gradient of the mean cross-entropy of a mini-batch, with or without dropout masks."""

    def loss(params: mlp.Params) -> jax.Array:
        a = xs
        for i, (w, b) in enumerate(params[:-1]):
            a = jax.nn.sigmoid(a @ w.T + b)
            a = a if masks is None else jnp.where(masks[i], a, 0.0)
        w, b = params[-1]
        return jnp.mean(costs.cross_entropy.value(a @ w.T + b, ys))

    return jax.value_and_grad(loss)(params)


def with_dropout(params: mlp.Params, xs: jax.Array, ys: jax.Array, key: jax.Array) -> Any:
    """Autodiff with the masks that `dropout.minibatch_value_and_grad` draws."""
    keys = jax.random.split(key, len(params) - 1)
    masks = tuple(dropout.mask(k, (len(xs), len(b)), 0.5) for k, (_, b) in zip(keys, params[:-1], strict=True))
    return autodiff_of(params, xs, ys, masks)


def perceptrons(config: Config, letter: str) -> Iterator[timing.Table]:
    """Yield the tables of one size: without dropout, with dropout, and per-example gradients."""
    sizes, m = ROWS[letter]
    keys = jax.random.split(jax.random.key(0), 3)
    params = mlp.init(keys[0], sizes)
    xs = jax.random.uniform(keys[1], (m, sizes[0]))
    ys = jax.nn.one_hot(jnp.arange(m) % sizes[-1], sizes[-1])
    by_hand = Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy)
    dropped = Partial(dropout.minibatch_value_and_grad, cost=costs.cross_entropy, p=0.5)
    yield table(
        f"{list(sizes)}, mini-batch {m}",
        {"by hand": compiled(by_hand, params, xs, ys), "autodiff": compiled(autodiff_of, params, xs, ys)},
        config.rounds,
    )
    yield table(
        f"{list(sizes)}, mini-batch {m}, dropout",
        {
            "by hand": compiled(dropped, params, xs, ys, keys[2]),
            "autodiff": compiled(with_dropout, params, xs, ys, keys[2]),
        },
        config.rounds,
    )
    one = Partial(backprop.value_and_grad, cost=costs.cross_entropy)

    def loss(params: mlp.Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return costs.cross_entropy.value(mlp.logits(params, x), y)

    each = {
        "by hand": compiled(jax.vmap(one, (None, 0, 0)), params, xs, ys),
        "autodiff": compiled(jax.vmap(jax.value_and_grad(loss), (None, 0, 0)), params, xs, ys),
    }
    if importlib.util.find_spec("torch"):
        each["torch.func"] = (torch_each(params, xs, ys), "")
    notes = tuple(timing.missing({"torch": "torch"}))
    title = f"{list(sizes)}, {m} examples, a gradient of each"
    yield table(title, each, max(config.rounds // 5, 2))._replace(notes=notes)


def torch_each(params: mlp.Params, xs: jax.Array, ys: jax.Array) -> Callable[[], Any]:
    """Per-example gradients with torch.func: vmap of grad."""
    torch = importlib.import_module("torch")
    layers = [tuple(torch.tensor(np.asarray(a)) for a in layer) for layer in params]
    x, y = torch.tensor(np.asarray(xs)), torch.tensor(np.asarray(ys))

    def loss(layers: Any, x: Any, y: Any) -> Any:
        *below, (w_last, b_last) = layers
        for w, b in below:
            x = torch.sigmoid(w @ x + b)
        return torch.nn.functional.binary_cross_entropy_with_logits(w_last @ x + b_last, y, reduction="sum")

    each = torch.func.vmap(torch.func.grad_and_value(loss), (None, 0, 0))
    return lambda: each(layers, x, y)


def lstms(config: Config, size: tuple[int, int, int, int]) -> timing.Table:
    """`lstm.unroll`, by hand, against autodiff of `lstm.scan`."""
    arguments = problem(*size)

    def gradient(run: Any) -> Callable[..., Any]:
        return jax.value_and_grad(lambda params, xs, weights: jnp.sum(by(run)(params, xs) * weights))

    runs = {"by hand": lstm.unroll, "autodiff": lstm.scan}
    programs = {name: compiled(gradient(run), *arguments) for name, run in runs.items()}
    return table(f"LSTM, (B, T, p, d) = {size}", programs, max(config.rounds // 5, 2))


def measure(config: Config) -> Iterator[timing.Table]:
    """Yield the tables of the perceptrons, then of the LSTMs."""
    if unknown := set(config.rows) - ROWS.keys():
        raise ValueError(f"rows must be among {', '.join(ROWS)}, got {', '.join(sorted(unknown))}")
    for letter in config.rows:
        yield from perceptrons(config, letter)
    for size in config.lstms:
        yield lstms(config, size)


if __name__ == "__main__":
    sys.exit(timing.main(sys.modules[__name__]))
