"""Section 5.2: an LSTM adds two numbers that lie far back in a long sequence; a plain recurrent net does not.

The adding problem of Hochreiter and Schmidhuber (1997). Each step shows a number from [0, 1] and a marker; the target
is the sum of the two marked numbers, one in each half of the sequence. Always answering 1 has a mean squared error of
1/6 = 0.167. Both nets train equally long, by the library's hand-derived backpropagation through time, and never see a
sequence twice.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Key

from experiments import common, runner

BASELINE = 1 / 6
"""The mean squared error of always answering 1, the mean of the sum of two numbers from [0, 1]."""


@dataclass(frozen=True)
class Config(common.Repeated):
    quick: ClassVar[dict[str, Any]] = {"lengths": (8,), "units": 16, "epochs": 3, "seeds": 2}

    lengths: tuple[int, ...] = (100, 200)
    """Steps T of the sequences, one task for each length."""
    units: int = 32
    """Memory cells d, or units of the plain net."""
    rem_bias: float = 5.0
    """Initial bias of rem, and of save with the sign reversed: at 5 a cell keeps 99 % of its memory in each step."""
    eta: runner.NotNegative = 0.01
    """Adam's initial learning rate, which falls to 0 along a cosine."""
    batch_size: int = 50
    """Sequences in a mini-batch."""
    steps: int = 100
    """Mini-batches in an epoch. The nets are tested after each epoch."""
    epochs: int = 12
    """Epochs of training."""
    tests: int = 1000
    """Sequences to test on."""


def examples(key: Key[Array, ""], rows: Any, *, length: int) -> tuple[Float[Array, "B T 2"], Float[Array, " B"]]:
    """New sequences of (number, marker), one for each row, and the sum of the two marked numbers of each.

    One of these is in the first half, the other in the second.
    """
    numbers_key, places_key = jax.random.split(key)
    numbers = jax.random.uniform(numbers_key, (len(rows), length))
    half = length // 2
    places = jnp.floor(jax.random.uniform(places_key, (len(rows), 2)) * half) + jnp.array([[0.0, length - half]])
    marker = jnp.sum(jax.nn.one_hot(places.astype(int), length), axis=1)
    return jnp.stack([numbers, marker], axis=2), jnp.sum(numbers * marker, axis=1)


def loss(net: common.Net, xs: Float[Array, "B T 2"], ys: Float[Array, " B"]) -> Float[Array, ""]:
    """The mean squared error of the linear output neuron that reads the last working memory."""
    w, b = net.out
    return jnp.mean((common.memories(net.cell, jnp.swapaxes(xs, 0, 1))[-1] @ w[0] + b - ys) ** 2)


def learn(training: runner.Training, config: Config, length: int, kind: str) -> Float[Array, "seeds epochs"]:
    """The test error of every net after every epoch.

    The LSTM's cells start with remembering much and saving little, for delays of about exp(rem_bias) steps (Tallec and
    Ollivier 2018).
    """
    init_key, train_key, test_key = jax.random.split(jax.random.key(config.seed), 3)
    test = jax.jit(partial(examples, length=length))(test_key, jnp.arange(config.tests))
    biases = {"rem_bias": config.rem_bias, "save_bias": -config.rem_bias}
    _, history = common.train_nets(
        training,
        jax.random.split(init_key, config.seeds),
        jax.random.split(train_key, config.seeds),
        partial(common.init_net, inputs=2, units=config.units, outputs=1, kind=kind, **biases),
        jax.value_and_grad(loss),
        (jnp.arange(config.steps * config.batch_size),),
        name=f"{kind}-{length}",
        eta=config.eta,
        epochs=config.epochs,
        batch_size=config.batch_size,
        transform=partial(examples, length=length),
        evaluate=Partial(loss, xs=test[0], ys=test[1]),
    )
    return history.metrics


ARRAYS = {
    "sequence": ("T 2", "the number and the marker at each step of one sequence of the shortest length"),
    "*_errors_*": ("seeds epochs", "the mean squared test error of each net after each epoch, at this length"),
    "*_error_at_*": ("", "the mean of these errors after the last epoch"),
}


def compute(config: Config, training: runner.Training = runner.ALONE) -> dict[str, Any]:
    """The learning curves of both nets at every length, and one sequence to draw."""
    xs, _ = jax.jit(partial(examples, length=min(config.lengths)))(jax.random.key(config.seed + 1), jnp.arange(1))
    found: dict[str, Any] = {"sequence": xs[0]}
    for length in config.lengths:
        for net in common.NETS:
            errors = found[f"{net}_errors_{length}"] = np.asarray(learn(training, config, length, net))
            found |= runner.mean_and_standard_error(f"{net}_error_at_{length}_steps", errors[:, -1])
    return found


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """The LSTM bridges the delay; the plain net does not bridge the longest. At a small size, learning begins."""
    last = {name: errors[:, -1] for name, errors in arrays.items() if "_errors_" in name}
    longest, bound = max(config.lengths), 0.01 if config.epochs >= Config.epochs else BASELINE / 2
    found = {
        f"at T = {length}, every LSTM's mean squared error ends below {bound:.2g}": np.all(
            last[f"lstm_errors_{length}"] < bound
        )
        for length in config.lengths
    }
    if longest >= 200:
        found[f"at T = {longest}, the errors of most plain nets stay above 0.1"] = (
            np.mean(last[f"rnn_errors_{longest}"] > 0.1) > 0.5
        )
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """A sequence, and the learning curves of every net at every length."""
    upper, lower = common.parts(figure, (9, 5.2), 2, 1, height_ratios=(1, 1.9))
    _draw_sequence(upper.subplots(), arrays["sequence"])
    sequences = config.steps * config.batch_size / 1000 * np.arange(1, config.epochs + 1)
    for axes, length in zip(np.ravel(lower.subplots(1, len(config.lengths), sharey=True)), config.lengths, strict=True):
        axes.axhline(BASELINE, color="black", linestyle=":", linewidth=1, label="always 1")
        for net, (name, colour) in common.NETS.items():
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
