"""A hand-derived gradient, autodiff and finite differences, compared leaf by leaf."""

import contextlib
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jnn.gradcheck import diagnosis
from jnn.gradcheck.report import Difference, Leaf, Report
from jnn.typing import PyTree

_CHUNK = 256

_KINK = 1e-3
"""How far one-sided differences must be apart at a kink, over the largest; those of smooth functions are closer."""


def compare(
    f: Callable[..., PyTree],
    grad_f: Callable[..., PyTree],
    *args: PyTree,
    tolerance: float | None = None,
    finite_tolerance: float | None = None,
    double: bool = True,
    max_entries: int = 10_000,
) -> Report:
    """Differentiate `f` by its first argument in three ways and report the differences, leaf by leaf.

    args: the arguments of both functions; the derivative is by the first, a pytree of floating leaves of any shape.
    tolerance, finite_tolerance: relative to the largest entry of a leaf, like `Difference.relative`; by default 1e-10
    and 1e-6 in float64, 1e-5 and 1e-2 otherwise.
    double: convert floating arguments to float64 and compute in it, which tells a wrong formula from rounding; with
    False they keep their dtypes. If `grad_f` returns (value, gradient), a wrong value is a row of its own.
    max_entries: central differences, two evaluations for each entry, are taken for at most this many entries of a leaf,
    evenly spaced; autodiff is compared on all of them. Where f has a kink the entry is compared with autodiff only.

    Raises TypeError for a first argument with a leaf that is not floating, ValueError if f is not scalar, if the tree
    of the gradient differs from that of the first argument, or if a tolerance or `max_entries` is not positive.
    """
    tolerance = (1e-10 if double else 1e-5) if tolerance is None else tolerance
    finite_tolerance = (1e-6 if double else 1e-2) if finite_tolerance is None else finite_tolerance
    for name, value in {
        "tolerance": tolerance,
        "finite_tolerance": finite_tolerance,
        "max_entries": max_entries,
    }.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    with jax.enable_x64(True) if double else contextlib.nullcontext():
        args = jax.tree.map(_to_double, args) if double else args
        _check_first(f, args)
        value_by_hand, gradient = _value_and_gradient(grad_f, args)
        hand, anew = jax.tree.leaves(gradient), _anew(f)
        value, auto = jax.jit(jax.value_and_grad(anew))(*args)
        paths, auto = zip(*jax.tree_util.tree_leaves_with_path(auto), strict=True)
        scale = max(float(np.max(np.abs(leaf), initial=0.0)) for leaf in auto)
        rows = []
        for i, path in enumerate(paths):
            some = _entries(auto[i].size, max_entries)
            sides, rounding = _one_sided_differences(anew, args, i, some, float(value))
            smooth = ~_kinks(hand[i], auto[i].shape, sides, some, finite_tolerance, rounding)
            finite = np.mean(sides, axis=0)[smooth]
            rows.append(
                Leaf(
                    jax.tree_util.keystr(path),
                    auto[i].shape,
                    jnp.shape(hand[i]),
                    _difference(hand[i], auto[i].shape, np.ravel(auto[i]), _entries(auto[i].size), scale),
                    _difference(hand[i], auto[i].shape, finite, some[smooth], scale, rounding),
                    int(np.sum(~smooth)),
                )
            )
        if value_by_hand is not None:
            apart = _difference(value_by_hand, (), np.ravel(value), np.arange(1), 0.0)
            exact = Leaf("value", (), jnp.shape(value_by_hand), apart, Difference(0.0, 0.0, (), 0))
            rows += [] if apart.within(tolerance) else [exact]
        report = Report(tuple(rows), tolerance, finite_tolerance)
        return report if report.ok else _diagnosed(report, hand, auto, f, args)


def assert_ok(f: Callable[..., PyTree], grad_f: Callable[..., PyTree], *args: PyTree, **options: PyTree) -> None:
    """Raise AssertionError with the table unless `compare` with the same arguments is ok."""
    report = compare(f, grad_f, *args, **options)
    if not report.ok:
        raise AssertionError(f"the gradient is wrong\n{report}")


def _diagnosed(
    report: Report, hand: list[PyTree], auto: PyTree, f: Callable[..., PyTree], args: tuple[PyTree, ...]
) -> Report:
    """The report with a diagnosis of each wrong leaf."""
    right = {leaf.path: np.asarray(gradient) for leaf, gradient in zip(report.leaves, auto, strict=False)}
    rules = diagnosis.custom_rules(f, args)
    above = diagnosis.right_layers(args[0], [leaf.path for leaf in report.wrong])
    leaves = []
    for leaf, gradient in zip(report.leaves, hand, strict=False):  # the value, if it is wrong, has no gradient
        line = ""
        if leaf in report.wrong and not leaf.autodiff.within(report.tolerance):
            others = {path: other for path, other in right.items() if path != leaf.path}
            line = diagnosis.diagnose(np.asarray(gradient), right[leaf.path], others, diagnosis.counts_of(args))
            line = line or above.get(leaf.path, "")
        elif leaf in report.wrong and rules:
            line = f"autodiff was compared with itself: it uses the derivative that f defines for {', '.join(rules)}"
        leaves.append(leaf._replace(diagnosis=line))
    return report._replace(leaves=(*leaves, *report.leaves[len(leaves) :]))


def _to_double(leaf: PyTree) -> PyTree:
    floats = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return jnp.asarray(leaf, jnp.float64) if floats else leaf


