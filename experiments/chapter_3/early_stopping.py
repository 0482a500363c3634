"""Section 3.3.2, early stopping: when to end a training run, by the validation error or by the weights.

Networks overfit 1,000 digits; the error on the last 10,000 training images decides when to stop. Every network of a
vmapped run stops on its own and keeps its best parameters; the same networks trained to the end show what stopping
saves and what it costs. The weight-change criterion is tried with a learning rate that falls.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import numpy as np
import optax
from jax.tree_util import Partial

from experiments import common, runner
from jnn import backprop, costs, mlp, stopping

GRAD = Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy)


@dataclass(frozen=True)
class Config(common.Images):
    quick: ClassVar[dict[str, Any]] = {
        "data": "digits",
        "examples": 300,
        "epochs": 60,
        "windows": (3, 6),
        "seeds": 3,
    }

    seeds: int = 8
    examples: int = 1000
    """Training images, from the first on; the last 10,000 (300 of the digits) decide when to stop."""
    hidden: int = 30
    """Hidden neurons."""
    eta: runner.NotNegative = 0.5
    """Learning rate."""
    epochs: int = 200
    """Epochs of a training run that does not stop."""
    windows: tuple[int, ...] = (5, 10, 20)
    """Epochs that the error-change criterion waits for a lower error."""
    further: Annotated[int, runner.AtLeast(0)] = 5
    """Epochs to train after that."""
    rho: float = 0.01
    """Bound of the weight-change criterion over 10 epochs, as a fraction of each weight's norm."""


def criteria(config: Config) -> dict[str, stopping.Criterion | None]:
    """The criteria by name; the first never stops."""
    by_error = {
        f"window {window}": stopping.error_change(window=window, further=config.further) for window in config.windows
    }
    return {"none": None, **by_error, "weights": stopping.weight_change(config.rho, relative=True)}


MATMUL_PRECISION = "default"

ARRAYS = {
    "test accuracy, *": ("", "the mean test accuracy of the kept parameters"),
    "epochs trained, *": ("", "the mean number of epochs trained"),
    "error *": ("seeds epochs", "the validation error of each network after each epoch"),
    "test *": ("seeds", "the test accuracy of the parameters that each network kept"),
    "epochs *": ("seeds", "the number of epochs that each network trained"),
    "best *": ("seeds", "the epoch whose parameters each network kept, from 1"),
}


def compute(config: Config, training: runner.Training = runner.ALONE) -> dict[str, Any]:
    """For each criterion the errors, where each network stopped, the epoch it kept, and its test accuracy."""
    examples, test = common.load(config)
    learnt = common.first(examples, config.examples)
    _, validation = common.hold_out(examples, 10_000 if config.data == "mnist" else 300)
    evaluate = Partial(_error, xs=validation.xs, labels=validation.labels)
    steps, sizes = config.epochs * -(-len(learnt.xs) // 10), (learnt.xs.shape[1], config.hidden, 10)
    for criterion in criteria(config).values():  # all are checked before any of them trains
        stopping.check(criterion, evaluate, config.epochs)
    found: dict[str, Any] = {}
    for name, criterion in criteria(config).items():
        optimizer = optax.sgd(optax.cosine_decay_schedule(config.eta, steps) if name == "weights" else config.eta)
        state, train_keys = common.init_networks(jax.random.key(config.seed), config.seeds, optimizer, sizes)
        options = {"epochs": config.epochs, "evaluate": evaluate, "stopping": criterion, "name": name}
        state, history = common.fit_images(training, train_keys, GRAD, optimizer, state, learnt, **options)
        kept = jax.vmap(mlp.accuracy, (0, None, None))(state.params, *test)
        found[f"error {name}"] = history.metrics
        found[f"test {name}"] = kept
        found |= runner.mean_and_standard_error(f"test accuracy, {name}", kept)
        if criterion is not None:
            found |= {f"epochs {name}": history.epochs, f"best {name}": history.best}
            found |= runner.mean_and_standard_error(f"epochs trained, {name}", history.epochs)
    return found


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """Stopping saves epochs and costs little."""
    full, errors = arrays["test none"], arrays["error none"]
    found = {}
    for window in config.windows:
        name = f"window {window}"
        epochs, best = arrays[f"epochs {name}"], arrays[f"best {name}"]
        lost = full - arrays[f"test {name}"]
        found[f"{name}: every network keeps the epoch of its lowest validation error so far"] = all(
            best[i] == np.argmin(errors[i, : epochs[i]]) + 1 for i in range(config.seeds)
        )
        if config == Config(seed=config.seed, seeds=config.seeds):
            found[f"{name}: on average it saves more than half of the epochs"] = epochs.mean() < config.epochs / 2
        found[f"{name}: on average the test accuracy is within one point of training to the end"] = lost.mean() < 0.01
    first, last = (arrays[f"epochs window {window}"].mean() for window in (config.windows[0], config.windows[-1]))
    found["a longer window stops later"] = first < last
    found["with a falling learning rate the weights of every network settle before the end"] = np.all(
        arrays["epochs weights"] < config.epochs
    )
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """Validation errors with the epochs where networks stop, and the epochs and accuracies of each criterion."""
    curves, kept = common.panels(figure, (10, 3.9), 1, 2, width_ratios=(1.4, 1))
    errors = 100 * arrays["error none"]
    curves.plot(np.arange(1, config.epochs + 1), errors.T, color="black", alpha=0.25, linewidth=0.7)
    for i, name in enumerate([name for name in criteria(config) if name != "none"]):
        stopped, best = arrays[f"epochs {name}"], arrays[f"best {name}"]
        if name != "weights":
            at = errors[np.arange(config.seeds), stopped - 1]
            curves.plot(stopped, at, "o", color=f"C{i}", label=f"{name}: stops")
            curves.plot(best, errors[np.arange(config.seeds), best - 1], "x", color=f"C{i}")
        kept.plot(stopped, 100 * arrays[f"test {name}"], "o", color=f"C{i}", label=name, alpha=0.7)
    kept.plot(np.full(config.seeds, config.epochs), 100 * arrays["test none"], "ko", label="none", alpha=0.5)
    curves.set(xlabel="epoch", ylabel="validation error / %", title="each network, and the epoch it keeps (x)")
    curves.set(xscale="log", ylim=(errors.min() - 0.7, np.quantile(errors, 0.985)))
    curves.legend(fontsize="small")
    kept.set(xlabel="epochs trained", ylabel="test accuracy / %", title="epochs, and accuracy of the kept parameters")
    kept.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def _error(params: mlp.Params, xs: Any, labels: Any) -> Any:
    return 1 - mlp.accuracy(params, xs, labels)
