"""The programs of a training run, pure functions of arrays: step, epoch, run, and the parts that `fit` calls."""

import inspect
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, Int, Key

from jnn import stopping
from jnn._internal import checks, xla
from jnn.parallel.members import spread
from jnn.stopping import Tracker
from jnn.train import arguments, history
from jnn.train.arguments import Plan
from jnn.typing import Grad, History, Optimizer, PRNGKey, PyTree, StateT


def step(grad: Grad, optimizer: Optimizer, state: StateT, batch: PyTree) -> tuple[StateT, Float[Array, ""]]:
    """Updates the parameters by one mini-batch (section 2.2, step 2), for your own training loop.

    Not compiled: call it inside `jax.jit`. Optimizers that need the value, or a line search, get their extra arguments.
    Not supported are `optax.lookahead`, whose parameters are pairs, and an opaque `optax.contrib.sam` inside of another
    optimizer.

    Args:
      grad: `grad(params, *batch)` returns (value, gradient), or ((value, carry), gradient) for a state with a carry.
      optimizer: Any `optax.GradientTransformation`.
      state: The state from `init` or from the last step.
      batch: A tuple of arrays.

    Returns:
      The new state, and the value before the update.

    Raises:
      TypeError: If `grad` returns anything else.

    Example:
      >>> from jnn import backprop, mlp
      >>> optimizer = train.sgd(0.5)
      >>> state = train.init(optimizer, mlp.init(jax.random.key(0), (3, 4, 2)))
      >>> update = jax.jit(functools.partial(train.step, backprop.minibatch_value_and_grad, optimizer))
      >>> state, value = update(state, (jnp.ones((5, 3)), jnp.zeros((5, 2))))
      >>> value.shape
      ()
    """
    carry = state[2:]

    def of(params: PyTree) -> tuple[PyTree, PyTree, tuple[PyTree, ...]]:
        with checks.noted(f"grad was called with a mini-batch of shapes {jax.tree.map(jnp.shape, batch)}"):
            returned = grad(params, *carry, *batch)
        return arguments.value_and_grad(returned, params, carry)

    value, grads, carry_after = of(state.params)
    extra: dict[str, PyTree] = {"value": value, "grad": grads, "value_fn": lambda params: of(params)[0]}
    if "grad_fn" in inspect.signature(optimizer.update).parameters:
        extra = {"grad_fn": lambda params, _: of(params)[1]}
    extended = optimizer if isinstance(optimizer, optax.MultiSteps) else optax.with_extra_args_support(optimizer)
    updates, opt_state = extended.update(grads, state.opt_state, state.params, **extra)
    return type(state)(optax.apply_updates(state.params, updates), opt_state, *carry_after), value


def epoch(plan: Plan, key: PRNGKey, state: StateT, data: PyTree) -> tuple[StateT, Float[Array, " steps"]]:
    """Every mini-batch of the data once, in one `lax.scan`."""
    n = checks.examples(data)
    arguments.check_opt_state(plan.optimizer, state)
    order_key, transform_key = jax.random.split(key)
    order = xla.permutation(order_key, n) if plan.shuffle else jnp.arange(n)

    def one_step(state: StateT, i_and_rows: tuple[Int[Array, ""], Int[Array, " m"]]) -> tuple[StateT, Float[Array, ""]]:
        i, rows = i_and_rows
        batch = jax.tree.map(lambda a: a.at[rows].get(mode="promise_in_bounds"), data)
        if plan.sharding is not None and len(rows) == plan.batch_size:
            batch = jax.lax.with_sharding_constraint(batch, plan.sharding)
        if plan.transform is not None:
            batch = plan.transform(jax.random.fold_in(transform_key, i), *batch)
            if not isinstance(batch, tuple):
                raise TypeError(f"transform must return a tuple, such as (xs, ys), got {type(batch).__name__}")
        return step(plan.grad, plan.optimizer, state, batch)

    full, rest = divmod(n, plan.batch_size)
    rows = order[: full * plan.batch_size].reshape(full, plan.batch_size)
    steps: PyTree = (jnp.arange(full), rows)
    state, losses = jax.lax.scan(one_step, state, steps)
    if rest:
        state, value = one_step(state, (jnp.asarray(full), order[-rest:]))
        losses = jnp.append(losses, value)
    return state, losses