def _check_first(f: Callable[..., PyTree], args: tuple[PyTree, ...]) -> None:
    if not args:
        raise ValueError("args must have at least one argument, the one to differentiate by, got none")
    for path, leaf in jax.tree_util.tree_leaves_with_path(args[0]):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            name = f"params{jax.tree_util.keystr(path)}"
            raise TypeError(
                f"{name} must have a floating dtype to have a gradient, got {dtype}: pass it in a later argument"
            )
    out = jax.eval_shape(f, *args)
    shapes = [leaf.shape for leaf in jax.tree.leaves(out)]
    if shapes != [()]:
        raise ValueError(f"f must return one scalar, got {out}: sum or average it inside f")


def _anew(f: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """A function that JAX traces at each call of `compare`, as what f refers to may have changed."""

    def call(*args: PyTree) -> PyTree:
        return f(*args)

    return call


def _value_and_gradient(grad_f: Callable[..., PyTree], args: tuple[PyTree, ...]) -> tuple[PyTree, PyTree]:
    """Both, or None and the gradient. A tree never equals the pair (leaf, that tree), so the forms differ."""
    out, expected = grad_f(*args), jax.tree.structure(args[0])
    if jax.tree.structure(out) == expected:
        return None, out
    pair = isinstance(out, tuple) and len(out) == 2
    if pair and jax.tree.structure(out[1]) == expected:
        return out
    swapped = pair and jax.tree.structure(out[0]) == expected
    raise ValueError(
        "grad_f must return a tree like the first argument, alone or as (value, gradient): "
        f"{jax.tree.map(jnp.shape, args[0])}, got "
        f"{'(gradient, value): swap them' if swapped else jax.tree.map(jnp.shape, out)}"
    )


def _entries(size: int, most: int | None = None) -> np.ndarray:
    """Flat indices: all, or at most `most`, evenly spaced."""
    return np.arange(size) if most is None or size <= most else np.linspace(0, size - 1, most).astype(int)


def _difference(
    a: PyTree, shape: tuple[int, ...], b: np.ndarray, entries: np.ndarray, scale_of_all: float, rounding: float = 0.0
) -> Difference:
    """`a`, which should have `shape`, at the flat `entries` against `b`, which holds only those entries."""
    a = np.asarray(a)
    if not entries.size or a.shape != shape:
        distance = 0.0 if a.shape == shape else np.inf
        return Difference(distance, distance, (), entries.size)
    apart = np.abs(np.ravel(a)[entries] - b)
    apart = np.where(np.isnan(apart), np.inf, apart)
    worst = int(np.argmax(apart))
    absolute, scale = float(apart[worst]), float(np.max(np.abs(b))) or scale_of_all
    relative = 0.0 if absolute == 0 else absolute / scale if scale > 0 else np.inf
    where = tuple(int(j) for j in np.unravel_index(entries[worst], a.shape))
    return Difference(absolute, relative, where, entries.size, rounding)


def _one_sided_differences(
    f: Callable[..., PyTree], args: tuple[PyTree, ...], i: int, entries: np.ndarray, value: float
) -> tuple[np.ndarray, float]:
    """(f(x) - f(x - h e)) / h and (f(x + h e) - f(x)) / h along the flat `entries` of leaf i of args[0], [2, entries].

    Their mean is the central difference. Also the quotient's rounding. h is the cube root of epsilon, relative for
    entries above 1, which balances truncation and rounding of the central difference.
    """
    if not entries.size:
        return np.zeros((2, 0)), 0.0
    epsilon = float(jnp.finfo(jax.tree.leaves(args[0])[i].dtype).eps)
    cube_root = epsilon ** (1 / 3)
    slopes = jax.jit(functools.partial(_slopes, f, i, cube_root))
    sides = slopes(args, jnp.asarray(entries))
    return np.asarray(sides).T, 8 * epsilon * abs(value) / cube_root


def _slopes(
    f: Callable[..., PyTree], i: int, cube_root: float, args: tuple[PyTree, ...], entries: jax.Array
) -> jax.Array:
    leaves, tree = jax.tree.flatten(args[0])
    flat = jnp.ravel(leaves[i])

    def at(moved: jax.Array) -> PyTree:
        return f(jax.tree.unflatten(tree, [*leaves[:i], moved.reshape(leaves[i].shape), *leaves[i + 1 :]]), *args[1:])

    def slope(k: jax.Array) -> jax.Array:
        h = cube_root * jnp.maximum(1.0, jnp.abs(flat[k]))
        up, down = flat.at[k].add(h), flat.at[k].add(-h)
        return jnp.stack([here - at(down), at(up) - here]) / ((up[k] - down[k]) / 2)

    here = at(flat)
    return jax.lax.map(slope, entries, batch_size=min(_CHUNK, len(entries)))


def _kinks(
    a: PyTree, shape: tuple[int, ...], sides: np.ndarray, entries: np.ndarray, tolerance: float, rounding: float
) -> np.ndarray:
    """Whether f has a kink at each of the `entries`.

    There `a` is not within the tolerance of the central difference, but between the one-sided ones, which disagree.
    """
    if jnp.shape(a) != shape:
        return np.zeros(len(entries), bool)
    scale = float(np.abs(sides).max(initial=0))
    margin = tolerance * scale + rounding
    a, low, high = np.ravel(a)[entries], *np.sort(sides, axis=0)
    off = np.abs(a - (low + high) / 2) > margin
    return off & (low - margin <= a) & (a <= high + margin) & (high - low > _KINK * max(scale, margin))
