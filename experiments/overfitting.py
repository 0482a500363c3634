"""Section 3.3: a network learns 1,000 images by heart, and each way of chapter 3 to keep it from that, alone.

Nielsen's example: [784, 30, 10], cross-entropy, the first 1,000 MNIST images, mini-batches of 10, 400 epochs. Then the
same with one regulariser at a time; all networks of a regulariser train side by side. Strengths were chosen on the
last 10,000 training images.
"""

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jax.tree_util import Partial
from matplotlib.figure import Figure

from experiments import runner
from jnn import augment, backprop, costs, data, mlp, regularize, stopping, train

PUBLISHED = 0.8227
"""Nielsen's test accuracy after the last epoch, without regularisation."""


@dataclass(frozen=True)
class Config:
    """The images, the networks, and the strength of each regulariser."""

    quick: ClassVar[Mapping[str, Any]] = {"data": "digits", "examples": 200, "epochs": 40, "seeds": 2}

    data: Literal["mnist", "digits"] = "mnist"
    """The 70,000 of MNIST (read from $JNN_DATA_DIR or downloaded once), or 1,797 embedded digits of 8x8 pixels."""
    validate: bool = False
    """Measure on the last training images (10,000 of MNIST, 200 of the digits), to choose strengths."""
    examples: int = 1000
    """Training images, the first ones."""
    hidden: int = 30
    """Hidden neurons."""
    eta: float = 0.5
    """The learning rate."""
    epochs: int = 400
    """How often every training image is seen."""
    l2: float = 1e-4
    """alpha of L2; Nielsen's lambda is n alpha, 0.1 for 1,000 images."""
    l1: float = 1e-4
    """alpha of L1."""
    dropout: float = 0.3
    """The fraction p of hidden neurons dropped."""
    noise: float = 0.3
    """The standard deviation of the noise on the inputs."""
    mixup: float = 0.5
    """Both parameters of the Beta distribution of mixup's lambda."""
    window: int = 20
    """Epochs without a lower error on the last training images, after which early stopping stops."""
    distortion: float = 0.8
    """How strong images are distorted: 1 is 12 degrees, 15 % of stretch and slant, 1 pixel of shift, 1.2 elastic."""
    seeds: int = 5
    """Networks with each regulariser."""
    seed: int = 0
    """Where the random numbers start."""


COST = costs.cross_entropy
PLAIN = Partial(backprop.minibatch_value_and_grad, cost=COST)


def ways(config: Config, pixels: int) -> dict[str, tuple[Any, Any]]:
    """Every way as the gradient that trains and the transform of its mini-batches."""
    side, d = round(pixels**0.5), config.distortion
    picture = functools.partial(
        augment.distort, rotate=12 * d, scale=0.15 * d, shear=0.15 * d, shift=d * side / 28, elastic=1.2 * d * side / 28
    )
    return {
        "nothing": (PLAIN, None),
        "L1": (regularize.penalised(PLAIN, l1=config.l1), None),
        "L2": (regularize.penalised(PLAIN, l2=config.l2), None),
        "dropout": (Partial(regularize.dropout_value_and_grad, p=config.dropout, cost=COST), regularize.with_key),
        "noise on inputs": (PLAIN, functools.partial(regularize.input_noise, sigma=config.noise)),
        "mixup": (PLAIN, functools.partial(regularize.mixup, beta=config.mixup)),
        "augmentation": (PLAIN, functools.partial(augment.rows, picture=picture, shape=(side, side))),
        "early stopping": (PLAIN, None),
    }


