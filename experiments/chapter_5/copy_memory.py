"""Section 5.2: an LSTM recalls symbols long after it saw them; a plain recurrent net guesses.

The copying task of Hochreiter and Schmidhuber (1997), in the form of Arjovsky, Shah and Bengio (2016): some random
symbols, a delay of blanks, a signal, and then the net must output the symbols in order; until then it must output
blanks. Without a memory the lowest mean cost per step is (recalled symbols) ln(alphabet) / T, the cost of guessing each
of them.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, Key
from matplotlib.figure import SubFigure

from experiments import common, runner
from jnn import costs, mlp
from jnn.activations import softmax


@dataclass(frozen=True)
class Config(common.Repeated):
    quick: ClassVar[dict[str, Any]] = {"symbols": 2, "delay": 3, "units": 24, "epochs": 2, "seeds": 2}

    symbols: int = 5
    """Symbols to recall."""
    alphabet: int = 8
    """Number of different symbols."""
    delay: int = 20
    """Blanks between the last symbol and the signal."""
    units: int = 64
    """Memory cells d, or units of the plain net."""
    rem_bias: float = 4.0
    """Initial bias of rem."""
    save_bias: float = -2.0
    """Initial bias of save."""
    eta: runner.NotNegative = 0.02
    """Adam's initial learning rate, which falls to 0 along a cosine."""
    rnn_eta: runner.NotNegative = 0.01
    """The same for the plain nets, which learn nothing at 0.02."""
    batch_size: int = 50
    """Sequences in a mini-batch."""
    steps: int = 100
    """Mini-batches in an epoch. The nets are tested after each epoch."""
    epochs: int = 25
    """Epochs of training."""
    tests: int = 500
    """Sequences to test on."""

    @property
    def length(self) -> int:
        """T: the symbols, the delay, and the recalls, the first of which coincides with the signal."""
        return 2 * self.symbols + self.delay

    @property
    def baseline(self) -> float:
        """The mean cost per step, in nats, of guessing every recalled symbol."""
        return self.symbols * float(np.log(self.alphabet)) / self.length


@partial(jax.jit, static_argnames="config")
def examples(key: Key[Array, ""], rows: Any, *, config: Config) -> tuple[Int[Array, "B T"], Int[Array, "B T"]]:
    """New sequences, one for each row, and the desired output at each step.

    0 is a blank, 1 to `alphabet` are the symbols, and one more is the signal.
    """
    k, shape = config.symbols, (len(rows), config.symbols)
    symbols = 1 + jnp.floor(jax.random.uniform(key, shape) * config.alphabet).astype(int)
    blank = jnp.zeros((len(rows), config.length - k), symbols.dtype)
    xs = jnp.concatenate([symbols, blank], axis=1).at[:, -k].set(config.alphabet + 1)
    return xs, jnp.concatenate([blank, symbols], axis=1)


@jax.jit
def logits(net: common.Net, xs: Int[Array, "B T"]) -> Float[Array, "T B k"]:
    """The logits at each step, of the blank and of every symbol."""
    one_hot = jax.nn.one_hot(xs, len(net.out.w) + 1)
    return mlp.linear(net.out, common.memories(net.cell, jnp.swapaxes(one_hot, 0, 1)))


def loss(net: common.Net, xs: Int[Array, "B T"], ys: Int[Array, "B T"]) -> Float[Array, ""]:
    """The mean log-likelihood cost per step."""
    z = logits(net, xs)
    return jnp.mean(costs.log_likelihood.value(z, jax.nn.one_hot(ys.T, z.shape[-1])))


def measure(
    net: common.Net, xs: Int[Array, "B T"], ys: Int[Array, "B T"], *, symbols: int
) -> dict[str, Float[Array, ""]]:
    """The cost per step, and the fraction of the symbols that the net recalls correctly."""
    read = jnp.argmax(logits(net, xs)[-symbols:], axis=-1)
    return {"cost": loss(net, xs, ys), "recalled": jnp.mean(read == ys[:, -symbols:].T)}


def learn(
    training: runner.Training, config: Config, kind: str
) -> tuple[common.Net, dict[str, Float[Array, "seeds epochs"]]]:
    """The trained nets, and the measurements after every epoch."""
    init_key, train_key, test_key = jax.random.split(jax.random.key(config.seed), 3)
    test = examples(test_key, jnp.arange(config.tests), config=config)
    sizes = {"inputs": config.alphabet + 2, "units": config.units, "outputs": config.alphabet + 1}
    state, history = common.train_nets(
        training,
        jax.random.split(init_key, config.seeds),
        jax.random.split(train_key, config.seeds),
        partial(common.init_net, kind=kind, rem_bias=config.rem_bias, save_bias=config.save_bias, **sizes),
        jax.value_and_grad(loss),
        (jnp.arange(config.steps * config.batch_size),),
        name=kind,
        eta=config.rnn_eta if kind == "rnn" else config.eta,
        epochs=config.epochs,
        batch_size=config.batch_size,
        transform=partial(examples, config=config),
        evaluate=Partial(partial(measure, symbols=config.symbols), xs=test[0], ys=test[1]),
    )
    return state.params, history.metrics


