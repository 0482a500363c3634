"""An identity for functions with a reverse mode by hand, which says so where JAX would differentiate them forwards."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_tangent = Primitive("reverse_mode_only")
"""The tangent at a point, itself: reverse mode transposes it, only forward mode evaluates it."""


def only(message: str, tree: Any) -> Any:
    """`tree` itself; forward-mode differentiation by its floating leaves raises TypeError with the message."""

    def guard(leaf: Any) -> Any:
        return _guard(message, leaf) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf

    return jax.tree.map(guard, tree)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _guard(message: str, x: Any) -> Any:
    del message
    return x


@_guard.defjvp
def _guard_jvp(message: str, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    return primals[0], _tangent.bind(tangents[0], primals[0], message=message)


def _refuse(*_: Any, message: str) -> Any:
    raise TypeError(message)


def _batch(arguments: tuple[Any, Any], axes: tuple[Any, Any], *, message: str) -> tuple[Any, Any]:
    """Many tangents at one point are those of `jax.jacfwd`, which JAX would refuse in its own words."""
    (tangent, x), (axis, x_axis) = arguments, axes
    if x_axis is None:
        raise TypeError(message)
    return _tangent.bind(tangent, x, message=message), axis


_tangent.def_impl(_refuse)
_tangent.def_abstract_eval(lambda tangent, *_, **__: tangent)
ad.deflinear2(_tangent, lambda cotangent, *_, **__: [cotangent, None])
batching.primitive_batchers[_tangent] = _batch
mlir.register_lowering(_tangent, _refuse)
