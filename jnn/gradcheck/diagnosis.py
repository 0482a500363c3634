"""What a wrong gradient looks like: which mistake turns the right one into it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jnn.typing import PyTree


def diagnose(hand: np.ndarray, right: np.ndarray, others: Mapping[str, np.ndarray], counts: Mapping[str, int]) -> str:
    """One line on how the hand-derived gradient of a leaf differs from the right one; "" if that is not known.

    others: the right gradients of the other leaves, by their names. counts: numbers that a mean may divide by, such as
    that of the examples, by what they are.
    """
    if not np.isfinite(hand).all() or not right.size:
        return ""
    if hand.ndim == 2 and hand.shape == right.shape[::-1] and _close(hand.T, right):
        return "it is the transpose of the right one"
    if hand.shape != right.shape:
        axes = [(axis, n, m) for axis, (n, m) in enumerate(zip(hand.shape, right.shape, strict=False)) if n != m]
        same_rank = hand.ndim == right.ndim
        return "; ".join(f"axis {axis} has {n} entries instead of {m}" for axis, n, m in axes) if same_rank else ""
    if not hand.any():
        return "it is 0 everywhere"
    return (
        _factor(hand, right, counts)
        or next((f"it is that of {name}" for name, other in others.items() if _close(hand, other)), "")
        or _moved(hand, right)
        or _confined(hand, right)
        or _factors(hand, right)
    )


def custom_rules(f: PyTree, args: tuple[PyTree, ...]) -> list[str]:
    """The names of functions in `f` that have a derivative of their own, which autodiff uses."""
    found: dict[str, None] = {}

    def visit(jaxpr: Any) -> None:
        jaxpr = jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr
        for equation in jaxpr.eqns:
            if equation.primitive.name.startswith(("custom_jvp_call", "custom_vjp_call")):
                inner = equation.params.get("call_jaxpr") or equation.params.get("fun_jaxpr")
                name = str(getattr(getattr(inner.jaxpr, "debug_info", None), "func_name", "a function"))
                found[name.rsplit(".", 1)[-1]] = None
            for part in jax.tree.leaves(equation.params):
                if isinstance(part, core.ClosedJaxpr | core.Jaxpr):
                    visit(part)

    visit(jax.make_jaxpr(f)(*args))
    return list(found)


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to rounding, and not both 0."""
    if a.shape != b.shape:
        return False
    scale = np.max(np.abs(b), initial=0.0)
    return bool(scale > 0 and np.max(np.abs(a - b)) <= np.sqrt(np.finfo(b.dtype).eps) * scale)


def _factor(hand: np.ndarray, right: np.ndarray, counts: Mapping[str, int]) -> str:
    square = np.vdot(right, right)
    factor = float(np.vdot(right, hand) / square) if square else 0.0
    if not _close(hand, factor * right):
        return ""
    for what, n in counts.items():
        for times, shown in ((n, f"{n}"), (1 / n, f"1/{n}"), (-n, f"-{n}"), (-1 / n, f"-1/{n}")):
            if n > 1 and np.isclose(factor, times, rtol=1e-4, atol=0):
                return f"it is {shown} times the right one, and {n} is {what}"
    return "" if np.isclose(factor, 1, rtol=1e-3) else f"it is {factor:.4g} times the right one"


def _moved(hand: np.ndarray, right: np.ndarray) -> str:
    for axis in range(hand.ndim):
        where = f"axis {axis}" if hand.ndim > 1 else "its axis"
        if hand.shape[axis] < 2:
            continue
        if _close(hand, np.flip(right, axis)):
            return f"it is the right one, reversed along {where}"
        for by in (1, -1):
            kept = slice(1, None) if by > 0 else slice(None, -1)
            part = (slice(None),) * axis + (kept,)
            if _close(hand[part], np.roll(right, by, axis)[part]):
                return f"it is the right one, moved by {by} along {where}"
    return ""


def _confined(hand: np.ndarray, right: np.ndarray) -> str:
    """Where the mistake is, if it is at one index of an axis only."""
    wrong = np.abs(hand - right) > np.sqrt(np.finfo(right.dtype).eps) * np.max(np.abs(right), initial=0.0)
    if hand.size < 2 or not wrong.any():
        return ""
    found: list[tuple[int, int]] = []
    for axis in range(wrong.ndim):
        indices = np.flatnonzero(wrong.any(axis=tuple(a for a in range(wrong.ndim) if a != axis)))
        if len(indices) == 1 and wrong.shape[axis] > 1:
            found.append((axis, int(indices[0])))
    if not found:
        return ""
    if wrong.sum() == 1:
        return f"only its entry {[int(i) for i in np.argwhere(wrong)[0]]} is wrong"
    axis, index = found[0]
    part = np.take(hand, index, axis)
    is_end = {0: ", the first,", hand.shape[axis] - 1: ", the last,"}.get(index, "")
    state = "missing" if not part.any() else "wrong"
    return f"only index {index} of axis {axis}{is_end} is {state}"


def _factors(hand: np.ndarray, right: np.ndarray) -> str:
    """Whether each row, or each column, has a factor of its own."""
    if hand.ndim != 2:
        return ""
    for axis, each in ((1, "row"), (0, "column")):
        square = np.sum(right**2, axis=axis, keepdims=True)
        factors = np.sum(hand * right, axis=axis, keepdims=True) / np.where(square > 0, square, 1)
        if hand.shape[axis] > 1 and _close(hand, factors * right):
            return f"each {each} has a factor of its own, from {factors.min():.3g} to {factors.max():.3g}"
    return ""


def right_layers(params: PyTree, wrong: Sequence[str]) -> dict[str, str]:
    """What to say of the highest wrong layer, where `params` are layers and those above it are right."""
    if not isinstance(params, tuple | list) or not wrong:
        return {}
    layers = sorted({int(match.group(1)) for path in wrong if (match := re.match(r"\[(\d+)\]", path))})
    if not layers or layers != list(range(len(layers))) or layers[-1] == len(params) - 1:
        return {}
    top = layers[-1]
    said = f"[{top + 1}] is right, so look at what it hands down: its w^T delta, times the slope of the activation"
    return {path: said for path in wrong if path.startswith(f"[{top}]")}


def counts_of(args: Sequence[PyTree]) -> dict[str, int]:
    """The leading axis of each array after the first argument."""
    return {
        f"the length of axis 0 of args[{i}]": np.shape(leaf)[0]
        for i, arg in enumerate(args)
        for leaf in jax.tree.leaves(arg)
        if i and np.ndim(leaf)
    }
