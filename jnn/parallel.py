"""Many devices, in one process or in several, by `jax.sharding` and `jax.distributed`.

A mesh has two axes: "batch", over which a mini-batch is split, and "model", over which wide layers may be. `place`
puts parameters and data on it, and `train.epoch`, `run` and `fit` take `sharding=batches(mesh)`: XLA then splits the
work and sums the gradients. Results equal those of a single device up to the order in which floats are summed.
`sweep` runs a function, such as a whole training, for many members spread over the devices, as `train.fit` does.

Several processes each run the same script; `start` connects those that a launcher has started, before anything else
uses JAX.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from jax.tree_util import Partial
from jaxtyping import Array, Bool

from jnn import _checks, _known, _xla

BATCH = "batch"
"""The axis of a mesh over which a mini-batch is split."""

MODEL = "model"
"""The axis of a mesh over which a wide layer may be split."""


def start() -> bool:
    """Connect the processes of a launcher with `jax.distributed.initialize`; returns whether there are several.

    Plain processes are identified by the variables JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES
    and JAX_PROCESS_ID; under SLURM, Open MPI and on TPU pods JAX detects them. Does nothing without a launcher, or if
    the processes are connected already.

    Raises ValueError for variables that are missing or not integers.
    """
    if jax.distributed.is_initialized():
        return jax.process_count() > 1
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        jax.distributed.initialize(
            os.environ["JAX_COORDINATOR_ADDRESS"], _integer("JAX_NUM_PROCESSES"), _integer("JAX_PROCESS_ID")
        )
    elif any(_several(name) for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES")):
        jax.distributed.initialize()
    else:
        return False
    return jax.process_count() > 1


def mesh(*, model: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """All devices of all processes (or `devices`) as a mesh of axes ("batch", "model"), `model` along the second.

    Raises ValueError if `model` does not divide the number of devices, TypeError if it is not an integer.
    """
    _checks.count("model", model)
    chosen = np.array(jax.devices() if devices is None else devices, object)
    if not chosen.size or chosen.size % model:
        raise ValueError(f"model must divide the number of devices, got {model} and {chosen.size} devices")
    return Mesh(chosen.reshape(-1, model), (BATCH, MODEL))


def batches(mesh: Mesh) -> NamedSharding:
    """The sharding of a mini-batch on the mesh: its first axis split over "batch"."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def place(mesh: Mesh, tree: Any, spec: Any = None) -> Any:
    """The arrays of `tree` on the mesh: replicated by default, or split according to `spec`.

    `spec` is a PartitionSpec for all leaves or a tree of them that matches `tree`: PartitionSpec("batch") gives every
    device, and so every process, only its part of the rows of a data set; (Layer(PartitionSpec("model", None),
    PartitionSpec("model")), Layer(PartitionSpec(None, "model"), PartitionSpec())) splits a wide hidden layer. Several
    processes all call this with the same arrays, and each copies the parts that belong on its own devices.

    Raises ValueError for an axis that the mesh does not divide.
    """
    spec = PartitionSpec() if spec is None else spec
    specs = jax.tree.map(lambda _: spec, tree) if isinstance(spec, PartitionSpec) else spec
    return jax.tree.map(lambda leaf, one: put(leaf, NamedSharding(mesh, one)), tree, specs)


def local(tree: Any) -> Any:
    """The arrays of `tree` whole in every process: those that span processes, as NumPy arrays.

    All processes must call this together, since arrays that are split between them are sent to all.
    """

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        if leaf.is_fully_replicated:
            return np.asarray(leaf.addressable_data(0))
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(one, tree)


