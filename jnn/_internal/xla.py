"""Formulations that XLA's CPU compiler runs faster, each with the measurement that justifies it.

Nothing here changes what is computed. Measured on two cores of an AMD EPYC with jax 0.10.2, as the ratio of medians
over interleaved runs; what saves less than a twentieth is not here.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jnn.typing import PyTree

_SMALL = 512


def weighted_inputs(
    w: Float[Array, "n_out n_in"], b: Float[Array, " n_out"], columns: Float[Array, "n_in m"]
) -> Float[Array, "n_out m"]:
    """The weighted inputs w a + b of every column a.

    With rows in place of columns a network [784, 800, 10] takes 1.19 times as long to read 10,000 images; with 30
    neurons in place of 800 there is no difference.
    """
    return w @ columns + b[:, None]


def sum_of_outer(left: Float[Array, "m n_out"], right: Float[Array, "m n_in"]) -> Float[Array, "n_out n_in"]:
    """The sum over rows of their outer products, left^T right: a mini-batch's gradient by weights.

    XLA folds the transposition into the product, which is slower where left is small: without the barrier an epoch of
    [784, 30, 10] in mini-batches of 10 takes 1.12 times as long.
    """
    left_t = left.T
    if left.size <= _SMALL:
        left_t = jax.lax.optimization_barrier(left_t)
    return left_t @ right


def sum_of_outer_over_time(
    left: Float[Array, "T B n_out"], right: Float[Array, "T B n_in"]
) -> Float[Array, "n_out n_in"]:
    """`sum_of_outer` for every step and row of a batch, as the transpose of right^T left.

    The plain product makes the gradient of an LSTM take 1.05 times as long at (B, T, p, d) = (32, 128, 64, 128), 1.11
    times at (64, 100, 128, 256), 1.10 times at (8, 512, 32, 64). With one axis in place of T and B, devices that share
    the batch would gather all of it: on two the gradient takes 1.5 times as long.
    """
    right_t = jax.lax.optimization_barrier(jnp.moveaxis(right, 2, 0))
    product = jax.lax.dot_general(right_t, left, (((1, 2), (0, 1)), ((), ())))
    return jax.lax.optimization_barrier(product).T


def permutation(key: Key[Array, ""], n: int) -> Int[Array, " n"]:
    """0 ... n-1 in random order, bit for bit as `jax.random.permutation` draws it.

    Both sort by random 32-bit keys, stably, once or more often. XLA's CPU compiler sorts single numbers several times
    faster than keys that carry values along, so there each sort is a radix sort: by one digit of the keys after
    another, the lowest first, with the position of each key in the low bits of the number that is sorted. With
    `jax.random.permutation` an epoch of [784, 30, 10] in mini-batches of 10 takes 1.15 times as long. Sorts are most of
    what a TPU's and a GPU's compilers do: for one in a loop they take 0.54 and 0.21 of the time at n = 60,000.
    """
    position_bits = (n - 1).bit_length()
    positions = jnp.arange(n, dtype=jnp.uint32)

    def by_digits(keys: Array, order: Array) -> Array:
        for low in range(0, 32, 32 - position_bits):
            digits = keys >> low << position_bits  # the shift discards what is above the digit
            by_digit = jnp.sort(digits | positions) & (2**position_bits - 1)
            order, keys = order[by_digit], keys[by_digit]
        return order

    def by_keys(keys: Array, order: Array) -> Array:
        return order[jnp.argsort(keys)]

    def shuffled(key_and_order: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        key, bits_key = jax.random.split(key_and_order[0])
        keys, order = jax.random.bits(bits_key, (n,), jnp.uint32), key_and_order[1]
        return (key, jax.lax.platform_dependent(keys, order, cpu=by_digits, default=by_keys)), None

    rounds = math.ceil(3 * math.log(n) / math.log(2**32 - 1))  # JAX's rule, which makes ties rare
    return jax.lax.scan(shuffled, (key, positions), length=rounds)[0][1].astype(int)


def map_members(f: Callable[..., PyTree], members: PyTree) -> PyTree:
    """f(*member) for each entry of the leading axis: one after another on a CPU, under one `jax.vmap` elsewhere.

    Small networks then stay in a core's cache: 16 networks [784, 100, 10] take 0.64 of the time of one `vmap`.
    """

    def one_by_one(f: Callable[..., PyTree], members: PyTree) -> PyTree:
        return jax.lax.map(lambda member: f(*member), members)

    return jax.lax.platform_dependent(f, members, cpu=one_by_one, default=lambda f, members: jax.vmap(f)(*members))


def scan(
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], state: PyTree, xs: PyTree, *, reverse: bool = False
) -> tuple[PyTree, PyTree]:
    """`jax.lax.scan`, with four steps in an iteration of its loop on accelerators.

    A step of a recurrent cell is a few small kernels there, and launching them bounds its time: of three LSTMs of 128
    units over 28 rows, four steps in an iteration launch half as many kernels on an H100. On a CPU they take longer.
    """

    def unrolled(steps: int) -> Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]:
        return lambda state, xs: jax.lax.scan(step, state, xs, reverse=reverse, unroll=steps)

    return jax.lax.platform_dependent(state, xs, cpu=unrolled(1), default=unrolled(4))
