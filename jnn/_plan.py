"""How to train: the arguments of a training run, checked, in the form that its programs take."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

from jnn import _checks, parallel
from jnn import stopping as early_stopping
from jnn.stopping import Criterion
from jnn.typing import Evaluate, Grad, Transform

Optimizer = optax.GradientTransformation | optax.MultiSteps
"""Any optimizer of optax."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("grad", "transform", "evaluate"),
    meta_fields=("optimizer", "batch_size", "shuffle", "stopping", "sharding", "members"),
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
    members: Mesh | None


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
    shuffle: bool | None = None,
    sharding: NamedSharding | None = None,
) -> Plan:
    """The plan of a training run whose arguments fit together; raises as `train.epoch`, `run` and `fit` say."""
    _checks.key("key", key)
    _checks.examples(data)
    _checks.count("batch_size", batch_size)
    _checks.count("epochs", epochs)
    _check_state(optimizer, state, key.shape)
    early_stopping.check(stopping, evaluate, epochs)
    sharding = parallel.automatic(sharding)
    parallel.check_batch_size(sharding, batch_size)
    grad, transform, evaluate = (
        _partial(name, f) for name, f in (("grad", grad), ("transform", transform), ("evaluate", evaluate))
    )
    shuffle = not hasattr(state, "carry") if shuffle is None else bool(shuffle)
    members = None
    if key.ndim and sharding is None:
        members = parallel.members_mesh(key.size, key, state, data, grad, transform, evaluate)
    return Plan(grad, transform, evaluate, optimizer, batch_size, shuffle, stopping, sharding, members)


def placed(plan: Plan, state: Any, data: Any) -> tuple[Plan, Any, Any]:
    """The plan, the state and the data as arrays, on the devices of the plan.

    A number in the state, such as a learning rate that replaces another, becomes an array whose dtype does not adapt to
    that of others: for one that does, a program would be compiled again.
    """

    def strong(leaf: Any) -> Any:
        fixed = isinstance(leaf, Tracer) or (isinstance(leaf, jax.Array) and not getattr(leaf, "weak_type", False))
        return leaf if fixed else jnp.asarray(leaf, jnp.result_type(leaf))

    sharding = plan.sharding if plan.members is None else NamedSharding(plan.members, PartitionSpec())
    return parallel.place_on(sharding, plan, jax.tree.map(strong, state), jax.tree.map(jnp.asarray, data))


def _partial(name: str, f: Any) -> Any:
    """The function as a pytree of the arrays that are bound to it; raise TypeError for what is not one."""
    if f is None and name != "grad":
        return None
    if not callable(f):
        raise TypeError(f"{name} must be a function, got {f!r}")
    f = f if isinstance(f, Partial) else Partial(f)
    for path, leaf in jax.tree_util.tree_leaves_with_path((f.args, f.keywords)):
        if not hasattr(leaf, "dtype") and not isinstance(leaf, int | float | complex):
            bound = jax.tree_util.keystr(path[1:], simple=True, separator=".")
            raise TypeError(
                f"what jax.tree_util.Partial binds to {name} must be arrays, got {bound}={leaf!r}: bind Python values "
                "with functools.partial"
            )
    return f


def _check_state(optimizer: Optimizer, state: Any, members: tuple[int, ...]) -> None:
    """Raise TypeError unless both are of their kinds, ValueError for a state without the axis of its members."""
    if not hasattr(optimizer, "init") or not hasattr(optimizer, "update"):
        hint = ": call it" if callable(optimizer) else ""
        raise TypeError(f"optimizer must be one of optax, such as train.sgd(0.5), got {optimizer!r}{hint}")
    if not hasattr(state, "params") or not hasattr(state, "opt_state"):
        pair = isinstance(state, tuple) and state and hasattr(state[0], "params")
        hint = " of a state: unpack it, as in state, history = train.run(...)" if pair else ""
        raise TypeError(f"state must be what train.init(optimizer, params) returns, got {type(state).__name__}{hint}")
    if members and (given := {name: n for name, n in _shapes(state).items() if n[: len(members)] != members}):
        raise ValueError(f"with {members[0]} keys state must have a leading axis of {members[0]} members, got {given}")


def check_opt_state(optimizer: Optimizer, state: Any) -> None:
    """Raise ValueError unless the optimizer's state is that of its kind and of these parameters.

    Part of the programs: what is traced already is not checked again.
    """
    expected = jax.eval_shape(optimizer.init, state.params)
    found, wanted = _shapes(state.opt_state), _shapes(expected)
    if found != wanted or jax.tree.structure(state.opt_state) != jax.tree.structure(expected):
        differing = [name for name in wanted if name in found and found[name] != wanted[name]]
        what = "other parameters" if found.keys() == wanted.keys() and differing else "another optimizer"
        detail = (
            f": {differing[0]} must have shape {wanted[differing[0]]}, got {found[differing[0]]}" if differing else ""
        )
        raise ValueError(
            f"state.opt_state is that of {what}{detail}; start with train.init(optimizer, state.params), or go on with "
            "the optimizer of before"
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {_checks.leaf_name(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
