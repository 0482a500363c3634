"""Section 5.2: over 100 steps back in time a gradient survives in an LSTM that remembers, and vanishes in a plain net.

The loss is the sum of the last working memory's entries, each times its own random sign; its derivative with respect to
the state at time t is followed from t = T back to 0 through random inputs. In an LSTM dL/dltm_(t-1) =
dL/dltm_t rem_t + ..., so a large bias of rem preserves it, while the plain net multiplies by U^T and by tanh' at every
step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments import common, runner
from jnn import gradient_flow, lstm, rnn


@dataclass(frozen=True)
class Config(common.Repeated):
    """The nets, which are not trained, and the length of the sequences."""

    quick: ClassVar[dict[str, Any]] = {"seeds": 3}

    seeds: int = 10
    length: int = 100
    """Steps T of each sequence."""
    units: int = 32
    """Memory cells d of each LSTM, or units of each plain net."""
    inputs: int = 4
    """Size p of each input, which comes from N(0, 1)."""
    rem_biases: tuple[float, ...] = (0.0, 1.0, 3.0, 5.0)
    """Biases of rem."""
    scales: tuple[float, ...] = (0.9, 1.0, 1.5, 2.0)
    """Factors of the plain nets' U, which is orthogonal otherwise."""


def back_through_lstm(
    key: Key[Array, ""], rem_bias: Float[Array, ""], config: Config
) -> dict[str, Float[Array, " T+1"]]:
    """The norms of dL/d(ltm_t, wm_t), and of dL/dltm_t alone, by the distance T - t."""
    params_key, *keys = jax.random.split(key, 3)
    xs, signs = inputs_and_signs(keys, config)
    params = lstm.init(params_key, config.inputs, config.units, rem_bias=0.0, dtype=xs.dtype)
    params = params._replace(rem=params.rem._replace(b=params.rem.b + rem_bias))
    state = lstm.zero_state(config.units, dtype=xs.dtype)
    _, derivatives = gradient_flow.flow(partial(lstm.step, params), state, xs, lambda state: signs @ state.wm)
    return {"lstm": gradient_flow.norms(derivatives)[::-1], "ltm": gradient_flow.norms(derivatives.ltm)[::-1]}


def back_through_rnn(key: Key[Array, ""], scale: Float[Array, ""], config: Config) -> dict[str, Float[Array, " T+1"]]:
    """The norms of dL/dh_t, by the distance T - t."""
    params_key, *keys = jax.random.split(key, 3)
    xs, signs = inputs_and_signs(keys, config)
    params = rnn.init(params_key, config.inputs, config.units, dtype=xs.dtype)
    params = params._replace(U=scale * params.U)
    state = rnn.zero_state(config.units, dtype=xs.dtype)
    _, derivatives = gradient_flow.flow(partial(rnn.step, params), state, xs, lambda h: signs @ h)
    return {"rnn": gradient_flow.norms(derivatives)[::-1]}


def inputs_and_signs(keys: Sequence[Key[Array, ""]], config: Config) -> tuple[Float[Array, "T p"], Float[Array, " d"]]:
    """A random sequence, and the signs of the loss."""
    xs = jax.random.normal(keys[0], (config.length, config.inputs))
    return xs, jax.random.rademacher(keys[1], (config.units,), xs.dtype)


ARRAYS = {
    "lstm": ("rem_biases seeds distances", "the norm of dL/d(ltm_t, wm_t) at each distance T - t, from 0 on"),
    "ltm": ("rem_biases seeds distances", "the norm of dL/dltm_t alone"),
    "rnn": ("scales seeds distances", "the norm of dL/dh_t in the plain nets"),
}


def compute(config: Config) -> dict[str, Any]:
    """The norms, [rem_biases or scales, seeds, T+1]."""
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    found: dict[str, Any] = {}
    for back, values in ((back_through_lstm, config.rem_biases), (back_through_rnn, config.scales)):
        seeds = jax.vmap(partial(back, config=config), in_axes=(0, None))
        found |= jax.jit(jax.vmap(seeds, in_axes=(None, 0)))(keys, jnp.array(values))
    return found


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """The remaining gradient after all steps, in the whole state and in the long-term memory alone."""
    left = {name: norms[..., -1] / arrays["rnn" if name == "rnn" else "lstm"][..., 0] for name, norms in arrays.items()}
    plain = left["rnn"][np.array(config.scales) <= 1]
    largest, steps = int(np.argmax(config.rem_biases)), config.length
    remembering = f"with a rem bias of {config.rem_biases[largest]:g}"
    by_bias = np.mean(np.log(left["lstm"]), axis=1)[np.argsort(config.rem_biases)]
    return {
        f"after {steps} steps every plain net with a scale of at most 1 retains less than 1e-3 of its gradient": np.all(
            plain < 1e-3
        ),
        f"after {steps} steps every LSTM {remembering} retains at least 1 % of it": np.all(
            left["lstm"][largest] >= 0.01
        ),
        f"{remembering} ltm alone retains at least 100 times more than any of these plain nets": (
            np.min(left["ltm"][largest]) >= 100 * np.max(plain)
        ),
        "most of an LSTM's remaining gradient is with respect to the long-term memory": np.all(
            left["ltm"] > 0.5 * left["lstm"]
        ),
        "a larger bias of rem retains more, in the geometric mean over nets": np.all(np.diff(by_bias) > 0),
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """LSTMs on the left, plain nets on the right: medians within the range of the nets."""
    left, right = common.panels(figure, (9, 4.2), 1, 2, sharey=True)
    distance = np.arange(config.length + 1)
    for axes, net, labels in (
        (left, "lstm", [f"rem bias {bias:g}" for bias in config.rem_biases]),
        (right, "rnn", [f"$U$ orthogonal $\\times$ {scale:g}" for scale in config.scales]),
    ):
        for i, (norms, label) in reversed(list(enumerate(zip(arrays[net], labels, strict=True)))):
            axes.fill_between(distance, norms.min(axis=0), norms.max(axis=0), color=f"C{i}", alpha=0.2, linewidth=0)
            axes.semilogy(distance, np.median(norms, axis=0), color=f"C{i}", linewidth=2, label=label)
    for norms in arrays["ltm"]:
        left.semilogy(distance[1:], np.median(norms, axis=0)[1:], color="black", linestyle=":", linewidth=1)
    left.plot([], [], color="black", linestyle=":", linewidth=1, label=r"$\mathrm{ltm}_t$ alone")
    left.set(
        title=r"LSTM: state $(\mathrm{ltm}_t, \mathrm{wm}_t)$",
        ylabel="norm of the gradient with respect to\nthe state at $t$",
    )
    right.set(title="plain recurrent net: state $h_t$")
    for axes in (left, right):
        axes.set_xlabel("steps back, $T - t$")
        axes.legend(loc="lower left")
