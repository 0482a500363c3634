"""Chapter 4: networks that compute any function, as ordinary `mlp` parameters.

Steep sigmoid neurons make steps, two steps on each axis make the indicator of a box, and a linear output weights the
indicators by the values of f. The results are evaluated by `mlp.forward`, differentiated and trained like any other
parameters.

Weights that are powers of two, like the defaults, place the steps exactly, since w s is then not rounded. That needs
products at full precision: on accelerators evaluate under `jax.default_matmul_precision("highest")`.

All functions raise ValueError for weights and h that are not positive, for bins and counts below 1, and for boxes whose
lower corner is not below the upper one on every axis. They raise TypeError for arguments that are not numbers, or not
integers where integers are needed, and for a dtype that is not real.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jnn._internal import checks
from jnn.mlp import Layer, Params
from jnn.typing import PyTree, Scalar

Axes = Scalar | Sequence[int | float] | np.ndarray
"""One number for each axis of R^m, or a single number for all axes."""

Bins = int | np.integer | Sequence[int | np.integer] | np.ndarray | Array
"""The number of intervals along each axis, or one number for all."""

STEEPNESS = 1000.0
"""The default weight of a step is the next power of two above `STEEPNESS / (bin width)`.

The step then rises from 0.01 to 0.99 within 1 % of a bin.
"""

HEIGHT = 128.0
"""The default h: away from the knots, an indicator is within exp(-64) of 0 or 1."""

CLEARANCE = 1 / 128
"""In R^m, m > 1, `approximate` puts its steps this fraction of a bin beside the knots.

