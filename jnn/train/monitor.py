"""The progress bar of `train.fit`, its warnings about the cost, and the answers of callbacks."""

import contextlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnn.typing import CarryState, Grad, PyTree, Report, State


def progress_bar(epochs: int, done: int, stack: contextlib.ExitStack, *, shown: bool) -> list[Callable[[Report], None]]:
    """A list of one callback that draws the bar, on a terminal or in a notebook and with tqdm; else an empty list."""
    if not shown or not is_seen() or jax.process_index() or importlib.util.find_spec("tqdm") is None:
        return []
    from tqdm import tqdm

    bar = stack.enter_context(tqdm(total=epochs, initial=done, unit="epoch"))

    def draw(report: Report) -> None:
        numbers: dict[str, PyTree] = {"cost": report.losses}
        for path, leaf in jax.tree_util.tree_leaves_with_path(report.metrics):
            if jnp.ndim(leaf) < report.losses.ndim:  # one number for each member
                name = jax.tree_util.keystr(path, simple=True, separator=".") or "metric"
                numbers["evaluate." * (name == "cost") + name] = leaf
        bar.set_postfix({name: f"{_mean(value):.4g}" for name, value in numbers.items()}, refresh=False)
        bar.update()

    return [draw]


def is_seen() -> bool:
    """Whether stderr is a terminal or a notebook."""
    interactive = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return sys.stderr.isatty() or interactive() is not None


def is_true(answer: object) -> bool:
    """Whether a callback returned True, of Python or in an array; 1, as `file.write` may return, does not count."""
    scalar = isinstance(answer, bool | np.bool | np.ndarray | jax.Array) and np.ndim(answer) == 0
    return scalar and np.asarray(answer).dtype == bool and bool(answer)


def check_finite(report: Report, trained: np.ndarray, data: PyTree, chunk: int) -> None:
    """Raise FloatingPointError if a loss of a member that trained is not finite, naming where it began and the cause.

    `optax.apply_if_finite`, which skips such gradients, is respected. `chunk` is the number of the chunk in its epoch,
    0 for data in memory.
    """
    bad = np.argwhere(~np.isfinite(np.asarray(report.losses)) & trained[..., None])
    if not len(bad) or _skipped(report.state):
        return
    *member, first = bad[np.argmin(bad[:, -1])].tolist()
    of_member = f" of member {member[0]}" if member else ""
    in_chunk = f", in chunk {chunk}" if chunk else ""
    value = float(report.losses[(*member, first)])
    raise FloatingPointError(
        f"the cost{of_member} became {value} in epoch {report.epoch}, mini-batch {first + 1}{in_chunk}: {_cause(data)}"
    )


def warn_below_zero(report: Report, grad: Grad) -> None:
    """Warns of losses below 0 if a cost is bound to `grad` that is at least 0 for desired outputs in its range."""
    lowest = np.nanmin(np.asarray(report.losses, float), initial=0.0)
    bounded = [node for node in _bound(grad) if getattr(node, "targets", (-np.inf,))[0] > -np.inf]
    if bounded and lowest < -1e-3:  # not by rounding
        least, most = bounded[0].targets
        warnings.warn(
            f"the cost fell to {lowest:.4g} in epoch {report.epoch}; {bounded[0]!r} has a minimum, at least 0, for "
            f"desired outputs in [{least:g}, {most:g}] only: use (y + 1) / 2 for -1 and 1, data.one_hot for labels",
            stacklevel=4,
        )


def _bound(node: PyTree) -> Iterator[PyTree]:
    """A function and, recursively, everything that is bound to it."""
    yield node
    for part in (getattr(node, "func", None), getattr(node, "fun", None), *getattr(node, "args", ())):
        if part is not None:
            yield from _bound(part)
    for part in getattr(node, "keywords", {}).values():
        yield from _bound(part)


def _mean(numbers: PyTree) -> float:
    """The mean without NaN, which members that have stopped return. In NumPy, which compiles nothing."""
    numbers = np.asarray(numbers, float)
    kept = numbers[~np.isnan(numbers)]
    return kept.mean() if kept.size else np.nan


def _skipped(state: State | CarryState) -> bool:
    guarded = optax.tree.get_all_with_path(state.opt_state, "total_notfinite")
    return bool(guarded) and all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(state.params))


def _cause(data: PyTree) -> str:
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        whole = getattr(leaf, "is_fully_addressable", True)  # else each process looks at what it has
        for part in map(np.asarray, [leaf] if whole else [shard.data for shard in leaf.addressable_shards]):
            rows = np.flatnonzero(~np.isfinite(part.reshape(len(part), -1)).all(axis=1))
            if rows.size:
                name = f"data{jax.tree_util.keystr(path)}" + " of this process" * (len(part) < len(leaf))
                padding = "; where it pads sequences, pass a mask" if leaf.ndim > 2 else ""
                return f"{name} is not finite in {rows.size} of {len(part)} examples, first in row {rows[0]}{padding}"
    return "the data are finite; lower the learning rate, or look for an overflow or a division by zero in the cost"
