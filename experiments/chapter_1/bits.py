"""Exercise 1.3: a layer of four neurons turns ten digit neurons into the bits of the digit.

First in the exercise's worst case, 0.99 for the digit and 0.01 for all others, with the weights of `perceptron` and
with the weights that the notes print, which read 9 = 1001 as 1011 = 11. Then on top of a network trained on the
embedded digits (UCI).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from experiments import common, runner
from jnn import data, mlp, perceptron
from jnn.mlp import Layer


@dataclass(frozen=True)
class Config(common.Seeded):
    quick: ClassVar[dict[str, Any]] = {"epochs": 5}

    c: float = 20.0
    """The weights of the layer are c and -c."""
    hidden: int = 30
    """Hidden neurons of the trained network."""
    epochs: int = 60
    """Passes over the training images."""
    eta: float = 0.5
    """Learning rate, with the cross-entropy cost and mini-batches of 10."""


def notes_layer(c: float) -> Layer:
    """The weights as the notes print them: bit 1' has +1 for 9 as well."""
    layer = perceptron.bits_layer(c)
    return layer._replace(w=layer.w.at[1, 9].set(c))


def decode(bits: Float[Array, "*batch 4"]) -> Int[Array, "*batch"]:
    """The number whose bits are on, 0' the least significant."""
    return (bits > 0.5).astype(int) @ 2 ** jnp.arange(4)


ARRAYS = {
    "bits": ("digits bits", "the bits of each digit in the worst case, 0' the least significant first"),
    "notes_bits": ("digits bits", "the same with the weights that the notes print"),
    "decoded": ("digits", "the number that the bits give"),
    "notes_decoded": ("digits", "the number that the bits of the notes' weights give"),
    "labels": ("images", "the labels of the test images"),
    "read_by_bits": ("images", "the number that the bits give for each test image"),
    "sure": ("images", "whether the digit neurons meet the exercise's assumption for the image"),
    "accuracy_of_the_digit_neurons": ("", "the fraction of test images whose largest digit neuron is the label"),
    "accuracy_of_the_bits": ("", "the fraction of test images whose bits give the label"),
}


def compute(config: Config) -> dict[str, Any]:
    """The bits in the worst case, and the bits of test images."""
    worst = jnp.where(jnp.eye(10, dtype=bool), 0.99, 0.01)
    outputs = jax.jit(jax.vmap(mlp.forward, in_axes=(None, 0)))
    layer = perceptron.bits_layer(config.c)
    bits, notes_bits = outputs((layer,), worst), outputs((notes_layer(config.c),), worst)

    images, test = data.digits()
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    params = common.train_network(
        init_key, train_key, images, hidden=config.hidden, eta=config.eta, epochs=config.epochs
    )
    digits = outputs(params, test.xs)
    by_bits = decode(outputs((*params, layer), test.xs))
    at_label = jnp.take_along_axis(digits, test.labels[:, None], axis=1)[:, 0]
    others = jnp.max(jnp.where(jax.nn.one_hot(test.labels, 10, dtype=bool), 0.0, digits), axis=1)
    return {
        "bits": bits,
        "notes_bits": notes_bits,
        "decoded": decode(bits),
        "notes_decoded": decode(notes_bits),
        "labels": test.labels,
        "read_by_bits": by_bits,
        "sure": (at_label >= 0.99) & (others <= 0.01),
        "accuracy_of_the_digit_neurons": jnp.mean(jnp.argmax(digits, axis=1) == test.labels),
        "accuracy_of_the_bits": jnp.mean(by_bits == test.labels),
    }


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """Ten digits out of ten, the notes' nine, and every test image that meets the exercise's assumption."""
    true_bits = (np.arange(10)[:, None] >> np.arange(4)) & 1
    within = np.exp(-0.9 * config.c) + 1e-6
    return {
        "in the worst case all ten digits are decoded correctly": np.all(arrays["decoded"] == np.arange(10)),
        "every bit is right to within exp(-0.9 c)": np.all(np.abs(arrays["bits"] - true_bits) <= within),
        "with the notes' weights 9 is decoded as 11, and the others correctly": np.array_equal(
            arrays["notes_decoded"], [*range(9), 11]
        ),
        "some test images meet the exercise's assumption": np.any(arrays["sure"]),
        "every test image that meets it is decoded correctly": np.all(
            arrays["read_by_bits"][arrays["sure"]] == arrays["labels"][arrays["sure"]]
        ),
    }


def draw(figure: runner.Figure, _: Config, arrays: runner.Arrays) -> None:
    """The bits of the ten digits by both layers, and the numbers that the bits give for test images."""
    *layers, trained = common.panels(figure, (10, 3.8), 1, 3, width_ratios=(1, 1, 1.5))
    for axes, name, decoded, title in (
        (layers[0], "bits", "decoded", "weights by binary digits"),
        (layers[1], "notes_bits", "notes_decoded", "as the notes print them"),
    ):
        axes.imshow(arrays[name][:, ::-1], cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
        for digit, number in enumerate(arrays[decoded]):
            axes.text(3.7, digit, f"= {number}", va="center", color="black" if number == digit else "C1")
            for bit in range(4):
                on = arrays[name][digit, bit] > 0.5
                axes.text(3 - bit, digit, int(on), ha="center", va="center", color="white" if on else "grey")
        axes.set(title=title, xlabel="bit", ylabel="digit", yticks=range(10))
        axes.set_xticks(range(4), ["3'", "2'", "1'", "0'"])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    counts = np.zeros((10, 16))
    np.add.at(counts, (arrays["labels"], arrays["read_by_bits"]), 1)
    trained.imshow(np.sqrt(counts), cmap="Blues", aspect="auto")
    for label, number in np.argwhere(counts):
        many = counts[label, number] > 0.5 * counts.max()
        colour = "C1" if label != number else "white" if many else "black"
        count = int(counts[label, number])
        trained.text(number, label, count, ha="center", va="center", color=colour, fontsize="small")
    trained.set(title=f"test images, {100 * arrays['accuracy_of_the_bits']:.1f} % correct by bits")
    trained.set(xlabel="number by bits", ylabel="label", xticks=range(16), yticks=range(10))
    trained.grid(visible=False)
