"""Mini-batch training of any gradient with any optax optimiser: step -> epoch -> run, and fit on the host.

`data` is a tuple of arrays that share a leading axis of N examples, usually (xs, ys). `grad(params, *batch)` returns
(value, gradient): `backprop.minibatch_value_and_grad`, or `jax.value_and_grad` of a loss of your own.

An epoch visits every example once, in an order drawn from its key. When batch_size does not divide N, the last
mini-batch is smaller; a batch_size above N gives one mini-batch of all N.

`grad`, `transform` and `evaluate` are compiled into the program, which is reused while they and the optimiser stay
the same objects. Arrays they need are best bound with `jax.tree_util.Partial(f, xs=xs)`: bound arrays enter the
program as arguments, where arrays captured by a lambda would be copied into it as constants and compile slowly. What
must stay Python's own, such as the length of a sequence, is bound with `functools.partial` instead.
"""

import contextlib
import functools
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.sharding import NamedSharding
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, Key
from jaxtyping import ArrayLike as Like

from jnn import _checks, checkpoint, parallel
from jnn.checkpoint import Checkpoints
from jnn.stopping import Criterion

Grad = Callable[..., tuple[Float[Array, ""], Any]]
"""(params, *batch) -> (value, gradient)."""

Transform = Callable[..., tuple[Any, ...]]
"""(key, *batch) -> what `grad` gets after params in place of the mini-batch."""

Evaluate = Callable[[Any], Any]
"""params -> metrics, measured after each epoch."""


class State(NamedTuple):
    """What a step of training changes: the parameters and the optimiser's own state."""

    params: Any
    opt_state: Any


class History(NamedTuple):
    """What training leaves behind: the mean cost of every mini-batch, before its step, and `evaluate`'s metrics.

    The leaves of metrics have a leading axis of epochs; metrics is None without `evaluate`. `epochs` and `best` are
    None without a criterion for stopping. With one, `epochs` is how many were trained, and `best` the one, counted
    from 1, whose parameters are kept; 0 is the start, kept where every error is NaN. What was not trained is NaN in
    values and metrics, or 0 where those are whole numbers.
    """

    values: Float[Array, "*members epochs steps"]
    metrics: Any
    epochs: Int[Array, "*members"] | None = None
    best: Int[Array, "*members"] | None = None


class Watch(NamedTuple):
    """What a training with early stopping carries along: the criterion's state, and the best parameters so far."""

    criterion: Any
    active: Bool[Array, "*members"]
    epochs: Int[Array, "*members"]
    best: Int[Array, "*members"]
    error: Float[Array, "*members"]
    params: Any


class Report(NamedTuple):
    """What `fit` tells its callbacks after an epoch: its number from 1, the state, its values and its metrics."""

    epoch: int
    state: State
    values: Float[Array, "*members steps"]
    metrics: Any


def sgd(eta: float | Float[Array, ""]) -> optax.GradientTransformation:
    """Stochastic gradient descent of section 2.2: w <- w - eta (1/m) sum_x dC/dw (the notes lost the minus signs).

    Raises ValueError unless eta > 0, TypeError for no number; a traced eta, as under `jax.vmap` over learning rates,
    is not checked.
    """
    _checks.positive("eta", eta)
    return optax.sgd(eta)


def init(optimizer: optax.GradientTransformation, params: Any) -> State:
    """The state before the first step."""
    return State(params, optimizer.init(params))


def step(
    grad: Grad, optimizer: optax.GradientTransformation, state: State, batch: Any
) -> tuple[State, Float[Array, ""]]:
    """One update by one mini-batch (section 2.2, step 2). Returns the new state and the value before the update.

    Not compiled: call it inside `jax.jit`. Optimisers that look at the value, or search along a line, get both.
    """
    value, grads = grad(state.params, *batch)
    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        grads, state.opt_state, state.params, value=value, grad=grads, value_fn=lambda params: grad(params, *batch)[0]
    )
    return State(optax.apply_updates(state.params, updates), opt_state), value


