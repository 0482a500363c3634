"""Section 5.2: an LSTM adds two numbers that lie far back in a long sequence; a plain recurrent net does not.

The adding problem of Hochreiter and Schmidhuber (1997). Each step shows a number from [0, 1] and a marker; the target
is the sum of the two marked numbers, one in each half of the sequence. Saying 1 every time has a mean squared error
of 1/6 = 0.167. Both nets train equally long, by the library's hand-derived backpropagation through time, on
sequences that are always fresh.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

from experiments import runner
from jnn import _checks, lstm, mlp, rnn, train

BASELINE = 1 / 6
"""The mean squared error of always saying 1, the mean of a sum of two numbers from [0, 1]."""

NETS = {"lstm": ("LSTM", "C0"), "rnn": ("RNN", "C1")}
"""How the two nets are called and coloured."""


@dataclass(frozen=True)
class Config:
    """Both lengths, both nets, and how they are trained."""

    quick: ClassVar[Mapping[str, Any]] = {"lengths": (8,), "units": 16, "epochs": 3, "seeds": 2}

    lengths: tuple[int, ...] = (100, 200)
    """Steps T of the sequences, one task each."""
    units: int = 32
    """Memory cells d, or units of the plain net."""
    rem_bias: float = 5.0
    """Where the bias of rem starts, and minus that of save: at 5 a cell keeps 99 % of its memory in each step."""
    eta: float = 0.01
    """Adam's first learning rate, which falls to 0 along a cosine."""
    batch_size: int = 50
    """Sequences in a mini-batch."""
    steps: int = 100
    """Mini-batches in an epoch, after which the nets are tested."""
    epochs: int = 12
    """Of training."""
    tests: int = 1000
    """Sequences to test on."""
    seeds: int = 5
    """Nets of each kind, side by side."""
    seed: int = 0
    """Where the random numbers start."""


def examples(key: Key[Array, ""], rows: Any, *, length: int) -> tuple[Float[Array, "B T 2"], Float[Array, " B"]]:
    """As many fresh sequences of (number, marker) as there are rows, and the sum of each one's two marked numbers.

    The first is in the first half, the second in the second half.
    """
    numbers_key, places_key = jax.random.split(key)
    numbers = jax.random.uniform(numbers_key, (len(rows), length))
    half = length // 2
    places = jnp.floor(jax.random.uniform(places_key, (len(rows), 2)) * half) + jnp.array([[0.0, length - half]])
    marker = jnp.sum(jax.nn.one_hot(places.astype(int), length), axis=1)
    return jnp.stack([numbers, marker], axis=2), jnp.sum(numbers * marker, axis=1)


def memories(cell: lstm.Params | rnn.Params, xs: Float[Array, "B T p"]) -> Float[Array, "T B d"]:
    """The working memories wm_t of an LSTM, or the states h_t of a plain net, after every step."""
    xs = jnp.swapaxes(xs, 0, 1)
    if isinstance(cell, lstm.Params):
        return lstm.unroll(cell, lstm.zero_state(len(cell.rem.b)), xs)[1].wm
    return rnn.unroll(cell, rnn.zero_state(len(cell.b)), xs)[1]


def loss(params: dict[str, Any], xs: Float[Array, "B T 2"], ys: Float[Array, " B"]) -> Float[Array, ""]:
    """The mean squared error of the linear output neuron that reads the last working memory."""
    w, b = params["out"]
    return jnp.mean((memories(params["cell"], xs)[-1] @ w[0] + b - ys) ** 2)


def start(key: Key[Array, ""], config: Config, net: str) -> dict[str, Any]:
    """A random LSTM, or a plain net with recurrent weights from N(0, 1/d), with one linear output neuron.

    The LSTM's cells begin by remembering and by saving little, for delays of about exp(rem_bias) steps (Tallec and
    Ollivier 2018).
    """
    cell_key, out_key = jax.random.split(key)
    (out,) = mlp.init(out_key, (config.units, 1))
    if net == "lstm":
        cell = lstm.init(cell_key, 2, config.units, rem_bias=config.rem_bias)
        return {"cell": cell._replace(save=cell.save._replace(b=-cell.rem.b)), "out": out}
    return {"cell": rnn.init(cell_key, 2, config.units, recurrent_weights=mlp.scaled_normal), "out": out}


