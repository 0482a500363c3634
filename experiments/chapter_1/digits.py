"""Chapter 1: a network learns to read handwritten digits, by hand-derived backpropagation.

Several networks train side by side in one program, each from its own random start. `--data mnist` uses the settings of
Nielsen's first run on MNIST, [784, 30, 10], mini-batches of 10, eta 3.0, 30 epochs, but initial weights from N(0,
1/n_in), biases of 0 and all 60,000 images. His initialisation is a row of the experiment `nielsen`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int
from matplotlib.figure import SubFigure

from experiments import common, runner
from jnn import backprop, costs, mlp, train

COSTS = {cost.name: cost for cost in (costs.quadratic, costs.cross_entropy, costs.log_likelihood)}


@dataclass(frozen=True)
class Config(common.Kept, common.Images):
    """The defaults are the settings of Nielsen's first run, on the embedded digits (UCI)."""

    quick: ClassVar[dict[str, Any]] = {"epochs": 3, "seeds": 2}

    data: Literal["mnist", "digits"] = "digits"
    hidden: tuple[int, ...] = (30,)
    """Neurons in each hidden layer."""
    cost: Literal["quadratic", "cross_entropy", "log_likelihood"] = "quadratic"
    """The cost to minimise: log_likelihood has a softmax output, the others have sigmoid outputs."""
    eta: float = 3.0
    """The learning rate."""
    precision: Literal["float32", "mixed"] = "float32"
    """Precision of the arithmetic: mixed computes gradients in bfloat16 and keeps float32 parameters and costs."""
    batch_size: int = 10
    """Examples in a mini-batch."""
    epochs: int = 30
    """Passes over the training images."""


MATMUL_PRECISION = "default"

ARRAYS = {
    **common.LEARNING_CURVES,
    "predictions": ("seeds images", "the digit that each network reads in each test image"),
    "labels": ("images", "the labels of the test images"),
    "images": ("shown pixels", "the first test images, as many as the figure may need"),
}


def compute(config: Config, training: runner.Training = runner.ALONE) -> dict[str, Any]:
    """Trains the networks. Returns the learning curves and each network's predictions for the test images."""
    common.check_written("weights", config.weights)
    optimizer = train.sgd(config.eta)
    images, test = common.load(config)
    key, sizes = jax.random.key(config.seed), (images.xs.shape[1], *config.hidden, 10)
    state, train_keys = common.init_networks(key, config.seeds, optimizer, sizes)
    grad = Partial(backprop.minibatch_value_and_grad, cost=COSTS[config.cost])
    grad = train.mixed_precision(grad) if config.precision == "mixed" else grad
    evaluate = Partial(_metrics, xs=test.xs, labels=test.labels)
    options = {"epochs": config.epochs, "batch_size": config.batch_size}
    state, history = common.fit_images(
        training, train_keys, grad, optimizer, state, images, evaluate=evaluate, **options
    )
    about = common.about_networks(config, COSTS[config.cost], hidden="sigmoid", sizes=sizes)
    common.keep(config, state.params, about)
    return {
        **common.learning_curves("test_accuracy", history.metrics["accuracy"], history.losses),
        "predictions": jax.jit(jax.vmap(mlp.classify, in_axes=(0, None)))(state.params, test.xs),
        "labels": test.labels,
        "images": test.xs[:2000],
    }


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """Learning lowers the cost and generalises; the defaults reach a published accuracy."""
    mean = arrays["test_accuracy"]
    found = common.learning_claims(arrays["costs"], mean)
    if config == Config(seed=config.seed, seeds=config.seeds, data=config.data):
        least = 0.94 if config.data == "digits" else 0.95
        found[f"the mean test accuracy is at least {100 * least:.0f} %"] = mean >= least
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """Learning curves, and test digits with the first network's predictions."""
    left, right = common.parts(figure, (9, 4.4), 1, 2, width_ratios=(1, 1.3))
    _draw_curves(left, config, arrays)
    _draw_digits(right, arrays)


def _draw_curves(figure: SubFigure, config: Config, arrays: runner.Arrays) -> None:
    upper, lower = np.ravel(figure.subplots(2, 1, sharex=True))
    common.draw_curves(upper, 100 * arrays["accuracies"])
    common.draw_curves(lower, arrays["costs"])
    upper.set(ylabel="test accuracy / %")
    lower.set(ylabel=f"training cost $C$\n({config.cost.replace('_', ' ')})", xlabel="epoch", yscale="log")
    reached = f"{config.seeds} networks: {runner.format_number('test_accuracy', arrays, scale=100, unit='%')}"
    figure.suptitle(reached, fontsize="medium")


def _draw_digits(figure: SubFigure, arrays: runner.Arrays) -> None:
    """The first test images, and in the last row the first images that network 0 misreads."""
    images, labels, read = arrays["images"], arrays["labels"], arrays["predictions"][0]
    side = int(np.sqrt(images.shape[1]))
    rows, columns = 5, 9
    chosen = [*range((rows - 1) * columns), *np.flatnonzero((read != labels)[: len(images)])[:columns]]
    figure.suptitle(f"predictions of the first; {np.sum(read != labels)} mistakes, in orange", fontsize="medium")
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
