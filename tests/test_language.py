import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jnn import costs, language, lstm
from tests.helpers import refuses, relative_error, split_in_two

N, INPUTS, D, KEY = 5, 3, 4, jax.random.key(0)
logits, cost = jax.jit(language.logits), jax.jit(language.cost)


@functools.cache
def model(layers=2, scale=1.0):
    params = language.init(KEY, N, INPUTS, D, layers=layers)
    return params._replace(readout=jax.tree.map(lambda leaf: scale * leaf, params.readout))


def text(*shape, seed=1):
    return jax.random.randint(jax.random.key(seed), shape, 0, N)


@jax.jit
def by_steps(params, states, xs):
    """The logits after each character, by the definition: one step of each layer after another."""
    states, found = list(states), []
    for x in xs:
        below = params.embedding[x]
        for i, layer in enumerate(params.layers):
            states[i] = lstm.step(layer, states[i], below)
            below = states[i].wm
        found.append(params.readout.w @ below + params.readout.b)
    return tuple(states), jnp.stack(found)


@pytest.mark.parametrize("layers", [1, 3])
def test_logits_are_those_of_steps(layers):
    params, xs = model(layers), text(7, 2)
    states, z = logits(params, language.zero_states(params), xs)
    expected = jax.vmap(by_steps, (None, None, 1), (0, 1))(params, language.zero_states(params), xs)
    assert relative_error((states, z), expected) < 1e-6


def test_the_cost_is_that_of_each_next_character():
    params, xs = model(), text(3, 8)
    value, states = cost(params, language.zero_states(params), xs)
    _, z = jax.vmap(by_steps, (None, None, 0))(params, language.zero_states(params), xs[:, :-1])
    found = costs.log_likelihood.value(z, jax.nn.one_hot(xs[:, 1:], N))
    np.testing.assert_allclose(value, np.mean(found), rtol=1e-6)
    expected, _ = logits(params, language.zero_states(params, 3), xs[:, :-1].T)
    jax.tree.map(np.testing.assert_array_equal, states, expected)


def test_windows_go_on_where_others_end():
    """Two windows that share a character cost together what the whole does."""
    params, xs = model(), text(2, 9)
    whole, states = cost(params, language.zero_states(params), xs)
    first, between = cost(params, language.zero_states(params), xs[:, :5])
    second, after = cost(params, between, xs[:, 4:])
    np.testing.assert_allclose((first + second) / 2, whole, rtol=1e-6)
    assert relative_error(after, states) < 1e-6


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_what_is_written_follows_from_a_loop(temperature):
    """One text or several, from memories of each or of all; and a second call goes on where the first ends."""
    params, key = model(scale=3.0), jax.random.key(4)
    first = jnp.array([0, 3, 3])
    states, written = language.generate(key, params, language.zero_states(params), first, 6, temperature=temperature)
    x, expected = first, []
    memories = language.zero_states(params, 3)
    for step_key in jax.random.split(key, 6):
        memories, z = logits(params, memories, x[None])
        x = jax.random.categorical(step_key, z[0] / temperature) if temperature else jnp.argmax(z[0], axis=-1)
        expected.append(x)
    np.testing.assert_array_equal(written, expected)
    assert relative_error(states, memories) < 1e-5
    alone = language.generate(key, params, language.zero_states(params), jnp.array(0), 6, temperature=0)[1]
    assert alone.shape == (6,)
    if not temperature:
        np.testing.assert_array_equal(alone, written[:, 0])
        on = language.generate(key, params, states, written[-1], 2, temperature=0)[1]
        longer = language.generate(key, params, language.zero_states(params), first, 8, temperature=0)[1]
        np.testing.assert_array_equal(jnp.concatenate([written, on]), longer)


def test_a_traced_temperature():
    params = model(scale=3.0)
    write = functools.partial(language.generate, jax.random.key(4), params, language.zero_states(params), 1, 9)
    many = jax.jit(jax.vmap(lambda t: write(temperature=t)[1]))(jnp.array([0.0, 0.5]))
    for temperature, written in zip((0.0, 0.5), many, strict=True):
        np.testing.assert_array_equal(written, write(temperature=temperature)[1])


def test_devices_write_their_own_texts():
    """From the same memories, of a network that they share."""
    params, first = model(), jnp.array([0, 3, 3, 1])

    def write(params, first):
        return language.generate(jax.random.key(4), params, language.zero_states(params), first, 3)[1]

    split = split_in_two(write, (P(), P("d")), P(None, "d"))(params, first)
    np.testing.assert_array_equal(split, jnp.concatenate([write(params, half) for half in (first[:2], first[2:])], 1))


def start():
    params = model()
    return params, language.zero_states(params)


test_bad_input = refuses(
    (lambda: language.logits(*start(), jnp.array([0, N])), ValueError, r"xs must be in 0 ... 4, got 5 at \(1,\)"),
    (lambda: language.logits(*start(), jnp.array([-1])), ValueError, r"xs must be in 0 ... 4"),
    (lambda: language.logits(*start(), jnp.ones(3)), TypeError, "xs must be integers.*got float32"),
    (lambda: language.logits(*start(), [0, 1]), TypeError, "xs must be an array, got a list"),
    (lambda: language.logits(model(), start()[1][:1], text(3)), ValueError, "states must .* each of 2 layers, got 1"),
    (lambda: language.cost(*start(), text(2, 1)), ValueError, "xs must have at least 2 characters.*got 1"),
    (lambda: language.cost(*start(), text(4)), ValueError, r"xs must have shape \[B, T \+ 1\].*got \(4,\)"),
    (lambda: language.generate(KEY, *start(), 0, 0), ValueError, "steps must be at least 1, got 0"),
    (lambda: language.generate(KEY, *start(), 0, 3, temperature=-1), ValueError, "temperature must be at least 0, got"),
    (lambda: language.generate(KEY, *start(), N, 3), ValueError, "first must be in 0 ... 4"),
    (lambda: language.generate(0, *start(), 0, 3), TypeError, "key must be a key"),
    (lambda: language.init(KEY, 1, 2, 3), ValueError, "characters must be at least 2, got 1"),
    (lambda: language.init(KEY, 2, 2, 3, layers=0), ValueError, "layers must be at least 1"),
)