def epoch(
    key: Key[Array, ""],
    grad: Grad,
    optimizer: optax.GradientTransformation,
    state: State,
    data: Any,
    *,
    batch_size: int,
    transform: Transform | None = None,
    sharding: NamedSharding | None = None,
) -> tuple[State, Float[Array, " steps"]]:
    """Every example once, in a fresh order, as one `lax.scan` in one program.

    Returns the new state and the value of each of the ceil(N / batch_size) mini-batches, before its update.
    `transform(key, *batch)` returns what `grad` gets after params in place of the mini-batch, with a fresh key each
    step: augmentation or noise, or the mini-batch and the key itself, for a `grad` that draws.
    sharding: how a mini-batch lies on several devices, as `parallel.batches(mesh)`; state and data that do not lie on
    its mesh yet are copied to every device. A smaller last mini-batch that the devices do not divide is not split.

    Raises ValueError for data without examples or with leading axes that differ, for a batch_size below 1 and for
    one that the devices of `sharding` do not divide;
    TypeError for data that are no tuple, a batch_size that is no whole number, a key not made by `jax.random.key`
    and a transform that returns no tuple.
    """
    plan = _plan(key, grad, optimizer, data, batch_size, transform=transform, sharding=sharding)
    return _epoch_program(key, *_placed(sharding, plan, state, data))


def run(
    key: Key[Array, ""],
    grad: Grad,
    optimizer: optax.GradientTransformation,
    state: State,
    data: Any,
    *,
    epochs: int,
    batch_size: int,
    transform: Transform | None = None,
    evaluate: Evaluate | None = None,
    stopping: Criterion | None = None,
    sharding: NamedSharding | None = None,
) -> tuple[State, History]:
    """A whole training as one program; `jax.vmap` it over keys, learning rates or regularisation strengths.

    Epoch t = 0, 1, ... draws from `jax.random.fold_in(key, t)`, so a longer run begins with the shorter one.
    `evaluate(params)` measures after each epoch. Returns the last state and the history: values [epochs, steps].

    stopping: a criterion of `jnn.stopping`. Its error is what `evaluate` returns, or the metric named "error". When
    it says so, nothing changes any more and, outside of `jax.vmap`, nothing is computed; the returned state has the
    parameters of the lowest error, or the last ones where there is no `evaluate`.

    Raises as `epoch` does, and for `epochs` as for `batch_size`; ValueError for a window of `stopping` that is longer
    than `epochs`, and for a missing error.
    """
    plan = _plan(key, grad, optimizer, data, batch_size, epochs, transform, evaluate, stopping, sharding)
    return _run_program(key, *_placed(sharding, plan, state, data), epochs)


def fit(
    key: Key[Array, "*members"],
    grad: Grad,
    optimizer: optax.GradientTransformation,
    state: State,
    data: Any,
    *,
    epochs: int,
    batch_size: int,
    transform: Transform | None = None,
    evaluate: Evaluate | None = None,
    stopping: Criterion | None = None,
    sharding: NamedSharding | None = None,
    callbacks: Sequence[Callable[[Report], Any]] = (),
    checkpoints: Checkpoints | None = None,
    progress: bool = True,
) -> tuple[State, History]:
    """The same training as `run`, driven from the host an epoch at a time.

    A key of shape [S] trains S members side by side under one `jax.vmap`: the leaves of state then have a leading
    axis S, and so have those of the returned state and history.

    stopping: as in `run`; the training ends when every member has stopped.
    progress: a bar on stderr, where tqdm is installed, with the mean cost and the scalar metrics (over the members).
    callbacks: each is called with a `Report` after every epoch; training stops early when one returns True.
    checkpoints: where to keep what is needed to go on (`jnn.checkpoint`). A call with the same arguments goes on from
    the newest one there and ends with the same bits as one that was never interrupted.

    Raises as `run` and `checkpoint.Checkpoints` do, and FloatingPointError when a value is NaN or infinite, naming
    the epoch, the mini-batch and what to do.
    """
    plan = _plan(key, grad, optimizer, data, batch_size, epochs, transform, evaluate, stopping, sharding)
    plan, state, data = _placed(sharding, plan, state, jax.tree.map(jnp.asarray, data))
    watch = None if stopping is None else _watch(stopping, state.params, key.ndim)
    with contextlib.ExitStack() as stack:
        saver = stack.enter_context(checkpoint.saver(checkpoints))
        one = jax.eval_shape(_members_program, key, 0, plan, state, watch, data)[2:]
        (state, watch), measured, ended = saver.resume(key, (state, watch), one)
        listeners = [*callbacks, *_progress_bar(epochs, len(measured), stack, wanted=progress)]
        for t in range(len(measured), 0 if ended else epochs):
            trained = np.ones(key.shape, bool) if watch is None else np.asarray(watch.active)
            state, watch, *values_and_metrics = _members_program(key, t, plan, state, watch, data)
            values_and_metrics = parallel.local(values_and_metrics)
            report = Report(t + 1, state, *values_and_metrics)
            _check_finite(report, trained, data, saver)
            measured.append(tuple(values_and_metrics))
            wishes = [listener(report) for listener in listeners]
            ended = True in wishes or (watch is not None and not np.any(watch.active))
            saver.save(key, (state, watch), measured, ended)
            if ended:
                break
    values, metrics = jax.tree.map(lambda *leaves: jnp.stack(leaves, key.ndim), *measured)
    return _finish(state, watch, values, metrics)


