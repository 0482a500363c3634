"""A product with the identity shows to how many bits the device rounds float32 operands: 24 is not at all, 11 is TF32,
8 is bfloat16.
"""

import functools
import importlib.metadata
import math
import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.device.rows import Config, Row

PRECISIONS = ("default", "high", "highest")


def rows(_: Config) -> Iterator[Row]:
    """Yields one fact about the device at a time."""
    device = jax.devices()[0]
    yield {"": "platform", "value": f"{device.platform}, {jax.device_count()} x {device.device_kind}"}
    yield {"": "memory of one", "value": f"{memory(device) / 2**30:.1f} GiB"}
    yield {"": "host", "value": f"{os.cpu_count()} cores, {_host_memory() / 2**30:.1f} GiB"}
    found = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    named = sorted(name for name in found if name.startswith(("jax", "nvidia-cudnn", "libtpu", "torch", "flax")))
    yield {"": "packages", "value": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in named)}
    for precision in PRECISIONS:
        bits = -round(math.log2(roundoff(precision)))
        yield {"": f'products, precision "{precision}"', "value": f"operands of {bits} bits"}


@functools.cache
def roundoff(precision: str) -> float:
    """The largest relative error of an operand of a product, 2^-p for p bits; 2^-24 if it stays as it is."""
    a = jax.random.uniform(jax.random.key(0), (256, 256), minval=1.0, maxval=2.0)
    with jax.default_matmul_precision(precision):
        product = jax.jit(jnp.matmul)(a, jnp.eye(256))
    error = float(jnp.max(jnp.abs(product - a) / a))
    return max(2.0**-24, 2.0 ** math.ceil(math.log2(error))) if error else 2.0**-24


def memory(device: Any) -> float:
    """Bytes that JAX may use on the device."""
    stats = device.memory_stats() or {}
    return float(stats.get("bytes_limit", 0)) or _host_memory()


def _host_memory() -> float:
    """Bytes, or NaN if the system does not report them."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return np.nan
