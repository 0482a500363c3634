"""How to train: the arguments of a training, checked, in the form that its programs take, and found again."""

import collections
import functools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.extend import core
from jax.sharding import NamedSharding
from jax.tree_util import Partial

from jnn import _checks, _fingerprint, parallel
from jnn import stopping as early_stopping
from jnn.stopping import Criterion
from jnn.typing import Evaluate, Grad, Transform

Optimizer = optax.GradientTransformation | optax.MultiSteps
"""Any optimizer of optax."""

_log = logging.getLogger(__name__)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("grad", "transform", "evaluate"),
    meta_fields=("optimizer", "batch_size", "shuffle", "stopping", "sharding"),
)
@dataclass(frozen=True)
class Plan:
    """Functions, whose bound arrays are arguments of a program, and what is static."""

    grad: Grad
    transform: Transform | None
    evaluate: Evaluate | None
    optimizer: Optimizer
    batch_size: int
    shuffle: bool
    stopping: Criterion | None
    sharding: NamedSharding | None


def make(
    key: Any,
    grad: Grad,
    optimizer: Optimizer,
    state: Any,
    data: Any,
    batch_size: int,
    epochs: int = 1,
    transform: Transform | None = None,
    evaluate: Evaluate | None = None,
    stopping: Criterion | None = None,
    shuffle: bool = True,
    sharding: NamedSharding | None = None,
) -> Plan:
    """The plan of a training whose arguments fit together; raises as `train.epoch`, `run` and `fit` say."""
    _checks.key("key", key)
    _checks.examples(data)
    _checks.count("batch_size", batch_size)
    _checks.count("epochs", epochs)
    _check_state(optimizer, state, key.shape)
    early_stopping.check(stopping, evaluate, epochs)
    sharding = parallel.automatic(sharding)
    parallel.check_batch_size(sharding, batch_size)

    def partial(f: Any) -> Any:
        return f if f is None or isinstance(f, Partial) else Partial(f)

    grad, transform, evaluate = partial(grad), partial(transform), partial(evaluate)
    return Plan(grad, transform, evaluate, optimizer, batch_size, shuffle, stopping, sharding)


def placed(plan: Plan, state: Any, data: Any) -> tuple[Plan, Any, Any]:
    """The plan, the state and the data as arrays, on the devices of the plan.

    A number in the state, such as a learning rate that replaces another, becomes an array whose dtype does not adapt to
    that of others: for one that does, a program would be compiled again.
    """

    def strong(leaf: Any) -> Any:
        fixed = isinstance(leaf, Tracer) or (isinstance(leaf, jax.Array) and not getattr(leaf, "weak_type", False))
        return leaf if fixed else jnp.asarray(leaf, jnp.result_type(leaf))

    return parallel.place_on(plan.sharding, plan, jax.tree.map(strong, state), jax.tree.map(jnp.asarray, data))


def known(program: Any, plan: Any, *arguments: Any) -> Any:
    """An equal plan of an earlier call, for which `program(plan, *arguments)` is compiled already; or `plan` itself.

    Functions made anew, as when a notebook's cell runs again, are other functions to `jax.jit`. Two plans are equal
    here if the program traces to the same equations with the same captured arrays, which takes some hundredths of the
    time of a compilation. Otherwise a line of `logging`, at level INFO, says what differs from the plan before.
    """
    config: Any = jax.config
    if config.jax_disable_jit or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((plan, arguments))):
        return plan
    leaves, structure = jax.tree.flatten(plan)
    traced = _Traced(program.trace(plan, *arguments), len(leaves))
    for earlier in reversed(_traced):
        if earlier.equals(traced):
            same = jax.tree.unflatten(earlier.structure, leaves)
            if program.trace(same, *arguments).jaxpr is earlier.closed:  # here too, under other settings of JAX
                _traced.remove(earlier)
                _traced.append(earlier)
                return same
    before = next((one for one in reversed(_traced) if one.name == traced.name), None)
    if before is not None:
        _log.info("compiling again: the training before %s", before.difference(traced))
    traced.structure = structure
    _traced.append(traced)
    return plan


