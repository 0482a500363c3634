"""Chapters 1 and 3: the MNIST accuracies of Nielsen's book, reproduced row by row.

Each row trains several networks side by side with the book's settings: mini-batches of 10, the first 50,000 training
images or fewer, and lambda = n alpha for n training images. Accuracies are measured after the last epoch, on the test
images or, for the rows where the book does so, on the last 10,000 training images. The book reports single networks,
the best of a few runs or epochs, and three rows show the difference: with 100 hidden neurons and the quadratic cost
most networks never learn one of the digits; with lambda 5 the accuracy varies from epoch to epoch, and the best epoch
matches the published accuracy; and with 100 images it matters which (`--only "100 images" --first 300`).
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import jax
import numpy as np
from jax.tree_util import Partial

from experiments import common, runner
from experiments.chapter_1.digits import COSTS
from jnn import backprop, data, mlp, regularize, train


@dataclass(frozen=True)
class Row:
    """A published accuracy, in percent, and the training behind it."""

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
"""The rows, named by what distinguishes them; the cost is the cross-entropy unless the name names another."""

NEVER = 0.05
"""A network that recognises less than this fraction of a digit has not learnt that digit."""

MAX_MEASURED = 500
"""Longer training runs, in epochs, are measured at their end only."""


@dataclass(frozen=True)
class Config(common.Kept, common.Images):
    quick: ClassVar[dict[str, Any]] = {
        "data": "digits",
        "shorter": 15,
        "seeds": 2,
        "only": ("30 hidden", "1,000 images, lambda 0.1", "100 images"),
    }

    only: tuple[str, ...] = ()
    """Rows to reproduce, by name; all by default."""
    first: Annotated[int, runner.AtLeast(0)] = 0
    """Index of the first training image."""
    shorter: int = 1
    """Divide every number of epochs by this."""


def rows(config: Config) -> dict[str, Row]:
    """The rows to reproduce. Raises ValueError for an unknown name."""
    if unknown := set(config.only) - ROWS.keys():
        raise ValueError(
            f"only must name rows of the table, got {'; '.join(sorted(unknown))}; there are: {'; '.join(ROWS)}"
        )
    return {name: row for name, row in ROWS.items() if not config.only or name in config.only}


MATMUL_PRECISION = "default"

ARRAYS = {
    "curves_*": ("seeds epochs", "the accuracy of each network of the row after each epoch, or after the last only"),
    "silent_*": ("seeds", "the number of digits that each network of the row never learnt"),
    "best_epoch_*": ("seeds", "the best accuracy of each network of the row after any measured epoch, in percent"),
    "first_epoch_*": ("seeds", "the accuracy of each network of the row when first measured, in percent"),
    **dict.fromkeys(ROWS, ("", "the mean final accuracy of the row's networks, in percent")),
}


def compute(config: Config, training: runner.Training = runner.ALONE) -> dict[str, Any]:
    """The accuracies of every row after the last epoch, after the first, and after the best."""
    common.check_written("weights", config.weights)
    everything, test = common.load(config)
    learnt, validation = common.hold_out(everything, 10_000 if config.data == "mnist" else 200)
    found: dict[str, Any] = {}
    networks: dict[str, mlp.Params] = {}
    keys = dict(zip(ROWS, jax.random.split(jax.random.key(config.seed), len(ROWS)), strict=True))
    for name, row in rows(config).items():
        measured = validation if row.measured_on == "validation" else test
        examples = data.Split(*(a[config.first :][: row.n] for a in learnt))
        networks[name], curves, silent = reproduce(training, keys[name], name, config, examples, measured)
        found[f"curves_{name}"] = curves
        found |= runner.mean_and_standard_error(name, 100 * curves[:, -1])
        found[f"silent_{name}"] = silent
        found |= {f"best_epoch_{name}": 100 * curves.max(axis=1), f"first_epoch_{name}": 100 * curves[:, 0]}
    common.keep(config, networks, {name: _about(config, name, params) for name, params in networks.items()})
    return found


def reproduce(
    training: runner.Training, key: Any, name: str, config: Config, examples: data.Split, measured: data.Split
) -> tuple[mlp.Params, Any, Any]:
    """A row's networks, their accuracies [seeds, epochs], and the number of digits that each never learnt.

    After a training run of more than `MAX_MEASURED` epochs the accuracies are [seeds, 1].
    """
    row = ROWS[name]
    epochs = -(-row.epochs // config.shorter)
    sizes = (examples.xs.shape[1], row.hidden, 10)
    weights = mlp.unit_normal if row.weights == "unit normal" else mlp.scaled_normal
    optimizer = train.sgd(row.eta)

    state, train_keys = common.init_networks(
        key, config.seeds, optimizer, sizes, weights=weights, biases=mlp.unit_normal
    )
    grad = Partial(backprop.minibatch_value_and_grad, cost=COSTS[row.cost])
    evaluate = Partial(mlp.accuracy, xs=measured.xs, labels=measured.labels)
    if row.lambda_:
        grad = regularize.penalised(grad, regularize.l2(row.lambda_ / len(examples.xs)))
    options = {"epochs": epochs, "evaluate": evaluate if epochs <= MAX_MEASURED else None, "name": name}
    state, history = common.fit_images(training, train_keys, grad, optimizer, state, examples, **options)
    curves = jax.vmap(evaluate)(state.params)[:, None] if history.metrics is None else history.metrics
    read = np.asarray(jax.vmap(mlp.classify, (0, None))(state.params, measured.xs))
    right = [[np.mean(each[measured.labels == digit] == digit) for digit in range(10)] for each in read]
    return state.params, np.asarray(curves), np.sum(np.array(right) < NEVER, axis=1)


def _about(config: Config, name: str, params: mlp.Params) -> dict[str, Any]:
    sizes = (params[0].w.shape[-1], *(layer.b.shape[-1] for layer in params))
    return common.about_networks(config, COSTS[ROWS[name].cost], hidden="sigmoid", sizes=sizes)


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """Rows reach the published accuracy less half a point; three rows have other claims."""
    chosen = rows(config)
    if config.data != "mnist" or config.shorter != 1 or config.first:
        return {f"{name}: above 30 %, where guessing gives 10 %": arrays[name] > 30 for name in chosen}
    found = {}
    for name, row in chosen.items():
        least, last = row.published - 0.5, 100 * arrays[f"curves_{name}"][:, -1]
        if name == "100 hidden, quadratic":
            learnt = (last >= least) | (arrays[f"silent_{name}"] > 0)
            words = f"every network reaches {row.published:.2f} % less half a point, or never learnt one of the digits"
            found[f"{name}: {words}"] = np.all(learnt)
        elif name == "30 hidden, lambda 5":
            best = arrays[f"best_epoch_{name}"].mean()
            found[f"{name}: at least {row.published:.2f} % less half a point in the best epoch"] = best >= least
        elif name != "100 images":
            found[f"{name}: at least {row.published:.2f} % less half a point"] = last.mean() >= least
    pair = ("100 hidden, 1/sqrt(n)", "100 hidden, unit normal")
    if all(name in chosen for name in pair):
        scaled, unscaled = (arrays[f"first_epoch_{name}"].mean() for name in pair)
        found["after one epoch, networks with 1/sqrt(n) weights are ahead of networks with unit normal weights"] = (
            scaled > unscaled
        )
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """Every network of every row, their mean, and the published accuracy."""
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
        accuracy = runner.format_number(name, arrays, unit="%")
        axes.text(1.02, place, accuracy, transform=axes.get_yaxis_transform(), va="center", fontsize="small")
    axes.set_yticks(places, [f"{name} ({row.measured_on})" for name, row in chosen.items()])
    axes.set(xscale="log", xlabel="errors / % (accuracy beside it)", title="Nielsen's table")
    axes.set_xticks([2, 3, 5, 10, 20, 30], ["2", "3", "5", "10", "20", "30"])
    axes.set_xticks([], minor=True)
    axes.legend(loc="lower right", fontsize="small")
