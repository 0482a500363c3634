"""Ensemble members, such as networks of several seeds, spread over the devices of this process."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

from jnn._internal import checks, xla
from jnn.parallel.meshes import distinct, place_on
from jnn.typing import PyTree


def sweep(f: Callable[..., PyTree], *members: PyTree, devices: Iterable[Any] | None = None) -> PyTree:
    """Maps a function, such as a whole training run, over ensemble members, in one program on all devices.

    For a grid, repeat the values of each axis:

        etas, seeds = jnp.meshgrid(jnp.array([0.1, 0.3, 1.0]), jnp.arange(4))
        results = sweep(f, jax.vmap(jax.random.key)(seeds.ravel()), etas.ravel())

    Each device computes its share of the members: together under `jax.vmap` on an accelerator, one after another on a
    CPU, where small networks then stay in a core's cache. A CPU counts as one device, unless
    `jax.config.update("jax_num_cpu_devices", os.cpu_count())` is called before anything else uses JAX.

    Args:
      f: A function of one member. It is compiled into the program as `grad` is in `jnn.train`: bind data with
        `jax.tree_util.Partial`, not in a lambda.
      *members: Trees whose leaves share a leading axis K. Each member gets one entry of each, such as a key, a learning
        rate and a regularisation strength.
      devices: The devices to use, by default all local devices.

    Returns:
      The results of f, with a leading axis K. On a CPU, each member's results are bitwise identical to those of a call
      of f for this member alone.

    Raises:
      TypeError: If members, or arguments bound to f, are not arrays.
      ValueError: If members do not share a leading axis K >= 1, or there are no devices.

    Example:
      >>> parallel.sweep(lambda eta: eta**2, jnp.arange(3.0)).tolist()
      [0.0, 1.0, 4.0]
    """
    f = checks.bound("f", f)
    k = checks.examples(members, "members", "member")
    chosen = jax.local_devices() if devices is None else distinct(devices)
    if not chosen:
        raise ValueError("devices must have at least one device, got none: pass jax.local_devices()")
    mesh = Mesh(np.array(chosen[:k]), ("members",))
    placed = place_on(NamedSharding(mesh, PartitionSpec()), f, jax.tree.map(checks.converted, members))
    with checks.traced(f.keywords):
        return _sweep_program(*placed, mesh)


def members_mesh(k: int, *trees: PyTree) -> Mesh | None:
    """The local devices over which k members are spread; None if there is only one, or if the user chose devices.

    The choice is made by `jax.default_device`, by committed arrays in the trees, or by starting several processes.
    """
    mesh = Mesh(np.array(jax.local_devices()[:k]), ("members",))
    placed = [leaf for leaf in jax.tree.leaves(trees) if isinstance(leaf, jax.Array) and leaf.committed]
    elsewhere = any(getattr(leaf.sharding, "mesh", None) != mesh for leaf in placed)
    config: Any = jax.config
    chosen = elsewhere or config.jax_default_device is not None or jax.process_count() > 1
    return None if chosen or mesh.size == 1 else mesh


def spread(f: Callable[..., PyTree], members: PyTree, mesh: Mesh | None) -> PyTree:
    """f(*member) for every member; each device of the mesh computes its share, without a mesh one device does all."""
    if mesh is None:
        return xla.map_members(f, members)
    k = len(jax.tree.leaves(members)[0])
    slots = np.arange(-(-k // mesh.size) * mesh.size)  # as many on each device
    alone, shared = PartitionSpec(), PartitionSpec("members")
    each = jax.shard_map(xla.map_members, mesh=mesh, in_specs=(alone, shared), out_specs=shared, check_vma=False)
    if len(slots) > k:
        members = (slots < k, *jax.tree.map(lambda leaf: leaf[np.minimum(slots, k - 1)], members))
        f = Partial(_unless_empty, f)
    return jax.tree.map(lambda leaf: leaf[:k], each(f, members))


def _unless_empty(f: Partial, filled: jax.Array, *member: PyTree) -> PyTree:
    """f(*member), or zeros for a slot without a member, for which the device computes nothing."""
    call = jax.jit(f)  # traced once
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(call, *member))
    return jax.lax.cond(filled, lambda: call(*member), lambda: zeros)


_sweep_program = jax.jit(spread, static_argnames="mesh")
