"""What `train.fit` and its user tell each other: a progress bar, a cost that is not finite, a callback's answer."""

import contextlib
import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnn.typing import CarryState, Evaluate, PyTree, Report, State


def progress_bar(
    epochs: int, done: int, evaluate: Evaluate | None, stack: contextlib.ExitStack, *, shown: bool
) -> list[Callable[[Report], None]]:
    """A callback that draws the bar, or none; tqdm is optional. A metric without a name has that of `evaluate`."""
    if not shown or jax.process_index() or importlib.util.find_spec("tqdm") is None:
        return []
    from tqdm import tqdm

    function: PyTree = evaluate
    while hasattr(function, "func"):  # a partial
        function = function.func
    alone = getattr(function, "__name__", "metric").strip("_<>").replace("lambda", "metric")
    bar = stack.enter_context(tqdm(total=epochs, initial=done, unit="epoch"))

    def draw(report: Report) -> None:
        numbers: dict[str, PyTree] = {"cost": report.losses}
        for path, leaf in jax.tree_util.tree_leaves_with_path(report.metrics):
            if jnp.ndim(leaf) < report.losses.ndim:  # one number for each member
                numbers[jax.tree_util.keystr(path, simple=True, separator=".") or alone] = leaf
        bar.set_postfix({name: f"{_mean(value):.4f}" for name, value in numbers.items()}, refresh=False)
        bar.update()

    return [draw]


def is_true(answer: object) -> bool:
    """Whether a callback returned True, Python's or an array's; not 1, as `file.write` may."""
    scalar = isinstance(answer, bool | np.bool | np.ndarray | jax.Array) and np.ndim(answer) == 0
    return scalar and np.asarray(answer).dtype == bool and bool(answer)


def check_finite(report: Report, trained: np.ndarray, data: PyTree, saved: str) -> None:
    """Raise FloatingPointError if a loss of a member that trained is not finite, naming where it began and the cause.

    Not where `optax.apply_if_finite` keeps such gradients from the parameters. `saved` is what to add to the message
    about the last checkpoint.
    """
    bad = np.argwhere(~np.isfinite(np.asarray(report.losses)) & trained[..., None])
    if not len(bad) or _skipped(report.state):
        return
    *member, first = bad[np.argmin(bad[:, -1])].tolist()
    of_member = f" of member {member[0]}" if member else ""
    value = float(report.losses[(*member, first)])
    raise FloatingPointError(
        f"the cost{of_member} became {value} in epoch {report.epoch}, mini-batch {first + 1}: {_cause(data)}{saved}"
    )


def _mean(numbers: PyTree) -> float:
    """Of those that are not NaN, as of members that have stopped. By NumPy, which compiles nothing."""
    numbers = np.asarray(numbers, float)
    kept = numbers[~np.isnan(numbers)]
    return kept.mean() if kept.size else np.nan


def _skipped(state: State | CarryState) -> bool:
    def is_guard(node: object) -> bool:
        return isinstance(node, optax.ApplyIfFiniteState)

    guarded = any(map(is_guard, jax.tree.leaves(state.opt_state, is_leaf=is_guard)))
    return guarded and all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(state.params))


def _cause(data: PyTree) -> str:
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        rows = np.flatnonzero(~np.isfinite(np.asarray(leaf).reshape(len(leaf), -1)).all(axis=1))
        if rows.size:
            name = f"data{jax.tree_util.keystr(path)}"
            padding = "; where it pads sequences, pass a mask" if leaf.ndim > 2 else ""
            return f"{name} is not finite in {rows.size} of {len(leaf)} examples, first in row {rows[0]}{padding}"
    return "the data are finite; lower the learning rate, or look for an overflow or a division by zero in the cost"
