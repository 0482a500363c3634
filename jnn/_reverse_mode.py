"""An identity for functions with a reverse mode by hand, which says so where JAX would differentiate them forwards."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_tangent = Primitive("reverse_mode_only")
"""The identity on tangents: reverse mode transposes it, only forward mode evaluates it."""


def only(message: str, tree: Any) -> Any:
    """`tree` itself; forward-mode differentiation by its floating leaves raises TypeError with the message.

    Within a `vmap` of a jitted function, as in `jax.jacfwd(jax.jit(f))`, JAX refuses first and in its own words.
    """

    def guard(leaf: Any) -> Any:
        return _guard(message, leaf) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf

    return jax.tree.map(guard, tree)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _guard(message: str, x: Any) -> Any:
    del message
    return x


@_guard.defjvp
def _guard_jvp(message: str, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    return primals[0], _tangent.bind(tangents[0], message=message)


def _refuse(*_: Any, message: str) -> Any:
    raise TypeError(message)


_tangent.def_impl(_refuse)
_tangent.def_abstract_eval(lambda x, **_: x)
ad.deflinear2(_tangent, lambda cotangent, *_, **__: [cotangent])
batching.defvectorized(_tangent)
mlir.register_lowering(_tangent, _refuse)
