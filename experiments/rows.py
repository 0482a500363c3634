"""Section 5.2: an LSTM reads handwritten digits row by row, and says after the last row which digit it was.

A sequence has 28 steps of 28 pixels (8 of 8 for scikit-learn's small digits). A softmax layer reads the last working
memory; reading the earlier ones with the same layer shows how the net's opinion forms. Training is by the library's
hand-derived backpropagation through time.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, Key
from matplotlib.figure import Figure, SubFigure

from experiments import runner
from jnn import _checks, costs, data, lstm, mlp, train
from jnn.activations import softmax

SHOWN = 5
"""Test digits whose reading is drawn."""

AT_A_TIME = 1000
"""Test images read at a time, so that their memories stay small."""


@dataclass(frozen=True)
class Config:
    """The images, the nets, and how they are trained."""

    quick: ClassVar[Mapping[str, Any]] = {"data": "digits", "units": 32, "batch_size": 32, "epochs": 4, "seeds": 2}

    data: Literal["mnist", "digits"] = "mnist"
    """The 70,000 of MNIST (read from $JNN_DATA_DIR or downloaded once), or 1,797 embedded digits of 8x8 pixels."""
    units: int = 128
    """Memory cells d."""
    eta: float = 0.003
    """Adam's first learning rate, which falls to 0 along a cosine."""
    batch_size: int = 128
    """Images in a mini-batch."""
    epochs: int = 8
    """How often every training image is seen."""
    seeds: int = 3
    """Nets side by side."""
    seed: int = 0
    """Where the random numbers start."""


def opinions(params: dict[str, Any], xs: Float[Array, "B pixels"]) -> Float[Array, "T B 10"]:
    """The logits after each row of every image."""
    side = round(xs.shape[1] ** 0.5)
    rows = jnp.swapaxes(xs.reshape(-1, side, side), 0, 1)
    cell, (w, b) = params["cell"], params["out"]
    _, states = lstm.unroll(cell, lstm.zero_state(len(cell.rem.b)), rows)
    z = states.wm @ w.T
    return z + jnp.broadcast_to(b, z.shape)


def last_opinion(params: dict[str, Any], xs: Float[Array, "B pixels"]) -> Float[Array, "B 10"]:
    """The logits after the last row."""
    return opinions(params, xs)[-1]


def loss(params: dict[str, Any], xs: Float[Array, "B pixels"], labels: Int[Array, " B"]) -> Float[Array, ""]:
    """The mean log-likelihood cost of the last opinion."""
    return jnp.mean(costs.log_likelihood.value(last_opinion(params, xs), jax.nn.one_hot(labels, 10)))


def predict(params: dict[str, Any], xs: Float[Array, "N pixels"]) -> Int[Array, " N"]:
    """The most probable digit after the last row."""
    full = len(xs) // AT_A_TIME * AT_A_TIME
    some = jax.lax.map(partial(last_opinion, params), xs[:full].reshape(-1, AT_A_TIME, xs.shape[1]))
    rest = last_opinion(params, xs[full:])
    return jnp.argmax(jnp.concatenate([some.reshape(-1, 10), rest]), axis=-1)


def accuracy(params: dict[str, Any], xs: Float[Array, "N pixels"], labels: Int[Array, " N"]) -> Float[Array, ""]:
    """The fraction of images that are read right."""
    return jnp.mean(predict(params, xs) == labels)


def start(key: Key[Array, ""], units: int, side: int) -> dict[str, Any]:
    """A random LSTM with a layer of one neuron for each digit."""
    cell_key, out_key = jax.random.split(key)
    (out,) = mlp.init(out_key, (units, 10))
    return {"cell": lstm.init(cell_key, side, units), "out": out}


