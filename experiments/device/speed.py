"""Medians of interleaved runs of compiled programs, at the precision "default". "of product" is the share of
the rate of the large product in the first row, "of copy" that of the copy in the third, for the operations and the
bytes of a count by hand. The larger of the two says how near a training run is; what stays in a cache moves faster than
a copy. A step is a mini-batch of one network, of all networks that train side by side, or a time step of an LSTM,
there and back. Below torch and flax is their time as a multiple of ours.
"""

import functools
import importlib.util
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from benchmarks import lstm as lstm_benchmark
from benchmarks import mlp as mlp_benchmark
from benchmarks import sweep as sweep_benchmark
from benchmarks import timing
from experiments.chapter_2 import roofline
from experiments.device.rows import Config, Row
from jnn import backprop, costs, mlp, parallel, train

EXAMPLES = {"a": 12_000, "b": 12_000, "c": 12_800, "d": 3_840}
"""Of an epoch on a CPU; elsewhere 60,000."""

WIDE = ((32, 64, 512, 512), (32, 64, 1024, 1024))
"""(B, T, p, d) of the LSTMs beyond those of the benchmark."""


class Meter:
    """Makes rows of what was timed: rates, and shares of the rates of a product and a copy."""

    def __init__(self, config: Config) -> None:
        self.quick, self.rounds = config.quick, 1 if config.quick else 3
        self.on_cpu = jax.default_backend() == "cpu"
        self.product = self.copy = np.nan

    def measure(
        self,
        what: str,
        alternatives: Callable[[], timing.Alternatives],
        steps: int,
        operations: float,
        moved: float,
        *,
        times: int = 1,
    ) -> Row:
        """Times the first of the alternatives, and others as multiples of it, or reports a lack of memory.

        There are `times` as many rounds as usual.
        """
        try:
            seconds = timing.interleaved(alternatives(), times * self.rounds, warm_up=times)
        except (MemoryError, RuntimeError) as error:
            if not needs_too_much_memory(error):
                raise
            return {"what": what, "": "too little memory"}
        ours, *others = seconds
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        second = medians[ours]
        row: Row = {"what": what, "seconds": second, "us a step": 1e6 * second / steps}
        row |= {"Tflop/s": operations / second / 1e12, "GB/s": moved / second / 1e9}
        row |= {"of product": operations / second / self.product, "of copy": moved / second / self.copy}
        return row | {name: medians[name] / second for name in others}


def rows(config: Config) -> Iterator[Row]:
    """Yield the device's rates, then a row for each training run."""
    meter = Meter(config)
    yield from rates(meter)
    for letter in ("a",) if meter.quick else mlp_benchmark.ROWS:
        yield epoch(meter, letter)
    sizes = ((4, 16, 8, 16),) if meter.quick else (*lstm_benchmark.Config().sizes, *WIDE)
    for size in sizes:
        yield lstm(meter, size)
    yield sweep(meter, 8 if meter.quick else 1024)
    yield fit(meter, 4 if meter.quick else 64)


