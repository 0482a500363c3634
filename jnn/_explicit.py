"""Functions of arrays on a mesh with explicit axes, as `jax.make_mesh` makes it.

The types of such arrays say how they are split, and JAX asks how to split the result of a product, a gather or a
reshape where that is ambiguous. Inside of the functions here XLA decides, as it does on any other mesh.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

F = TypeVar("F", bound=Callable[..., Any])


def spec(a: Any) -> PartitionSpec:
    """How the type of an array splits its axes; None for each that it does not split."""
    split = getattr(getattr(jax.typeof(a), "sharding", None), "spec", ())
    return PartitionSpec(*split, *[None] * (jnp.ndim(a) - len(split)))


def automatic_inside(results: Callable[..., Any]) -> Callable[[F], F]:
    """Decorate a function so that explicit axes of its arguments are automatic inside of it.

    `results`, a function of the same arguments, says how what the function returns is split: a tree of PartitionSpec.
    """

    def decorate(f: F) -> F:
        @functools.wraps(f)
        def call(*args: Any, **kwargs: Any) -> Any:
            leaves, structure = jax.tree.flatten((args, kwargs))
            arrays = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)}
            mesh = next((found for leaf in arrays.values() if (found := _explicit_mesh(leaf))), None)
            if mesh is None:
                return f(*args, **kwargs)

            def inside(arrays: dict[int, jax.Array]) -> Any:
                args, kwargs = jax.tree.unflatten(structure, [arrays.get(i, leaf) for i, leaf in enumerate(leaves)])
                return f(*args, **kwargs)

            shardings = jax.tree.map(functools.partial(NamedSharding, mesh), results(*args, **kwargs))
            return jax.sharding.auto_axes(inside, out_sharding=shardings)(arrays)

        return call  # pyright: ignore[reportReturnType]

    return decorate


def like_params(params: Any, *_: Any, **__: Any) -> tuple[PartitionSpec, Any]:
    """How the results of `grad` are split: not at all, and as params are."""
    return PartitionSpec(), jax.tree.map(spec, params)


def like_state(plan: Any, key: Any, state: Any, *_: Any) -> tuple[Any, PartitionSpec]:
    """How the results of a training run are split: the state as it was, its record not at all."""
    del plan, key
    return jax.tree.map(spec, state), PartitionSpec()


def like_batch(key: Any, *batch: Any, **_: Any) -> tuple[Any, ...]:
    """How the results of `transform` are split: as the mini-batch is."""
    del key
    return jax.tree.map(spec, batch)


def like_sequences(params: Any, state: Any, xs: Any, **_: Any) -> tuple[PartitionSpec, PartitionSpec]:
    """How the last state and all states are split: their batch axis as that of xs [T, B, p]."""
    del params, state
    over = spec(xs)[1:-1]
    return PartitionSpec(*over), PartitionSpec(None, *over)


def _explicit_mesh(a: jax.Array) -> Any:
    """The mesh of an array that is split over an explicit axis, or None."""
    mesh = getattr(getattr(jax.typeof(a), "sharding", None), "mesh", None)
    explicit = AxisType.Explicit in getattr(mesh, "axis_types", ())
    return mesh if explicit and any(spec(a)) else None
