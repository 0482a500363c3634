"""What `train.fit` and its user tell each other: a progress bar, a cost that is not finite, a callback's answer."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


def progress_bar(
    epochs: int, done: int, evaluate: Any, stack: contextlib.ExitStack, *, shown: bool
) -> list[Callable[[Any], None]]:
    """A callback that draws the bar, or none; tqdm is optional. A metric without a name has that of `evaluate`."""
    if not shown or jax.process_index() or importlib.util.find_spec("tqdm") is None:
        return []
    from tqdm import tqdm

    while hasattr(evaluate, "func"):  # a partial
        evaluate = evaluate.func
    alone = getattr(evaluate, "__name__", "metric").strip("_<>").replace("lambda", "metric")
    bar = stack.enter_context(tqdm(total=epochs, initial=done, unit="epoch"))

    def draw(report: Any) -> None:
        numbers = {"cost": report.losses}
        for path, leaf in jax.tree_util.tree_leaves_with_path(report.metrics):
            if jnp.ndim(leaf) < report.losses.ndim:  # one number for each member
                numbers[jax.tree_util.keystr(path, simple=True, separator=".") or alone] = leaf
        bar.set_postfix({name: f"{_mean(value):.4f}" for name, value in numbers.items()}, refresh=False)
        bar.update()

    return [draw]


def _mean(numbers: Any) -> float:
    """Of those that are not NaN, as of members that have stopped. By NumPy, which compiles nothing."""
    numbers = np.asarray(numbers, float)
    kept = numbers[~np.isnan(numbers)]
    return kept.mean() if kept.size else np.nan


@contextlib.contextmanager
def until_interrupted(may_end: Callable[[], bool], save: Callable[[], None]) -> Iterator[None]:
    """End the block at the first Ctrl-C, and save, if it may end there; several processes are not at the same epoch."""
    try:
        yield
    except KeyboardInterrupt:
        if jax.process_count() > 1 or not may_end():
            raise
        save()


def is_true(answer: Any) -> bool:
    """Whether a callback returned True, Python's or an array's; not 1, as `file.write` may."""
    one = isinstance(answer, bool | np.bool | np.ndarray | jax.Array) and np.ndim(answer) == 0
    return one and np.asarray(answer).dtype == bool and bool(answer)


def check_finite(report: Any, trained: np.ndarray, data: Any, saved: Callable[[], str]) -> None:
    """Raise FloatingPointError if a loss of a member that trained is not finite, naming where it began and the cause.

    Not where `optax.apply_if_finite` keeps such gradients from the parameters.

    saved: what to add to the message about the last checkpoint.
    """
    bad = np.argwhere(~np.isfinite(np.asarray(report.losses)) & trained[..., None])
    if not len(bad) or _skipped(report.state):
        return
    *member, first = bad[np.argmin(bad[:, -1])].tolist()
    of_member = f" of member {member[0]}" if member else ""
    value = float(report.losses[(*member, first)])
    raise FloatingPointError(
        f"the cost{of_member} became {value} in epoch {report.epoch}, mini-batch {first + 1}: {_cause(data)}{saved()}"
    )


def _skipped(state: Any) -> bool:
    def is_guard(node: Any) -> bool:
        return isinstance(node, optax.ApplyIfFiniteState)

    guarded = any(map(is_guard, jax.tree.leaves(state.opt_state, is_leaf=is_guard)))
    return guarded and all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(state.params))


def _cause(data: Any) -> str:
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        rows = np.flatnonzero(~np.isfinite(np.asarray(leaf).reshape(len(leaf), -1)).all(axis=1))
        if rows.size:
            name = f"data{jax.tree_util.keystr(path)}"
            padding = "; where it pads sequences, pass a mask" if leaf.ndim > 2 else ""
            return f"{name} is not finite in {rows.size} of {len(leaf)} examples, first in row {rows[0]}{padding}"
    return "the data are finite; lower the learning rate, or look for an overflow or a division by zero in the cost"