def _check_state(optimizer: Optimizer, state: Any, members: tuple[int, ...]) -> None:
    """Raise unless `state` is that of the optimizer and its parameters, with an axis of members if there are any."""
    made = "train.init(optimizer, params)"
    if not hasattr(state, "params") or not hasattr(state, "opt_state"):
        raise TypeError(f"state must be what {made} returns, got {type(state).__name__}")
    given = {name: shape for name, shape in _shapes(state).items() if shape[: len(members)] != members}
    if given:
        raise ValueError(f"with {members[0]} keys state must have a leading axis of {members[0]} members, got {given}")
    leaves, structure = jax.tree.flatten(state.params)
    kinds = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    expected = _initial(optimizer.init, structure, kinds, len(members))
    found, wanted = _shapes(state.opt_state), _shapes(expected)
    if found != wanted or jax.tree.structure(state.opt_state) != jax.tree.structure(expected):
        differing = [name for name in [*wanted, *found] if found.get(name) != wanted.get(name)] or ["its structure"]
        name = differing[0]
        raise ValueError(
            f"state.opt_state must be that of this optimizer for these parameters, as {made} returns it; {name} must "
            f"be {wanted.get(name, 'absent')}, got {found.get(name, 'none')}"
        )


@functools.lru_cache(maxsize=64)
def _initial(init: Callable[[Any], Any], structure: Any, kinds: tuple[Any, ...], axes: int) -> Any:
    """The shapes of an optimizer's first state."""
    params = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*kind) for kind in kinds])
    return jax.eval_shape(jax.vmap(init) if axes else init, params)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {_checks.leaf_name(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


class _Traced:
    """A traced program, and the plan that it was traced with."""

    structure: Any = None

    def __init__(self, traced: Any, leaves: int) -> None:
        self.name, self.closed = traced.fun_name, traced.jaxpr
        self._trees = leaves, jax.tree.structure(traced.out_info)
        self._text = ""

    @property
    def text(self) -> str:
        if not self._text:
            self._text = re.sub(r" at 0x[0-9a-f]+", "", self.closed.pretty_print(use_color=False))
        return self._text

    def equals(self, other: "_Traced") -> bool:
        """Whether both are the same program: a text shows all but the objects that its equations refer to."""
        if self.closed is other.closed:
            return True
        same = self.name == other.name and self._trees == other._trees and self.text == other.text
        return same and _equal(self.closed, other.closed)

    def difference(self, other: "_Traced") -> str:
        for mine, others in zip(self.text.splitlines(), other.text.splitlines(), strict=False):
            if mine != others:
                return f"had {mine.strip()!r}, this one has {others.strip()!r}"
        return "captured another array or function, was on other devices, or returned another tree"


_traced: collections.deque[_Traced] = collections.deque(maxlen=64)
"""The programs of the last calls, whose plans `jax.jit` finds compiled; the newest last."""


def _equal(a: Any, b: Any) -> bool:
    """Whether two values in programs with the same text are the same: other functions never are."""
    if a is b:
        return True
    if isinstance(a, core.ClosedJaxpr):
        return _equal(a.consts, b.consts) and _equal(a.jaxpr, b.jaxpr)
    if isinstance(a, core.Jaxpr):
        return all(_equal(_parameters(one), _parameters(other)) for one, other in zip(a.eqns, b.eqns, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, jax.Array | np.ndarray):
        return jax.typeof(a) == jax.typeof(b) and _fingerprint.digest(a) == _fingerprint.digest(b)
    try:
        return type(a) is type(b) and bool(a == b)
    except Exception:
        return False


def _parameters(equation: Any) -> dict[str, Any]:
    """Of an equation, without rules for derivatives: nothing differentiates a program of arrays any more."""
    ruled = equation.primitive.name.startswith(("custom_jvp_call", "custom_vjp_call"))
    jaxprs = core.ClosedJaxpr, core.Jaxpr
    return {name: value for name, value in equation.params.items() if not ruled or isinstance(value, jaxprs)}
