"""A hand-derived gradient, autodiff and finite differences, compared leaf by leaf."""

import contextlib
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnn._internal import checks
from jnn.gradcheck import diagnosis
from jnn.gradcheck.report import Difference, Leaf, Report
from jnn.typing import PyTree

_CHUNK = 256

_KINK = 1e-3
"""The least relative gap between the one-sided differences at a kink; smooth functions have smaller ones."""


class _Slopes(NamedTuple):
    """The one-sided differences at some flat entries of a leaf, [2, entries], and a bound on their rounding."""

    entries: np.ndarray
    sides: np.ndarray
    rounding: float


_NO_SLOPES = _Slopes(np.arange(0), np.zeros((2, 0)), 0.0)


def compare(
    f: Callable[..., PyTree],
    grad_f: Callable[..., PyTree],
    *args: PyTree,
    tolerance: float | None = None,
    finite_tolerance: float | None = None,
    double: bool = True,
    max_entries: int = 10_000,
) -> Report:
    """Compares a hand-derived gradient with autodiff and with central differences, leaf by leaf.

    Where f has a kink, as a relu has at 0, the entry is compared with autodiff only.

    Args:
      f: The function, which returns a scalar of floating dtype.
      grad_f: Its gradient with respect to the first argument, alone or as (value, gradient). If the value is wrong, the
        report has a row for it.
      *args: The arguments of both functions. The first is a pytree of floating leaves of any shape. Bind arguments that
        are not arrays, such as flags, to both functions with `functools.partial`.
      tolerance: The largest difference from autodiff, relative to the largest entry of a leaf: 1e-10 by default, 1e-5
        without `double`.
      finite_tolerance: The same for central differences: 1e-6 by default, 1e-2 without `double`.
      double: Whether to compute in float64, where a wrong formula stands out from rounding. Otherwise arguments keep
        their dtypes.
      max_entries: Central differences, two evaluations for each entry, are taken for at most this many entries of a
        leaf, evenly spaced; autodiff is compared on all of them.

    Returns:
      The report, which prints as a table and is true if the gradient is right.

    Raises:
      ValueError: If f does not return a scalar, if the tree of the gradient differs from that of the first argument, or
        if a tolerance or `max_entries` is not positive.
      TypeError: If f does not return a floating dtype, if a leaf of the first argument is not floating, or if an
        argument or a result of `grad_f` is not an array.

    Example:
      >>> report = gradcheck.compare(lambda p: jnp.sum(p**2), lambda p: 3 * p, jnp.ones(2))
      >>> report.leaves[0].diagnosis
      'it is 1.5 times the right one'
    """
    tolerance = (1e-10 if double else 1e-5) if tolerance is None else tolerance
    finite_tolerance = (1e-6 if double else 1e-2) if finite_tolerance is None else finite_tolerance
    _check_options(tolerance, finite_tolerance, max_entries)
    checks.function("f", f)
    checks.function("grad_f", grad_f)
    with jax.enable_x64(True) if double else contextlib.nullcontext(), np.errstate(invalid="ignore"):
        args = _arrays(args, double)
        _check_scalar(f, args)
        value_by_hand, gradient = _value_and_gradient(grad_f, args)
        fresh = functools.partial(f)  # traced at each call of `compare`, as the globals of f may have changed
        value, auto = jax.jit(jax.value_and_grad(fresh))(*args)
        hand, right = ([np.asarray(leaf) for leaf in jax.tree.leaves(tree)] for tree in (gradient, auto))
        scale = max(float(np.max(np.abs(leaf), initial=0.0)) for leaf in right)
        rows = []
        for i, (path, _) in enumerate(jax.tree_util.tree_leaves_with_path(auto)):
            slopes = _one_sided(fresh, args, i, max_entries, float(value))
            rows.append(_leaf(jax.tree_util.keystr(path), hand[i], right[i], scale, slopes, finite_tolerance))
        report = Report(tuple(rows), tolerance, finite_tolerance)
        report = report if report.ok else _diagnosed(report, hand, right, f, args)
        if value_by_hand is None:
            return report
        row = _leaf("value", np.asarray(value_by_hand), np.asarray(value), 0.0, _NO_SLOPES, 0.0)
        return report if row.autodiff.within(tolerance) else report._replace(leaves=(*report.leaves, row))


