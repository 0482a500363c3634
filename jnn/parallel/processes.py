"""Several processes: how they connect, and arrays that span them."""

import os

import jax
import numpy as np
from jax.experimental import multihost_utils

from jnn.typing import PyTree

_LAUNCHERS = (
    *("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"),
    *("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES", "MEGASCALE_NUM_SLICES"),
)
"""The environment variables in which launchers give the number of processes, or their hosts.

SLURM_NTASKS is not among them: it describes the allocation, in which a script without `srun` runs alone.
"""


def start() -> bool:
    """Connects the processes of a launcher with `jax.distributed.initialize`.

    Plain processes are identified by the variables JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES
    and JAX_PROCESS_ID. JAX detects those of SLURM's `srun`, of Open MPI's `mpirun` and of TPU pods. Does nothing
    without a launcher, as in a SLURM allocation without `srun`, or if the processes are connected already.

    Returns:
      Whether there are several processes.

    Raises:
      ValueError: If variables are missing or not integers, or if JAX does not detect the processes of a launcher.

    Example:
      >>> parallel.start()
      False
    """
    if jax.distributed.is_initialized():
        return jax.process_count() > 1
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        jax.distributed.initialize(
            os.environ["JAX_COORDINATOR_ADDRESS"], _integer("JAX_NUM_PROCESSES"), _integer("JAX_PROCESS_ID")
        )
    elif launcher := next(filter(_several, _LAUNCHERS), None):
        try:
            jax.distributed.initialize()
        except ValueError as error:
            given = f"got {launcher}={os.environ[launcher]} of a launcher that JAX does not know ({error})"
            variables = "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
            raise ValueError(f"{variables} must be set in each of several processes, {given}") from error
    else:
        return False
    return jax.process_count() > 1


def local(tree: PyTree) -> PyTree:
    """Returns the arrays of a tree whole in every process: those that span processes become NumPy arrays.

    All processes must call this together, since arrays that are split between them are sent to all.

    Args:
      tree: Arrays.

    Example:
      >>> parallel.local({"w": jnp.ones(2)})["w"].tolist()
      [1.0, 1.0]
    """
    return jax.tree.map(_whole, tree)


def _whole(leaf: PyTree) -> PyTree:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return leaf
    if leaf.is_fully_replicated:
        return np.asarray(leaf.addressable_data(0))
    return multihost_utils.process_allgather(leaf, tiled=True)


def broadcast(value: int) -> int:
    """Returns the integer of process 0 in every process, for decisions that depend on a clock or a disk.

    All processes must call this together.

    Args:
      value: The integer in this process.

    Example:
      >>> parallel.broadcast(3)
      3
    """
    return int(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def _integer(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal():
        raise ValueError(f"{name} must be an integer if JAX_COORDINATOR_ADDRESS is set, got {text!r}")
    return int(text)


def _several(name: str) -> bool:
    text = os.environ.get(name, "")
    return int(text) > 1 if text.isdecimal() else "," in text
