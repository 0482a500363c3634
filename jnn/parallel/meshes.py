"""Meshes of devices, and the placement of arrays on them."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from jnn._internal import checks
from jnn.typing import PyTree

BATCH = "batch"
"""The axis of a mesh over which a mini-batch is split."""

MODEL = "model"
"""The axis of a mesh over which a wide layer may be split."""


def mesh(*, model: int = 1, devices: Iterable[Any] | None = None) -> Mesh:
    """A mesh of axes ("batch", "model").

    Args:
      model: The number of devices along the second axis.
      devices: All devices of all processes by default.

    Raises:
      ValueError: If `model` does not divide the number of devices.
      TypeError: If it is not an integer, or if `devices` are not distinct devices.

    Example:
      >>> parallel.mesh(devices=jax.devices()[:1]).axis_names
      ('batch', 'model')
    """
    checks.count("model", model)
    chosen = jax.devices() if devices is None else distinct(devices)
    if not chosen or len(chosen) % model:
        raise ValueError(f"model must divide the number of devices, got {model} and {len(chosen)} devices")
    return Mesh(np.array(chosen, object).reshape(-1, model), (BATCH, MODEL))


def distinct(devices: Iterable[Any]) -> list[Any]:
    """The devices as a list; raise TypeError unless they are distinct devices."""
    found = np.array(list(devices) if isinstance(devices, Iterable) else devices, object).ravel().tolist()
    if not all(hasattr(device, "device_kind") for device in found) or len(set(found)) < len(found):
        raise TypeError(f"devices must be a list of distinct devices, as jax.devices() returns, got {devices}")
    return found


def batches(mesh: Mesh) -> NamedSharding:
    """The sharding of a mini-batch on the mesh: its first axis split over "batch".

    Args:
      mesh: The devices, with an axis "batch".

    Raises:
      TypeError: If `mesh` is not a mesh with this axis.

    Example:
      >>> parallel.batches(parallel.mesh()).spec
      P('batch',)
    """
    if BATCH not in getattr(mesh, "axis_names", ()):
        raise TypeError(f"mesh must have an axis {BATCH!r}, as parallel.mesh makes it, got {mesh!r}")
    return NamedSharding(mesh, PartitionSpec(BATCH))


def place(mesh: Mesh, tree: PyTree, spec: PyTree = None) -> PyTree:
    """The arrays of `tree` on the mesh: replicated by default, or split according to `spec`.

    Several processes all call this with the same arrays, and each copies the parts that belong on its own devices.

    Args:
      mesh: The devices.
      tree: Arrays.
      spec: A `PartitionSpec` for all leaves, or a tree of them that matches `tree`. PartitionSpec("batch") splits the
        rows of a data set between the devices; (Layer(PartitionSpec("model", None), PartitionSpec("model")),
        Layer(PartitionSpec(None, "model"), PartitionSpec())) splits a wide hidden layer.

    Raises:
      ValueError: If the mesh does not divide an axis, or `spec` does not match `tree`.
      TypeError: If `mesh` is not a mesh, or a leaf is not an array.

    Example:
      >>> (w,) = parallel.place(parallel.mesh(), (jnp.ones((4, 2)),))
      >>> w.sharding.is_fully_replicated
      True
    """
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh must be a Mesh, as parallel.mesh makes it, got {mesh!r}")
    checks.arrays("tree", tree)
    spec = PartitionSpec() if spec is None else spec
    specs = jax.tree.map(lambda _: spec, tree) if isinstance(spec, PartitionSpec) else spec
    matches = jax.tree.structure(specs) == jax.tree.structure(tree)
    if not matches or not all(isinstance(part, PartitionSpec) for part in jax.tree.leaves(specs)):
        raise ValueError(f"spec must be a PartitionSpec or a tree of them that matches tree, got {spec}")
    tree = jax.tree.map(checks.converted, tree)
    return jax.tree.map(lambda leaf, spec: put(leaf, NamedSharding(mesh, spec)), tree, specs)


def put(leaf: PyTree, sharding: Sharding) -> jax.Array:
    """Places one array, which every process holds whole; each process copies the parts for its own devices."""
    if sharding.is_fully_addressable or jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        return jax.device_put(leaf, sharding)
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])


def place_on(sharding: NamedSharding | None, *trees: PyTree) -> tuple[PyTree, ...]:
    """The trees with their arrays replicated on the mesh of `sharding`, except those that are on it already.

    Without a sharding, and for tracers, they stay where they are. Explicit axes of a mesh, which `jax.make_mesh` makes,
    become automatic.
    """
    return jax.tree.map(lambda leaf: _placed(leaf, sharding), trees)


def _placed(leaf: PyTree, sharding: NamedSharding | None) -> PyTree:
    if isinstance(leaf, Tracer) or not isinstance(leaf, jax.Array | np.ndarray):
        return leaf
    leaf = _with_automatic_axes(leaf) if isinstance(leaf, jax.Array) else leaf
    if sharding is None or (isinstance(leaf, jax.Array) and getattr(leaf.sharding, "mesh", None) == sharding.mesh):
        return leaf
    return put(leaf, NamedSharding(sharding.mesh, PartitionSpec()))


def automatic(sharding: NamedSharding) -> NamedSharding:
    """The same sharding on a mesh whose axes are automatic: XLA, not the types of arrays, then splits the work."""
    mesh: Any = sharding.mesh
    return NamedSharding(Mesh(mesh.devices, mesh.axis_names), sharding.spec)


def _with_automatic_axes(leaf: jax.Array) -> jax.Array:
    if not isinstance(leaf.sharding, NamedSharding) or (sharding := automatic(leaf.sharding)) == leaf.sharding:
        return leaf
    shards = [part.data for part in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, shards)
