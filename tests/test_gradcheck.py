import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jnn import activations, backprop, costs, gradcheck, mlp
from tests.helpers import examples, network, refuses


def mean_cost(params, xs, ys):
    z = jax.vmap(mlp.logits, in_axes=(None, 0))(params, xs)
    return jnp.mean(costs.quadratic.value(z, ys))


def derivation(params, xs, ys, *, plant=None):
    """The mini-batch gradient written out once more, with an error planted in it."""
    m = len(xs)
    zs, below = [], [xs]
    for w, b in params:
        zs.append(below[-1] @ w.T + b[None])
        below.append(activations.sigmoid(zs[-1]))
    delta = costs.quadratic.delta(zs[-1], ys) / (1 if plant == "a missing 1/m" else m)
    if plant == "a swapped sign":
        delta = -delta
    grads = []
    for l in range(len(params) - 1, -1, -1):
        w_grad = delta.T @ below[l]
        if plant == "one wrong entry" and l == 1:
            w_grad = w_grad.at[2, 3].multiply(1.001)
        if plant == "a transposed gradient" and l == 1:
            w_grad = w_grad.T
        grads.append(mlp.Layer(w_grad, jnp.sum(delta, axis=0)))
        if l > 0:
            w = params[l].w.T if plant == "a transposed weight" and l == 1 else params[l].w
            prime = 1.0 if plant == "a dropped sigma'" else activations.sigmoid.prime(zs[l - 1])
            delta = (delta @ w) * prime
    return jnp.mean(costs.quadratic.value(zs[-1], ys)), tuple(grads[::-1])


SQUARE = (6, 4, 4, 3)  # a hidden square matrix, so that its transpose fits and only the numbers betray it


def test_the_right_derivation_passes():
    gradcheck.assert_ok(mean_cost, derivation, network(0, SQUARE), *examples(1, 5, SQUARE))
    assert jnp.zeros(1).dtype == jnp.float32  # the default precision is left as it was


@pytest.mark.parametrize(
    ("plant", "wrong", "said"),
    [
        ("a dropped sigma'", "[0].w [0].b [1].w [1].b", "[2] is right, so look at what it hands down"),
        ("a transposed weight", "[0].w [0].b", "[1] is right, so look at what it hands down"),
        ("a missing 1/m", "[0].w [0].b [1].w [1].b [2].w [2].b", "it is 5 times the right one, and 5 is the length of"),
        ("a swapped sign", "[0].w [0].b [1].w [1].b [2].w [2].b", "it is -1 times the right one"),
        ("one wrong entry", "[1].w", "only its entry [2, 3] is wrong"),
        ("a transposed gradient", "[1].w", "it is the transpose of the right one"),
    ],
)
def test_a_planted_error_is_found_and_placed(plant, wrong, said):
    """What it looks like is said of every leaf of the last layer that is wrong."""
    args = (network(0, SQUARE), *examples(1, 5, SQUARE))
    report = gradcheck.compare(mean_cost, functools.partial(derivation, plant=plant), *args)
    assert not report.ok
    assert [leaf.path for leaf in report.wrong] == wrong.split()
    assert all(min(leaf.autodiff.relative, leaf.finite.relative) > 1e-4 for leaf in report.wrong)
    assert str(report).count("WRONG") == len(report.wrong)
    assert "rounding" not in str(report)  # which excuses no wrong leaf
    last = [leaf.diagnosis for leaf in report.wrong if leaf.path[:3] == report.wrong[-1].path[:3]]
    assert all(diagnosis.startswith(said) for diagnosis in last)
    assert str(report).count(f": {said}") >= len(last)
    if plant == "one wrong entry":
        assert report.wrong[0].autodiff.where == report.wrong[0].finite.where == (2, 3)


def test_a_gradient_of_another_shape_is_a_wrong_leaf():
    arguments = lambda p: jnp.sum(p["w"] ** 2), lambda p: {"w": 2 * p["w"].T}, {"w": jnp.ones((2, 3))}
    report = gradcheck.compare(*arguments)
    assert not report.ok
    assert report.leaves[0].got == (3, 2)
    assert "gradient of shape (3, 2)" in str(report)
    with pytest.raises(AssertionError, match=r"(?s)the gradient is wrong.*1 of 1 leaves wrong"):
        gradcheck.assert_ok(*arguments)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_gradient_that_is_not_finite_is_wrong(bad):
    report = gradcheck.compare(lambda p: jnp.sum(p**2), lambda p: (2 * p).at[1].set(bad), jnp.ones(3))
    assert not report.ok
    assert report.leaves[0].autodiff.where == (1,)


