"""Section 4.2, and beyond: training refines a network that chapter 4 built, to a far smaller error at the same size.

The function is Nielsen's f. The construction with steep steps has almost no gradient in its hidden layers; with softer
steps, which are a somewhat worse approximation at first, mini-batch training by hand-derived backpropagation moves all
of them.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from experiments import common, runner
from experiments.chapter_4.fig_4_5_approximation import evaluate, f
from jnn import activations, backprop, costs, mlp, train, universal

GRAD = Partial(backprop.minibatch_value_and_grad, cost=costs.quadratic_with(activations.identity))


@dataclass(frozen=True)
class Config(common.Repeated):
    quick: ClassVar[dict[str, Any]] = {"bins": (10,), "epochs": 150, "seeds": 2}

    seeds: int = 3
    bins: tuple[int, ...] = (10, 20, 50)
    """Indicator neurons of each network."""
    steepness: float = universal.SOFT_STEEPNESS
    """Steepness of the softer steps: weight times bin width."""
    h: float = universal.SOFT_HEIGHT
    """Weight h of the softer indicators."""
    epochs: int = 2000
    """Passes over the training points."""
    eta: runner.NotNegative = 0.01
    """Adam's initial learning rate, which falls to 0 along a cosine."""
    points: int = 2000
    """Training points, evenly spaced in [0, 1]."""
    batch_size: int = 500
    """Points in a mini-batch."""


def refine(config: Config, bins: int) -> tuple[mlp.Params, mlp.Params]:
    """The soft construction, and its parameters after training with a leading axis of seeds."""
    start = universal.approximate(f, 0.0, 1.0, bins, w=config.steepness * bins, h=config.h)
    xs = (jnp.arange(config.points)[:, None] + 0.5) / config.points
    steps = config.epochs * -(-config.points // config.batch_size)
    optimizer = optax.adam(optax.cosine_decay_schedule(config.eta, steps))
    training = partial(train.run, epochs=config.epochs, batch_size=config.batch_size)
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    state = train.init(optimizer, start)
    trained, _ = jax.vmap(training, in_axes=(0, None, None, None, None))(keys, GRAD, optimizer, state, (xs, f(xs)))
    return start, trained.params


ARRAYS = {
    "x": ("points", "the inputs"),
    "f": ("points", "Nielsen's function"),
    "steep_rms_*": ("1", "the root-mean-square error of the steep construction with so many bins"),
    "soft_rms_*": ("1", "the root-mean-square error of the soft construction with so many bins"),
    "trained_rms_*": ("seeds", "the root-mean-square errors after training"),
    "steep_*": ("points", "the output of the steep construction with so many bins"),
    "soft_*": ("points", "the output of the soft construction with so many bins"),
    "trained_*": ("seeds points", "the outputs of the soft construction after training"),
    "times_smaller_with_*": ("", "the mean of the steep construction's error over that after training"),
}


def compute(config: Config) -> dict[str, Any]:
    """Curves and root-mean-square errors of the steep construction, the soft one, and the soft one after training."""
    x = jnp.linspace(0, 1, 10_001)[:, None]
    found: dict[str, Any] = {"x": x[:, 0], "f": np.asarray(f(x)[:, 0])}
    for bins in config.bins:
        soft, trained = refine(config, bins)
        curves = {
            "steep": evaluate(universal.approximate(f, 0.0, 1.0, bins), x)[:, 0],
            "soft": evaluate(soft, x)[:, 0],
            "trained": jax.vmap(evaluate, in_axes=(0, None))(trained, x)[..., 0],
        }
        curves = {name: np.asarray(curve) for name, curve in curves.items()}
        errors = {name: np.sqrt(np.mean((curve - found["f"]) ** 2, axis=-1)) for name, curve in curves.items()}
        found |= {f"{name}_{bins}": curve for name, curve in curves.items()}
        found |= {f"{name}_rms_{bins}": np.atleast_1d(error) for name, error in errors.items()}
        found |= runner.mean_and_standard_error(f"times_smaller_with_{bins}_bins", errors["steep"] / errors["trained"])
    return found


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """A much smaller error with the same number of parameters."""
    times = 5 if config.quick.get("epochs", 0) < config.epochs else 2
    return {
        f"with {bins} bins the rms error is at least {times} times smaller than the construction's": (
            arrays[f"times_smaller_with_{bins}_bins"] >= times
        )
        for bins in config.bins
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """The first network before and after, and the errors of all."""
    curves, apart, errors = common.panels(figure, (10, 3.6), 1, 3)
    bins = config.bins[0]
    looks = {"steep": ("C0", "construction"), "soft": ("C4", "softer start"), "trained": ("C1", "trained")}
    for name, (colour, label) in looks.items():
        curve = arrays[f"{name}_{bins}"] if name != "trained" else arrays[f"{name}_{bins}"][0]
        curves.plot(arrays["x"], curve, color=colour, label=label)
        apart.plot(arrays["x"], np.abs(curve - arrays["f"]), color=colour, linewidth=1)
    curves.plot(arrays["x"], arrays["f"], "k:", label="$f$")
    curves.set(title=f"{bins} indicator neurons", xlabel="$x$")
    curves.legend(fontsize="small")
    apart.set(title="distance from $f$", xlabel="$x$", yscale="log", ylim=(1e-5, 1))
    for name, (colour, _) in looks.items():
        values = [arrays[f"{name}_rms_{bins}"] for bins in config.bins]
        spread = [np.std(value, ddof=1) / np.sqrt(len(value)) if len(value) > 1 else 0 for value in values]
        errors.errorbar(config.bins, [np.mean(value) for value in values], spread, color=colour, marker="o")
    errors.set(title="rms error", xlabel="indicator neurons", xscale="log", yscale="log")
    errors.set_xticks(config.bins, [str(bins) for bins in config.bins])
    errors.set_xticks([], minor=True)