def broadcast(value: int) -> int:
    """Process 0's value in every process, for decisions that depend on a clock or a disk. All must call it together."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def put(leaf: Any, sharding: Sharding) -> Any:
    """One array, which every process holds whole, with this sharding; each copies to its own devices."""
    if sharding.is_fully_addressable or jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        return jax.device_put(leaf, sharding)
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])


def sweep(f: Callable[..., Any], *members: Any, devices: Sequence[Any] | None = None) -> Any:
    """f(*member) for every member, such as a whole training each, as one program spread over the devices.

    The leaves of `members` share a leading axis K; a member is one entry of each, such as a key, a learning rate and a
    regularisation strength. Returns what f returns, with a leading axis K: on a CPU each member gets the bits
    that it gets alone.

    For a grid, repeat the values of each axis:

        etas, seeds = jnp.meshgrid(jnp.array([0.1, 0.3, 1.0]), jnp.arange(4))
        results = sweep(f, jax.vmap(jax.random.key)(seeds.ravel()), etas.ravel())

    Each device computes its share of the members: together under `jax.vmap` on an accelerator, one after another on a
    CPU, where small networks then stay in a core's cache. A CPU counts as one device, unless
    `jax.config.update("jax_num_cpu_devices", os.cpu_count())` is called before anything else uses JAX.

    f is compiled into the program as `grad` is in `jnn.train`: bind data with `jax.tree_util.Partial`, not in a lambda.
    devices: all local ones by default.

    Raises TypeError and ValueError for members that do not share a leading axis K >= 1, ValueError for no devices.
    """
    k = _checks.examples(members, "members", "member")
    chosen = tuple(jax.local_devices() if devices is None else devices)[:k]
    if not chosen:
        raise ValueError("devices must have at least one device, got none: pass jax.local_devices()")
    mesh = Mesh(np.array(chosen), ("members",))
    arguments = place_on(NamedSharding(mesh, PartitionSpec()), f if isinstance(f, Partial) else Partial(f), members)
    return _sweep_program(_known.known(_sweep_program, *arguments, mesh), arguments[1], mesh)


def place_on(sharding: NamedSharding | None, *trees: Any) -> tuple[Any, ...]:
    """The trees with their arrays replicated on the mesh of `sharding`, except those that are on it already.

    Without a sharding, and under a transformation of the caller's, they stay where they are. Axes of a mesh that are
    explicit, as `jax.make_mesh` makes them, become automatic.
    """
    trees = jax.tree.map(_with_automatic_axes, trees)
    if sharding is None:
        return trees
    mesh: Any = sharding.mesh

    def placed(leaf: Any) -> Any:
        if isinstance(leaf, Tracer) or not isinstance(leaf, jax.Array | np.ndarray):
            return leaf
        there = isinstance(leaf, jax.Array) and getattr(leaf.sharding, "mesh", None) == mesh
        return leaf if there else place(mesh, leaf)

    return jax.tree.map(placed, trees)


def automatic(sharding: NamedSharding | None) -> NamedSharding | None:
    """The same sharding on a mesh whose axes are automatic: XLA, not the types of arrays, then splits the work.

    None stays None. Raises TypeError for a sharding that is not a NamedSharding.
    """
    if sharding is None:
        return None
    if not isinstance(sharding, NamedSharding):
        raise TypeError(
            f"sharding must be a NamedSharding, as parallel.batches(mesh) makes one, got {type(sharding).__name__}"
        )
    mesh: Any = sharding.mesh
    return NamedSharding(Mesh(mesh.devices, mesh.axis_names), sharding.spec)


def check_batch_size(sharding: NamedSharding | None, batch_size: int) -> None:
    """Raise ValueError unless the devices of `sharding` divide `batch_size`."""
    if sharding is None:
        return
    axes = sharding.spec[0] if len(sharding.spec) else ()
    parts = int(np.prod([sharding.mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes or ())]))
    if batch_size % parts:
        raise ValueError(
            f"batch_size must be divisible by the {parts} devices of sharding, got {batch_size}: "
            f"use {parts * (batch_size // parts + 1)}, or a mesh of fewer devices"
        )


def members_mesh(k: int, *trees: Any) -> Mesh | None:
    """The local devices over which k members are spread; None if there is one, or if others were chosen.

    So they are by `jax.default_device`, by arrays of the trees that are on certain devices, and by several processes.
    """
    mesh = Mesh(np.array(jax.local_devices()[:k]), ("members",))
    placed = [leaf for leaf in jax.tree.leaves(trees) if isinstance(leaf, jax.Array) and leaf.committed]
    elsewhere = any(getattr(leaf.sharding, "mesh", None) != mesh for leaf in placed)
    config: Any = jax.config
    chosen = elsewhere or config.jax_default_device is not None or jax.process_count() > 1
    return None if chosen or mesh.size == 1 else mesh


def spread(f: Partial, members: Any, mesh: Mesh | None) -> Any:
    """f(*member) for every member, each device of the mesh computing its share; without a mesh one computes all."""
    if mesh is None:
        return _xla.map_members(f, members)
    k = len(jax.tree.leaves(members)[0])
    slots = np.arange(-(-k // mesh.size) * mesh.size)  # as many on each device
    alone, shared = PartitionSpec(), PartitionSpec("members")
    each = jax.shard_map(_xla.map_members, mesh=mesh, in_specs=(alone, shared), out_specs=shared, check_vma=False)
    if len(slots) > k:
        members = (slots < k, *jax.tree.map(lambda leaf: leaf[np.minimum(slots, k - 1)], members))
        f = Partial(_unless_empty, f)
    return jax.tree.map(lambda leaf: leaf[:k], each(f, members))


def _unless_empty(f: Partial, filled: Bool[Array, ""], *member: Any) -> Any:
    """f(*member), or zeros for a slot without a member, for which the device computes nothing."""
    call = jax.jit(f)  # traced once

    def zeros() -> Any:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(call, *member))

    return jax.lax.cond(filled, lambda: call(*member), zeros)


def replicated(tree: Any, mesh: Mesh | None) -> Any:
    """The traced arrays of `tree` on every device of the mesh, if there is one."""
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


_sweep_program = jax.jit(spread, static_argnames="mesh")


def _with_automatic_axes(leaf: Any) -> Any:
    if isinstance(leaf, Tracer) or not isinstance(leaf, jax.Array) or not isinstance(leaf.sharding, NamedSharding):
        return leaf
    sharding: Any = automatic(leaf.sharding)
    if sharding == leaf.sharding:
        return leaf
    return jax.make_array_from_single_device_arrays(
        leaf.shape, sharding, [part.data for part in leaf.addressable_shards]
    )


def _integer(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal():
        raise ValueError(f"{name} must be an integer if JAX_COORDINATOR_ADDRESS is set, got {text!r}")
    return int(text)


def _several(name: str) -> bool:
    text = os.environ.get(name, "")
    return int(text) > 1 if text.isdecimal() else "," in text