def mixed(grad: Grad) -> Partial:
    """The gradient with bfloat16 arithmetic, for `epoch`, `run` and `fit`: parameters stay as they are.

    `grad` gets parameters and mini-batch rounded to bfloat16 (matrix products of which accumulate in float32), and what
    it returns is cast back to the parameters' dtype, so updates lose nothing. `jnn.costs` give their values in float32.
    Fast where the hardware has such products; no loss scaling is needed, as bfloat16 has float32's range.
    """
    return Partial(_mixed, _partial(grad))


def sweep(f: Callable[..., Any], *members: Any, devices: Sequence[Any] | None = None) -> Any:
    """The value of f for each member, a whole training for instance, as one program spread over the devices.

    The leaves of `members` share a leading axis K; f(*member) gets one entry of each, such as a key, a learning rate
    and a regularisation strength. Returns what f returns, with a leading axis K, member by member as f alone would.

    Every device takes its part of the members: together under `jax.vmap` on an accelerator; on a CPU one after
    another, as small networks stay in a core's cache so. A CPU counts as one device, unless
    `jax.config.update("jax_num_cpu_devices", os.cpu_count())` comes before all other use of JAX.

    f is compiled into the program as `grad` is: bind data with `jax.tree_util.Partial`, not by a lambda.
    devices: all local ones by default.

    Raises TypeError and ValueError for members that share no leading axis K >= 1, ValueError for no devices.
    """
    k = _checks.examples(members, "members", "member")
    chosen = tuple(jax.local_devices() if devices is None else devices)[:k]
    if not chosen:
        raise ValueError("devices is empty; at least one is wanted, as in jax.local_devices()")
    return _sweep_program(_partial(f), members, k, jax.sharding.Mesh(np.array(chosen), ("members",)))


# One epoch as a pure function; `epoch`, `run` and `fit` are programs around it.


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("grad", "transform", "evaluate"),
    meta_fields=("optimizer", "batch_size", "stopping", "sharding"),
)
@dataclass(frozen=True)
class _Plan:
    """How to train: functions, whose bound arrays are arguments of a program, and what is fixed when it is compiled."""

    grad: Grad
    transform: Transform | None
    evaluate: Evaluate | None
    optimizer: optax.GradientTransformation
    batch_size: int
    stopping: Criterion | None
    sharding: NamedSharding | None


def _epoch(key: Key[Array, ""], plan: _Plan, state: State, data: Any) -> tuple[State, Float[Array, " steps"]]:
    n = _checks.examples(data)
    order_key, transform_key = jax.random.split(key)
    order = _order(order_key, n)

    def one_step(state: State, i_and_rows: tuple[Int[Array, ""], Int[Array, " m"]]) -> tuple[State, Float[Array, ""]]:
        i, rows = i_and_rows
        batch = jax.tree.map(lambda a: a.at[rows].get(mode="promise_in_bounds"), data)
        if plan.sharding is not None and len(rows) == plan.batch_size:
            batch = jax.lax.with_sharding_constraint(batch, plan.sharding)
        if plan.transform is not None:
            batch = plan.transform(jax.random.fold_in(transform_key, i), *batch)
            if not isinstance(batch, tuple):
                raise TypeError(f"transform returns a {type(batch).__name__}; a tuple is wanted, as (xs, ys)")
        return step(plan.grad, plan.optimizer, state, batch)

    full, rest = divmod(n, plan.batch_size)
    rows = order[: full * plan.batch_size].reshape(full, plan.batch_size)
    state, values = jax.lax.scan(one_step, state, (jnp.arange(full), rows))
    if rest:
        state, value = one_step(state, (jnp.asarray(full), order[-rest:]))
        values = jnp.append(values, value)
    return state, values


