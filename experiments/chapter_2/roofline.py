"""Data parallelism on paper: the width and the mini-batch from which many devices train a network faster than one.

A step of [784, n, n, 10] on B examples takes the longer of its arithmetic and its memory traffic; N devices process B/N
examples each and then sum their gradients, each sending 2 (N-1)/N gradients' bytes around a ring and waiting for 2
log2(N) messages. Operations and bytes are XLA's own count for the compiled step, checked against a count by hand. The
device is hypothetical: the defaults approximate an NVIDIA A100's data sheet, with eight devices to a machine.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from experiments import common, runner
from jnn import activations, backprop, costs, mlp, train

BATCHES = (256, 4096)
"""Mini-batches that XLA counts; both counts are linear in B."""


@dataclass(frozen=True)
class Config:
    quick: ClassVar[dict[str, Any]] = {"widths": (128, 1024, 8192)}

    widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
    """Widths n of [784, n, n, 10]."""
    devices: Annotated[tuple[int, ...], runner.AtLeast(2)] = (2, 8, 256, 4096)
    """Numbers N of devices that share a mini-batch."""
    tera_flops: float = 156.0
    """Multiplications and additions of one device, in 10^12 per second (A100: TF32)."""
    memory_gigabytes: float = 2000.0
    """Memory bandwidth of one device, in 10^9 bytes per second."""
    machine: int = 8
    """Devices that the fast link connects."""
    near_gigabytes: float = 300.0
    """Bandwidth of the fast link, in 10^9 bytes per second (A100: NVLink, each way)."""
    far_gigabytes: float = 25.0
    """Bandwidth to other machines, in 10^9 bytes per second (a 200 Gbit/s network)."""
    microseconds: float = 5.0
    """Latency of a message."""


def layer_sizes(width: int) -> tuple[int, ...]:
    """The network of this width."""
    return (784, width, width, 10)


def counted(width: int, batch: int) -> tuple[float, float]:
    """Operations and bytes of a step of plain gradient descent, as XLA counts them for the compiled program."""
    optimizer = train.sgd(0.1)
    grad = Partial(backprop.minibatch_value_and_grad, cost=costs.log_likelihood, hidden=activations.relu)
    state = jax.eval_shape(lambda: train.init(optimizer, mlp.init(jax.random.key(0), layer_sizes(width))))
    xs, ys = (jax.ShapeDtypeStruct((batch, n), jnp.float32) for n in (784, 10))
    step = jax.jit(lambda state, *rows: train.step(grad, optimizer, state, rows))
    analysis: Any = step.lower(state, xs, ys).compile().cost_analysis()
    return analysis["flops"], analysis["bytes accessed"]


def by_hand(sizes: tuple[int, ...], batch: int) -> tuple[float, float]:
    """The same counts by hand, of the operations of products and of float32 arrays as large as a layer or its weights.

    Each weight takes part in three products of 2 B operations, in the first layer in two. It is read twice (once in the
    first layer), its gradient is written, and the update reads both and writes the weight. For every example, xs are
    read twice; in each hidden layer z is written and read twice, a written and read twice, (w^T delta) written and
    read, delta written and read for both gradients: 11, and in all but the first layer once more, for the layer below.
    """
    weights = sum(n_in * n_out for n_in, n_out in pairwise(sizes))
    first = sizes[0] * sizes[1]
    hidden = sizes[1:-1]
    rows = 2 * sizes[0] + 11 * sum(hidden) + sum(hidden[1:])
    return 2.0 * batch * (3 * weights - first), 4.0 * (6 * weights - first + batch * rows)


def seconds_alone(config: Config, counts: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """The roofline of one device, from the counts [2 batches, operations and bytes] of a network."""
    slope = (counts[1] - counts[0]) / (BATCHES[1] - BATCHES[0])
    operations, moved = (counts[0] + slope * (batch[:, None] - BATCHES[0])).T
    return np.maximum(operations / (1e12 * config.tera_flops), moved / (1e9 * config.memory_gigabytes))


def seconds_to_add(config: Config, gradient_bytes: float, devices: int) -> float:
    """The time to sum the gradients of all devices."""
    sent = 2 * (devices - 1) / devices * gradient_bytes
    return sent / (1e9 * _speed(config, devices)) + 2 * math.ceil(math.log2(devices)) * 1e-6 * config.microseconds


ARRAYS = {
    "counted": ("widths batches 2", "the operations and bytes of a step, as XLA counts them"),
    "by_hand": ("widths batches 2", "the same, counted by hand"),
    "faster": ("widths devices", "the least examples per device at which the devices are faster than one"),
    "efficient": ("widths devices", "the least examples per device at which the sum takes no longer than the rest"),
}


def compute(config: Config) -> dict[str, Any]:
    """The counts [widths, batches, 2], and the least examples per device [widths, devices] to be faster or efficient.

    Efficient means that the sum of the gradients takes no longer than the rest.
    """
    for field in ("tera_flops", "memory_gigabytes", "near_gigabytes", "far_gigabytes", "microseconds"):
        if getattr(config, field) <= 0:
            raise ValueError(f"{field} must be positive, got {getattr(config, field)}")
    found = np.array([[counted(width, batch) for batch in BATCHES] for width in config.widths])
    hand = np.array([[by_hand(layer_sizes(width), batch) for batch in BATCHES] for width in config.widths])
    share = np.geomspace(1, 1e6, 2001)
    faster, efficient = (np.full((len(config.widths), len(config.devices)), np.inf) for _ in range(2))
    for i, width in enumerate(config.widths):
        gradient = 4.0 * sum((n_in + 1) * n_out for n_in, n_out in pairwise(layer_sizes(width)))
        for j, n in enumerate(config.devices):
            own, adding = seconds_alone(config, found[i], share), seconds_to_add(config, gradient, n)
            faster[i, j] = _first(share, own + adding < seconds_alone(config, found[i], n * share))
            efficient[i, j] = _first(share, adding <= own)
    return {"counted": found, "by_hand": hand, "faster": faster, "efficient": efficient}


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """The counts agree; the examples needed do not fall below the ratio of arithmetic to bandwidth."""
    operations, moved = np.moveaxis(arrays["counted"] / arrays["by_hand"], -1, 0)
    widest = arrays["efficient"][np.argmax(config.widths)]
    limits = [4 / 3 * 1e3 * config.tera_flops / _speed(config, n) * (n - 1) / n for n in config.devices]
    return {
        "XLA's count of operations agrees with the count by hand, to 2 %": np.all(np.abs(operations - 1) < 0.02),
        "XLA's count of bytes agrees with the count by hand, to 5 %": np.all(np.abs(moved - 1) < 0.05),
        "the widest needs (4/3) (N-1)/N x (operations / bytes sent) per second examples per device, to 15 %": np.all(
            np.abs(widest / limits - 1) < 0.15
        ),
        "the narrowest network needs more than the widest": np.all(
            arrays["efficient"][np.argmin(config.widths)] > widest
        ),
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """Examples per device by width: to be faster at all, and to be efficient."""
    titles = {"faster": "N devices are faster than one", "efficient": "the sum takes no longer than the rest"}
    for axes, (name, title) in zip(common.panels(figure, (9, 4), 1, 2, sharey=True), titles.items(), strict=True):
        for j, n in enumerate(config.devices):
            axes.loglog(config.widths, arrays[name][:, j], "o-", color=f"C{j}", markersize=4, label=f"$N = {n:,}$")
        axes.set(title=title, xlabel="width $n$ of [784, n, n, 10]")
        axes.set_xticks(config.widths, [f"{n}" for n in config.widths], fontsize="small")
        axes.minorticks_off()
    figure.axes[0].set_ylabel("least examples per device")
    figure.axes[0].legend(loc="upper right")


def _speed(config: Config, devices: int) -> float:
    return config.near_gigabytes if devices <= config.machine else config.far_gigabytes


def _first(share: np.ndarray, holds: np.ndarray) -> float:
    """The least share from which it always holds; infinite if it fails at the largest."""
    fails = np.flatnonzero(~holds)
    after = fails[-1] + 1 if len(fails) else 0
    return float(share[after]) if after < len(share) else math.inf
