"""Many devices, in one process or in several, by `jax.sharding` and `jax.distributed`.

A mesh has two axes: "batch", over which a mini-batch is split, and "model", over which wide layers may be. `place`
puts parameters and data on it, and `train.epoch`, `run` and `fit` take `sharding=batches(mesh)`: XLA then splits the
work and sums the gradients. Results equal those of a single device up to the order in which floats are summed.
`sweep` runs a function, such as a whole training run, for many members spread over the devices, as `train.fit` does.

Several processes each run the same script; `start` connects those that a launcher has started, before anything else
uses JAX.
"""

from jnn.parallel.members import sweep
from jnn.parallel.meshes import BATCH, MODEL, batches, mesh, place
from jnn.parallel.processes import broadcast, local, start

__all__ = ["BATCH", "MODEL", "batches", "broadcast", "local", "mesh", "place", "start", "sweep"]
