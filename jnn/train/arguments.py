"""The arguments of a training run, checked once."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

from jnn import stopping as early_stopping
from jnn._internal import checks
from jnn.parallel.members import members_mesh
from jnn.parallel.meshes import automatic, place_on
from jnn.typing import CarryState, EvalParams, Evaluate, Grad, Optimizer, PyTree, State, StateT, Transform

_STATIC = {"static": True}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Plan:
    """The plan of a training run: functions, whose bound arrays are arguments of the programs, and static settings.

    Attributes:
      together: Whether several members train together.
      members: The devices over which they are spread.
    """

    grad: Grad
    optimizer: Optimizer = field(metadata=_STATIC)
    batch_size: int = field(metadata=_STATIC)
    transform: Transform | None
    shuffle: bool | None = field(metadata=_STATIC)
    sharding: NamedSharding | None = field(metadata=_STATIC)
    evaluate: Evaluate | None = None
    eval_params: EvalParams | None = None
    stopping: early_stopping.Criterion | None = field(default=None, metadata=_STATIC)
    together: bool = field(default=False, metadata=_STATIC)
    members: Mesh | None = field(default=None, metadata=_STATIC)


def checked(plan: Plan, key: jax.Array, state: StateT, data: PyTree, epochs: int = 1) -> Plan:
    """Checks the arguments and completes the plan for the programs; raises as `train.epoch`, `run` and `fit` do."""
    checks.key("key", key)
    checks.examples(data)
    checks.count("batch_size", plan.batch_size)
    checks.count("epochs", epochs)
    _check_state(plan.optimizer, state, key.shape)
    early_stopping.check(plan.stopping, plan.evaluate, epochs)
    given = {name: getattr(plan, name) for name in ("grad", "transform", "evaluate", "eval_params")}
    functions = {name: checks.bound(name, f) for name, f in given.items() if name == "grad" or f is not None}
    made = replace(
        plan,
        **functions,
        shuffle=not hasattr(state, "carry") if plan.shuffle is None else bool(plan.shuffle),
        sharding=_checked_sharding(plan.sharding, plan.batch_size),
        together=key.ndim > 0,
        members=members_mesh(key.size, key, state, data, functions) if key.ndim and plan.sharding is None else None,
    )
    return place_on(everywhere(made), made)[0]


def validated(grad: Grad, evaluate: Evaluate | None, validation: PyTree) -> Evaluate | None:
    """`evaluate` on the validation examples, by default their mean cost; `evaluate` itself without examples."""
    if validation is None:
        return evaluate
    checks.examples(validation, "validation")
    f = Partial(_mean_cost, checks.bound("grad", grad)) if evaluate is None else checks.bound("evaluate", evaluate)
    return Partial(_on_examples, f, jax.tree.map(checks.converted, tuple(validation)))


def placed(plan: Plan, *trees: PyTree) -> tuple[PyTree, ...]:
    """The trees as arrays on the devices of the plan.

    Numbers in a state, such as a new learning rate, become arrays that are not weakly typed, which would recompile.
    """

    def strong(leaf: PyTree) -> PyTree:
        array = leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
        return jnp.asarray(array, array.dtype) if getattr(array, "weak_type", False) else array

    return place_on(everywhere(plan), *jax.tree.map(strong, trees))


def check_optimizer(optimizer: Optimizer) -> None:
    """Raise TypeError for another object."""
    if not hasattr(optimizer, "init") or not hasattr(optimizer, "update"):
        hint = ": call it" if callable(optimizer) else ""
        raise TypeError(
            f"optimizer must be an optax.GradientTransformation, such as train.sgd(0.5), got {optimizer!r}{hint}"
        )


def check_opt_state(optimizer: Optimizer, state: State | CarryState) -> None:
    """Raise ValueError unless the optimizer's state belongs to this optimizer and these parameters.

    Runs while programs are traced, so not again for a cached program.
    """
    expected = jax.eval_shape(optimizer.init, state.params)
    if _form(state.opt_state) == _form(expected):
        return
    what = "another optimizer"
    if jax.tree.structure(state.opt_state) == jax.tree.structure(expected):
        name, found, wanted = _other_shape(state.opt_state, expected)
        what = f"other parameters: {name} must have shape {wanted}, got {found}"
    raise ValueError(
        f"state.opt_state is that of {what}; start with train.init(optimizer, state.params), or continue with the "
        "original optimizer"
    )


def value_and_grad(
    returned: PyTree, params: PyTree, carry: tuple[PyTree, ...]
) -> tuple[PyTree, PyTree, tuple[PyTree, ...]]:
    """The value, the gradient and a tuple of the next carry, if any, from the result of `grad`.

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
    got = f"{jax.tree.map(jnp.shape, returned)}"
    if right and carry:
        back = jax.tree.map(jnp.shape, after[0]) if after else "none, as without has_aux=True"
        got = f"another carry: {jax.tree.map(jnp.shape, carry[0])} went in, and came back as {back}"
    elif right:
        got = "((value, aux), gradient): drop has_aux, or pass a carry to train.init"
    elif _form(returned) == _form(params):
        got = "a gradient alone: use jax.value_and_grad instead of jax.grad"
    elif _form(returned) == _form(0.0):
        got = "a value alone: use jax.value_and_grad(loss)"
    elif _form(returned) == _form((params, 0.0)):
        got = "(gradient, value): swap them"
    elif jax.tree.structure(grads) == jax.tree.structure(params):
        name, found, wanted = _other_shape(grads, params)
        got = f"a gradient whose {name} has shape {found} instead of {wanted}"
    raise TypeError(f"grad must return {form}, {meaning}; got {got}")