The points of a grid that has fewer than 90 in a bin then keep 0.3 % of a bin from every step.
"""

SOFT_STEEPNESS = 4.0
"""The weight of a soft step is `SOFT_STEEPNESS / (bin width)`."""

SOFT_HEIGHT = 16.0
"""The h of soft indicators."""


def step(s: Scalar, w: Scalar = 1024.0, *, dtype: jax.typing.DTypeLike = jnp.float32) -> Params:
    r"""Makes one sigmoid neuron that steps up from 0 to 1 at s (section 4.1, figure 4.1).

    Its weight is w and its bias -s w. The output :math:`\sigma(w (x - s))` differs from the step by at most
    :math:`e^{-w |x - s|}`, and is 1/2 at x = s.

    Args:
      s: The place of the step.
      w: The weight.
      dtype: The dtype of the parameters.

    Returns:
      The parameters of the network.

    Raises:
      ValueError: If `s` is not finite, or w or s w is too large or too small for `dtype`.

    Example:
      >>> net = universal.step(0.25)
      >>> jax.vmap(mlp.forward, (None, 0))(net, jnp.array([[0.0], [0.25], [1.0]]))[:, 0]
      Array([0. , 0.5, 1. ], dtype=float32)
    """
    checks.number("s", s)
    checks.positive_number("w", w)
    return (_steps([np.array([s], np.float64)], np.array([w], np.float64), _real(dtype)),)


def rectangle(
    s1: Scalar, s2: Scalar, *, w: Scalar | None = None, h: Scalar = HEIGHT, dtype: jax.typing.DTypeLike = jnp.float32
) -> Params:
    r"""Makes the network of figure 4.2, which is near 1 for x in (s1, s2) and near 0 outside (figure 4.3).

    The output is :math:`\sigma(h a_1 - h a_2 - h/2)`, where :math:`a_1` and :math:`a_2` step up at s1 and s2; there the
    output is 1/2. Layers: w [2, 1] and [1, 2]. Evaluate the network by `mlp.forward(net, x)` with x [1].

    Args:
      s1: The left end of the interval.
      s2: The right end of the interval.
      w: The weight of the steps; chosen from s2 - s1 unless it is given.
      h: The weight of the steps in the output's weighted input.
      dtype: The dtype of the parameters.

    Returns:
      The parameters of the network.

    Example:
      >>> net = universal.rectangle(0.25, 0.75)
      >>> jax.vmap(mlp.forward, (None, 0))(net, jnp.array([[0.0], [0.5], [1.0]]))[:, 0].round()
      Array([0., 1., 0.], dtype=float32)
    """
    checks.below("s1", s1, "s2", s2)
    return tower(s1, s2, w=w, h=h, dtype=dtype)


def tower(
    lower: Axes, upper: Axes, *, w: Axes | None = None, h: Scalar = HEIGHT, dtype: jax.typing.DTypeLike = jnp.float32
) -> Params:
    r"""Makes the network of figure 4.6 for a box in R^m: near 1 inside the box, near 0 outside.

    Its output over a rectangle is figure 4.7. Each axis adds :math:`h (a_\mathrm{lower} - a_\mathrm{upper})`, which is
    h inside its interval and at most h/2 outside, to the output's weighted input; its bias is -(2m-1) h/2. (The notes
    print -3h/2 for m = 2 and -5h/2 for m = 3, and -(2h-1)/2 for any m; (m-1) h to m h in absolute value would do.)
    Layers: w [2m, m] and [1, 2m]. The output is 1/2 on a face, and near 0 on an edge, where two axes are at their
    knots.

    Args:
      lower: The lower corner of the box.
      upper: The upper corner of the box.
      w: The weight of the steps, one number or one for each axis; chosen from the box unless it is given.
      h: The weight of the steps in the output's weighted input.
      dtype: The dtype of the parameters.

    Returns:
      The parameters of the network.

    Example:
      >>> net = universal.tower([0.0, 0.0], [1.0, 1.0])
      >>> jax.vmap(mlp.forward, (None, 0))(net, jnp.array([[0.5, 0.5], [0.5, 1.5]]))[:, 0].round()
      Array([1., 0.], dtype=float32)
    """
    dtype = _real(dtype)
    knots = _knots(*_box(lower, upper, 1), dtype)
    return _indicators(knots, _weights(w, knots), h, dtype)


def approximate(
    f: Callable[[Float[Array, " m"]], PyTree],
    lower: Axes,
    upper: Axes,
    bins: Bins,
    *,
    soft: bool = False,
    w: Axes | None = None,
    h: Scalar | None = None,
    samples: int = 1,
    max_bytes: int = 2**30,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Params:
    r"""Makes a network with two hidden layers that approximates f: R^m -> R^n on a box (sections 4.2 and 4.3).

    In one variable it is the network of figure 4.4, whose output is figure 4.5. The box is divided into `bins`
    intervals along each axis, which makes prod(bins) cells. Each cell has an indicator neuron, whose weight to the
    linear output is the value of f at the cell's centre, or the mean of f over the cell. All cells share the step
    neurons, one for each knot (an end of an interval) of each axis. Evaluate the network with `mlp.logits(net, x)`,
    which is `mlp.forward(net, x, output=activations.identity)`. Under `jit` and `grad`, a JAX function f may depend on
    traced values, but the other arguments may not.

    Steep steps, the default, approximate best, but have almost no gradient: use `soft=True` for training. With the f of
    Nielsen's chapter 4, 10 bins and 1,000 steps of Adam, the root-mean-square error of steep steps falls from 0.076 to
    0.073, and that of soft steps from 0.084 to 0.017 (the experiment `refine` trains longer). Train with
    `costs.quadratic_with(activations.identity)`, because the default cost applies a sigmoid to the output.

    With S = sum(bins + 1) and B = prod(bins), the layers have the weights [S, m], [B, S] and [n, B]; `parameter_bytes`
    gives the memory.

    Let :math:`w_k |x_k - s| \ge t` for every knot s of every axis k. Then the network is close to the
    piecewise-constant function p that it represents, :math:`|\mathrm{net}(x) - p(x)| \le \mathrm{leak} \cdot \max |p|`,
    where leak is the value of the function `leak(bins, t, h=h)`, and so

    .. math::

      |\mathrm{net}(x) - f(x)| \le \omega(r) + \mathrm{leak} \cdot \max |p|,

    where :math:`\omega(r)` is the largest change of f over a distance r, and r is half the diagonal of a cell (with
    samples > 1, the whole diagonal). With the default w and h, the leak is below 1e-12 at more than 1 % of a bin from
    every knot. At a knot of one axis the two indicators are 1/2 each and the output is the mean of the two cells (half
    the cell's value, on the boundary of the box); where knots of two axes cross, all indicators are near 0, and so is
    the output, as it is outside the box. Therefore, for m > 1, the steps are shifted from the knots by `CLEARANCE`: the
    first of each axis down, out of the box, and the others up, where grids of round numbers have no points. The bounds
    hold for the shifted knots and the cells between them.

    Args:
      f: A function of x [m] that returns [n] or a number (n = 1). A NumPy function is evaluated point by point, on the
        host.
      lower: The lower corner of the box.
      upper: The upper corner of the box.
      bins: The number of intervals along each axis, one number or one for each.
      soft: Whether the defaults of w and h are 4 / (bin width) and 16, which make soft steps.
      w: The weight of the steps, one number or one for each axis; by default chosen from the bin width.
      h: The weight of the steps in the indicators' weighted inputs; by default `HEIGHT`.
      samples: The number of points along each axis of a cell over which f is averaged.
      max_bytes: The memory that the parameters, and the points at which f is evaluated, may take.
      dtype: The dtype of the parameters.

    Returns:
      The parameters of the network.

    Raises:
      ValueError: If knots coincide or weights overflow or underflow in `dtype`, if f does not return a vector or
        returns a value that is not finite (the message names the point), or if more than `max_bytes` are needed.
      TypeError: If f is not real.

    Example:
      >>> net = universal.approximate(jnp.sin, 0.0, 1.0, bins=10)
      >>> mlp.logits(net, jnp.array([0.25])) - jnp.sin(0.25) < 0.05
      Array([ True], dtype=bool)

      Soft steps, to be trained:

      >>> net = universal.approximate(jnp.sin, 0.0, 1.0, bins=10, soft=True)
      >>> grad = functools.partial(backprop.minibatch_value_and_grad, cost=costs.quadratic_with(activations.identity))
    """
    checks.count("samples", samples)
    dtype = _real(dtype)
    lower, upper, counts = _box(lower, upper, bins)
    evaluate, n = _evaluation(f, len(counts), (lower + upper) / 2, dtype)
    _check_memory(counts, n, samples, dtype, max_bytes)
    knots = _knots(lower, upper, counts, dtype)
    if soft:
        w = SOFT_STEEPNESS * np.asarray(counts) / (upper - lower) if w is None else w
        h = SOFT_HEIGHT if h is None else h
    steps = knots if len(knots) == 1 else [_beside(s, dtype) for s in knots]
    indicators = _indicators(steps, _weights(w, knots), HEIGHT if h is None else h, dtype)
    heights = _heights(evaluate, knots, samples, dtype).reshape(-1, n)
    return (*indicators, Layer(w=heights.T, b=jnp.zeros(n, dtype)))


def leak(bins: Bins, t: Scalar, *, h: Scalar = HEIGHT) -> Float[Array, ""]:
    r"""Bounds the distance of `approximate`'s network from its piecewise-constant function, per unit of its maximum.

    The bound holds where :math:`w_k |x_k - s| \ge t` for every knot s of every axis k. Every step is then within
    :math:`e = \sigma(-t)` of 0 or 1. The weighted input of the cell's own indicator is at least h (1/2 - 2 m e), that
    of any other at most -h (1/2 - e), so that their total error is at most

    .. math::

      B \, \sigma \bigl( -h (\tfrac12 - 2 m e) \bigr), \qquad B = \prod_k \mathrm{bins}_k.

    At the centre of a single cell it is exactly that.

    Args:
      bins: The number of intervals along each axis, one entry for each.
      t: The least distance from a knot, in units of 1/w.
      h: The weight of the steps in the indicators' weighted inputs.

    Returns:
      The bound.

    Raises:
      ValueError: If `t` is not positive.

    Example:
      >>> bool(universal.leak(10, t=10.0) < 1e-12)
      True
    """
    checks.positive("t", t)
    checks.positive("h", h)
    counts = _counts(bins)
    e = jax.nn.sigmoid(-jnp.asarray(t, float))
    return float(math.prod(counts)) * jax.nn.sigmoid(-h * (0.5 - 2 * len(counts) * e))


def parameter_bytes(bins: Bins, n: int, *, dtype: jax.typing.DTypeLike = jnp.float32) -> int:
    """Returns the memory of `approximate`'s parameters in bytes: S m + S + B S + B + n B + n numbers.

    Args:
      bins: The number of intervals along each axis, one entry for each.
      n: The number of outputs.
      dtype: The dtype of the parameters.

    Returns:
      The number of bytes.

    Example:
      >>> universal.parameter_bytes(10, 1)
      612
    """
    checks.count("n", n)
    counts = _counts(bins)
    steps, cells = sum(b + 1 for b in counts), math.prod(counts)
    return jnp.dtype(dtype).itemsize * (steps * len(counts) + steps + cells * steps + cells + n * cells + n)


def _steps(knots: list[np.ndarray], w: np.ndarray, dtype: jax.typing.DTypeLike) -> Layer:
    """One neuron for each knot of each axis: weight w_k from input k alone, bias -s w_k (section 4.1)."""
    weights = np.concatenate([np.full(len(s), w_k) for s, w_k in zip(knots, w, strict=True)])
    axis = np.repeat(np.arange(len(knots)), [len(s) for s in knots])
    biases = -weights * np.concatenate(knots)
    with np.errstate(over="ignore", under="ignore"):
        w_cast, b_cast = (a.astype(jnp.dtype(dtype)) for a in (weights, biases))
    if not (np.isfinite(w_cast).all() and np.isfinite(b_cast).all() and (w_cast > 0).all()):
        given = f"{weights.min():g} to {weights.max():g}: use another w, fewer bins or another dtype"
        raise ValueError(f"the weights of the steps must fit in {jnp.dtype(dtype)}, got {given}")
    return Layer(w=jnp.asarray(w_cast[:, None] * np.eye(len(knots), dtype=w_cast.dtype)[axis]), b=jnp.asarray(b_cast))


def _indicators(knots: list[np.ndarray], w: np.ndarray, h: Scalar, dtype: jax.typing.DTypeLike) -> Params:
    """Steps, then a neuron for each cell: sum over axes of h (a_lower - a_upper), bias -(2m-1) h/2 (section 4.3)."""
    checks.positive_number("h", h)
    bins = [len(s) - 1 for s in knots]
    cells = np.indices(bins).reshape(len(bins), -1)  # the last axis varies fastest
    intervals = [h * (np.eye(b, b + 1, dtype=dtype) - np.eye(b, b + 1, k=1, dtype=dtype)) for b in bins]
    weights = np.hstack([interval[rows] for interval, rows in zip(intervals, cells, strict=True)])
    bias = -(2 * len(bins) - 1) * h / 2
    return (_steps(knots, w, dtype), Layer(w=jnp.asarray(weights, dtype), b=jnp.full(len(weights), bias, dtype)))


def _heights(
    evaluate: Callable[[PyTree], PyTree], knots: list[np.ndarray], samples: int, dtype: jax.typing.DTypeLike
) -> Array:
    """The mean of f over the `samples`^m midpoints of every cell [B, n], or [B]; with one sample its centre."""
    offsets = (np.arange(samples) + 0.5) / samples
    points = [(s[:-1, None] + np.diff(s)[:, None] * offsets).ravel() for s in knots]
    grid = np.stack(np.meshgrid(*points, indexing="ij"), axis=-1).reshape(-1, len(knots))
    values = evaluate(grid)
    split = [size for s in knots for size in (len(s) - 1, samples)]
    heights = values.reshape(*split, -1).mean(axis=tuple(range(1, len(split), 2))).astype(dtype)
    if not isinstance(heights, Tracer) and not np.isfinite(heights).all():
        finite = np.isfinite(np.asarray(values, np.float64)).reshape(len(grid), -1).all(axis=1)
        where = ", ".join(f"{x:g}" for x in grid[np.argmin(finite)])
        raise ValueError(
            f"the means of f over the cells overflow {jnp.dtype(dtype)}: scale f down"
            if finite.all()
            else f"f must be finite on the box, but is not at {np.sum(~finite)} of {len(grid)} points, such as "
            f"x = [{where}]: choose another box"
        )
    return heights


def _evaluation(
    f: Callable[[PyTree], PyTree], m: int, point: np.ndarray, dtype: jax.typing.DTypeLike
) -> tuple[Callable[[np.ndarray], Array], int]:
    """The function of a matrix of points, one in each row, and n; f of `point` shows whether f is a NumPy function."""
    try:
        # JAX needs weak references to functions, and ufuncs have none.
        out = jax.eval_shape(partial(f), jax.ShapeDtypeStruct((m,), dtype))
    except TypeError as error:  # raised if f needs numbers and cannot be traced
        try:
            out = jax.eval_shape(jnp.asarray, np.asarray(f(point)))
        except (AttributeError, TypeError, ValueError):
            raise error from None
        return lambda grid: jnp.stack([jnp.asarray(f(x), dtype) for x in grid]), _outputs(out, m)
    return lambda grid: jax.vmap(f)(jnp.asarray(grid, dtype)), _outputs(out, m)


def _outputs(out: PyTree, m: int) -> int:
    """n, from the shape of the value of f."""
    if not isinstance(out, jax.ShapeDtypeStruct) or out.ndim > 1 or out.size == 0:
        raise ValueError(f"f must return a number or an array [n], got {out} for x of shape {(m,)}")
    if jnp.issubdtype(out.dtype, jnp.complexfloating):
        raise TypeError(f"f must return real values, got {out.dtype}: return real and imaginary parts as two outputs")
    return out.size


def _box(lower: Axes, upper: Axes, bins: Bins) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """The corners [m] and the number of bins along each axis, checked; a single number serves every axis."""
    for name, value in (("lower", lower), ("upper", upper), ("bins", bins)):
        checks.unmasked(name, value)
    lower, upper = (np.asarray(end, np.float64) for end in (lower, upper))
    shapes = [lower.shape, upper.shape, np.asarray(bins).shape]
    m = max((1, *itertools.chain(*shapes)))
    if not set(shapes) <= {(), (m,)}:
        raise ValueError(f"lower, upper and bins must be one number each, or one for each axis, got shapes {shapes}")
    lower, upper = (np.broadcast_to(end, m) for end in (lower, upper))
    for k in range(m):
        checks.below(f"lower[{k}]", lower[k], f"upper[{k}]", upper[k])
    return lower, upper, _counts(bins) * (m if shapes[2] == () else 1)


def _counts(bins: Bins) -> tuple[int, ...]:
    """The bins as Python integers, which do not overflow."""
    counts = np.atleast_1d(np.asarray(bins)).tolist()
    for k, b in enumerate(counts):
        checks.count(f"bins[{k}]", b)
    return tuple(counts)


def _real(dtype: jax.typing.DTypeLike) -> np.dtype:
    """The dtype that arrays will have: float64 is float32 unless x64 is enabled."""
    canonical = jax.dtypes.canonicalize_dtype(dtype)
    if not jnp.issubdtype(canonical, jnp.floating):
        raise TypeError(f"dtype must be floating, got {canonical}")
    return canonical


def _knots(lower: np.ndarray, upper: np.ndarray, bins: Sequence[int], dtype: jax.typing.DTypeLike) -> list[np.ndarray]:
    """The ends of the bins along each axis, as numbers of `dtype`."""
    knots = [
        np.linspace(low, high, b + 1).astype(jnp.dtype(dtype)).astype(np.float64)
        for low, high, b in zip(lower, upper, bins, strict=True)
    ]
    for k, s in enumerate(knots):
        if not np.all(np.diff(s) > 0):
            raise ValueError(
                f"the {len(s)} knots from {lower[k]} to {upper[k]} on axis {k} must differ in {jnp.dtype(dtype)}: "
                "use fewer bins, or move the box towards 0"
            )
    return knots


def _beside(knots: np.ndarray, dtype: jax.typing.DTypeLike) -> np.ndarray:
    """The places of steps beside the knots of an axis: the first below its knot, the others above."""
    sides = np.where(np.arange(len(knots)), 1, -1)
    moved = knots + sides * CLEARANCE * (knots[-1] - knots[0]) / (len(knots) - 1)
    return moved.astype(jnp.dtype(dtype)).astype(np.float64)


def _weights(w: Axes | None, knots: list[np.ndarray]) -> np.ndarray:
    """One step weight for each axis: the given one, or the next power of two above STEEPNESS / bin width."""
    if w is None:
        widths = np.array([(s[-1] - s[0]) / (len(s) - 1) for s in knots])
        return np.exp2(np.ceil(np.log2(STEEPNESS / widths)))
    checks.positive("w", w)
    if np.shape(w) not in ((), (len(knots),)):
        raise ValueError(f"w must be one number, or one for each of {len(knots)} axes, got shape {np.shape(w)}")
    return np.broadcast_to(np.asarray(w, np.float64), len(knots))


def _check_memory(bins: Sequence[int], n: int, samples: int, dtype: jax.typing.DTypeLike, max_bytes: int) -> None:
    cells = math.prod(bins)
    points = 8 * cells * samples ** len(bins) * (len(bins) + n)
    parameters = parameter_bytes(bins, n, dtype=dtype)
    for what, needed, fewer in (("parameters", parameters, "bins"), ("points of f", points, "samples or bins")):
        if needed > max_bytes:
            raise ValueError(
                f"the {what} must take at most max_bytes = {max_bytes / 2**20:.0f} MiB, got {needed / 2**20:.0f} MiB "
                f"for {cells} indicators of {sum(bins) + len(bins)} steps: use fewer {fewer}, or raise max_bytes"
            )
