"""Compiled programs that are found again, for functions that were made anew."""

import collections
import logging
import re
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.extend import core

from jnn import _fingerprint

_log = logging.getLogger(__name__)


def known(program: Any, functions: Any, *arguments: Any) -> Any:
    """Equal functions of an earlier call, for which `program(functions, *arguments)` is compiled, or `functions`.

    They are a pytree, such as `jax.tree_util.Partial`. Functions made anew, as when a notebook's cell runs again, are
    others to `jax.jit`. They are equal here if the program traces to the same equations with the same captured arrays,
    which takes some hundredths of the time of a compilation. Otherwise a line of `logging`, at level INFO, says what
    differs from the call before.
    """
    config: Any = jax.config
    if config.jax_disable_jit or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((functions, arguments))):
        return functions
    leaves, structure = jax.tree.flatten(functions)
    found = program.trace(functions, *arguments)
    for earlier in reversed(_traced):
        if earlier.closed is found.jaxpr:  # the same functions
            return jax.tree.unflatten(earlier.structure, leaves)
    if len(found.jaxpr.in_avals) > len(jax.tree.leaves(found.in_avals)):
        return functions  # they capture what a transformation of the caller's traces, such as a learning rate
    traced = _Traced(found, len(leaves), structure)
    before = next((one for one in reversed(_traced) if one.name == traced.name), None)
    for earlier in reversed(_traced):
        if earlier.equals(traced):
            same = jax.tree.unflatten(earlier.structure, leaves)
            if program.trace(same, *arguments).jaxpr is earlier.closed:  # here too, under other settings of JAX
                traced.structure = earlier.structure
                break
    else:
        if before is not None:
            _log.info("compiling again: the call before %s", before.difference(traced))
    _traced.append(traced)
    return jax.tree.unflatten(traced.structure, leaves)


class _Traced:
    """A traced program, and the structure of the functions with which it is compiled."""

    def __init__(self, traced: Any, leaves: int, structure: Any) -> None:
        self.name, self.closed, self.structure = traced.fun_name, traced.jaxpr, structure
        self._trees = leaves, jax.tree.structure(traced.out_info)
        self._text = ""

    @property
    def text(self) -> str:
        if not self._text:
            self._text = re.sub(r" at 0x[0-9a-f]+", "", self.closed.pretty_print(use_color=False))
        return self._text

    def equals(self, other: "_Traced") -> bool:
        """Whether both are the same program: a text shows all but the objects that its equations refer to."""
        same = self.name == other.name and self._trees == other._trees and self.text == other.text
        return same and _equal(self.closed, other.closed)

    def difference(self, other: "_Traced") -> str:
        for mine, others in zip(self.text.splitlines(), other.text.splitlines(), strict=False):
            if mine != others:
                return f"had {mine.strip()!r}, this one has {others.strip()!r}"
        return "captured another array or function, was on other devices, or returned another tree"


_traced: collections.deque[_Traced] = collections.deque(maxlen=64)
"""The programs of the last calls, whose functions `jax.jit` finds compiled; the newest last."""


def _equal(a: Any, b: Any) -> bool:
    """Whether two values in programs with the same text are the same: other functions never are."""
    if a is b:
        return True
    if isinstance(a, core.ClosedJaxpr | core.Jaxpr):  # one class from JAX 0.12 on
        captured = _equal(list(getattr(a, "consts", ())), list(getattr(b, "consts", ())))
        equations = zip(a.eqns, b.eqns, strict=True)
        return captured and all(_equal(_parameters(one), _parameters(other)) for one, other in equations)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, jax.Array | np.ndarray):
        return jax.typeof(a) == jax.typeof(b) and _fingerprint.digest(a) == _fingerprint.digest(b)
    try:
        return type(a) is type(b) and bool(a == b)
    except (TypeError, ValueError):  # objects that do not compare, such as arrays in an object of their own
        return False


def _parameters(equation: Any) -> dict[str, Any]:
    """Of an equation, without rules for derivatives: nothing differentiates a program of arrays any more."""
    ruled = equation.primitive.name.startswith(("custom_jvp_call", "custom_vjp_call"))
    jaxprs = core.ClosedJaxpr, core.Jaxpr
    return {name: value for name, value in equation.params.items() if not ruled or isinstance(value, jaxprs)}
