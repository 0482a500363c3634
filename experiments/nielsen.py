"""Chapters 1 and 3: the MNIST accuracies of Nielsen's book, reproduced row by row.

Each row trains several networks side by side as the book did: mini-batches of 10, the first 50,000 training images
or fewer, and his lambda, which is n alpha for n training images. Accuracies are those after the last epoch, on the
test images or, where the book says so, on the last 10,000 training images. The book's figures are those of single
networks, the best of a few runs or epochs, and three rows show it: with 100 hidden neurons and the quadratic cost
most networks never learn one of the digits; with lambda 5 the accuracy scatters from epoch to epoch, and the best
epoch is the published one; and it matters which 100 images there are (`--only "100 images" --first 300`).
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jax.tree_util import Partial
from matplotlib.figure import Figure

from experiments import runner
from experiments.digits import COSTS
from jnn import _checks, backprop, data, mlp, regularize, train


@dataclass(frozen=True)
class Row:
    """One published accuracy, in percent, and the training that it comes from."""

    published: float
    hidden: int = 30
    cost: str = "cross_entropy"
    eta: float = 0.5
    epochs: int = 30
    n: int = 50_000
    lambda_: float = 0.0
    weights: Literal["unit normal", "1/sqrt(n)"] = "unit normal"
    measured_on: Literal["test", "validation"] = "test"


QUADRATIC: dict[str, Any] = {"cost": "quadratic", "eta": 3.0}
SCALED: dict[str, Any] = {"eta": 0.1, "lambda_": 5.0, "measured_on": "validation", "weights": "1/sqrt(n)"}
UNSCALED: dict[str, Any] = SCALED | {"weights": "unit normal"}
ROWS = {
    "30 hidden, quadratic": Row(95.42, **QUADRATIC),
    "100 hidden, quadratic": Row(96.59, hidden=100, **QUADRATIC),
    "1,000 images": Row(82.27, n=1000, epochs=400),
    "1,000 images, lambda 0.1": Row(87.10, n=1000, epochs=400, lambda_=0.1),
    "30 hidden": Row(95.33),
    "30 hidden, lambda 5": Row(96.49, lambda_=5.0),
    "100 hidden, lambda 5": Row(97.92, hidden=100, lambda_=5.0, measured_on="validation"),
    "100 hidden, lambda 5, eta 0.1, 60 epochs": Row(98.04, hidden=100, epochs=60, **UNSCALED),
    "30 hidden, 1/sqrt(n)": Row(96.53, **SCALED),
    "100 hidden, unit normal": Row(97.55, hidden=100, **UNSCALED),
    "100 hidden, 1/sqrt(n)": Row(97.81, hidden=100, **SCALED),
    "100 images": Row(69.09, n=100, epochs=15_000, lambda_=0.01, weights="1/sqrt(n)"),
    "50,000 images": Row(95.97, lambda_=5.0, weights="1/sqrt(n)"),
    "100 hidden, softmax": Row(97.80, 100, "log_likelihood", 0.1, 60, weights="1/sqrt(n)"),
}
"""The rows, by what distinguishes them; the cost is the cross-entropy where none is named."""

NEVER = 0.05
"""A network that reads fewer of a digit than this fraction has not learnt that digit."""

MOST_MEASURED = 500
"""A training of more epochs is measured at its end alone."""


@dataclass(frozen=True)
class Config:
    """How many networks a row trains."""

    quick: ClassVar[Mapping[str, Any]] = {
        "data": "digits",
        "shorter": 5,
        "seeds": 2,
        "only": ("30 hidden", "1,000 images, lambda 0.1", "100 images"),
    }

    data: Literal["mnist", "digits"] = "mnist"
    """MNIST (read from $JNN_DATA_DIR or downloaded once), or 1,797 embedded digits for a trial without a meaning."""
    only: tuple[str, ...] = ()
    """The rows by name; none means all."""
    first: int = 0
    """The first training image; a row of n images takes n from there."""
    shorter: int = 1
    """Divides every number of epochs."""
    seeds: int = 5
    """Networks of a row, side by side."""
    seed: int = 0
    """Where the random numbers start."""


def rows(config: Config) -> dict[str, Row]:
    """The rows to reproduce; raises ValueError for a name that is none."""
    if unknown := set(config.only) - ROWS.keys():
        raise ValueError(f"no row is named {', '.join(sorted(unknown))}; there are: {'; '.join(ROWS)}")
    return {name: row for name, row in ROWS.items() if not config.only or name in config.only}


def compute(config: Config) -> dict[str, Any]:
    """The accuracies of every row: after the last epoch, after the first, and the best of all epochs."""
    _checks.count("seeds", config.seeds)
    _checks.count("shorter", config.shorter)
    everything, test = getattr(data, config.data)()
    held_out = 10_000 if config.data == "mnist" else 200
    learnt, validation = (
        data.Split(*(a[part] for a in everything)) for part in (slice(-held_out), slice(-held_out, None))
    )
    found: dict[str, Any] = {}
    keys = dict(zip(ROWS, jax.random.split(jax.random.key(config.seed), len(ROWS)), strict=True))
    for name, row in rows(config).items():
        measured = validation if row.measured_on == "validation" else test
        examples = data.Split(*(a[config.first :][: row.n] for a in learnt))
        curves, silent = reproduce(keys[name], row, config, examples, measured)
        found[f"curves_{name}"] = curves
        found |= runner.mean_and_standard_error(name, 100 * curves[:, -1])
        found[f"silent_{name}"] = silent
        found |= {f"best_epoch_{name}": 100 * curves.max(axis=1), f"first_epoch_{name}": 100 * curves[:, 0]}
    return found


def reproduce(key: Any, row: Row, config: Config, examples: data.Split, measured: data.Split) -> tuple[Any, Any]:
    """Accuracies [seeds, epochs] of a row's networks, or [seeds, 1] after a long training; digits each never reads."""
    epochs = -(-row.epochs // config.shorter)
    sizes = (examples.xs.shape[1], row.hidden, 10)
    weights = mlp.unit_normal if row.weights == "unit normal" else mlp.scaled_normal
    optimizer = train.sgd(row.eta)

    def start(key: Any) -> train.State:
        return train.init(optimizer, mlp.init(key, sizes, weights=weights, biases=mlp.unit_normal))

    state, train_keys = runner.members(key, config.seeds, start)
    grad = Partial(backprop.minibatch_value_and_grad, cost=COSTS[row.cost])
    evaluate = Partial(mlp.accuracy, xs=measured.xs, labels=measured.labels)
    state, history = runner.fit(
        train_keys,
        regularize.penalised(grad, l2=row.lambda_ / len(examples.xs)) if row.lambda_ else grad,
        optimizer,
        state,
        (examples.xs, data.one_hot(examples.labels, 10)),
        epochs=epochs,
        batch_size=10,
        evaluate=evaluate if epochs <= MOST_MEASURED else None,
    )
    curves = jax.vmap(evaluate)(state.params)[:, None] if history.metrics is None else history.metrics
    read = np.asarray(jax.vmap(mlp.classify, (0, None))(state.params, measured.xs))
    right = [[np.mean(each[measured.labels == digit] == digit) for digit in range(10)] for each in read]
    return np.asarray(curves), np.sum(np.array(right) < NEVER, axis=1)


def claims(config: Config, arrays: runner.Arrays) -> dict[str, bool]:
    """Rows are within half a point of the published figure, or above it; three have claims of their own."""
    chosen = rows(config)
    if config.data != "mnist" or config.shorter != 1 or config.first:
        return {f"{name}: above 30 %, where guessing gives 10 %": bool(arrays[name] > 30) for name in chosen}
    found = {}
    for name, row in chosen.items():
        wanted, last = row.published - 0.5, 100 * arrays[f"curves_{name}"][:, -1]
        if name == "100 hidden, quadratic":
            learnt = (last >= wanted) | (arrays[f"silent_{name}"] > 0)
            found[f"{name}: every network is that good, or never learnt one of the digits"] = bool(np.all(learnt))
        elif name == "30 hidden, lambda 5":
            best = arrays[f"best_epoch_{name}"].mean()
            found[f"{name}: at least {row.published:.2f} % less half a point in the best epoch"] = bool(best >= wanted)
        elif name != "100 images":
            found[f"{name}: at least {row.published:.2f} % less half a point"] = bool(last.mean() >= wanted)
    pair = ("100 hidden, 1/sqrt(n)", "100 hidden, unit normal")
    if all(name in chosen for name in pair):
        scaled, unscaled = (arrays[f"first_epoch_{name}"].mean() for name in pair)
        found["after one epoch, 1/sqrt(n) weights are ahead of unit normal ones"] = bool(scaled > unscaled)
    return found


def draw(figure: Figure, config: Config, arrays: runner.Arrays) -> None:
    """Every network of every row, their mean, and the published figure."""
    figure.set_size_inches(9, 5.2)
    axes = figure.subplots()
    chosen = rows(config)
    places = np.arange(len(chosen))[::-1]
    for place, (name, row) in zip(places, chosen.items(), strict=True):
        errors = 100 * (1 - arrays[f"curves_{name}"][:, -1])
        labels = ("one of our networks", "their mean", "published") if place == places[0] else (None,) * 3
        axes.plot(errors, np.full(len(errors), place), "o", color="C0", alpha=0.35, label=labels[0])
        axes.plot(errors.mean(), place, "|", color="C0", markersize=18, markeredgewidth=2.5, label=labels[1])
        if config.data == "mnist":
            axes.plot(100 - row.published, place, "D", color="C1", markersize=5, label=labels[2])
        said = runner.said(name, arrays, unit="%")
        axes.text(1.02, place, said, transform=axes.get_yaxis_transform(), va="center", fontsize="small")
    axes.set_yticks(places, [f"{name} ({row.measured_on})" for name, row in chosen.items()])
    axes.set(xscale="log", xlabel="errors / % (accuracy beside it)", title="Nielsen's table")
    axes.set_xticks([2, 3, 5, 10, 20, 30], ["2", "3", "5", "10", "20", "30"])
    axes.set_xticks([], minor=True)
    axes.legend(loc="lower right", fontsize="small")


if __name__ == "__main__":
    sys.exit(runner.main(sys.modules[__name__]))