def _on_examples(f: Callable[..., PyTree], examples: tuple[PyTree, ...], params: PyTree) -> PyTree:
    return f(params, *examples)


def _mean_cost(grad: Grad, params: PyTree, *examples: PyTree) -> dict[str, PyTree]:
    return {"error": grad(params, *examples)[0]}


def everywhere(plan: Plan) -> NamedSharding | None:
    """A sharding whose mesh holds the devices of the plan, None for the default device."""
    return plan.sharding if plan.members is None else NamedSharding(plan.members, PartitionSpec())


def _form(tree: PyTree) -> tuple[PyTree, list[tuple[int, ...]]]:
    return jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    return {checks.leaf_name(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _other_shape(found: PyTree, wanted: PyTree) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """The first leaf whose shapes differ in trees of one structure: its name, and both shapes."""
    pairs = zip(_shapes(found).items(), _shapes(wanted).values(), strict=True)
    return next((name, shape, other) for (name, shape), other in pairs if shape != other)


def _check_state(optimizer: Optimizer, state: StateT, members: tuple[int, ...]) -> None:
    """Raise TypeError unless both are of their kinds, ValueError for a state without the axis of its members."""
    check_optimizer(optimizer)
    if not hasattr(state, "params") or not hasattr(state, "opt_state"):
        pair = isinstance(state, tuple) and state and hasattr(state[0], "params")
        hint = " of a state: unpack it, as in state, history = train.run(...)" if pair else ""
        raise TypeError(f"state must be what train.init(optimizer, params) returns, got {type(state).__name__}{hint}")
    if members and (given := {name: n for name, n in _shapes(state).items() if n[: len(members)] != members}):
        raise ValueError(f"with {members[0]} keys state must have a leading axis of {members[0]} members, got {given}")


def _checked_sharding(sharding: NamedSharding | None, batch_size: int) -> NamedSharding | None:
    """The sharding on automatic axes; raise TypeError for another kind, ValueError unless it divides batch_size."""
    if sharding is None:
        return None
    if not isinstance(sharding, NamedSharding):
        given = type(sharding).__name__
        raise TypeError(f"sharding must be a NamedSharding, as parallel.batches(mesh) makes one, got {given}")
    first = next(iter(sharding.spec), ()) or ()
    parts = int(np.prod([sharding.mesh.shape[axis] for axis in ((first,) if isinstance(first, str) else first)]))
    if batch_size % parts:
        raise ValueError(
            f"batch_size must be divisible by the {parts} devices of sharding, got {batch_size}: "
            f"use {parts * (batch_size // parts + 1)}, or a mesh of fewer devices"
        )
    return automatic(sharding)
