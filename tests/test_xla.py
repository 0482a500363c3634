"""Formulations for XLA compute what they replace."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn._internal import xla


@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 65_536, 65_537, 2**17 + 1])
def test_the_order_is_that_of_jax_random_permutation(n):
    """Bit for bit, on either side of the sizes at which a sort has room for one digit less."""
    for seed in range(3):
        key = jax.random.key(seed)
        order = jax.jit(xla.permutation, static_argnums=1)(key, n)
        wanted = jax.random.permutation(key, n)
        assert order.dtype == wanted.dtype
        np.testing.assert_array_equal(order, wanted)


def test_keys_that_tie_leave_their_places_as_they_stand(monkeypatch):
    """Random bits that all tie, or that differ in one digit alone: what comes out is a stable sort by them."""
    n = 300
    for keys in (np.zeros(n), np.arange(n) % 2, (np.arange(n) % 3) << 30, (np.arange(n) % 5) << 22):
        bits = jnp.asarray(keys, jnp.uint32)
        monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype, bits=bits: bits)
        np.testing.assert_array_equal(xla.permutation(jax.random.key(0), n), np.argsort(keys, kind="stable"))


@pytest.mark.parametrize("m", [3, 2000])
def test_sums_of_outer_products(m, x64):
    left, right = (jax.random.normal(jax.random.key(seed), (m, n)) for seed, n in ((0, 4), (1, 5)))
    expected = np.einsum("mi,mj->ij", left, right)
    np.testing.assert_allclose(jax.jit(xla.sum_of_outer)(left, right), expected, rtol=1e-11, atol=1e-11)
    over_time = jax.jit(xla.sum_of_outer_over_time)(left[None], right[None])
    np.testing.assert_allclose(over_time, expected, rtol=1e-11, atol=1e-11)
    several = jax.jit(xla.sum_of_outer_over_time)(jnp.stack([left, 2 * left]), jnp.stack([right, right]))
    np.testing.assert_allclose(several, 3 * expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_has_four_steps_in_an_iteration_on_accelerators_and_computes_the_same(reverse):
    """Of seven steps three are left over, which stand behind the loop."""

    def step(state, x):
        state = jnp.tanh(state + x)
        return state, 2 * state

    xs = jnp.arange(14.0).reshape(7, 2) / 10
    scan = jax.jit(partial(xla.scan, step, reverse=reverse))
    for platform, steps in (("cpu", 1), ("cuda", 7), ("tpu", 7)):
        text = scan.trace(xs[0], xs).lower(lowering_platforms=(platform,)).as_text()
        called = re.search(r"func private @(\w+)\([^{]*{[^}]*stablehlo.tanh", text)
        assert text.count(f"call @{called[1]}(" if called else "stablehlo.tanh") == steps, platform
    expected = jax.lax.scan(step, xs[0], xs, reverse=reverse)
    jax.tree.map(np.testing.assert_array_equal, scan(xs[0], xs), expected)