def test_any_pytree_and_both_forms_of_gradient():
    """Leaves that f does not use, or that are empty, are right; integers may be later arguments."""
    params = {"a": [jnp.ones(2), (jnp.full((1, 3), 0.5), None)], "b": jnp.asarray(2.0)}
    params |= {"empty": jnp.zeros((0, 2)), "unused": jnp.ones(3)}

    def f(p, scale, labels):
        return scale * (jnp.sum(p["a"][0][labels] ** 3) + jnp.prod(p["a"][1][0]) * p["b"])

    assert gradcheck.compare(f, jax.grad(f), params, 3.0, jnp.array([1, 1, 0])).ok
    report = gradcheck.compare(f, jax.value_and_grad(f), params, 3.0, jnp.array([1, 1, 0]))
    assert report.ok
    assert [leaf.path for leaf in report.leaves] == ["['a'][0]", "['a'][1][0]", "['b']", "['empty']", "['unused']"]
    assert [leaf.shape for leaf in report.leaves] == [(2,), (1, 3), (), (0, 2), (3,)]


def test_a_derivation_is_tested_against_finite_differences_too():
    """A custom rule that lies makes autodiff agree with the hand derivation; only the differences see it."""

    @jax.custom_jvp
    def cube(x):
        return x**3

    cube.defjvp(lambda primals, tangents: (cube(primals[0]), 2 * primals[0] ** 2 * tangents[0]))
    report = gradcheck.compare(lambda x: jnp.sum(cube(x)), lambda x: 2 * x**2, jnp.arange(1.0, 4.0))
    assert report.leaves[0].autodiff.relative == 0
    assert not report.ok
    assert "autodiff was compared with itself: it uses the derivative that f defines for cube" in str(report)
    np.testing.assert_allclose(report.leaves[0].finite.relative, 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("plant", [1.0, 1.01])
def test_a_kink_is_shown_and_hides_no_mistake(plant):
    """A relu whose z is exactly 0: at a blank image and biases of 0 every z of the hidden layer is."""
    params = tuple(layer._replace(b=jnp.zeros_like(layer.b)) for layer in network(0, (4, 5, 3)))
    options = {"cost": costs.cross_entropy, "hidden": activations.relu}

    def by_hand(params, x, y):
        _, (first, last) = backprop.value_and_grad(params, x, y, **options)
        return first._replace(b=plant * first.b), last._replace(b=plant * last.b)

    def f(params, x, y):
        return costs.cross_entropy.value(mlp.logits(params, x, hidden=activations.relu), y)

    report = gradcheck.compare(f, by_hand, params, jnp.zeros(4), jnp.array([0.0, 1.0, 0.0]))
    assert report.ok == (plant == 1)
    assert [leaf.kinks for leaf in report.leaves] == [0, 5, 0, 0]
    assert [leaf.path for leaf in report.wrong] == ([] if plant == 1 else ["[1].b"])
    assert str(report).count("ok, 5 at a kink") == 1


@pytest.mark.parametrize(("slope", "kinks"), [(0.0, 1), (1.0, 1), (-0.5, 0), (1.5, 0)])
def test_at_a_kink_the_gradient_is_between_the_slopes(slope, kinks):
    report = gradcheck.compare(
        lambda p: jnp.sum(jnp.maximum(p, 0)), lambda p: jnp.where(p == 0, slope, p > 0), jnp.array([-1.0, 0.0, 2.0])
    )
    assert report.leaves[0].kinks == kinks


def test_where_f_is_smooth_there_is_no_kink():
    """At a minimum the one-sided differences have opposite signs; a wrong gradient between them is still wrong."""
    report = gradcheck.compare(lambda p: jnp.sum(p**2), lambda p: 2 * p, jnp.zeros(3))
    assert report.ok
    assert report.leaves[0].kinks == 0
    steep = gradcheck.compare(
        lambda p: jnp.sum(jnp.tanh(50 * p)), lambda p: 50.001 / jnp.cosh(50 * p) ** 2, jnp.ones(3) / 99
    )
    assert [leaf.kinks for leaf in steep.wrong] == [0]


def test_large_leaves_are_sampled_by_finite_differences_and_say_so():
    report = gradcheck.compare(lambda p: jnp.sum(p**2), lambda p: 2 * p, jnp.full((20, 10), 1e3), max_entries=7)
    assert report.ok
    assert (report.leaves[0].autodiff.compared, report.leaves[0].finite.compared) == (200, 7)
    assert "(7 entries)" in str(report)


def test_the_table():
    report = gradcheck.compare(lambda p: jnp.sum(p**3), lambda p: 3 * p**2, jnp.array([1.0, 2.0]))
    head, row, verdict = str(report).splitlines()
    columns = ["abs", "rel", "where"]
    assert head.split() == ["leaf", "shape", "autodiff:", *columns, "finite", "diff.:", *columns]
    assert row.startswith("(it)  (2,)")
    assert verdict.startswith("all leaves ok (tolerances 1e-10 against autodiff")


RIGHT = np.arange(1.0, 13.0).reshape(3, 4) ** 1.5
DIAGNOSES = {
    "it is 0.5 times the right one": RIGHT / 2,
    "it is 1/6 times the right one, and 6 is the length of axis 0 of args[1]": RIGHT / 6,
    "it is -6 times the right one, and 6 is the length of axis 0 of args[1]": -6 * RIGHT,
    "it is the transpose of the right one": RIGHT.T,
    "it is 0 everywhere": np.zeros((3, 4)),
    "it is that of ['other']": np.cos(np.arange(12.0)).reshape(3, 4),
    "it is the right one, reversed along axis 1": RIGHT[:, ::-1],
    "it is the right one, moved by 1 along axis 0": np.roll(RIGHT, 1, 0) * [[0], [1], [1]],
    "it is the right one, moved by -1 along axis 1": np.roll(RIGHT, -1, 1) * [1, 1, 1, 0],
    "only index 2 of axis 0, the last, is missing": RIGHT * [[1], [1], [0]],
    "only index 1 of axis 1 is wrong": RIGHT + np.eye(4)[1],
    "each row has a factor of its own, from 1 to 3": RIGHT * [[1], [2], [3]],
    "axis 0 has 2 entries instead of 3": RIGHT[:2],
    "": RIGHT + np.sin(np.arange(12.0)).reshape(3, 4),
}


@pytest.mark.parametrize("said", DIAGNOSES)
def test_what_a_wrong_gradient_looks_like(said):
    other = jnp.cos(jnp.arange(12.0).reshape(3, 4))

    def f(params, xs):
        return jnp.sum(params["it"] * RIGHT) + jnp.sum(params["other"] * np.cos(np.arange(12.0)).reshape(3, 4))

    params = {"it": jnp.ones((3, 4)), "other": jnp.ones((3, 4))}
    report = gradcheck.compare(f, lambda params, xs: {"it": DIAGNOSES[said], "other": other}, params, jnp.ones(6))
    assert report.leaves[0].diagnosis == said


@pytest.mark.parametrize(
    ("gradient", "rows", "said"),
    [
        (-RIGHT, 1, "it is -1 times the right one"),  # a count of 1 explains nothing
        (RIGHT + np.sin(np.arange(12.0)).reshape(3, 4), 6, ""),
    ],
)
def test_the_only_layer_is_not_below_a_right_one(gradient, rows, said):
    def f(params, xs):
        return jnp.sum(params[0] * RIGHT)

    report = gradcheck.compare(f, lambda params, xs: (gradient,), (jnp.ones((3, 4)),), jnp.ones(rows))
    assert report.leaves[0].diagnosis == said


def test_a_single_entry_is_not_called_the_only_wrong_one():
    report = gradcheck.compare(lambda p: 0.0 * jnp.sum(p), lambda p: p, jnp.ones(1))
    assert [leaf.diagnosis for leaf in report.wrong] == [""]


def test_a_wrong_value_is_a_row():
    args = (network(0, (3, 2)), *examples(1, 4, (3, 2)))
    value, gradient = derivation(*args)
    report = gradcheck.compare(mean_cost, lambda *_: (8 * value, gradient), *args, double=False)
    assert [leaf.path for leaf in report.wrong] == ["value"]
    np.testing.assert_allclose(report.wrong[0].autodiff.relative, 7, rtol=1e-5)
    assert not report  # `assert compare(...)` is not passed by a wrong gradient


def test_float32_has_tolerances_of_its_own():
    report = gradcheck.compare(mean_cost, derivation, network(0, SQUARE), *examples(1, 5, SQUARE), double=False)
    assert report
    assert (report.tolerance, report.finite_tolerance) == (1e-5, 1e-2)
    tight = gradcheck.compare(
        mean_cost, derivation, network(0, SQUARE), *examples(1, 5, SQUARE), double=False, tolerance=1e-10
    )
    assert not any("times the right one" in leaf.diagnosis for leaf in tight.leaves)


@pytest.mark.parametrize("leaf", [1.7, np.linspace(1, 3, 7)])
def test_numbers_and_wider_floats_keep_the_precision_of_jax(leaf):
    """The finite-difference step depends on the dtype in which f computes, not on the argument's."""
    report = gradcheck.compare(lambda p: jnp.sum(jnp.sin(p)), jnp.cos, leaf, double=False)
    assert report, str(report)


def test_functions_and_flags_are_bound():
    def f(p, hidden, n):
        return jnp.sum(hidden(p[:n]))

    for bind in (functools.partial, Partial):
        by_hand = bind(lambda p, hidden: hidden.prime(p), hidden=activations.tanh)
        assert gradcheck.compare(bind(f, hidden=activations.tanh, n=3), by_hand, jnp.arange(3.0))


@pytest.mark.parametrize("dtype", [int, bool, np.longdouble, ">f4", jnp.bfloat16])
def test_a_gradient_has_any_real_dtype(dtype):
    assert gradcheck.compare(jnp.sum, lambda p: np.ones(3, dtype), jnp.ones(3))


def test_infinite_entries_are_wrong_without_a_warning():
    report = gradcheck.compare(lambda p: jnp.sum(p**2), lambda p: 2 * p, jnp.array([1.0, jnp.inf]))
    assert not report


def test_a_second_comparison_sees_what_changed():
    """What f refers to, as when a cell of a notebook runs again that defines it."""
    power = 3

    def f(p):
        return jnp.sum(p**power)

    assert gradcheck.compare(f, lambda p: 3 * p**2, jnp.array([1.0, 2.0]))
    power = 2
    assert gradcheck.compare(f, lambda p: 2 * p, jnp.array([1.0, 2.0]))


@pytest.mark.parametrize("large", [1e9, -1e9])
def test_the_rounding_that_decides_is_said(large):
    """A large constant in f leaves few digits to its differences."""
    report = gradcheck.compare(lambda p: large + jnp.sum(p**2), lambda p: 2 * p, jnp.array([1.0, 2.0]))
    assert report.ok
    assert "ok, within the rounding of f, " in str(report)


X, KEYS = jnp.ones(3), jax.random.split(jax.random.key(0), 3)


def check(grad_f, f=jnp.sum, *args, **options):
    return lambda: gradcheck.compare(f, grad_f, *(args or (jnp.ones(3),)), **options)


def same(p, *_):
    return p


test_bad_input = refuses(
    (lambda: gradcheck.compare(jnp.sum, jnp.ones_like), ValueError, ".* at least one argument"),
    (check(same, lambda p: p["k"], {"k": 3}), TypeError, r"params\['k'\] must .* floating .* int.*later arg"),
    (check(same, lambda p: p**2), ValueError, "f must return one scalar, got"),
    (check(same, lambda p: [jnp.sum(p)]), ValueError, r"f must return one scalar, got \["),
    (check(same, lambda p: jnp.sum(p > 0)), TypeError, "f must return a .*floating.* got int"),
    (check(same, None), TypeError, "f must be a function, got None"),
    (check(None), TypeError, "grad_f must be a function, got None"),
    (check(same, lambda p: 1.0, ()), ValueError, r"params must hold at least one array .*, got \(\)"),
    (check(lambda p: {"w": p}), ValueError, "grad_f must return a tree like the first argument.*got"),
    (check(lambda p: (p, 0.0), lambda p: sum(p["w"]), {"w": X}), ValueError, r"grad_f must .*, value\): swap"),
    (check(lambda p: (None, p)), ValueError, "grad_f must return a tree like the first argument"),
    (check(lambda p: ((1.0, p), p)), ValueError, "grad_f must return a tree like the first argument"),
    (check(lambda p: np.ones(3, object)), TypeError, "the gradient .* must hold real numbers, got object"),
    (check(lambda p: np.array(["a"] * 3)), TypeError, "the gradient .* must hold real numbers, got <U1"),
    (check(lambda p: "abc"), TypeError, "the gradient .* must hold real numbers, got <U3"),
    (check(lambda p: np.ones(3, complex)), TypeError, "the gradient .* must hold real numbers, got complex128"),
    (check(lambda p: KEYS), TypeError, "the gradient that grad_f returns must hold real numbers, got key<fry>"),
    (check(lambda p: ("3", p)), TypeError, "the value that grad_f returns must hold real numbers, got <U1"),
    (check(same, jnp.sum, X, "mode"), TypeError, r"args\[1\] must be an array, got a str: bind it to f and"),
    (check(same, jnp.sum, X, jnp.tanh), TypeError, r"args\[1\] .* got a PjitFunction: bind .* functools.partial"),
    (check(same, lambda p, n: jnp.sum(p[:n]), X, 2), TypeError, r"args\[1\]=2 must .* functools.partial"),
    (check(same, tolerance=0), ValueError, "tolerance must be positive, got 0"),
    (check(same, finite_tolerance=0), ValueError, "finite_tolerance must be positive, got 0"),
    (check(same, tolerance=np.nan), ValueError, "tolerance must be positive, got nan"),
    (check(same, tolerance="a"), TypeError, "tolerance must be one number, got 'a'"),
    (check(same, finite_tolerance=[1.0]), TypeError, r"finite_tolerance must be one number, got \[1.0\]"),
    (check(same, finite_tolerance=True), TypeError, "finite_tolerance must be one number, got True"),
    (check(same, max_entries=0), ValueError, "max_entries must be at least 1, got 0"),
    (check(same, max_entries=2.5), TypeError, "max_entries must be an integer, got 2.5"),
    start="^",
)