def _order(key: Key[Array, ""], n: int) -> Int[Array, " n"]:
    """0 ... n-1 in random order, bit for bit as `jax.random.permutation` draws it, up to 3 times as fast on a CPU.

    Both sort by random 32-bit keys, ties as they stood, once or more often. XLA's CPU compiler sorts single numbers
    several times faster than keys that carry values along, so each sort here is a radix sort: by one digit of the
    keys after another, the lowest first, with the place of each key in the low bits of the number sorted.
    """
    place_bits = (n - 1).bit_length()
    digit_bits = 32 - place_bits
    order = places = jnp.arange(n, dtype=jnp.uint32)
    for _ in range(math.ceil(3 * math.log(n) / math.log(2**32 - 1))):  # so often that ties are rare: JAX's rule
        key, bits_key = jax.random.split(key)
        keys = jax.random.bits(bits_key, (n,), jnp.uint32)
        for low in range(0, 32, digit_bits):
            digits = keys >> low << place_bits  # what is above the digit leaves on the left
            sorted_places = jnp.sort(digits | places) & (2**place_bits - 1)
            order, keys = order[sorted_places], keys[sorted_places]
    return order.astype(int)


def _watched_epoch(
    key: Key[Array, ""], t: Int[Like, ""], plan: _Plan, state: State, watch: Watch | None, data: Any
) -> tuple[State, Watch | None, Float[Array, " steps"], Any]:
    """Epoch t of a training, and its metrics; where it has stopped, state and watch stay as they are."""

    def train(state: State) -> tuple[State, Float[Array, " steps"], Any]:
        state, values = _epoch(jax.random.fold_in(key, t), plan, state, data)
        return state, values, None if plan.evaluate is None else plan.evaluate(state.params)

    if watch is None or plan.stopping is None:
        state, values, metrics = train(state)
        return state, None, values, metrics
    stopping = plan.stopping

    def go_on(state: State, watch: Watch) -> tuple[State, Watch, Float[Array, " steps"], Any]:
        state, values, metrics = train(state)
        return state, _look(stopping, watch, state.params, metrics), values, metrics

    def rest(state: State, watch: Watch) -> tuple[State, Watch, Float[Array, " steps"], Any]:
        _, *shapes = jax.eval_shape(train, state)
        values, metrics = jax.tree.map(_not_trained, shapes)
        return state, watch, values, metrics

    return jax.lax.cond(watch.active, go_on, rest, state, watch)


def _watch(stopping: Criterion, params: Any, members: int = 0) -> Watch:
    """Before the first epoch, of one training or of members along a leading axis."""
    if members:
        return jax.vmap(functools.partial(_watch, stopping))(params)
    zero, error = jnp.zeros((), int), jnp.asarray(jnp.inf, float)
    return Watch(stopping.init(params), jnp.asarray(True), zero, zero, error, params)


def _look(stopping: Criterion, watch: Watch, params: Any, metrics: Any) -> Watch:
    """After an epoch: ask the criterion, and keep the parameters of the lowest error."""
    error = None if metrics is None else _error(metrics)
    criterion, stop = stopping.update(watch.criterion, params, error)
    epochs = watch.epochs + 1
    if error is None:
        return Watch(criterion, ~stop, epochs, epochs, watch.error, params)
    better = error < watch.error
    best, lowest, kept = jax.tree.map(
        functools.partial(jnp.where, better), (epochs, error, params), (watch.best, watch.error, watch.params)
    )
    return Watch(criterion, ~stop, epochs, best, lowest, kept)