def assert_ok(f: Callable[..., PyTree], grad_f: Callable[..., PyTree], *args: PyTree, **options: PyTree) -> None:
    """Raises AssertionError with the table of `compare` unless the gradient is right.

    Args:
      f: The function.
      grad_f: Its gradient.
      *args: The arguments of both.
      **options: The keyword arguments of `compare`.

    Raises:
      AssertionError: If the gradient is wrong; other errors as in `compare`.

    Example:
      >>> gradcheck.assert_ok(lambda p: jnp.sum(p**2), lambda p: 2 * p, jnp.ones(2))
    """
    report = compare(f, grad_f, *args, **options)
    if not report.ok:
        raise AssertionError(f"the gradient is wrong\n{report}")


def _diagnosed(
    report: Report, hand: list[np.ndarray], right: list[np.ndarray], f: Callable[..., PyTree], args: tuple[PyTree, ...]
) -> Report:
    """The report with a diagnosis of each wrong leaf."""
    named = {leaf.path: gradient for leaf, gradient in zip(report.leaves, right, strict=True)}
    rules, wrong = diagnosis.custom_rules(f, args), report.wrong
    above = diagnosis.right_layers(args[0], [leaf.path for leaf in wrong])

    def line(leaf: Leaf, gradient: np.ndarray) -> str:
        if leaf not in wrong:
            return ""
        if leaf.autodiff.within(report.tolerance):
            shared = f"autodiff was compared with itself: it uses the derivative that f defines for {', '.join(rules)}"
            return shared if rules else ""
        others = {path: other for path, other in named.items() if path != leaf.path}
        known = diagnosis.diagnose(gradient, named[leaf.path], others, diagnosis.counts_of(args))
        return known or above.get(leaf.path, "")

    pairs = zip(report.leaves, hand, strict=True)
    return report._replace(leaves=tuple(leaf._replace(diagnosis=line(leaf, gradient)) for leaf, gradient in pairs))


def _check_options(tolerance: float, finite_tolerance: float, max_entries: int) -> None:
    for name, value in (("tolerance", tolerance), ("finite_tolerance", finite_tolerance)):
        if not isinstance(value, int | float | np.number | jax.Array) or isinstance(value, bool) or np.ndim(value):
            raise TypeError(f"{name} must be one number, got {value!r}")
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    checks.count("max_entries", max_entries)


def _arrays(args: tuple[PyTree, ...], double: bool) -> tuple[PyTree, ...]:
    """The checked arguments; with `double`, floating ones in float64. The first must be floating arrays."""
    if not args:
        raise ValueError("args must have at least one argument, the one to differentiate with respect to, got none")
    for i, arg in enumerate(args):
        checks.arrays(f"args[{i}]" if i else "params", arg, "bind it to f and to grad_f with functools.partial")
    params, *rest = jax.tree.map(checks.converted, args)
    params = jax.tree.map(jnp.asarray, params)
    if not jax.tree.leaves(params):
        raise ValueError(f"params must hold at least one array to differentiate with respect to, got {params}")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            name = f"params{jax.tree_util.keystr(path)} must have a floating dtype to have a gradient"
            raise TypeError(f"{name}, got {leaf.dtype}: pass it in a later argument")
    return jax.tree.map(_to_double, (params, *rest)) if double else (params, *rest)


def _check_scalar(f: Callable[..., PyTree], args: tuple[PyTree, ...]) -> None:
    with checks.traced({f"args[{i}]": arg for i, arg in enumerate(args) if i}):
        out = jax.eval_shape(f, *args)
    if not isinstance(out, jax.ShapeDtypeStruct) or out.shape:
        raise ValueError(f"f must return one scalar, got {out}: sum or average it inside f")
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise TypeError(f"f must return a scalar of floating dtype, got {out.dtype}")


def _to_double(leaf: PyTree) -> PyTree:
    floats = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return jnp.asarray(leaf, jnp.float64) if floats else leaf