def run(
    plan: Plan, key: PRNGKey, state: StateT, data: PyTree, first: Int[ArrayLike, ""], epochs: int
) -> tuple[StateT, History]:
    """A whole training run, whose epochs are counted from `first`."""

    def one_epoch(carry: PyTree, t: Int[Array, ""]) -> tuple[PyTree, PyTree]:
        state, losses = _train(plan, data, jax.random.fold_in(key, t), *carry)
        tracker, metrics = _measure(plan, state, carry[1])
        return (state, tracker), (losses, metrics)

    tracker = stopping.start(plan.stopping, evaluated(plan, state).params)
    ts: PyTree = first + jnp.arange(epochs)
    (state, tracker), (losses, metrics) = jax.lax.scan(one_epoch, (state, tracker), ts)
    return history.finished(state, tracker, History(losses, metrics), first)


def evaluated(plan: Plan, state: StateT) -> StateT:
    """The state with the parameters that `evaluate` and early stopping get."""
    return state if plan.eval_params is None else state._replace(params=plan.eval_params(state))


@jax.jit
def fold_in(keys: Key[Array, "*members"], n: Int[ArrayLike, ""]) -> Key[Array, "*members"]:
    """The keys of the members for the n-th epoch, or from these for its n-th chunk."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, n) if keys.ndim else jax.random.fold_in(keys, n)


@jax.jit
def train(
    plan: Plan, keys: Key[Array, "*members"], state: StateT, tracker: Tracker | None, data: PyTree
) -> tuple[StateT, PyTree]:
    """The state and losses of all members after a chunk of data, or after all of them; each has its key for these."""
    return _over_members(plan, Partial(_train_once, replace(plan, members=None), data), (keys, state, tracker))


@jax.jit
def measure(plan: Plan, state: StateT, tracker: Tracker | None) -> tuple[Tracker | None, PyTree]:
    """What is known of all members at the end of an epoch: early stopping's tracker, and metrics."""
    return _over_members(plan, Partial(_measure_once, replace(plan, members=None)), (state, tracker))


def _train(plan: Plan, data: PyTree, key: PRNGKey, state: StateT, tracker: Tracker | None) -> tuple[StateT, PyTree]:
    if tracker is None:
        return epoch(plan, key, state, data)
    trained = stopping.unless_stopped(None, lambda state: (*epoch(plan, key, state, data), None), state, tracker)
    return trained[0], trained[2]


def _measure(plan: Plan, state: StateT, tracker: Tracker | None) -> tuple[Tracker | None, PyTree]:
    def metrics(state: StateT) -> PyTree:
        if plan.evaluate is None:
            return None
        with checks.noted("evaluate was called with the parameters alone, traced: it must return JAX arrays of them"):
            return jax.tree.map(jnp.asarray, plan.evaluate(state.params))

    state = evaluated(plan, state)
    if tracker is None:
        return None, metrics(state)
    measured = stopping.unless_stopped(plan.stopping, lambda state: (state, None, metrics(state)), state, tracker)
    return measured[1], measured[3]


def _over_members(plan: Plan, f: Callable[..., PyTree], members: PyTree) -> PyTree:
    if not plan.together:
        return f(*members)
    if plan.sharding is not None:
        return jax.vmap(f)(*members)
    found = spread(f, members, plan.members)
    return found if plan.members is None else jax.lax.with_sharding_constraint(found, arguments.everywhere(plan))


# Traced once, for members one after another and for members together.
_train_once = jax.jit(_train, inline=True)
_measure_once = jax.jit(_measure, inline=True)

jitted_epoch = jax.jit(epoch)
jitted_run = jax.jit(run, static_argnames="epochs")
