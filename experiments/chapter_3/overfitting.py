"""Section 3.3: a network overfits 1,000 images, and each regulariser of chapter 3 on its own reduces that.

Nielsen's example: [784, 30, 10], cross-entropy, the first 1,000 MNIST images, mini-batches of 10, 400 epochs. Then the
same networks with one regulariser at a time; all networks of a regulariser train side by side. The strengths were
chosen on the last 10,000 training images.
"""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Key

from experiments import common, runner
from jnn import augment, backprop, costs, data, dropout, mlp, regularize, stopping, train

PUBLISHED = 0.8227
"""Nielsen's test accuracy after the last epoch, without regularisation."""


@dataclass(frozen=True)
class Config(common.Images):
    quick: ClassVar[dict[str, Any]] = {"data": "digits", "examples": 200, "epochs": 40, "seeds": 2}

    validate: bool = False
    """Measure on the last training images (10,000 of MNIST, 200 of the digits) instead of the test images."""
    examples: int = 1000
    """Training images, from the first on."""
    hidden: int = 30
    """Hidden neurons."""
    eta: float = 0.5
    """Learning rate."""
    epochs: int = 400
    """Passes over the training images."""
    l2: float = 1e-4
    """alpha of L2; Nielsen's lambda is n alpha, 0.1 for 1,000 images."""
    l1: float = 1e-4
    """alpha of L1."""
    dropout: float = 0.3
    """The fraction p of hidden neurons dropped."""
    noise: float = 0.3
    """Standard deviation of the noise on the inputs."""
    mixup: float = 0.5
    """Both parameters of the Beta distribution of mixup's lambda."""
    window: int = 20
    """Epochs that early stopping waits for a lower error on the last training images."""
    distortion: float = 0.8
    """Strength of the distortions: 1 is 12 degrees, 15 % of stretch and shear, 1 pixel of shift, 1.2 elastic."""


COST = costs.cross_entropy
PLAIN = Partial(backprop.minibatch_value_and_grad, cost=COST)


def methods(config: Config, pixels: int) -> dict[str, tuple[Any, Any]]:
    """Each method as the gradient that trains and the transform of the mini-batches."""
    side, d = round(pixels**0.5), config.distortion
    distort = functools.partial(
        augment.distort, rotate=12 * d, scale=0.15 * d, shear=0.15 * d, shift=d * side / 28, elastic=1.2 * d * side / 28
    )
    return {
        "nothing": (PLAIN, None),
        "L1": (regularize.penalised(PLAIN, regularize.l1(config.l1)), None),
        "L2": (regularize.penalised(PLAIN, regularize.l2(config.l2)), None),
        "dropout": (Partial(dropout.minibatch_value_and_grad, p=config.dropout, cost=COST), regularize.append_key),
        "noise on inputs": (PLAIN, functools.partial(regularize.input_noise, sigma=config.noise)),
        "mixup": (PLAIN, functools.partial(regularize.mixup, beta=config.mixup)),
        "augmentation": (PLAIN, functools.partial(augment.rows, image_transform=distort, shape=(side, side))),
        "early stopping": (PLAIN, None),
    }


MATMUL_PRECISION = "default"

ARRAYS = {
    "curves_known_*": ("seeds epochs", "the accuracy on training images after each epoch, with this regulariser"),
    "curves_unseen_*": ("seeds epochs", "the accuracy on unseen images after each epoch, with this regulariser"),
    "known_*": ("seeds", "the final accuracy on training images"),
    "unseen_*": ("seeds", "the final accuracy on unseen images"),
    "known accuracy with *": ("", "the mean final accuracy on training images"),
    "unseen accuracy with *": ("", "the mean final accuracy on unseen images"),
}


