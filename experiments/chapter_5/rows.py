"""Section 5.2: an LSTM reads handwritten digits row by row and classifies them after the last row.

A sequence has 28 steps of 28 pixels (8 of 8 for the embedded digits). A softmax layer reads the last working memory;
reading the earlier ones with the same layer shows how the prediction forms. Training uses the library's hand-derived
backpropagation through time.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int
from matplotlib.figure import SubFigure

from experiments import common, runner
from jnn import costs, mlp
from jnn.activations import softmax

SHOWN = 5
"""The number of test digits to draw."""

CHUNK = 1000
"""The number of test images to read at once, which bounds the memory."""


@dataclass(frozen=True)
class Config(common.Kept, common.Images):
    quick: ClassVar[dict[str, Any]] = {"data": "digits", "units": 32, "batch_size": 32, "epochs": 4, "seeds": 2}

    seeds: int = 3
    units: int = 128
    """Memory cells d."""
    eta: runner.NotNegative = 0.003
    """Adam's initial learning rate, which falls to 0 along a cosine."""
    batch_size: int = 128
    """Images in a mini-batch."""
    epochs: int = 8
    """Passes over the training images."""


@jax.jit
def logits(net: common.Net, xs: Float[Array, "B pixels"]) -> Float[Array, "T B 10"]:
    """The logits after each row of every image."""
    side = round(xs.shape[1] ** 0.5)
    rows = jnp.swapaxes(xs.reshape(-1, side, side), 0, 1)
    return mlp.linear(net.out, common.memories(net.cell, rows))


def last_logits(net: common.Net, xs: Float[Array, "B pixels"]) -> Float[Array, "B 10"]:
    """The logits after the last row."""
    return logits(net, xs)[-1]


def loss(net: common.Net, xs: Float[Array, "B pixels"], labels: Int[Array, " B"]) -> Float[Array, ""]:
    """The mean log-likelihood cost after the last row."""
    return jnp.mean(costs.log_likelihood.value(last_logits(net, xs), jax.nn.one_hot(labels, 10)))


@jax.jit
def predict(net: common.Net, xs: Float[Array, "N pixels"]) -> Int[Array, " N"]:
    """The most probable digit after the last row."""
    full = len(xs) // CHUNK * CHUNK
    some = jax.lax.map(partial(last_logits, net), xs[:full].reshape(-1, CHUNK, xs.shape[1]))
    return jnp.argmax(jnp.concatenate([some.reshape(-1, 10), last_logits(net, xs[full:])]), axis=-1)


def accuracy(net: common.Net, xs: Float[Array, "N pixels"], labels: Int[Array, " N"]) -> Float[Array, ""]:
    """The fraction of images that the net classifies correctly."""
    return jnp.mean(predict(net, xs) == labels)


MATMUL_PRECISION = "default"

ARRAYS = {
    **common.LEARNING_CURVES,
    "images": ("shown pixels", "the test digits that are drawn; the last is the first that net 0 misreads"),
    "shown_labels": ("shown", "their labels"),
    "probabilities": ("T shown 10", "net 0's probability of each digit after each row of them"),
    "accuracy_by_row": ("T", "the accuracy of net 0 on test images when it predicts after each row"),
}


