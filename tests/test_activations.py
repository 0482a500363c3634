import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import activations
from tests.helpers import ELEMENTWISE, SMOOTH

HUGE = jnp.array([-1e4, -1e3, -100.0, -1.0, -1e-8, 1e-8, 1.0, 100.0, 1e3, 1e4])


@pytest.mark.parametrize("f", ELEMENTWISE, ids=repr)
def test_prime_is_the_derivative(f, x64):
    z = jnp.linspace(-5, 5, 40).reshape(8, 5)  # 0 is not among them
    np.testing.assert_allclose(f.prime(z), jax.vmap(jax.vmap(jax.grad(f)))(z), rtol=1e-12, atol=1e-15)
    assert f(z).shape == f.prime(z).shape == z.shape


@pytest.mark.parametrize("f", [*ELEMENTWISE, activations.softmax], ids=[*map(repr, ELEMENTWISE), "softmax"])
def test_finite_for_huge_weighted_inputs(f):
    assert np.all(np.isfinite(f(HUGE)))
    assert np.all(np.isfinite(jax.grad(lambda z: jnp.sum(f(z) ** 2))(HUGE)))


@pytest.mark.parametrize("f", [*ELEMENTWISE, activations.softmax], ids=[*map(repr, ELEMENTWISE), "softmax"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtype_is_kept_and_half_precision_is_near_float32(f, dtype):
    z = jnp.concatenate([jnp.linspace(-6, 6, 40), HUGE]).astype(dtype)
    for g in (f, getattr(f, "prime", f)):
        a, wanted = g(z), g(z.astype(jnp.float32))
        assert a.dtype == dtype
        np.testing.assert_allclose(a.astype(jnp.float32)[:40], wanted[:40], rtol=0, atol=8 * jnp.finfo(dtype).eps)
        assert np.all(np.isfinite(a))


FORMULAS = {
    activations.sigmoid: lambda z: 1 / (1 + math.exp(-z)),
    activations.gelu: lambda z: z * (1 + math.erf(z / math.sqrt(2))) / 2,
    activations.leaky_relu: lambda z: max(z, z / 100),
    activations.elu: lambda z: z if z > 0 else math.expm1(z),
    activations.softplus: lambda z: math.log1p(math.exp(z)),
    activations.silu: lambda z: z / (1 + math.exp(-z)),
}


@pytest.mark.parametrize("f", FORMULAS, ids=repr)
def test_against_its_formula(f, x64):
    z = np.linspace(-30, 30, 61)
    np.testing.assert_allclose(f(jnp.asarray(z)), [FORMULAS[f](x) for x in z], rtol=1e-12, atol=1e-14)


def test_tanh_prime_where_it_saturates():
    """1 - a^2 to the last bits of float32, where computing it so would lose half of them to cancellation."""
    z = jnp.linspace(3, 7, 20)
    a = np.asarray(jnp.tanh(z), np.float64)
    np.testing.assert_allclose(activations.tanh.prime(z), 1 - a**2, rtol=3e-7)


@pytest.mark.equation("exercise 5.1")
def test_values_at_zero():
    assert all(f.prime(0.0) == jax.grad(f)(0.0) for f in SMOOTH)
    assert activations.step(0.0) == 0  # the perceptron of exercise 1.2 outputs 0 there
    assert activations.step(jnp.array(1e-30)) == 1
    assert activations.relu.prime(0.0) == 0
    assert activations.tanh.prime(0.0) == 1  # exactly 1; the notes call it less than 1 (exercise 5.1)
    assert activations.sigmoid(0.0) == 0.5
    assert activations.sigmoid.prime(0.0) == 0.25


@pytest.mark.equation("section 3.2")
def test_softmax_against_its_formula_batch_by_batch(x64):
    """Section 3.2, with the constant c of exercise 3.3."""
    z = jax.random.normal(jax.random.key(0), (2, 3, 5))
    e = np.exp(1.7 * np.asarray(z))
    np.testing.assert_allclose(activations.softmax(z, 1.7), e / e.sum(-1, keepdims=True), rtol=1e-13)


@pytest.mark.equation("exercise 3.3")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_softmax_limit_in_c_and_its_rate(k, x64):
    """Exercise 3.3: one-hot at a unique largest z, 1/k each at a k-way tie (the notes leave ties out).

    No output is further from that than (J - k) exp(-c gap) / k, which is nearly reached, and 0 from c = 10^4 on.
    """
    z = jnp.array([2.0] * k + [1.3, 1.2, -4.0][: 5 - k])
    limit = jnp.where(jnp.arange(len(z)) < k, 1 / k, 0)
    for c in (0.1, 1.0, 10.0, 30.0, 1e4):
        distance = np.max(np.abs(activations.softmax(z, c) - limit))
        bound = (len(z) - k) * np.exp(-0.7 * c) / k
        assert distance <= bound
        if 10 <= c <= 30:
            assert distance > 0.3 * bound


@pytest.mark.equation("section 3.2")
def test_softmax_jacobian(x64):
    """Section 3.2: what takes the place of sigma' in (2.1)."""
    z = jax.random.normal(jax.random.key(1), (6,))
    wanted = jax.jacobian(activations.softmax)(z, 1.7)
    np.testing.assert_allclose(activations.softmax_jacobian(z, 1.7), wanted, rtol=1e-12, atol=1e-16)


def test_activations_pass_through_jit_as_arguments():
    traces = []

    @jax.jit
    def apply(f, z):
        traces.append(f)
        return f(z)

    for f in (activations.sigmoid, activations.tanh, activations.sigmoid):
        apply(f, jnp.ones(3))
    assert traces == [activations.sigmoid, activations.tanh]


def test_the_docstring_of_an_activation_is_that_of_its_function():
    """Or of what made it; not one that a function has from its class."""

    def doubled(z):
        """Twice z.

        With a second line.
        """
        return 2 * z

    def doc(value, **options):
        return activations.Activation("doubled", value, jnp.ones_like, **options).__doc__

    said = "Twice z.\n\nWith a second line."
    assert doc(doubled) == doc(doubled, made_by=functools.partial(jnp.sin)) == said
    assert doc(lambda z: z, made_by=functools.partial(doubled)) == said
    assert doc(functools.partial(doubled)) == doc(lambda z: z) == activations.Activation.__doc__


@pytest.mark.bad_input
@pytest.mark.parametrize("c", [0, -1.0, float("nan")])
@pytest.mark.parametrize("f", [activations.softmax, activations.softmax_jacobian])
def test_c_must_be_positive(f, c):
    with pytest.raises(ValueError, match="c must be positive and finite, got"):
        f(jnp.ones(3), c)
