"""The arguments of a training run, checked once, in the form that its programs take."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

from jnn import stopping as early_stopping
from jnn._internal import checks
from jnn.parallel.members import members_mesh
from jnn.parallel.meshes import automatic, place_on
from jnn.stopping import Criterion
from jnn.typing import CarryState, Evaluate, Grad, Optimizer, PyTree, State, StateT, Transform


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("grad", "transform", "evaluate"),
    meta_fields=("optimizer", "batch_size", "shuffle", "stopping", "sharding", "together", "members"),
)
@dataclass(frozen=True)
class Plan:
    """How to train: functions, whose bound arrays are arguments of a program, and what is static.

    Attributes:
      together: Whether several members train together.
      members: The devices over which they are spread.
    """

    grad: Grad
    transform: Transform | None
    evaluate: Evaluate | None
    optimizer: Optimizer
    batch_size: int
    shuffle: bool
    stopping: Criterion | None
    sharding: NamedSharding | None
    together: bool
    members: Mesh | None


def plan(
    key: jax.Array,
    grad: Grad,
    optimizer: Optimizer,
    state: StateT,
    data: PyTree,
    batch_size: int,
    epochs: int = 1,
    transform: Transform | None = None,
    evaluate: Evaluate | None = None,
    stopping: Criterion | None = None,
    shuffle: bool | None = None,
    sharding: NamedSharding | None = None,
) -> Plan:
    """The plan of a training run whose arguments fit together; raises as `train.epoch`, `run` and `fit` say."""
    checks.key("key", key)
    checks.examples(data)
    checks.count("batch_size", batch_size)
    checks.count("epochs", epochs)
    _check_state(optimizer, state, key.shape)
    early_stopping.check(stopping, evaluate, epochs)
    sharding = _check_sharding(sharding, batch_size)
    grad = _partial("grad", grad)
    transform = None if transform is None else _partial("transform", transform)
    evaluate = None if evaluate is None else _partial("evaluate", evaluate)
    shuffle = not hasattr(state, "carry") if shuffle is None else bool(shuffle)
    together = key.ndim > 0
    spread = together and sharding is None
    mesh = members_mesh(key.size, key, state, data, grad, transform, evaluate) if spread else None
    made = Plan(grad, transform, evaluate, optimizer, batch_size, shuffle, stopping, sharding, together, mesh)
    return place_on(_everywhere(made), made)[0]


def placed(plan: Plan, *trees: PyTree) -> tuple[PyTree, ...]:
    """The trees as arrays on the devices of the plan.

    A number in a state, such as a learning rate that replaces another, becomes an array whose dtype does not adapt to
    that of others: a program would be compiled again for one that does.
    """

    def strong(leaf: PyTree) -> PyTree:
        array = leaf if isinstance(leaf, jax.Array | Tracer) else jnp.asarray(leaf)
        weak = not isinstance(leaf, Tracer) and getattr(array, "weak_type", False)
        return jnp.asarray(array, array.dtype) if weak else array

    return place_on(_everywhere(plan), *jax.tree.map(strong, trees))


def check_opt_state(optimizer: Optimizer, state: State | CarryState) -> None:
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
            f"state.opt_state is that of {what}{detail}; start with train.init(optimizer, state.params), or continue "
            "with the original optimizer"
        )


def value_and_grad(
    returned: PyTree, params: PyTree, carry: tuple[PyTree, ...]
) -> tuple[PyTree, PyTree, tuple[PyTree, ...]]:
    """The value, the gradient and, as a tuple of one, the next carry, if there is one, of what `grad` returned.

    Raises TypeError unless `grad` returned a number and a tree of arrays like `params`, and a carry like `carry`.
    """
    ahead, grads = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
    value, *after = ahead if isinstance(ahead, tuple) and len(ahead) == 2 else (ahead,)
    right = _form(value) == _form(0.0) and _form(grads) == _form(params)
    if right and _form(tuple(after)) == _form(carry):
        return value, grads, tuple(after)
    form, meaning = "(value, gradient)", "a number and a tree of arrays like params"
    if carry:
        form, meaning = "((value, carry), gradient)", "a number, a tree like the carry, and one like params"
    if right and not carry:
        what = "((value, aux), gradient): drop has_aux, or pass a carry to train.init"
    elif right:
        back = jax.tree.map(jnp.shape, after[0]) if after else "none, as without has_aux=True"
        what = f"another carry: {jax.tree.map(jnp.shape, carry[0])} went in, and came back as {back}"
    else:
        what = _other_form(returned, grads, params)
    raise TypeError(f"grad must return {form}, {meaning}; got {what}")


def _other_form(returned: PyTree, grads: PyTree, params: PyTree) -> str:
    """What `grad` returned in place of a value and a gradient."""
    if _form(returned) == _form(params):
        return "a gradient alone: use jax.value_and_grad instead of jax.grad"
    if _form(returned) == _form(0.0):
        return "a value alone: use jax.value_and_grad(loss)"
    if _form(returned) == _form((params, 0.0)):
        return "(gradient, value): swap them"
    if jax.tree.structure(grads) == jax.tree.structure(params):
        found, wanted = _shapes(grads), _shapes(params)
        name = next(name for name in wanted if found[name] != wanted[name])
        return f"a gradient whose {name} has shape {found[name]} instead of {wanted[name]}"
    return f"{jax.tree.map(jnp.shape, returned)}"


def _everywhere(plan: Plan) -> NamedSharding | None:
    return plan.sharding if plan.members is None else NamedSharding(plan.members, PartitionSpec())


def _form(tree: PyTree) -> tuple[PyTree, list[tuple[int, ...]]]:
    return jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    return {checks.leaf_name(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _partial(name: str, f: Callable[..., PyTree]) -> Partial:
    """The function as a pytree of the arrays that are bound to it; raise TypeError for what is not one."""
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


def _check_state(optimizer: Optimizer, state: StateT, members: tuple[int, ...]) -> None:
    """Raise TypeError unless both are of their kinds, ValueError for a state without the axis of its members."""
    if not hasattr(optimizer, "init") or not hasattr(optimizer, "update"):
        hint = ": call it" if callable(optimizer) else ""
        raise TypeError(
            f"optimizer must be an optax.GradientTransformation, such as train.sgd(0.5), got {optimizer!r}{hint}"
        )
    if not hasattr(state, "params") or not hasattr(state, "opt_state"):
        pair = isinstance(state, tuple) and state and hasattr(state[0], "params")
        hint = " of a state: unpack it, as in state, history = train.run(...)" if pair else ""
        raise TypeError(f"state must be what train.init(optimizer, params) returns, got {type(state).__name__}{hint}")
    if members and (given := {name: n for name, n in _shapes(state).items() if n[: len(members)] != members}):
        raise ValueError(f"with {members[0]} keys state must have a leading axis of {members[0]} members, got {given}")


def _check_sharding(sharding: NamedSharding | None, batch_size: int) -> NamedSharding | None:
    """The sharding on automatic axes; raise TypeError for another kind, ValueError unless it divides batch_size."""
    if sharding is None:
        return None
    if not isinstance(sharding, NamedSharding):
        raise TypeError(
            f"sharding must be a NamedSharding, as parallel.batches(mesh) makes one, got {type(sharding).__name__}"
        )
    axes = sharding.spec[0] if len(sharding.spec) else ()
    parts = int(np.prod([sharding.mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes or ())]))
    if batch_size % parts:
        raise ValueError(
            f"batch_size must be divisible by the {parts} devices of sharding, got {batch_size}: "
            f"use {parts * (batch_size // parts + 1)}, or a mesh of fewer devices"
        )
    return automatic(sharding)
