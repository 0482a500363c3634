"""Chapter 4: steps, rectangles, towers and the networks that approximate any function."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jnn import activations, mlp, universal
from tests.helpers import raises, refuses, relative_error

evaluate = jax.jit(jax.vmap(partial(mlp.forward, output=activations.identity), in_axes=(None, 0)))
outputs = jax.jit(jax.vmap(mlp.forward, in_axes=(None, 0)))
finite = st.floats(-5, 5, width=32)


def smooth(seed, m, n):
    """A random smooth function from R^m to R^n, and the largest slope it can have."""
    draws = np.random.default_rng(seed)
    a, b = draws.normal(size=(n, m)), draws.normal(size=n)

    def f(x):
        return jnp.sin(jnp.asarray(a, x.dtype) @ x + jnp.asarray(b, x.dtype))

    return f, np.linalg.norm(a, 2)


def boxes(m):
    ends = st.lists(st.tuples(finite, st.floats(0.5, 4, width=32)), min_size=m, max_size=m)
    return ends.map(lambda pairs: ([low for low, _ in pairs], [low + width for low, width in pairs]))


def piecewise_constant(f, lower, upper, bins, xs):
    """The function that the network stands for, directly: f at the centre of the cell that x is in."""
    lower, upper, bins = np.asarray(lower), np.asarray(upper), np.asarray(bins)
    width = (upper - lower) / bins
    centres = lower + (np.floor((xs - lower) / width) + 0.5) * width
    return np.asarray(jax.jit(jax.vmap(f))(jnp.asarray(centres, jnp.float32)))


def inside_points(seed, lower, upper, bins, count=40, margin=0.02):
    """Points of random cells that keep a margin, as a fraction of the bin, from every knot."""
    draws = np.random.default_rng(seed)
    lower, upper, bins = np.asarray(lower), np.asarray(upper), np.asarray(bins)
    cells = draws.integers(0, bins, (count, len(bins))) + draws.uniform(margin, 1 - margin, (count, len(bins)))
    return lower + cells * (upper - lower) / bins


def test_one_bound_is_that_of_every_axis():
    """As many as there are bins."""

    def f(x):
        return x[0] + 2 * x[1]

    one, each = universal.approximate(f, -3.0, 3.0, (4, 5)), universal.approximate(f, (-3.0, -3.0), (3.0, 3.0), (4, 5))
    assert relative_error(one, each) == 0
    assert relative_error(universal.tower(0.0, (1.0, 2.0)), universal.tower((0.0, 0.0), (1.0, 2.0))) == 0


# Steps, rectangles and towers


@pytest.mark.equation("figure 4.1")
@given(finite, st.floats(0.5, 5000), finite)
def test_a_step_is_the_notes_neuron(s, w, x):
    """Figure 4.1: weight w, bias -s w, and how far from a step it is."""
    (layer,) = universal.step(s, w)
    assert layer.w.shape == (1, 1)
    np.testing.assert_allclose(layer.w[0, 0], w, rtol=1e-6)
    np.testing.assert_allclose(layer.b[0], -s * w, rtol=1e-6)
    apart = abs(float(mlp.forward((layer,), jnp.array([x]))[0]) - (x > s))
    assert apart <= np.exp(-w * abs(x - s) + 1e-5 * w) + 1e-6  # float32 moves the step by a few 1e-6
    np.testing.assert_array_equal(mlp.forward(universal.step(s), jnp.array([s], jnp.float32)), 0.5)


@pytest.mark.equation("figure 4.2")
def test_rectangle_is_figure_4_2():
    """Figure 4.2: its weights as the notes name them."""
    hidden, output = universal.rectangle(0.25, 0.75, w=1000.0, h=100.0)
    np.testing.assert_array_equal(hidden.w, [[1000], [1000]])
    np.testing.assert_array_equal(hidden.b, [-250, -750])
    np.testing.assert_array_equal(output.w, [[100, -100]])
    np.testing.assert_array_equal(output.b, [-50])


@pytest.mark.equation("figure 4.3")
@given(finite, st.floats(2**-9, 10, width=32))
def test_rectangle_is_an_indicator(s1, width):
    """Figure 4.3: 0 outside, 1 inside, 1/2 at the knots."""
    s2 = float(np.float32(s1 + width))
    net = universal.rectangle(s1, s2)
    x = s1 + (s2 - s1) * np.array([-3, -0.02, 0.02, 0.5, 0.98, 1.02, 4])
    np.testing.assert_allclose(
        outputs(net, jnp.asarray(x[:, None], jnp.float32))[:, 0], [0, 0, 1, 1, 1, 0, 0], atol=1e-6
    )
    np.testing.assert_allclose(outputs(net, jnp.array([[s1], [s2]], jnp.float32)), 0.5, atol=1e-6)


@pytest.mark.equation("figure 4.6", "figure 4.7")
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_tower_inside_outside_faces_and_edges(m):
    """Figures 4.6 and 4.7 in R^m: a place is below, at, inside, at or above on each axis; the number of knots decides.

    The weighted input is m h - (2m-1) h/2 inside, and at most (m-1) h - (2m-1) h/2 where the output is 0.
    """
    lower, upper = np.arange(m) - 1.5, 2 * np.arange(m) + 0.5
    net = universal.tower(lower, upper, h=64.0)
    places = np.array(list(itertools.product((-0.3, 0.0, 0.4, 1.0, 1.2), repeat=m)))
    points = jnp.asarray(lower + places * (upper - lower), jnp.float32)
    outside = ((places < 0) | (places > 1)).any(axis=1)
    knots = np.isin(places, (0.0, 1.0)).sum(axis=1)
    wanted = np.where(outside | (knots > 1), 0, np.where(knots == 1, 0.5, 1))
    np.testing.assert_allclose(outputs(net, points)[:, 0], wanted, atol=1e-6)
    z = evaluate(net, points)[:, 0]
    np.testing.assert_allclose(z[wanted == 1], 32, rtol=1e-5)
    assert jnp.max(z[wanted == 0]) <= -32 + 1e-3


@pytest.mark.equation("figure 4.6")
@pytest.mark.parametrize(("m", "bias"), [(1, -0.5), (2, -1.5), (3, -2.5), (4, -3.5)])
def test_tower_has_the_corrected_bias_and_one_weight_for_each_axis(m, bias):
    """Figure 4.6: -(2m-1) h/2, where the notes print -(2h-1)/2 for m variables."""
    w = 2.0 ** np.arange(m)
    net = universal.tower([0.0] * m, [1.0] * m, w=w, h=64.0)
    np.testing.assert_array_equal(net[1].b, [64 * bias])
    np.testing.assert_array_equal(net[0].w, np.repeat(np.diag(w), 2, axis=0))
    assert net[1].w.shape == (1, 2 * m)


# Approximation


@pytest.mark.equation("section 4.2", "figure 4.4", "figure 4.5", "section 4.3")
@given(st.data(), st.integers(0, 999), st.sampled_from([1, 2, 3]), st.sampled_from([1, 3]))
def test_the_network_is_its_piecewise_constant_function(data, seed, m, n):
    """Figures 4.4 and 4.5, sections 4.2 and 4.3, any m and n: indicators weighted with f; the bound on the error."""
    lower, upper = data.draw(boxes(m))
    bins = data.draw(st.lists(st.integers(1, 5), min_size=m, max_size=m))
    f, slope = smooth(seed, m, n)
    net = universal.approximate(f, lower, upper, bins)
    assert [layer.w.shape for layer in net] == [(sum(bins) + m, m), (np.prod(bins), sum(bins) + m), (n, np.prod(bins))]
    assert universal.parameter_bytes(bins, n) == sum(leaf.nbytes for leaf in jax.tree.leaves(net))
    assert universal.parameter_bytes(bins, n, dtype=jnp.float16) * 2 == universal.parameter_bytes(bins, n)
    xs = inside_points(seed, lower, upper, bins)
    found = evaluate(net, jnp.asarray(xs, jnp.float32))
    np.testing.assert_allclose(found, piecewise_constant(f, lower, upper, bins, xs), atol=1e-5)
    half_diagonal = np.linalg.norm((np.array(upper) - lower) / bins) / 2
    values = jax.vmap(f)(jnp.asarray(xs, jnp.float32))
    assert np.max(np.linalg.norm(found - values, axis=1)) <= slope * half_diagonal + 1e-5


@pytest.mark.equation("section 4.3")
@given(st.data(), st.integers(0, 999), st.sampled_from([1, 2, 3]), st.floats(1, 12), st.floats(4, 60))
def test_the_bound_for_soft_networks(data, seed, m, t, h):
    """Section 4.3 for m variables: steps are so soft here that the leak is far above rounding."""
    bins = data.draw(st.lists(st.integers(1, 5), min_size=m, max_size=m))
    f, _ = smooth(seed, m, 1)
    margin = 0.1
    net = universal.approximate(f, [0.0] * m, bins, bins, w=t / margin, h=h)  # bins of width 1
    xs = inside_points(seed, [0.0] * m, bins, bins, margin=margin)
    wanted = piecewise_constant(f, [0.0] * m, bins, bins, xs)
    apart = np.max(np.abs(evaluate(net, jnp.asarray(xs, jnp.float32)) - wanted))
    largest = float(jnp.max(jnp.abs(net[2].w)))
    assert apart <= float(universal.leak(bins, t, h=h)) * largest + 1e-5


@pytest.mark.parametrize(("m", "t", "h"), [(1, 3.0, 6.0), (2, 5.0, 10.0), (3, 2.0, 4.0)])
def test_the_bound_is_attained_at_the_centre_of_one_cell(m, t, h):
    half = 0.5 + (universal.CLEARANCE if m > 1 else 0)
    net = universal.approximate(lambda x: 1.0, [0.0] * m, [1.0] * m, 1, w=t / half, h=h)
    np.testing.assert_allclose(
        1 - evaluate(net, jnp.full((1, m), 0.5))[0, 0], universal.leak((1,) * m, t, h=h), rtol=1e-5
    )


def test_f_may_be_traced():
    """The gradient by a parameter of f goes through the heights."""

    def height(a):
        return evaluate(universal.approximate(lambda x: a * x[0], 0.0, 1.0, 4), jnp.array([[0.3]]))[0, 0]

    np.testing.assert_allclose(jax.jit(jax.grad(height))(2.0), 0.375, rtol=1e-6)


@pytest.mark.parametrize("bins", [(2, 3), [2, 3], np.array([2, 3]), jnp.array([2, 3])], ids=type)
def test_bins_of_every_kind(bins):
    net = universal.approximate(lambda x: x.sum(), np.zeros(2), jnp.ones(2), bins)
    assert net[1].w.shape == (6, 7)
    assert universal.parameter_bytes(bins, 1) == sum(leaf.nbytes for leaf in jax.tree.leaves(net))
    assert universal.leak(bins, 5) > 0


def test_the_leak_of_the_defaults_is_negligible():
    assert universal.leak((100, 100, 100), 0.01 * universal.STEEPNESS) < 1e-12
    assert universal.leak((10,), 0.5, h=4.0) > 0.1


@pytest.mark.equation("figure 4.4")
def test_knots_of_one_and_of_two_axes():
    """Figure 4.4 at knots: the mean of two cells, half a cell at the ends, 0 where knots cross and outside."""
    net = universal.approximate(lambda x: 1 + x[0] + 10 * x[1], (0.0, 0.0), (2.0, 2.0), 2)
    end, knot = -universal.CLEARANCE, 1 + universal.CLEARANCE
    points = jnp.array(
        [(0.5, 0.5), (knot, 0.5), (end, 0.5), (0.5, knot), (knot, knot), (end, end), (-1.0, 0.5), (0.5, 3.0)]
    )
    np.testing.assert_allclose(evaluate(net, points)[:, 0], [6.5, 7.0, 3.25, 11.5, 0, 0, 0, 0], atol=1e-5)


@pytest.mark.parametrize("per_bin", [5, 89])
def test_the_points_of_a_grid_are_in_cells(per_bin):
    """Also those on the boundary of the box, and where boundaries of cells cross: no output is a mean, or near 0."""

    def f(x):
        return 1 + x[0] + 10 * x[1]

    net = universal.approximate(f, -1.0, 1.0, (2, 2))
    xs = jnp.linspace(-1, 1, 2 * per_bin + 1)
    grid = jnp.stack(jnp.meshgrid(xs, xs), axis=-1).reshape(-1, 2)
    upper = jnp.clip(jnp.ceil(grid), 0, 1)  # a point on a boundary is in the cell below
    wanted = jax.vmap(f)(upper - 0.5)
    np.testing.assert_allclose(evaluate(net, grid)[:, 0], wanted, atol=1e-4)


def test_heights_are_means_over_the_samples():
    """Exactly for the midpoint rule: of x^2 over [0, 1] and [1, 2], 1/3 and 7/3 less h^2/12."""
    for samples in (1, 4):
        net = universal.approximate(lambda x: x**2, 0.0, 2.0, 2, samples=samples)
        np.testing.assert_allclose(net[2].w[0], np.array([1 / 3, 7 / 3]) - 1 / (12 * samples**2), rtol=1e-6)


def test_default_weights_are_powers_of_two_above_the_steepness():
    net = universal.approximate(lambda x: x.sum(), (0.0, 0.0), (1.0, 3.0), (10, 7))
    w = np.unique(np.asarray(net[0].w)[net[0].w > 0])
    assert np.all(np.log2(w) == np.round(np.log2(w)))
    assert np.all((w >= 1000 / np.array([3 / 7, 0.1])) & (w < 2000 / np.array([3 / 7, 0.1])))


def test_other_dtypes(x64):
    net = universal.approximate(jnp.sin, 0.0, 1.0, 4, dtype=jnp.float64)
    assert {leaf.dtype for leaf in jax.tree.leaves(net)} == {jnp.dtype("float64")}
    np.testing.assert_allclose(evaluate(net, jnp.array([[0.3]]))[0, 0], np.sin(0.375), rtol=1e-14)


# Matmul precision


def test_default_matmul_precision_reaches_every_product():
    net = universal.approximate(jnp.sin, 0.0, 1.0, 4)

    def precisions():
        text = jax.jit(mlp.logits).lower(net, jnp.ones(1)).as_text()
        products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
        assert len(products) == 3
        return {("HIGHEST" in line) for line in products}

    assert precisions() == {False}
    with jax.default_matmul_precision("highest"):  # which experiments/runner.py sets
        assert precisions() == {True}


# Bad input


def line(x):
    return x[0]


def pole(x):
    return 1 / (x[0] - 0.5)


def test_what_soft_means():
    soft = universal.approximate(jnp.sum, (0.0, 0.0), (1.0, 4.0), (4, 8), soft=True)
    written = universal.approximate(jnp.sum, (0.0, 0.0), (1.0, 4.0), (4, 8), w=(16.0, 8.0), h=16.0)
    assert relative_error(soft, written) == 0
    steeper = universal.approximate(jnp.sum, (0.0, 0.0), (1.0, 4.0), (4, 8), soft=True, w=(16.0, 9.0))
    assert steeper[0].w[-1, 1] == 9


@pytest.mark.parametrize(
    ("by_numpy", "by_jax"),
    [
        (np.cos, jnp.cos),
        (lambda x: math.cos(x[0]), lambda x: jnp.cos(x[0])),
        (
            lambda x: np.outer([1.0, 2.0], x)[:, 0] if x[0] > 0.5 else np.zeros(2),
            lambda x: (x > 0.5) * x * jnp.arange(1.0, 3),
        ),
    ],
    ids=["ufunc", "number", "vector, with an if"],
)
def test_a_function_of_numpy(by_numpy, by_jax):
    nets = [universal.approximate(f, 0.0, 1.0, 7, samples=2) for f in (by_numpy, by_jax)]
    assert relative_error(*nets) < 1e-6


test_bad_input = refuses(
    (lambda: universal.approximate(raises(TypeError("its own reason")), 0.0, 1.0, 3), TypeError, "its own reason"),
    (lambda: universal.step(0.5, -3.0), ValueError, "w must be positive and finite, got -3.0"),
    (lambda: universal.step(float("nan")), ValueError, "s must be finite, got nan"),
    (lambda: universal.rectangle(1.0, 1.0), ValueError, "s1 must be less than s2, got 1.0 and 1.0"),
    (lambda: universal.rectangle(1.0, 2.0, h=-1.0), ValueError, "h must be positive .*got -1.0"),
    (lambda: universal.tower((0.0, 1.0), (1.0, 1.0)), ValueError, r"lower\[1\] must .* got 1.0 and 1.0"),
    (lambda: universal.tower((0.0, 1.0), (1.0,)), ValueError, r"got shapes \[\(2,\), \(1,\), \(\)\]"),
    (lambda: universal.tower((0.0, 1.0), (1.0, 2.0), w=(1.0, 2.0, 3.0)), ValueError, r"2 axes, got shape \(3,\)"),
    (lambda: universal.tower((0.0, 1.0), (1.0, 2.0), w=(1.0, 0.0)), ValueError, r"w must .* got \(1.0, 0.0\)"),
    (lambda: universal.approximate(line, 1.0, 0.0, 3), ValueError, r"lower\[0\] must .* got 1.0 and 0.0"),
    (lambda: universal.approximate(line, 0.0, float("inf"), 3), ValueError, r"upper\[0\] must be finite, got inf"),
    (lambda: universal.approximate(line, 0.0, 1.0, 0), ValueError, r"bins\[0\] must be at least 1, got 0"),
    (lambda: universal.approximate(line, 0.0, 1.0, 2.5), TypeError, r"bins\[0\] must be an integer, got 2.5"),
    (lambda: universal.approximate(line, (0.0, 0.0), 1.0, (2,) * 3), ValueError, "one number each, or one for"),
    (lambda: universal.approximate(line, 0.0, 1.0, 3, samples=0), ValueError, "samples must be at least 1, got 0"),
    (lambda: universal.approximate(lambda x: jnp.eye(2), 0.0, 1.0, 3), ValueError, r"must return .*\(2, ?2\)"),
    (lambda: universal.approximate(lambda x: (x, x), 0.0, 1.0, 3), ValueError, "f must return a number"),
    (lambda: universal.approximate(pole, 0.0, 1.0, 5), ValueError, r"f must be finite .* at 1 of 5 .* x = \[0.5\]"),
    (lambda: universal.approximate(line, 1e8, 1e8 + 16, 100), ValueError, "knots .* must differ in float32"),
    (lambda: universal.approximate(line, 3 * (0,), 3 * (1,), 1000), ValueError, "1000000000 indicators of 3003 st"),
    (lambda: universal.approximate(line, [0] * 3, [1] * 3, np.full(3, 3_000_000)), ValueError, "raise max_bytes"),
    (lambda: universal.approximate(line, [0.0] * 3, [1.0] * 3, 20, samples=99), ValueError, "fewer samples"),
    (lambda: universal.approximate(line, 0.0, 1.0, 100, dtype=jnp.float16), ValueError, "float16, got .* 131072"),
    (lambda: universal.approximate(lambda x: 3e38, 0.0, 1.0, 2, samples=4), ValueError, "means of f .* overflow"),
    (lambda: universal.approximate(line, 0.0, 1.0, 3, dtype=jnp.int32), TypeError, "must be floating, got"),
    (lambda: universal.approximate(lambda x: 1j * x, 0.0, 1.0, 3), TypeError, "real values, got complex64"),
    (lambda: universal.tower(0.0, 1e-37), ValueError, "must fit in float32"),
    (lambda: universal.tower([], []), ValueError, r"got shapes \[\(0,\)"),
    (lambda: universal.step(1e20, 1e20), ValueError, "must fit in float32"),
    (lambda: universal.step(0.5, 1e-50), ValueError, "must fit in float32"),
    (lambda: universal.step([0.1, 0.2]), TypeError, r"s must be one number, got \[0.1, 0.2\]"),
    (lambda: universal.rectangle(0.0, "1"), TypeError, "s2 must be one number, got '1'"),
    (lambda: universal.tower(0.0, 1.0, h=[1.0, 2.0]), TypeError, "h must be one number, got"),
    (lambda: universal.leak((10,), -1.0), ValueError, "t must be positive .*got -1.0"),
)


@pytest.mark.bad_input
def test_the_caller_can_set_the_limit():
    with pytest.raises(ValueError, match="max_bytes"):
        universal.approximate(line, 0.0, 1.0, 100, max_bytes=10_000)
    assert len(universal.approximate(line, 0.0, 1.0, 100, max_bytes=50_000)) == 3