def _value_and_gradient(grad_f: Callable[..., PyTree], args: tuple[PyTree, ...]) -> tuple[PyTree, PyTree]:
    """The value, or None, and the gradient. A tree never has the structure of (leaf, that tree): the forms differ."""
    out, expected, leaf = grad_f(*args), jax.tree.structure(args[0]), jax.tree.structure(0)
    pair = [jax.tree.structure(part) for part in out] if isinstance(out, tuple) else []
    if jax.tree.structure(out) == expected:
        value, gradient = None, out
    elif pair == [leaf, expected]:
        value, gradient = out
    else:
        swapped = pair == [expected, leaf]
        given = "(gradient, value): swap them" if swapped else jax.tree.map(np.shape, out)
        wanted = f"a tree like the first argument, alone or as (value, gradient): {jax.tree.map(jnp.shape, args[0])}"
        raise ValueError(f"grad_f must return {wanted}, got {given}")
    for name, tree in (("value", value), ("gradient", gradient)):
        for leaf in jax.tree.leaves(tree):
            checks.unmasked(name, leaf)
            dtype = leaf.dtype if isinstance(leaf, jax.Array) else np.asarray(leaf).dtype  # NumPy has more of them
            if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
                raise TypeError(f"the {name} that grad_f returns must hold real numbers, got {dtype}")
    return value, gradient


def _leaf(path: str, a: np.ndarray, b: np.ndarray, scale: float, slopes: _Slopes, tolerance: float) -> Leaf:
    """The row that compares `a`, derived by hand, with `b` and with the slopes."""
    if a.shape != b.shape:
        exact, finite = (Difference(np.inf, np.inf, (), n) for n in (b.size, slopes.entries.size))
        return Leaf(path, b.shape, a.shape, exact, finite)
    smooth = ~_kinks(np.ravel(a)[slopes.entries], slopes, tolerance)
    central = np.mean(slopes.sides, axis=0)
    exact = _difference(a, np.ravel(b), np.arange(b.size), scale)
    finite = _difference(a, central[smooth], slopes.entries[smooth], scale, slopes.rounding)
    return Leaf(path, b.shape, a.shape, exact, finite, int(np.sum(~smooth)))


def _difference(
    a: np.ndarray, b: np.ndarray, entries: np.ndarray, scale_of_all: float, rounding: float = 0.0
) -> Difference:
    """Compares `a` at the flat `entries` with `b`, which holds only those."""
    if not entries.size:
        return Difference(0.0, 0.0, (), 0)
    apart = np.abs(np.ravel(a)[entries] - b)
    apart = np.where(np.isnan(apart), np.inf, apart)
    worst = int(np.argmax(apart))
    absolute, scale = float(apart[worst]), float(np.max(np.abs(b))) or scale_of_all
    relative = 0.0 if absolute == 0 else absolute / scale if scale > 0 else np.inf
    where = tuple(int(j) for j in np.unravel_index(entries[worst], a.shape))
    return Difference(absolute, relative, where, entries.size, rounding)


def _one_sided(f: Callable[..., PyTree], args: tuple[PyTree, ...], i: int, most: int, value: float) -> _Slopes:
    """(f(x) - f(x - h e)) / h and (f(x + h e) - f(x)) / h along at most `most` entries of leaf i of args[0].

    Their mean is the central difference. h is the cube root of epsilon, relative for entries above 1, which balances
    truncation and rounding of the central difference.
    """
    leaf = jax.tree.leaves(args[0])[i]
    if not leaf.size:
        return _NO_SLOPES
    entries = np.linspace(0, leaf.size - 1, min(leaf.size, most)).astype(int)
    epsilon = float(jnp.finfo(leaf.dtype).eps)
    cube_root = epsilon ** (1 / 3)
    sides = jax.jit(functools.partial(_slopes, f, i, cube_root))(args, jnp.asarray(entries))
    return _Slopes(entries, np.asarray(sides).T, 8 * epsilon * abs(value) / cube_root)


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


def _kinks(a: np.ndarray, slopes: _Slopes, tolerance: float) -> np.ndarray:
    """Whether f has a kink at each of the entries.

    At a kink, `a` is outside the tolerance of the central difference but between the one-sided ones, which disagree.
    """
    low, high = np.sort(slopes.sides, axis=0)
    scale = float(np.abs(slopes.sides).max(initial=0))
    margin = tolerance * scale + slopes.rounding
    off = np.abs(a - (low + high) / 2) > margin
    return off & (low - margin <= a) & (a <= high + margin) & (high - low > _KINK * max(scale, margin))