def learn(config: Config, length: int, net: str) -> Float[Array, "seeds epochs"]:
    """The test error after every epoch of every net."""
    init_key, train_key, test_key = jax.random.split(jax.random.key(config.seed), 3)
    test = examples(test_key, range(config.tests), length=length)
    schedule = optax.cosine_decay_schedule(config.eta, config.epochs * config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    state = jax.jit(jax.vmap(lambda key: train.init(optimizer, start(key, config, net))))(
        jax.random.split(init_key, config.seeds)
    )
    _, history = runner.fit(
        jax.random.split(train_key, config.seeds),
        jax.value_and_grad(loss),
        optimizer,
        state,
        (jnp.arange(config.steps * config.batch_size),),
        epochs=config.epochs,
        batch_size=config.batch_size,
        transform=partial(examples, length=length),
        evaluate=Partial(loss, xs=test[0], ys=test[1]),
    )
    return history.metrics


def compute(config: Config) -> dict[str, Any]:
    """The learning curves of both nets at every length, and one sequence to look at."""
    _checks.count("seeds", config.seeds)
    xs, _ = examples(jax.random.key(config.seed + 1), range(1), length=min(config.lengths))
    found: dict[str, Any] = {"sequence": xs[0]}
    for length in config.lengths:
        for net in NETS:
            errors = found[f"{net}_errors_{length}"] = np.asarray(learn(config, length, net))
            found |= runner.mean_and_standard_error(f"{net}_error_at_{length}_steps", errors[:, -1])
    return found


def claims(config: Config, arrays: runner.Arrays) -> dict[str, bool]:
    """The LSTM bridges the delay; the plain net does not bridge the longest. At a small size, that learning begins."""
    last = {name: errors[:, -1] for name, errors in arrays.items() if "_errors_" in name}
    longest, bound = max(config.lengths), 0.01 if config.epochs >= Config.epochs else BASELINE / 2
    found = {
        f"of {length} steps, every LSTM's mean squared error ends below {bound:.2g}": bool(
            np.all(last[f"lstm_errors_{length}"] < bound)
        )
        for length in config.lengths
    }
    if longest >= 200:
        found[f"of {longest} steps, most plain nets' errors stay above 0.1"] = bool(
            np.mean(last[f"rnn_errors_{longest}"] > 0.1) > 0.5
        )
    return found


def draw(figure: Figure, config: Config, arrays: runner.Arrays) -> None:
    """A sequence, and the learning curves of every net at every length."""
    figure.set_size_inches(9, 5.2)
    halves: Any = figure.subfigures(2, 1, height_ratios=(1, 1.9))
    upper, lower = halves
    _draw_sequence(upper.subplots(), arrays["sequence"])
    sequences = config.steps * config.batch_size / 1000 * np.arange(1, config.epochs + 1)
    for axes, length in zip(np.ravel(lower.subplots(1, len(config.lengths), sharey=True)), config.lengths, strict=True):
        axes.axhline(BASELINE, color="black", linestyle=":", linewidth=1, label="always 1")
        for net, (name, colour) in NETS.items():
            for i, curve in enumerate(arrays[f"{net}_errors_{length}"]):
                axes.semilogy(sequences, curve, color=colour, label=name if i == 0 else None)
        axes.set(title=f"$T = {length}$", xlabel="training sequences / 1000")
        axes.legend(loc="center right")
    lower.axes[0].set_ylabel("mean squared error\non new sequences")


def _draw_sequence(axes: Any, sequence: np.ndarray) -> None:
    numbers, marker = sequence.T
    steps, marked = np.arange(1, len(sequence) + 1), marker == 1
    axes.bar(steps, numbers, color="0.8")
    axes.bar(steps[marked], numbers[marked], color="C2")
    for t, number in zip(steps[marked], numbers[marked], strict=True):
        axes.annotate(f"{number:.2f}", (t, number), ha="center", va="bottom", color="C2", weight="bold")
    terms = " + ".join(f"{number:.2f}" for number in numbers[marked])
    axes.set(title=f"add the two marked numbers: {terms} = {numbers[marked].sum():.2f}", xlabel="$t$", ylabel="$x_t$")
    axes.set(ylim=(0, 1.25), xlim=(0, len(sequence) + 1))
    axes.grid(visible=False)


if __name__ == "__main__":
    sys.exit(runner.main(sys.modules[__name__]))