def compute(config: Config) -> dict[str, Any]:
    """Train the nets; the learning curves, and the first net's opinions of some test images row by row."""
    _checks.count("seeds", config.seeds)
    examples, test = getattr(data, config.data)()
    side = round(examples.xs.shape[1] ** 0.5)
    steps = config.epochs * -(-len(examples.xs) // config.batch_size)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(config.eta, steps)))
    init_keys, train_keys = jax.random.split(jax.random.key(config.seed), (2, config.seeds))
    state, history = runner.fit(
        train_keys,
        jax.value_and_grad(loss),
        optimizer,
        jax.jit(jax.vmap(lambda key: train.init(optimizer, start(key, config.units, side))))(init_keys),
        tuple(examples),
        epochs=config.epochs,
        batch_size=config.batch_size,
        evaluate=Partial(accuracy, xs=test.xs, labels=test.labels),
    )
    first = jax.tree.map(lambda a: a[0], state.params)
    some = opinions(first, test.xs[:AT_A_TIME])
    misread = np.flatnonzero(np.asarray(predict(first, test.xs) != test.labels))
    shown = jnp.array([*range(SHOWN - 1), *misread[:1]])
    accuracies = np.asarray(history.metrics)
    return {
        **runner.mean_and_standard_error("test_accuracy", accuracies[:, -1]),
        "accuracies": accuracies,
        "costs": jnp.mean(history.values, axis=-1),
        "images": test.xs[shown],
        "shown_labels": test.labels[shown],
        "probabilities": softmax(opinions(first, test.xs[shown])),
        "accuracy_by_row": jnp.mean(jnp.argmax(some, axis=-1) == test.labels[None, :AT_A_TIME], axis=1),
    }


def claims(config: Config, arrays: runner.Arrays) -> dict[str, bool]:
    """Learning lowers the cost and generalises; the opinion forms as rows come in; the defaults reach 98.5 %."""
    curve, by_row = arrays["costs"], arrays["accuracy_by_row"]
    found = {
        "the mean training cost of every net falls": bool(config.epochs == 1 or np.all(curve[:, -1] < curve[:, 0])),
        "the mean test accuracy is above 50 %, where guessing gives 10 %": bool(arrays["test_accuracy"] > 0.5),
        "after half of the rows the first net is right less often than after all": bool(
            by_row[len(by_row) // 2 - 1] < by_row[-1]
        ),
    }
    if config == Config(seed=config.seed, seeds=config.seeds):
        found["the mean test accuracy is at least 98.5 %"] = bool(arrays["test_accuracy"] >= 0.985)
    return found


def draw(figure: Figure, config: Config, arrays: runner.Arrays) -> None:
    """Digits with the probabilities after each row beside them; learning curves, and the accuracy by row."""
    figure.set_size_inches(9, 5.6)
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.45, 1))
    upper, lower = halves
    _draw_reading(upper, arrays)
    _draw_curves(lower, config, arrays)


def _draw_reading(figure: SubFigure, arrays: runner.Arrays) -> None:
    images, probabilities = arrays["images"], arrays["probabilities"]
    side = probabilities.shape[0]
    panels = np.reshape(figure.subplots(2, len(images)), (2, -1))
    for i, (picture, opinion) in enumerate(panels.T):
        picture.imshow(images[i].reshape(side, side), cmap="Greys", vmin=0, vmax=1)
        picture.set_axis_off()
        read, label = int(np.argmax(probabilities[-1, i])), int(arrays["shown_labels"][i])
        right = read == label
        picture.set_title(f"{read}" if right else f"{read} for {label}", color="black" if right else "C1", pad=3)
        opinion.imshow(probabilities[:, i], cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="upper")
        opinion.set_xticks(range(10), [str(digit) for digit in range(10)], fontsize="small")
        opinion.set_yticks([0, side // 2 - 1, side - 1], [] if i else ["1", str(side // 2), str(side)])
        opinion.grid(visible=False)
    panels[1, 0].set_ylabel("rows read, $t$")
    panels[1, len(images) // 2].set_xlabel("probability $a_j$ of each digit $j$, from white (0) to blue (1)")


def _draw_curves(figure: SubFigure, config: Config, arrays: runner.Arrays) -> None:
    costs_axes, accuracies, rows = np.ravel(figure.subplots(1, 3))
    epochs = np.arange(1, config.epochs + 1)
    for axes, curves in ((costs_axes, arrays["costs"]), (accuracies, 100 * arrays["accuracies"])):
        axes.plot(epochs, curves.T, color="C0", alpha=0.4, linewidth=1)
        axes.plot(epochs, curves.mean(axis=0), color="C0", linewidth=2)
        axes.set_xlabel("epoch")
    costs_axes.set(ylabel="training cost $C$", yscale="log")
    accuracies.set(
        ylabel="test accuracy / %",
        title=f"{config.seeds} nets: {runner.said('test_accuracy', arrays, scale=100, unit='%')}",
    )
    by_row = 100 * arrays["accuracy_by_row"]
    rows.plot(np.arange(1, len(by_row) + 1), by_row, "o-", color="C0", markersize=3)
    rows.set(xlabel="rows read, $t$", ylabel="right by then / %", ylim=(0, 102))


if __name__ == "__main__":
    sys.exit(runner.main(sys.modules[__name__]))
