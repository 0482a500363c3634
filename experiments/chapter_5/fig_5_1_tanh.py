"""Figure 5.1: tanh and its derivative, which at 0 is four times the sigmoid's.

Exercise 5.1 asks for an activation whose derivative at 0 is higher. The notes ask for "less than 1"; tanh'(0) is
exactly 1, while sigma'(0) is 1/4, so a chain of unit weights near z = 0 neither vanishes nor explodes. Away from 0
tanh' falls faster, because tanh(z) = 2 sigma(2 z) - 1 implies tanh'(z) = 4 sigma'(2 z): beyond |z| = 1.66 it is smaller
than sigma'.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from experiments import common, runner
from jnn.activations import sigmoid, tanh

ACTIVATIONS = {"tanh": (tanh, r"\tanh", "C0", (0.3, 1.0)), "sigmoid": (sigmoid, r"\sigma", "C1", (1.5, 0.26))}
"""Each function with its symbol, its colour and the position of the label of its value at 0."""


@dataclass(frozen=True)
class Config:
    quick: ClassVar[dict[str, Any]] = {"points": 50}

    largest: runner.NotNegative = 5.0
    """Largest |z| of the plot."""
    points: int = 500
    """Values of z on either side of 0."""


ARRAYS = {
    "z": ("points", "the weighted inputs, symmetric about 0"),
    "tanh": ("points", "tanh(z)"),
    "tanh_prime": ("points", "tanh'(z)"),
    "tanh_prime_at_0": ("", "tanh'(0)"),
    "sigmoid": ("points", "sigma(z)"),
    "sigmoid_prime": ("points", "sigma'(z)"),
    "sigmoid_prime_at_0": ("", "sigma'(0)"),
    "tanh_prime_is_larger_up_to": ("", "the largest z at which tanh'(z) is above sigma'(z)"),
}


def compute(config: Config) -> dict[str, Any]:
    """Both functions and both derivatives at 0 and at pairs -z, z."""
    positive = config.largest * jnp.arange(1, config.points + 1) / config.points
    z = jnp.concatenate([-positive[::-1], jnp.zeros(1), positive])
    found: dict[str, Any] = {"z": z}
    for name, (f, *_) in ACTIVATIONS.items():
        found |= {name: f(z), f"{name}_prime": f.prime(z), f"{name}_prime_at_0": f.prime(0.0)}
    apart = found["tanh_prime"] - found["sigmoid_prime"]
    return found | {"tanh_prime_is_larger_up_to": jnp.max(jnp.where(apart > 0, z, 0))}


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """The values at 0, the shape of the derivatives, and where each is the larger."""
    found = {
        "tanh'(0) is exactly 1": arrays["tanh_prime_at_0"] == 1,
        "sigma'(0) is exactly 1/4": arrays["sigmoid_prime_at_0"] == 0.25,
        "tanh'(z) = 4 sigma'(2 z)": np.allclose(
            arrays["tanh_prime"], 4 * np.asarray(sigmoid.prime(2 * arrays["z"])), atol=1e-6
        ),
        "tanh'(z) is larger than sigma'(z) up to |z| = 1.66, and smaller beyond": (
            np.array_equal(
                arrays["tanh_prime"] > arrays["sigmoid_prime"],
                np.abs(arrays["z"]) <= arrays["tanh_prime_is_larger_up_to"],
            )
            and abs(arrays["tanh_prime_is_larger_up_to"] - 1.66) < 0.01 + config.largest / config.points
        ),
    }
    for name in ACTIVATIONS:
        prime = arrays[f"{name}_prime"]
        found[f"{name}' is even and falls as |z| grows"] = np.allclose(prime, prime[::-1], atol=1e-6) and np.all(
            np.diff(prime[config.points :]) < 0
        )
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """The functions on the left, their derivatives on the right."""
    functions, derivatives = common.panels(figure, (9, 3.6), 1, 2)
    z = arrays["z"]
    for name, (_, symbol, colour, place) in ACTIVATIONS.items():
        functions.plot(z, arrays[name], color=colour, linewidth=2, label=f"${symbol}(z)$")
        derivatives.plot(z, arrays[f"{name}_prime"], color=colour, linewidth=2, label=f"${symbol}'(z)$")
        height = arrays[f"{name}_prime_at_0"]
        derivatives.plot(0, height, "o", color=colour)
        derivatives.annotate(f"${symbol}'(0) = {height:g}$", place, color=colour, va="center")
    functions.set(title="the functions", xlabel="$z$", ylim=(-1.1, 1.1))
    derivatives.set(title="their derivatives", xlabel="$z$", ylim=(0, 1.1))
    for axes in (functions, derivatives):
        axes.set_xlim(-config.largest, config.largest)
        axes.legend(loc="upper left")