def rates(meter: Meter) -> Iterator[Row]:
    """Yield a large product at two precisions, and a large copy."""
    n = 512 if meter.quick else 2048 if meter.on_cpu else 8192
    square = jax.random.normal(jax.random.key(0), (n, n))
    found = []
    for precision in ("default", "highest"):
        with jax.default_matmul_precision(precision):
            program = jax.jit(jnp.matmul).lower(square, square).compile()
        what = f"product of {n:,} x {n:,}, {precision}"
        run = {"": lambda f=program: jax.block_until_ready(f(square, square))}
        found.append(meter.measure(what, lambda run=run: run, 1, 2.0 * n**3, 12.0 * n**2, times=5))
    meter.product = 1e12 * found[0].get("Tflop/s", np.nan)
    bytes_copied = 2**22 if meter.quick else 2**28 if meter.on_cpu else 2**30
    array = jnp.ones(bytes_copied // 4)
    add = jax.jit(lambda a: a + 1)
    run = {"": lambda: jax.block_until_ready(add(array))}
    what = f"copy of {bytes_copied >> 20:,} MiB"
    found.append(meter.measure(what, lambda: run, 1, bytes_copied / 4, 2.0 * bytes_copied, times=5))
    meter.copy = 1e9 * found[-1].get("GB/s", np.nan)
    for row in found:
        yield row | {
            "of product": row.get("Tflop/s", np.nan) * 1e12 / meter.product,
            "of copy": row.get("GB/s", np.nan) * 1e9 / meter.copy,
        }


def epoch(meter: Meter, letter: str) -> Row:
    """Plain SGD on random images, and the same with torch and flax."""
    sizes, batch_size = mlp_benchmark.ROWS[letter]
    n = 1_000 if meter.quick else EXAMPLES[letter] if meter.on_cpu else 60_000
    draws = np.random.default_rng(0)
    xs, ys = draws.random((n, 784), np.float32), np.eye(10, dtype=np.float32)[draws.integers(10, size=n)]

    def alternatives() -> dict[str, Callable[[], Any]]:
        params = [tuple(map(np.array, layer)) for layer in mlp.init(jax.random.key(1), sizes)]
        problem = mlp_benchmark.Problem(params, xs, ys, mlp_benchmark.order_of(n), batch_size, 0.1)
        on_device = problem._replace(xs=jnp.asarray(xs), ys=jnp.asarray(ys))
        found = {"": mlp_benchmark.ours(problem)}
        if on := torch_device():
            found["torch"] = mlp_benchmark.torch_eager(problem, device=on)
        if importlib.util.find_spec("flax"):
            found["flax"] = mlp_benchmark.flax(on_device)
        return found

    steps = -(-n // batch_size)
    operations, moved = roofline.by_hand(sizes, batch_size)
    what = f"epoch ({letter}) {list(sizes)}, mini-batch {batch_size}, {n:,} images"
    return meter.measure(what, alternatives, steps, steps * operations, steps * moved)


def lstm(meter: Meter, size: tuple[int, int, int, int]) -> Row:
    """Forward and backward pass of `lstm.unroll`, and the same with torch and flax.

    Of the bytes in each step the weights U are read twice, and gates, memories, inputs and their errors move.
    """
    B, T, p, d = size

    def alternatives() -> dict[str, Callable[[], Any]]:
        problem = lstm_benchmark.problem(*size)
        unroll = lstm_benchmark.by(lstm_benchmark.lstm.unroll)
        found = {"": lstm_benchmark.of_jax(unroll, *problem)[1]}
        if on := torch_device():
            found["torch"] = lstm_benchmark.of_torch(*problem, device=on)[1]
        if importlib.util.find_spec("flax"):
            found["flax"] = lstm_benchmark.of_flax(*problem)[1]
        return found

    operations, moved = 24.0 * B * T * d * (p + d), 4.0 * T * (8 * d**2 + B * (26 * d + 2 * p))
    return meter.measure(f"LSTM (B, T, p, d) = {size}", alternatives, T, operations, moved)


def sweep(meter: Meter, members: int) -> Row:
    """`parallel.sweep` of networks that train on 1,000 random images."""
    n = 100 if meter.quick else 1_000
    xs, ys = jax.random.uniform(jax.random.key(0), (n, 784)), jnp.eye(10)[jnp.arange(n) % 10]
    one = Partial(functools.partial(sweep_benchmark.one, hidden=30), xs=xs, ys=ys)

    def alternatives() -> dict[str, Callable[[], Any]]:
        keys = jax.random.split(jax.random.key(1), members)
        etas, lams = jnp.linspace(0.1, 1.0, members), jnp.full(members, 1e-5)
        return {"": lambda: jax.block_until_ready(parallel.sweep(one, keys, etas, lams))}

    return _side_by_side(meter, f"sweep of {members:,}", (784, 30, 10), members, n, alternatives)


def fit(meter: Meter, members: int) -> Row:
    """An epoch of `train.fit` of networks side by side, on random images."""
    n, sizes = 100 if meter.quick else 10_000, (784, 100, 10)
    optimizer = train.sgd(0.1)
    grad = Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy)

    def alternatives() -> dict[str, Callable[[], Any]]:
        examples = jax.random.uniform(jax.random.key(0), (n, 784)), jnp.eye(10)[jnp.arange(n) % 10]
        keys = jax.random.split(jax.random.key(1), members)
        state = jax.jit(jax.vmap(lambda key: train.init(optimizer, mlp.init(key, sizes))))(keys)
        options = {"epochs": 1, "batch_size": 10, "progress": False}
        return {"": lambda: jax.block_until_ready(train.fit(keys, grad, optimizer, state, examples, **options))}

    return _side_by_side(meter, f"fit of {members:,}", sizes, members, n, alternatives)


def needs_too_much_memory(error: BaseException) -> bool:
    """Whether an error of JAX or torch means that the device or the host had too little memory."""
    said = f"{type(error).__name__}: {error}".lower()
    return any(words in said for words in ("memoryerror", "resource_exhausted", "out of memory", "outofmemory"))


def torch_device() -> str | None:
    """The name that torch has for the device that JAX uses; None if torch cannot use it or is not installed."""
    platform = jax.default_backend()
    if platform not in ("cpu", "gpu") or not importlib.util.find_spec("torch"):
        return None
    torch: Any = importlib.import_module("torch")
    if platform == "cpu":
        return "cpu"
    torch.set_float32_matmul_precision("high")  # as JAX's default
    return "cuda" if torch.cuda.is_available() else None


def _side_by_side(
    meter: Meter, what: str, sizes: tuple[int, ...], members: int, n: int, alternatives: Callable[[], Any]
) -> Row:
    steps, (operations, moved) = -(-n // 10), roofline.by_hand(sizes, 10)
    total = members * steps
    text = f"{what} networks {list(sizes)}, mini-batch 10, {n:,} images"
    return meter.measure(text, alternatives, steps, total * operations, total * moved)
