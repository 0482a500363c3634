"""Chapter 4: networks that compute any function, as ordinary `mlp` parameters.

Steep sigmoid neurons make steps, two steps on each axis make the indicator of a box, and a linear output weights the
indicators with the values of f. The results are evaluated by `mlp.forward`, differentiated and trained like any other
parameters.

Weights that are powers of two make the steps sharp to the last bit, as w s is then exact: so are the defaults.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnn import _checks
from jnn.mlp import Layer, Params

Axes = float | Sequence[float] | np.ndarray | Array
"""One number for each axis of R^m; one alone where m = 1, or for all axes alike."""

STEEPNESS = 1000.0
"""The least default steepness of a step, as weight times bin width: it rises from 0.01 to 0.99 in 1 % of the bin."""

HEIGHT = 128.0
"""The default h: an indicator's neuron is off to within exp(-64), less than half a unit in the last place of 1."""


def step(s: float, w: float = 1024.0, *, dtype: jax.typing.DTypeLike = jnp.float32) -> Params:
    """One sigmoid neuron that steps up from 0 to 1 at s: weight w, bias -s w (section 4.1, figure 4.1).

    sigma(w (x - s)) differs from the step by at most exp(-w |x - s|), and is 1/2 at x = s.

    Raises ValueError unless w > 0 and s is finite.
    """
    _checks.positive("w", w)
    _check_finite("s", s)
    return (_steps([np.array([s])], np.array([w]), dtype),)


def rectangle(
    s1: float, s2: float, *, w: float | None = None, h: float = HEIGHT, dtype: jax.typing.DTypeLike = jnp.float32
) -> Params:
    """The network of figure 4.2: sigma(h a_1 - h a_2 - h/2) is near 1 for x in (s1, s2) and near 0 outside.

    a_1 and a_2 step up at s1 and s2, where the output is 1/2. Layers: w [2, 1] and [1, 2]; evaluate it by
    `mlp.forward(rectangle(s1, s2), x)` with x [1]. `w` is chosen from s2 - s1 unless it is given.

    Raises ValueError unless s1 < s2, w > 0 and h > 0.
    """
    _checks.below("s1", s1, "s2", s2)
    return tower(s1, s2, w=w, h=h, dtype=dtype)