def compute(config: Config, training: runner.Training = runner.ALONE) -> dict[str, Any]:
    """Accuracies on training and unseen images, epoch by epoch, with each regulariser."""
    examples, test = common.load(config)
    known = common.first(examples, config.examples)
    _, validation = common.hold_out(examples, 10_000 if config.data == "mnist" else 200)
    optimizer = train.sgd(config.eta)
    sizes, normal = (known.xs.shape[1], config.hidden, 10), mlp.unit_normal
    key = jax.random.key(config.seed)
    state, train_keys = common.init_networks(key, config.seeds, optimizer, sizes, weights=normal, biases=normal)
    stopping.check(stopping.error_change(window=config.window), Partial(_metrics), config.epochs)
    for grad, transform in methods(config, sizes[0]).values():  # all are checked before any of them trains
        _trace(grad, transform, jax.tree.map(lambda leaf: leaf[0], state.params), key, common.first(known, 1))
    found: dict[str, Any] = {}
    for name, (grad, transform) in methods(config, sizes[0]).items():
        measure = functools.partial(_metrics, p=config.dropout if name == "dropout" else 0.0)
        stop = stopping.error_change(window=config.window) if name == "early stopping" else None
        deciding = None if stop is None else validation
        evaluate = Partial(measure, known=known, unseen=validation if config.validate else test, validation=deciding)
        options = {"epochs": config.epochs, "transform": transform, "evaluate": evaluate, "stopping": stop}
        _, history = common.fit_images(training, train_keys, grad, optimizer, state, known, name=name, **options)
        kept = np.full(config.seeds, config.epochs) if history.best is None else np.asarray(history.best)
        for which in ("known", "unseen"):
            curves = np.asarray(history.metrics[which])
            found[f"curves_{which}_{name}"] = curves
            found[f"{which}_{name}"] = curves[np.arange(config.seeds), kept - 1]
            found |= runner.mean_and_standard_error(f"{which} accuracy with {name}", found[f"{which}_{name}"])
    return found


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """Without regularisation networks overfit; each regulariser on its own raises the accuracy on unseen images."""
    nothing = arrays["unseen_nothing"]
    found = {
        "with nothing, the networks classify all training images correctly": arrays["known_nothing"].min() >= 0.999
    }
    if config == Config(seed=config.seed, seeds=config.seeds):
        found["with nothing, test accuracy is in the low 80s"] = 0.8 <= nothing.mean() < 0.85
        found["with nothing, it is at least Nielsen's less half a point"] = nothing.mean() > PUBLISHED - 0.005
        for name in ("L1", "L2", "dropout", "noise on inputs", "augmentation"):
            gain = arrays[f"unseen_{name}"] - nothing
            error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
            found[f"{name} raises the accuracy on unseen images, by more than two standard errors"] = (
                gain.mean() > 2 * error
            )
    return found


def draw(figure: runner.Figure, _: Config, arrays: runner.Arrays) -> None:
    """Mean curves on unseen images, and the final accuracy of every network on both kinds."""
    curves, ends = common.panels(figure, (10, 4.4), 1, 2, width_ratios=(1.2, 1))
    names = [key.removeprefix("curves_unseen_") for key in arrays if key.startswith("curves_unseen_")]
    for i, name in enumerate(names):
        colour = "black" if name == "nothing" else f"C{(i - 1) % 6}"
        style = ":" if name == "early stopping" else "-"
        unseen, known = 100 * arrays[f"unseen_{name}"], 100 * arrays[f"known_{name}"]
        mean = 100 * np.nanmean(arrays[f"curves_unseen_{name}"], axis=0)
        curves.plot(np.arange(1, len(mean) + 1), mean, style, color=colour, label=name, linewidth=1.4)
        place = len(names) - i
        ends.plot(unseen, np.full(len(unseen), place), "o", color=colour, alpha=0.5)
        ends.plot(known, np.full(len(known), place), "x", color=colour, alpha=0.5)
        accuracy = runner.format_number(f"unseen accuracy with {name}", arrays, scale=100, unit="%")
        ends.text(unseen.mean(), place + 0.2, accuracy, ha="center", va="bottom", fontsize="small")
    low = 100 * min(arrays[f"unseen_{name}"].min() for name in names)
    curves.set(xlabel="epoch", ylabel="accuracy on unseen images / %", ylim=(low - 7, None))
    curves.legend(fontsize="small", ncols=2, loc="lower right")
    ends.set(xlabel="final accuracy / %", ylim=(0.4, len(names) + 0.8), xlim=(low - 3, 101))
    ends.set_title("x on the training images, o on unseen ones", fontsize="medium")
    ends.set_yticks(len(names) - np.arange(len(names)), names)


def _trace(grad: Any, transform: Any, params: mlp.Params, key: Key[Array, ""], images: data.Split) -> None:
    """Raises the ValueError of a training step if the options of this method are invalid."""

    def step(key: Any, *batch: Any) -> Any:
        return grad(params, *(batch if transform is None else transform(key, *batch)))

    jax.eval_shape(step, key, images.xs, data.one_hot(images.labels, 10))


def _metrics(
    params: mlp.Params, known: data.Split, unseen: data.Split, validation: data.Split | None, p: float
) -> dict[str, Any]:
    params = dropout.at_test(params, p) if p else params
    found = {"known": mlp.accuracy(params, *known), "unseen": mlp.accuracy(params, *unseen)}
    return found if validation is None else found | {"error": 1 - mlp.accuracy(params, *validation)}
