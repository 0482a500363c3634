"""Training on many devices, of one process or of several, by `jax.sharding` and `jax.distributed`: no engine of ours.

A mesh has two axes: "batch", over which a mini-batch is split, and "model", over which wide layers may be. `place`
puts parameters and data on it, and `train.epoch`, `run` and `fit` take `sharding=batches(mesh)`: XLA then splits the
work and adds the gradients up. Results equal those of a single device up to the order in which floats are summed.

Several processes each run the same script; `start` connects them, where a launcher has started them, before anything
else uses JAX.
"""

import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from jnn import _checks

BATCH = "batch"
"""The axis of a mesh over which a mini-batch is split."""

MODEL = "model"
"""The axis of a mesh over which a wide layer may be split."""


def start() -> bool:
    """Connect the processes of a launcher with `jax.distributed.initialize`; returns whether there are several.

    Plain processes say who they are by the variables JAX_COORDINATOR_ADDRESS (host:port of process 0),
    JAX_NUM_PROCESSES and JAX_PROCESS_ID; under SLURM, Open MPI and on TPU pods JAX finds out by itself. Does nothing
    where no launcher is seen, or when connected already.

    Raises ValueError for variables that are incomplete or no whole numbers.
    """
    if jax.distributed.is_initialized():
        return jax.process_count() > 1
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        jax.distributed.initialize(
            os.environ["JAX_COORDINATOR_ADDRESS"], _whole("JAX_NUM_PROCESSES"), _whole("JAX_PROCESS_ID")
        )
    elif any(_several(name) for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES")):
        jax.distributed.initialize()
    else:
        return False
    return jax.process_count() > 1


def mesh(*, model: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """All devices of all processes (or `devices`) as a mesh of axes ("batch", "model"), `model` along the second.

    Raises ValueError where `model` does not divide the number of devices, TypeError where it is no whole number.
    """
    _checks.count("model", model)
    chosen = np.array(jax.devices() if devices is None else devices, object)
    if not chosen.size or chosen.size % model:
        raise ValueError(f"model is {model} and there are {chosen.size} devices; a divisor of their number is wanted")
    return Mesh(chosen.reshape(-1, model), (BATCH, MODEL))


def batches(mesh: Mesh) -> NamedSharding:
    """How a mini-batch lies on the mesh: its first axis split over "batch"."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def place(mesh: Mesh, tree: Any, spec: Any = None) -> Any:
    """The arrays of `tree` on the mesh: whole on every device by default, or split as `spec` says.

    `spec` is a PartitionSpec for all leaves or a tree of them that matches `tree`: PartitionSpec("batch") gives every
    device, and so every process, only its part of the rows of a data set; (Layer(PartitionSpec("model", None),
    PartitionSpec("model")), Layer(PartitionSpec(None, "model"), PartitionSpec())) splits a wide hidden layer. In
    several processes all call this with the same arrays; each copies to its own devices what lies there.

    Raises ValueError for an axis that its part of the mesh does not divide.
    """
    spec = PartitionSpec() if spec is None else spec
    specs = jax.tree.map(lambda _: spec, tree) if isinstance(spec, PartitionSpec) else spec
    return jax.tree.map(lambda leaf, one: put(leaf, NamedSharding(mesh, one)), tree, specs)


def local(tree: Any) -> Any:
    """The arrays of `tree` as every process can read them whole: those that span processes, as NumPy arrays.

    All processes call this together, as what is split between them is sent to all.
    """

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        if leaf.is_fully_replicated:
            return np.asarray(leaf.addressable_data(0))
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(one, tree)


def agreed(answer: int) -> int:
    """Process 0's answer, for all processes: their own clocks or views of a disk would part them. All call together."""
    if jax.process_count() == 1:
        return answer
    return int(multihost_utils.broadcast_one_to_all(np.asarray(answer)))


def put(leaf: Any, sharding: Sharding) -> Any:
    """One array that every process holds whole, where `sharding` says; each copies what lies on its own devices."""
    if sharding.is_fully_addressable or jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        return jax.device_put(leaf, sharding)
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])


def _whole(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal():
        raise ValueError(f"{name} is {text!r} beside JAX_COORDINATOR_ADDRESS; a whole number is wanted")
    return int(text)


def _several(name: str) -> bool:
    text = os.environ.get(name, "")
    return int(text) > 1 if text.isdecimal() else "," in text