def _error(metrics: Any) -> Float[Array, ""]:
    """What `evaluate` returns, or the metric named "error": one number."""
    error = metrics.get("error") if isinstance(metrics, dict) else metrics
    if not isinstance(error, jax.Array | float) or jnp.ndim(error) != 0:
        raise ValueError(
            f"evaluate returns {jax.tree.map(jnp.shape, metrics)} for the shapes of its metrics; early stopping "
            'wants one number, the error, or a dict with one under "error"'
        )
    return jnp.asarray(error, float)


def _not_trained(shape: jax.ShapeDtypeStruct) -> Array:
    return jnp.full(shape.shape, jnp.nan if jnp.issubdtype(shape.dtype, jnp.floating) else 0, shape.dtype)


def _finish(state: State, watch: Watch | None, values: Any, metrics: Any) -> tuple[State, History]:
    if watch is None:
        return state, History(values, metrics)
    return state._replace(params=watch.params), History(values, metrics, watch.epochs, watch.best)


_epoch_program = jax.jit(_epoch)


def _mixed(grad: Grad, params: Any, *batch: Any) -> tuple[Float[Array, ""], Any]:
    def half(leaf: Any) -> Any:
        return leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    value, grads = grad(*jax.tree.map(half, (params, *batch)))
    grads = jax.tree.map(lambda g, leaf: g.astype(leaf.dtype), grads, params)
    return value.astype(jnp.promote_types(value.dtype, jnp.float32)), grads


@functools.partial(jax.jit, static_argnames="epochs")
def _run_program(key: Key[Array, ""], plan: _Plan, state: State, data: Any, epochs: int) -> tuple[State, History]:
    def one_epoch(carry: tuple[State, Watch | None], t: Int[Array, ""]) -> tuple[Any, Any]:
        state, watch, *values_and_metrics = _watched_epoch(key, t, plan, *carry, data)
        return (state, watch), values_and_metrics

    watch = None if plan.stopping is None else _watch(plan.stopping, state.params)
    (state, watch), values_and_metrics = jax.lax.scan(one_epoch, (state, watch), jnp.arange(epochs))
    return _finish(state, watch, *values_and_metrics)


@jax.jit
def _members_program(
    key: Key[Array, "*members"], t: Int[Like, ""], plan: _Plan, state: State, watch: Watch | None, data: Any
) -> tuple[State, Watch | None, Float[Array, "*members steps"], Any]:
    def member(key: Key[Array, ""], state: State, watch: Watch | None) -> Any:
        return _watched_epoch(key, t, plan, state, watch, data)

    return (jax.vmap(member) if key.ndim else member)(key, state, watch)