def tower(
    lower: Axes,
    upper: Axes,
    *,
    w: Axes | None = None,
    h: float = HEIGHT,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Params:
    """The network of figure 4.6 for a box in R^m: near 1 inside the box from `lower` to `upper`, near 0 outside.

    Each axis adds h (a_lower - a_upper), which is h inside its interval and at most h/2 outside, to the output's
    weighted input; its bias is -(2m-1) h/2. (The notes print -3h/2 for m = 2 and -5h/2 for m = 3, and -(2h-1)/2
    for any m; (m-1) h to m h in absolute value would do.) Layers: w [2m, m] and [1, 2m]. The output is 1/2 on a
    face, and near 0 on an edge, where two axes are at their knots. `w` is one weight or one for each axis.

    Raises ValueError unless lower < upper on every axis, w > 0 and h > 0.
    """
    knots = _knots(*_box(lower, upper, 1), dtype)
    return _indicators(knots, _weights(w, knots), h, dtype)


def approximate(
    f: Callable[[Float[Array, " m"]], Any],
    lower: Axes,
    upper: Axes,
    bins: int | Sequence[int],
    *,
    w: Axes | None = None,
    h: float = HEIGHT,
    samples: int = 1,
    max_bytes: int = 2**30,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Params:
    """A network with two hidden layers that is near f: R^m -> R^n on the box from `lower` to `upper` (4.2, 4.3).

    f maps x [m] to [n] or to a number (n = 1), in JAX. The box is cut into `bins` intervals along each axis, one
    number or one for each; an indicator neuron for each of the prod(bins) cells feeds the linear output with the
    value of f at the cell's centre, or with its mean over `samples` points along each axis. Step neurons are shared
    by all cells: m (bins + 1) of them. Evaluate by `mlp.forward(net, x, output=activations.identity)`.

    Layers, S = sum(bins + 1) and B = prod(bins): w [S, m], [B, S] and [n, B]; `parameter_bytes` says the memory.

    Let x be at a distance from every knot s of its axis k: w_k |x_k - s| >= t. Then the network is near the
    piecewise-constant function p it stands for, |net(x) - p(x)| <= leak(bins, t, h=h) max|p|, and so

        |net(x) - f(x)| <= omega(r) + leak(bins, t, h=h) max|p|,

    where r is half the diagonal of a cell and omega(r) the most that f changes over a distance r. With the default
    w and h the second term is below 1e-12 beyond 1 % of a bin from every knot. At a knot of one axis the two
    indicators are 1/2 each and the output is the mean of the two cells (half the cell's value, on the boundary of
    the box); where knots of two axes cross, all indicators are near 0, and so is the output. Outside the box, too.

    Raises ValueError unless lower < upper on every axis, bins >= 1, w > 0, h > 0 and samples >= 1; when knots
    coincide in dtype, when f gives no vector or a value that is not finite (says where), and when the parameters
    take more than `max_bytes`; TypeError for bins or samples that are no whole numbers.
    """
    _checks.count("samples", samples)
    lower, upper, bins = _box(lower, upper, bins)
    n = _outputs(f, len(bins), dtype)
    _check_memory(bins, n, dtype, max_bytes)
    knots = _knots(lower, upper, bins, dtype)
    indicators = _indicators(knots, _weights(w, knots), h, dtype)
    heights = _heights(f, knots, samples, dtype).reshape(-1, n)
    return (*indicators, Layer(w=heights.T, b=jnp.zeros(n, dtype)))


def leak(bins: Sequence[int], t: float | Float[Array, ""], *, h: float = HEIGHT) -> Float[Array, ""]:
    """How far the network of `approximate` can be from its piecewise-constant function, per unit of its maximum.

    This holds where w_k |x_k - s| >= t for every knot s of every axis k. Every step is then within
    e = sigma(-t) of 0 or 1. The weighted input of the cell's own indicator is at least h (1/2 - 2 m e), of any other
    at most -h (1/2 - e), so that together they err by at most B sigma(-h (1/2 - 2 m e)) with B = prod(bins).
    """
    e = jax.nn.sigmoid(-jnp.asarray(t))
    return math.prod(bins) * jax.nn.sigmoid(-h * (0.5 - 2 * len(bins) * e))


def parameter_bytes(bins: Sequence[int], n: int, *, dtype: jax.typing.DTypeLike = jnp.float32) -> int:
    """The memory of `approximate`'s parameters in bytes: S m + S + B S + B + n B + n numbers."""
    steps, cells = sum(b + 1 for b in bins), math.prod(bins)
    return jnp.dtype(dtype).itemsize * (steps * len(bins) + steps + cells * steps + cells + n * cells + n)


def _steps(knots: list[np.ndarray], w: np.ndarray, dtype: jax.typing.DTypeLike) -> Layer:
    """One neuron for each knot of each axis: weight w_k from input k alone, bias -s w_k (section 4.1)."""
    weights = np.concatenate([np.full(len(s), w_k) for s, w_k in zip(knots, w, strict=True)])
    axis = np.repeat(np.arange(len(knots)), [len(s) for s in knots])
    return Layer(
        w=jnp.asarray(weights[:, None] * np.eye(len(knots))[axis], dtype),
        b=jnp.asarray(-weights * np.concatenate(knots), dtype),
    )


def _indicators(knots: list[np.ndarray], w: np.ndarray, h: float, dtype: jax.typing.DTypeLike) -> Params:
    """Steps, then a neuron for each cell: h (a_lower - a_upper) summed over the axes, bias -(2m-1) h/2 (4.3)."""
    _checks.positive("h", h)
    bins = [len(s) - 1 for s in knots]
    cells = np.indices(bins).reshape(len(bins), -1)  # the last axis varies fastest
    intervals = [h * (np.eye(b, b + 1, dtype=dtype) - np.eye(b, b + 1, k=1, dtype=dtype)) for b in bins]
    weights = np.hstack([interval[rows] for interval, rows in zip(intervals, cells, strict=True)])
    bias = -(2 * len(bins) - 1) * h / 2
    return (
        _steps(knots, w, dtype),
        Layer(w=jnp.asarray(weights, dtype), b=jnp.full(len(weights), bias, dtype)),
    )


def _heights(f: Callable[[Any], Any], knots: list[np.ndarray], samples: int, dtype: jax.typing.DTypeLike) -> Array:
    """The mean of f over the `samples`^m midpoints of every cell [B, n], or [B]; with one sample its centre."""
    offsets = (np.arange(samples) + 0.5) / samples
    points = [(s[:-1, None] + np.diff(s)[:, None] * offsets).ravel() for s in knots]
    grid = np.stack(np.meshgrid(*points, indexing="ij"), axis=-1).reshape(-1, len(knots))
    values = jax.vmap(f)(jnp.asarray(grid, dtype))
    finite = np.isfinite(np.asarray(values)).reshape(len(grid), -1).all(axis=1)
    if not finite.all():
        where = ", ".join(f"{x:g}" for x in grid[np.argmin(finite)])
        raise ValueError(
            f"f is not finite at x = [{where}], {np.sum(~finite)} of {len(grid)} points: choose a box in which it is"
        )
    split = [size for s in knots for size in (len(s) - 1, samples)]
    return values.reshape(*split, -1).mean(axis=tuple(range(1, len(split), 2))).astype(dtype)


def _outputs(f: Callable[[Any], Any], m: int, dtype: jax.typing.DTypeLike) -> int:
    """n, from the shape of what f returns."""
    out = jax.eval_shape(f, jax.ShapeDtypeStruct((m,), dtype))
    if not isinstance(out, jax.ShapeDtypeStruct) or out.ndim > 1 or out.size == 0:
        raise ValueError(f"f gives {out} for x of shape {(m,)}; an array of shape [n], or a number, is wanted")
    return out.size


def _box(lower: Axes, upper: Axes, bins: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """The corners [m] and the number of bins along each axis, checked."""
    lower, upper = (np.atleast_1d(np.asarray(end, np.float64)) for end in (lower, upper))
    if lower.shape != upper.shape or lower.ndim > 1:
        raise ValueError(f"lower has shape {lower.shape} and upper {upper.shape}; one number an axis is wanted in each")
    counts: tuple[int, ...] = tuple(bins) if isinstance(bins, Sequence) else (bins,) * len(lower)
    if len(counts) != len(lower):
        raise ValueError(f"bins has {len(counts)} entries; one number is wanted, or one for each of {len(lower)} axes")
    for k, b in enumerate(counts):
        _checks.count(f"bins[{k}]", b)
        _checks.below(f"lower[{k}]", lower[k], f"upper[{k}]", upper[k])
    return lower, upper, counts


def _knots(lower: np.ndarray, upper: np.ndarray, bins: Sequence[int], dtype: jax.typing.DTypeLike) -> list[np.ndarray]:
    """The ends of the bins along each axis, as numbers of `dtype`."""
    knots = [
        np.linspace(low, high, b + 1).astype(jnp.dtype(dtype)).astype(np.float64)
        for low, high, b in zip(lower, upper, bins, strict=True)
    ]
    for k, s in enumerate(knots):
        if not np.all(np.diff(s) > 0):
            raise ValueError(
                f"the {len(s)} knots from {lower[k]} to {upper[k]} on axis {k} coincide in {jnp.dtype(dtype)}: "
                "use fewer bins, or move the box towards 0"
            )
    return knots


def _weights(w: Axes | None, knots: list[np.ndarray]) -> np.ndarray:
    """One step weight for each axis: given, or the power of two next above STEEPNESS / bin width."""
    if w is None:
        widths = np.array([(s[-1] - s[0]) / (len(s) - 1) for s in knots])
        return np.exp2(np.ceil(np.log2(STEEPNESS / widths)))
    _checks.positive("w", w)
    if np.shape(w) not in ((), (len(knots),)):
        raise ValueError(f"w has shape {np.shape(w)}; one number is wanted, or one for each of {len(knots)} axes")
    return np.broadcast_to(np.asarray(w, np.float64), len(knots))


def _check_finite(name: str, value: Any) -> None:
    if not np.isfinite(value):
        raise ValueError(f"{name} is {value}; a finite number is wanted")


def _check_memory(bins: Sequence[int], n: int, dtype: jax.typing.DTypeLike, max_bytes: int) -> None:
    needed = parameter_bytes(bins, n, dtype=dtype)
    if needed > max_bytes:
        raise ValueError(
            f"bins {tuple(bins)} make {math.prod(bins)} indicators of {sum(bins) + len(bins)} steps, which take "
            f"{needed / 2**20:.0f} MiB; at most max_bytes = {max_bytes / 2**20:.0f} MiB is wanted: use fewer bins, "
            "or raise max_bytes"
        )
