"""Figure 4.5: a network of indicators approximates Nielsen's function, and its error falls as 1 / bins.

f(x) = 0.2 + 0.4 x^2 + 0.3 x sin(15 x) + 0.05 cos(50 x) on [0, 1], by 10 and by 50 indicator neurons, then by
thousands.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments import common, runner
from jnn import mlp, universal

PUBLISHED = {25: 0.131, 50: 0.068, 100: 0.034}
"""The published sup error by the number of equal bins; its distance from the knots is not published."""


@dataclass(frozen=True)
class Config:
    quick: ClassVar[dict[str, Any]] = {"bins": (25, 50, 100)}

    neurons: tuple[int, int] = (10, 50)
    """Indicator neurons in the two panels."""
    bins: tuple[int, ...] = (10, 14, 20, 25, 35, 50, 71, 100, 200, 500, 1000, 2000)
    """Numbers of bins at which the error is measured."""
    margin: float = 0.025
    """Least distance of the measurements from the knots, as a fraction of a bin."""
    per_bin: int = 9
    """Measurements in each bin."""


@jax.jit
def f(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Nielsen's function."""
    return 0.2 + 0.4 * x**2 + 0.3 * x * jnp.sin(15 * x) + 0.05 * jnp.cos(50 * x)


evaluate = jax.jit(jax.vmap(mlp.logits, in_axes=(None, 0)))
"""The outputs [P, n] of a network with a linear output for points [P, m]."""


def errors(config: Config, bins: int) -> Float[Array, " points"]:
    """The network's distance from f at points of every bin, at least the margin away from the knots."""
    within = jnp.linspace(config.margin, 1 - config.margin, config.per_bin)
    x = (jnp.arange(bins)[:, None] + within[None]).ravel()[:, None] / bins
    return jnp.abs(evaluate(universal.approximate(f, 0.0, 1.0, bins), x) - f(x))[:, 0]


ARRAYS = {
    "x": ("points", "the inputs"),
    "f": ("points", "Nielsen's function"),
    "networks": ("neurons points", "the outputs of the networks in the first panels"),
    "sup": ("bins", "the sup error of the network with each number of bins"),
    "rms": ("bins", "its root-mean-square error"),
    "bound": ("bins", "half a bin times the largest slope of f"),
    "sup_rate": ("", "the slope of ln(sup error) over ln(bins)"),
    "rms_rate": ("", "the slope of ln(rms error) over ln(bins)"),
}


def compute(config: Config) -> dict[str, Any]:
    """The curves of the first panels, and the errors by the number of bins."""
    if not 0 <= config.margin < 0.5 or len(config.bins) < 2:
        raise ValueError(
            f"margin must be in [0, 0.5) and bins must have at least two sizes, got {config.margin} and {config.bins}"
        )
    x = jnp.linspace(0, 1, 2001)
    measured = [errors(config, bins) for bins in config.bins]
    steepest = jnp.max(jnp.abs(jax.vmap(jax.grad(f))(x)))
    found = {
        "x": x,
        "f": f(x),
        "networks": [evaluate(universal.approximate(f, 0.0, 1.0, n), x[:, None])[:, 0] for n in config.neurons],
        "sup": [jnp.max(error) for error in measured],
        "rms": [jnp.sqrt(jnp.mean(error**2)) for error in measured],
        "bound": [steepest / (2 * bins) for bins in config.bins],
    }
    rates = {f"{norm}_rate": np.polyfit(np.log(config.bins), np.log(found[norm]), 1)[0] for norm in ("sup", "rms")}
    return found | rates


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """The published errors, the bound from the modulus of continuity, and first order."""
    sup = dict(zip(config.bins, arrays["sup"], strict=True))
    found = {
        f"with {bins} bins the sup error is at most {error}, {100 * config.margin:g} % of a bin off the knots": (
            sup[bins] <= error
        )
        for bins, error in PUBLISHED.items()
        if bins in sup and config.margin == Config.margin
    }
    found["no error exceeds half a bin times the largest slope of f"] = np.all(arrays["sup"] <= arrays["bound"])
    for norm in ("sup", "rms"):
        found[f"the {norm} error decays at first order: a rate of -1 +- 0.1"] = abs(arrays[f"{norm}_rate"] + 1) < 0.1
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """Few neurons, more neurons, and the decay of the error."""
    *panels, decay = common.panels(figure, (10, 3.4), 1, 3)
    for axes, n, curve in zip(panels, config.neurons, arrays["networks"], strict=True):
        axes.plot(arrays["x"], arrays["f"], color="black", linewidth=1, label="$f$")
        axes.plot(arrays["x"], curve, color="C1", label="network")
        axes.set(title=f"{n} indicator neurons", xlabel="$x$", ylim=(0, None))
        axes.legend(loc="upper left")
    for norm, marker in (("sup", "o"), ("rms", "s")):
        decay.loglog(
            config.bins, arrays[norm], marker, markersize=4, label=f"{norm} error, rate {arrays[norm + '_rate']:.2f}"
        )
    decay.loglog(config.bins, arrays["bound"], color="black", linewidth=1, label=r"$\max|f'| \times$ half a bin")
    decay.set(title=f"error, {100 * config.margin:g} % of a bin off the knots", xlabel="bins")
    decay.legend(loc="lower left", fontsize="small")