def compute(config: Config, training: runner.Training = runner.ALONE) -> dict[str, Any]:
    """Trains the nets. Returns the learning curves, and the first net's predictions for some test images by row."""
    common.check_written("weights", config.weights)
    examples, test = common.load(config)
    side = round(examples.xs.shape[1] ** 0.5)
    init_keys, train_keys = jax.random.split(jax.random.key(config.seed), (2, config.seeds))
    state, history = common.train_nets(
        training,
        init_keys,
        train_keys,
        partial(common.init_net, inputs=side, units=config.units, outputs=10),
        jax.value_and_grad(loss),
        tuple(examples),
        eta=config.eta,
        epochs=config.epochs,
        batch_size=config.batch_size,
        evaluate=Partial(accuracy, xs=test.xs, labels=test.labels),
    )
    about = common.about_networks(config, costs.log_likelihood, cell="lstm", sizes=(side, config.units, 10))
    common.keep(config, state.params._asdict(), about)
    first = jax.tree.map(lambda a: np.asarray(a)[0], state.params)
    by_row = logits(first, test.xs[:CHUNK])
    misread = np.flatnonzero(np.asarray(predict(first, test.xs) != test.labels))
    shown = jnp.array([*range(SHOWN - 1), *misread[:1]])
    return {
        **common.learning_curves("test_accuracy", history.metrics, history.losses),
        "images": test.xs[shown],
        "shown_labels": test.labels[shown],
        "probabilities": softmax(logits(first, test.xs[shown])),
        "accuracy_by_row": jnp.mean(jnp.argmax(by_row, axis=-1) == test.labels[None, :CHUNK], axis=1),
    }


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """Learning lowers the cost and generalises; the prediction forms over the rows; the defaults reach 98.5 %."""
    by_row = arrays["accuracy_by_row"]
    found = {
        **common.learning_claims(arrays["costs"], arrays["test_accuracy"]),
        "the first net is less accurate after half of the rows than after all": by_row[len(by_row) // 2 - 1]
        < by_row[-1],
    }
    if config == Config(seed=config.seed, seeds=config.seeds):
        found["the mean test accuracy is at least 98.5 %"] = arrays["test_accuracy"] >= 0.985
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """Digits with the probabilities after each row beside them; learning curves, and the accuracy by row."""
    upper, lower = common.parts(figure, (9, 5.6), 2, 1, height_ratios=(1.45, 1))
    _draw_reading(upper, arrays)
    _draw_curves(lower, config, arrays)


def _draw_reading(figure: SubFigure, arrays: runner.Arrays) -> None:
    images, probabilities = arrays["images"], arrays["probabilities"]
    side = probabilities.shape[0]
    panels = np.reshape(figure.subplots(2, len(images)), (2, -1))
    for i, (picture, chart) in enumerate(panels.T):
        picture.imshow(images[i].reshape(side, side), cmap="Greys", vmin=0, vmax=1)
        picture.set_axis_off()
        read, label = int(np.argmax(probabilities[-1, i])), int(arrays["shown_labels"][i])
        right = read == label
        picture.set_title(f"{read}" if right else f"{read} for {label}", color="black" if right else "C1", pad=3)
        chart.imshow(probabilities[:, i], cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="upper")
        chart.set_xticks(range(10), [str(digit) for digit in range(10)], fontsize="small")
        chart.set_yticks([0, side // 2 - 1, side - 1], [] if i else ["1", str(side // 2), str(side)])
        chart.grid(visible=False)
    panels[1, 0].set_ylabel("rows read, $t$")
    panels[1, len(images) // 2].set_xlabel("probability $a_j$ of each digit $j$, from white (0) to blue (1)")


def _draw_curves(figure: SubFigure, config: Config, arrays: runner.Arrays) -> None:
    costs_axes, accuracies, rows = np.ravel(figure.subplots(1, 3))
    common.draw_curves(costs_axes, arrays["costs"])
    common.draw_curves(accuracies, 100 * arrays["accuracies"])
    costs_axes.set(xlabel="epoch", ylabel="training cost $C$", yscale="log")
    reached = runner.format_number("test_accuracy", arrays, scale=100, unit="%")
    accuracies.set(xlabel="epoch", ylabel="test accuracy / %", title=f"{config.seeds} nets: {reached}")
    by_row = 100 * arrays["accuracy_by_row"]
    rows.plot(np.arange(1, len(by_row) + 1), by_row, "o-", color="C0", markersize=3)
    rows.set(xlabel="rows read, $t$", ylabel="accuracy by then / %", ylim=(0, 102))
