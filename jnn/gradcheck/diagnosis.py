"""Recognises common mistakes in a wrong gradient, such as a transpose or a missing factor."""

import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jnn.typing import PyTree


def diagnose(hand: np.ndarray, right: np.ndarray, others: Mapping[str, np.ndarray], counts: Mapping[str, int]) -> str:
    """Describes in one line how the hand-derived gradient of a leaf differs from the right one; "" if unknown.

    Args:
      hand: The hand-derived gradient.
      right: The right one.
      others: The right gradients of the other leaves, by name.
      counts: Numbers that a mean may divide by, such as the number of examples, by description.
    """
    if not np.isfinite(hand).all() or not right.size:
        return ""
    if hand.ndim == 2 and hand.shape == right.shape[::-1] and _close(hand.T, right):
        return "it is the transpose of the right one"
    if hand.shape != right.shape:
        sizes = zip(hand.shape, right.shape, strict=False) if hand.ndim == right.ndim else ()
        return "; ".join(f"axis {axis} has {n} entries instead of {m}" for axis, (n, m) in enumerate(sizes) if n != m)
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
    """The names of the functions in `f` with a custom derivative, which autodiff uses."""
    program = str(jax.make_jaxpr(f)(*args))
    return list(dict.fromkeys(re.findall(r"custom_(?:jvp|vjp)_call\[\s*name=(\S+)", program)))


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to rounding, and not both 0."""
    scale = np.max(np.abs(b), initial=0.0)
    if a.shape != b.shape or scale == 0:
        return False
    return bool(np.max(np.abs(a - b)) <= np.sqrt(np.finfo(b.dtype).eps) * scale)


def _factor(hand: np.ndarray, right: np.ndarray, counts: Mapping[str, int]) -> str:
    factors = _ratios(hand, right)
    if factors is None:
        return ""
    factor = factors.item()
    sign = "-" if factor < 0 else ""
    for what, n in counts.items():
        for shown, times in ((f"{n}", n), (f"1/{n}", 1 / n)):
            if n > 1 and np.isclose(abs(factor), times, rtol=1e-4, atol=0):
                return f"it is {sign}{shown} times the right one, and {n} is {what}"
    return "" if np.isclose(factor, 1, rtol=1e-3) else f"it is {factor:.4g} times the right one"


def _moved(hand: np.ndarray, right: np.ndarray) -> str:
    for axis in range(hand.ndim):
        a, b = np.moveaxis(hand, axis, 0), np.moveaxis(right, axis, 0)
        moves = {"reversed": (a, b[::-1]), "moved by 1": (a[1:], b[:-1]), "moved by -1": (a[:-1], b[1:])}
        for move, (moved, original) in moves.items():
            if len(a) > 1 and _close(moved, original):
                return f"it is the right one, {move} along {f'axis {axis}' if hand.ndim > 1 else 'its axis'}"
    return ""


def _confined(hand: np.ndarray, right: np.ndarray) -> str:
    """Locates a mistake that is confined to one index of an axis."""
    wrong = np.argwhere(np.abs(hand - right) > np.sqrt(np.finfo(right.dtype).eps) * np.max(np.abs(right), initial=0.0))
    if len(wrong) == 1 and hand.size > 1:
        return f"only its entry {wrong[0].tolist()} is wrong"
    for axis, indices in enumerate(map(np.unique, wrong.T)):
        if len(indices) == 1 < hand.shape[axis]:
            end = {0: ", the first,", hand.shape[axis] - 1: ", the last,"}.get(indices[0], "")
            state = "wrong" if np.take(hand, indices[0], axis).any() else "missing"
            return f"only index {indices[0]} of axis {axis}{end} is {state}"
    return ""


def _factors(hand: np.ndarray, right: np.ndarray) -> str:
    """Whether the rows, or the columns, have different factors."""
    for axis, each in ((1, "row"), (0, "column")) if hand.ndim == 2 else ():
        factors = _ratios(hand, right, axis)
        if factors is not None and hand.shape[axis] > 1:
            return f"each {each} has a factor of its own, from {factors.min():.3g} to {factors.max():.3g}"
    return ""


def _ratios(hand: np.ndarray, right: np.ndarray, axis: int | None = None) -> np.ndarray | None:
    """The factor, or the factors along an axis, that turn `right` into `hand`; None if there are none."""
    square = np.sum(right**2, axis=axis, keepdims=True)
    factors = np.sum(hand * right, axis=axis, keepdims=True) / np.where(square > 0, square, 1)
    return factors if _close(hand, factors * right) else None


def right_layers(params: PyTree, wrong: Sequence[str]) -> dict[str, str]:
    """A hint for the highest wrong layer, if `params` are layers and those above it are right."""
    n = len(params) if isinstance(params, tuple | list) else 0
    layers = [l for l in range(n) if any(path.startswith(f"[{l}]") for path in wrong)]
    if not layers or layers != list(range(len(layers))) or len(layers) == n:
        return {}
    *_, top = layers
    said = f"[{top + 1}] is right, so look at what it hands down: its w^T delta, times the slope of the activation"
    return {path: said for path in wrong if path.startswith(f"[{top}]")}


def counts_of(args: Sequence[PyTree]) -> dict[str, int]:
    """The length of the leading axis of each array after the first argument."""
    return {
        f"the length of axis 0 of args[{i}]": np.shape(leaf)[0]
        for i, arg in enumerate(args)
        for leaf in jax.tree.leaves(arg)
        if i and np.ndim(leaf)
    }