def compute(config: Config) -> dict[str, Any]:
    """Accuracies on training and unseen images, epoch by epoch, with each regulariser."""
    examples, test = getattr(data, config.data)()
    held_out = 10_000 if config.data == "mnist" else 200
    xs, labels = (a[: config.examples] for a in examples)
    validation = data.Split(*(a[-held_out:] for a in examples))
    optimizer = train.sgd(config.eta)

    def start(key: Any) -> train.State:
        sizes = (xs.shape[1], config.hidden, 10)
        return train.init(optimizer, mlp.init(key, sizes, weights=mlp.unit_normal, biases=mlp.unit_normal))

    state, train_keys = runner.members(jax.random.key(config.seed), config.seeds, start)
    found: dict[str, Any] = {}
    for name, (grad, transform) in ways(config, xs.shape[1]).items():
        measure = functools.partial(_metrics, p=config.dropout if name == "dropout" else 0.0)
        images = {"known": data.Split(xs, labels), "unseen": validation if config.validate else test}
        _, history = runner.fit(
            train_keys,
            grad,
            optimizer,
            state,
            (xs, data.one_hot(labels, 10)),
            epochs=config.epochs,
            batch_size=10,
            transform=transform,
            evaluate=Partial(measure, validation=validation, **images),
            stopping=stopping.error_change(window=config.window) if name == "early stopping" else None,
        )
        kept = np.full(config.seeds, config.epochs) if history.best is None else np.asarray(history.best)
        for which in ("known", "unseen"):
            curves = np.asarray(history.metrics[which])
            found[f"curves_{which}_{name}"] = curves
            found[f"{which}_{name}"] = curves[np.arange(config.seeds), kept - 1]
            found |= runner.mean_and_standard_error(f"{which} accuracy with {name}", found[f"{which}_{name}"])
    return found


def claims(config: Config, arrays: runner.Arrays) -> dict[str, bool]:
    """Without regularisation the training images are learnt by heart; each regulariser alone reads more unseen ones."""
    nothing = arrays["unseen_nothing"]
    found = {"with nothing, all training images are read right": bool(arrays["known_nothing"].min() >= 0.999)}
    if config == Config(seed=config.seed, seeds=config.seeds):
        found["with nothing, test accuracy is in the low 80s"] = bool(0.8 <= nothing.mean() < 0.85)
        found["with nothing, it is within half a point of Nielsen's, or above"] = bool(
            nothing.mean() > PUBLISHED - 0.005
        )
        for name in ("L1", "L2", "dropout", "noise on inputs", "augmentation"):
            gain = arrays[f"unseen_{name}"] - nothing
            error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
            found[f"{name} reads more unseen images, by over two standard errors"] = bool(gain.mean() > 2 * error)
    return found


def draw(figure: Figure, config: Config, arrays: runner.Arrays) -> None:
    """Mean curves on unseen images, and every network at the end on both kinds."""
    del config
    figure.set_size_inches(10, 4.4)
    curves, ends = np.ravel(figure.subplots(1, 2, width_ratios=(1.2, 1)))
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
        said = runner.said(f"unseen accuracy with {name}", arrays, scale=100, unit="%")
        ends.text(unseen.mean(), place + 0.2, said, ha="center", va="bottom", fontsize="small")
    low = 100 * min(arrays[f"unseen_{name}"].min() for name in names)
    curves.set(xlabel="epoch", ylabel="accuracy on unseen images / %", ylim=(low - 7, None))
    curves.legend(fontsize="small", ncols=2, loc="lower right")
    ends.set(xlabel="accuracy of what is kept / %", ylim=(0.4, len(names) + 0.8), xlim=(low - 3, 101))
    ends.set_title("x on the training images, o on unseen ones", fontsize="medium")
    ends.set_yticks(len(names) - np.arange(len(names)), names)


def _metrics(
    params: mlp.Params, known: data.Split, unseen: data.Split, validation: data.Split, p: float
) -> dict[str, Any]:
    params = regularize.dropout_at_test(params, p) if p else params
    return {
        "known": mlp.accuracy(params, *known),
        "unseen": mlp.accuracy(params, *unseen),
        "error": 1 - mlp.accuracy(params, *validation),
    }


if __name__ == "__main__":
    sys.exit(runner.main(sys.modules[__name__]))
