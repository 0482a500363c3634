"""Chapter 1: a network learns to read handwritten digits, by hand-derived backpropagation.

Several networks with their own random starts train side by side in one program. `--data mnist` has the
settings of Nielsen's first run on the real MNIST: [784, 30, 10], mini-batches of 10, eta 3.0, 30 epochs; but weights
from N(0, 1/n_in), biases of 0 and all 60,000 images. His own start is a row of the experiment `nielsen`.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure, SubFigure

from experiments import runner
from jnn import backprop, costs, data, mlp, train

COSTS = {cost.name: cost for cost in (costs.quadratic, costs.cross_entropy, costs.log_likelihood)}


@dataclass(frozen=True)
class Config:
    """The defaults are the settings of Nielsen's first run, on scikit-learn's small digits."""

    quick: ClassVar[Mapping[str, Any]] = {"epochs": 3, "seeds": 2}

    data: Literal["digits", "mnist"] = "digits"
    """1,797 embedded digits of 8x8 pixels, or the 70,000 of MNIST (read from $JNN_DATA_DIR or downloaded once)."""
    hidden: tuple[int, ...] = (30,)
    """Neurons in each hidden layer."""
    cost: Literal["quadratic", "cross_entropy", "log_likelihood"] = "quadratic"
    """What is minimised; log_likelihood comes with a softmax output, the others with sigmoids."""
    eta: float = 3.0
    """The learning rate."""
    precision: Literal["float32", "mixed"] = "float32"
    """Of the arithmetic: mixed is bfloat16 for gradients, with float32 parameters and costs."""
    batch_size: int = 10
    """Examples in a mini-batch."""
    epochs: int = 30
    """How often every training image is seen."""
    seeds: int = 5
    """Networks trained side by side."""
    seed: int = 0
    """Where the random numbers start."""


def compute(config: Config) -> dict[str, Any]:
    """Train the networks; the learning curves, and what each network says of the test images."""
    optimizer = train.sgd(config.eta)
    (xs, labels), test = getattr(data, config.data)()
    sizes = (xs.shape[1], *config.hidden, 10)
    state, train_keys = runner.members(
        jax.random.key(config.seed), config.seeds, lambda key: train.init(optimizer, mlp.init(key, sizes))
    )
    grad = Partial(backprop.minibatch_value_and_grad, cost=COSTS[config.cost])
    state, history = runner.fit(
        train_keys,
        train.mixed(grad) if config.precision == "mixed" else grad,
        optimizer,
        state,
        (xs, data.one_hot(labels, 10)),
        epochs=config.epochs,
        batch_size=config.batch_size,
        evaluate=Partial(_metrics, xs=test.xs, labels=test.labels),
        sharding=runner.sharding(config.batch_size),
    )
    accuracies = np.asarray(history.metrics["accuracy"])
    return {
        **runner.mean_and_standard_error("test_accuracy", accuracies[:, -1]),
        "accuracies": accuracies,
        "costs": jnp.mean(history.values, axis=-1),
        "predictions": jax.vmap(mlp.classify, in_axes=(0, None))(state.params, test.xs),
        "labels": test.labels,
        "images": test.xs[:2000],
    }


def claims(config: Config, arrays: runner.Arrays) -> dict[str, bool]:
    """Learning lowers the cost and generalises; the defaults reach a published accuracy."""
    mean, first, last = arrays["test_accuracy"], arrays["costs"][:, 0], arrays["costs"][:, -1]
    found = {
        "the mean training cost of every network falls": bool(config.epochs == 1 or np.all(last < first)),
        "the mean test accuracy is above 50 %, where guessing gives 10 %": bool(mean > 0.5),
    }
    if config == Config(seed=config.seed, seeds=config.seeds):
        found["the mean test accuracy is at least 94 %"] = bool(mean >= 0.94)
    if config == Config(seed=config.seed, seeds=config.seeds, data="mnist"):
        found["the mean test accuracy is at least 95 %"] = bool(mean >= 0.95)
    return found


def draw(figure: Figure, config: Config, arrays: runner.Arrays) -> None:
    """Learning curves, and test digits with what the first network reads in them."""
    figure.set_size_inches(9, 4.4)
    halves: Any = figure.subfigures(1, 2, width_ratios=(1, 1.3))
    _draw_curves(halves[0], config, arrays)
    _draw_digits(halves[1], arrays)


def _draw_curves(figure: SubFigure, config: Config, arrays: runner.Arrays) -> None:
    upper, lower = np.ravel(figure.subplots(2, 1, sharex=True))
    epochs = np.arange(1, config.epochs + 1)
    for axes, curves in ((upper, 100 * arrays["accuracies"]), (lower, arrays["costs"])):
        axes.plot(epochs, curves.T, color="C0", alpha=0.3, linewidth=0.8)
        axes.plot(epochs, curves.mean(axis=0), color="C0", linewidth=2)
    upper.set(ylabel="test accuracy / %")
    lower.set(ylabel=f"training cost $C$\n({config.cost.replace('_', ' ')})", xlabel="epoch", yscale="log")
    reached = f"{config.seeds} networks: {runner.said('test_accuracy', arrays, scale=100, unit='%')}"
    figure.suptitle(reached, fontsize="medium")


def _draw_digits(figure: SubFigure, arrays: runner.Arrays) -> None:
    """The first test images row by row, then a last row of the first that network 0 misreads."""
    images, labels, read = arrays["images"], arrays["labels"], arrays["predictions"][0]
    side = int(np.sqrt(images.shape[1]))
    misread = np.flatnonzero((read != labels)[: len(images)])
    rows, columns = 5, 9
    chosen = [*range((rows - 1) * columns), *misread[:columns]]
    figure.suptitle(f"what the first reads; in orange its mistakes, {np.sum(read != labels)} in all", fontsize="medium")
    axes: Any = figure.subplots()
    for (row, column), i in zip(np.ndindex(rows, columns), chosen, strict=False):
        right = read[i] == labels[i]
        x, y = 1.2 * column, -1.75 * row
        cmap = "Greys" if right else "Oranges"
        axes.imshow(images[i].reshape(side, side), cmap=cmap, vmin=0, vmax=1, extent=(x, x + 1, y, y + 1))
        text = str(read[i]) if right else f"{read[i]} for {labels[i]}"
        axes.text(x + 0.5, y + 1.06, text, color="black" if right else "C1", ha="center", fontsize="small")
    axes.set(xlim=(0, 1.2 * columns - 0.2), ylim=(-1.75 * (rows - 1), 1.5))
    axes.set_axis_off()


def _metrics(params: mlp.Params, xs: Float[Array, "N pixels"], labels: Int[Array, " N"]) -> dict[str, Any]:
    return {"accuracy": mlp.accuracy(params, xs, labels)}


if __name__ == "__main__":
    sys.exit(runner.main(sys.modules[__name__]))