@functools.partial(jax.jit, static_argnames=("k", "mesh"))
def _sweep_program(f: Callable[..., Any], members: Any, k: int, mesh: jax.sharding.Mesh) -> Any:
    def one_after_another(f: Callable[..., Any], members: Any) -> Any:
        return jax.lax.map(lambda member: f(*member), members)

    def together(f: Callable[..., Any], members: Any) -> Any:
        return jax.vmap(f)(*members)

    def part(f: Callable[..., Any], members: Any) -> Any:
        return jax.lax.platform_dependent(f, members, cpu=one_after_another, default=together)

    rows = np.minimum(np.arange(-(-k // mesh.size) * mesh.size), k - 1)  # the last again where devices are left over
    alone, shared = jax.P(), jax.P("members")
    spread = jax.shard_map(part, mesh=mesh, in_specs=(alone, shared), out_specs=shared, check_vma=False)
    results = spread(f, jax.tree.map(lambda leaf: leaf[rows], members))
    return jax.tree.map(lambda leaf: leaf[:k], results)


def _partial(f: Callable[..., Any] | None) -> Any:
    """`f` as a pytree that `jit` takes as an argument: its bound arrays are leaves, the function itself is static."""
    return f if f is None or isinstance(f, Partial) else Partial(f)


def _plan(
    key: Any,
    grad: Grad,
    optimizer: optax.GradientTransformation,
    data: Any,
    batch_size: int,
    epochs: int = 1,
    transform: Transform | None = None,
    evaluate: Evaluate | None = None,
    stopping: Criterion | None = None,
    sharding: NamedSharding | None = None,
) -> _Plan:
    """Checked, and in the form that programs take."""
    _checks.key("key", key)
    _checks.examples(data)
    _checks.count("batch_size", batch_size)
    _checks.count("epochs", epochs)
    _check_stopping(stopping, evaluate, epochs)
    _check_sharding(sharding, batch_size)
    return _Plan(_partial(grad), _partial(transform), _partial(evaluate), optimizer, batch_size, stopping, sharding)


def _placed(sharding: NamedSharding | None, *trees: Any) -> tuple[Any, ...]:
    """Their arrays on the mesh of `sharding`: copied to every device, where they are not on it already."""
    if sharding is None:
        return trees
    mesh: Any = sharding.mesh

    def whole(leaf: Any) -> Any:
        if isinstance(leaf, Tracer) or not isinstance(leaf, jax.Array | np.ndarray):
            return leaf  # of a program of the caller's, who has placed its arguments; or a number
        there = isinstance(leaf, jax.Array) and getattr(leaf.sharding, "mesh", None) == mesh
        return leaf if there else parallel.place(mesh, leaf)

    return jax.tree.map(whole, trees)


def _check_stopping(stopping: Criterion | None, evaluate: Evaluate | None, epochs: int) -> None:
    if stopping is None:
        return
    if stopping.window > epochs:
        raise ValueError(
            f"{stopping} looks back {stopping.window} epochs and the run has {epochs}: "
            "give a smaller window or more epochs"
        )
    if stopping.needs_error and evaluate is None:
        raise ValueError(f"{stopping} looks at an error; evaluate is None: give evaluate=..., which returns it")


def _check_sharding(sharding: NamedSharding | None, batch_size: int) -> None:
    if sharding is None:
        return
    axes = sharding.spec[0] if len(sharding.spec) else ()
    parts = int(np.prod([sharding.mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes or ())]))
    if batch_size % parts:
        raise ValueError(
            f"batch_size is {batch_size} and a mini-batch is split over {parts} devices, which does not divide it: "
            f"take {parts * (batch_size // parts + 1)}, or a mesh of fewer devices"
        )


def _check_finite(report: Report, trained: np.ndarray, data: Any, saver: checkpoint.Saver) -> None:
    bad = np.argwhere(~np.isfinite(np.asarray(report.values)) & trained[..., None])
    if not len(bad):
        return
    *member, first = bad[np.argmin(bad[:, -1])].tolist()
    who = f" of member {member[0]}" if member else ""
    value = float(report.values[(*member, first)])
    raise FloatingPointError(
        f"the cost{who} became {value} in epoch {report.epoch}, mini-batch {first + 1}; {_blame(data)}"
        f"{saver.last_good()}"
    )


def _blame(data: Any) -> str:
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        rows = np.flatnonzero(~np.isfinite(np.asarray(leaf).reshape(len(leaf), -1)).all(axis=1))
        if rows.size:
            name = f"data{jax.tree_util.keystr(path)}"
            return (
                f"{name} is not finite in {rows.size} of {len(leaf)} examples, first row {rows[0]}: mend or drop them"
            )
    return "the data are finite: lower the learning rate, or look for an overflow or a division by zero in the cost"


def _progress_bar(
    epochs: int, done: int, stack: contextlib.ExitStack, *, wanted: bool
) -> list[Callable[[Report], None]]:
    """A listener that draws, or none; tqdm is optional and only decorates."""
    if not wanted or jax.process_index() or importlib.util.find_spec("tqdm") is None:
        return []
    from tqdm import tqdm

    bar = stack.enter_context(tqdm(total=epochs, initial=done, unit="epoch"))

    def draw(report: Report) -> None:
        shown = {"cost": report.values}
        for path, leaf in jax.tree_util.tree_leaves_with_path(report.metrics):
            if jnp.ndim(leaf) < report.values.ndim:  # one number a member
                shown[jax.tree_util.keystr(path, simple=True, separator=".") or "metric"] = leaf
        bar.set_postfix({name: f"{float(jnp.nanmean(value)):.4f}" for name, value in shown.items()}, refresh=False)
        bar.update()

    return [draw]