ARRAYS = {
    "xs": ("T", "the inputs of one sequence: 0 is a blank, the largest number the signal, the others symbols"),
    "ys": ("T", "the desired outputs for it"),
    "*_cost": ("seeds epochs", "the mean test cost per step of each net after each epoch, in nats"),
    "*_fraction_recalled": ("", "the mean fraction of the symbols recalled after the last epoch"),
    "*_recalled": ("seeds epochs", "the fraction of the symbols that each net recalls after each epoch"),
    "*_says": ("T outputs", "the probabilities of the first net's outputs for this sequence"),
}


def compute(config: Config, training: runner.Training = runner.ALONE) -> dict[str, Any]:
    """The learning curves of both nets, and the outputs of the first of each for a new sequence."""
    xs, ys = examples(jax.random.key(config.seed + 1), jnp.arange(1), config=config)
    found: dict[str, Any] = {"xs": xs[0], "ys": ys[0]}
    for net in common.NETS:
        params, measured = learn(training, config, net)
        found |= {f"{net}_{name}": np.asarray(values) for name, values in measured.items()}
        found |= runner.mean_and_standard_error(f"{net}_fraction_recalled", found[f"{net}_recalled"][:, -1])
        found[f"{net}_says"] = softmax(logits(jax.tree.map(lambda a: a[0], params), xs))[:, 0]
    return found


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """The LSTM remembers, and better than the plain net; at a small size, learning begins."""
    long, short = arrays["lstm_cost"][:, -1], arrays["rnn_cost"][:, -1]
    if config.epochs < Config.epochs:
        return {"the mean cost of every LSTM falls": np.all(long < arrays["lstm_cost"][:, 0])}
    return {
        "most LSTMs' costs are below a tenth of the cost of guessing": np.mean(long < config.baseline / 10) > 0.5,
        "most LSTMs' costs are below a tenth of the best plain net's": np.mean(long < short.min() / 10) > 0.5,
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """The outputs of both nets for one sequence, and the learning curves."""
    left, right = common.parts(figure, (9, 4.6), 1, 2, width_ratios=(1.35, 1))
    _draw_recall(left, config, arrays)
    cost, recalled = np.ravel(right.subplots(2, 1, sharex=True))
    sequences = config.steps * config.batch_size / 1000 * np.arange(1, config.epochs + 1)
    for net, (name, colour) in common.NETS.items():
        for i in range(config.seeds):
            cost.semilogy(sequences, arrays[f"{net}_cost"][i], color=colour, label=name if i == 0 else None)
            recalled.plot(sequences, 100 * arrays[f"{net}_recalled"][i], color=colour)
    cost.axhline(config.baseline, color="black", linestyle=":", linewidth=1, label="guessing")
    recalled.axhline(100 / config.alphabet, color="black", linestyle=":", linewidth=1)
    cost.set(ylabel="cost $C$ per step")
    recalled.set(xlabel="training sequences / 1000", ylabel="symbols recalled / %", ylim=(0, 103))
    cost.legend(loc="lower left")


def _draw_recall(figure: SubFigure, config: Config, arrays: runner.Arrays) -> None:
    """The input, then the probabilities of the outputs, as images over time."""
    names = ["blank", *map(str, range(1, config.alphabet + 1)), "go"]
    shown = {"input $x_t$": np.eye(len(names))[arrays["xs"]]}
    shown |= {f"{name}: probabilities $a_j$": arrays[f"{net}_says"] for net, (name, _) in common.NETS.items()}
    for axes, (title, values) in zip(np.ravel(figure.subplots(3, 1, sharex=True)), shown.items(), strict=True):
        image = values.T
        extent = (0.5, len(values) + 0.5, len(image) - 0.5, -0.5)
        axes.imshow(image, aspect="auto", cmap="Blues", vmin=0, vmax=1, extent=extent, interpolation="none")
        axes.set_yticks(range(len(image)), names[: len(image)], fontsize="x-small")
        axes.set_title(title, fontsize="medium")
        axes.grid(visible=False)
        if "input" not in title:
            t = np.arange(1, len(values) + 1)
            axes.plot(t, arrays["ys"], "s", markersize=6, markerfacecolor="none", markeredgecolor="C1", linewidth=0)
    figure.axes[-1].set_xlabel("$t$; in orange the desired output")
