"""Section 5.2: an LSTM recalls symbols long after it saw them; a plain recurrent net guesses.

The copying task of Hochreiter and Schmidhuber (1997), in the form of Arjovsky, Shah and Bengio (2016): some random
symbols, a delay of blanks, a signal, and then the symbols are to be said in their order, blanks until then. Without a
memory the best mean cost per step is (recalled symbols) ln(alphabet) / T, the cost of guessing each of them.
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
from jaxtyping import Array, Float, Int, Key
from matplotlib.figure import Figure, SubFigure

from experiments import runner
from experiments.adding_problem import NETS, memories
from jnn import _checks, costs, lstm, mlp, rnn, train
from jnn.activations import softmax


@dataclass(frozen=True)
class Config:
    """The task, both nets, and how they are trained."""

    quick: ClassVar[Mapping[str, Any]] = {"symbols": 2, "delay": 3, "units": 24, "epochs": 2, "seeds": 2}

    symbols: int = 5
    """Symbols to recall."""
    alphabet: int = 8
    """How many different ones there are."""
    delay: int = 20
    """Blanks between the last symbol and the signal."""
    units: int = 64
    """Memory cells d, or units of the plain net."""
    rem_bias: float = 4.0
    """Where the bias of rem starts."""
    save_bias: float = -2.0
    """Where the bias of save starts."""
    eta: float = 0.02
    """Adam's first learning rate, which falls to 0 along a cosine."""
    rnn_eta: float = 0.01
    """The same for the plain nets, which learn nothing at 0.02."""
    batch_size: int = 50
    """Sequences in a mini-batch."""
    steps: int = 100
    """Mini-batches in an epoch, after which the nets are tested."""
    epochs: int = 25
    """Of training."""
    tests: int = 500
    """Sequences to test on."""
    seeds: int = 5
    """Nets of each kind, side by side."""
    seed: int = 0
    """Where the random numbers start."""

    @property
    def length(self) -> int:
        """T: the symbols, the delay, the signal together with the first recall, the other recalls."""
        return 2 * self.symbols + self.delay

    @property
    def baseline(self) -> float:
        """The mean cost per step, in nats, of guessing every recalled symbol."""
        return self.symbols * float(np.log(self.alphabet)) / self.length


def examples(key: Key[Array, ""], rows: Any, *, config: Config) -> tuple[Int[Array, "B T"], Int[Array, "B T"]]:
    """As many fresh sequences as there are rows, and what is to be said at each of their steps.

    0 is a blank, 1 to `alphabet` are the symbols, and one more is the signal.
    """
    k, shape = config.symbols, (len(rows), config.symbols)
    symbols = 1 + jnp.floor(jax.random.uniform(key, shape) * config.alphabet).astype(int)
    blank = jnp.zeros((len(rows), config.length - k), symbols.dtype)
    xs = jnp.concatenate([symbols, blank], axis=1).at[:, -k].set(config.alphabet + 1)
    return xs, jnp.concatenate([blank, symbols], axis=1)


def say(params: dict[str, Any], xs: Int[Array, "B T"]) -> Float[Array, "T B k"]:
    """The logits at each step: of the blank and of every symbol."""
    w, b = params["out"]
    z = memories(params["cell"], jax.nn.one_hot(xs, len(w) + 1)) @ w.T
    return z + jnp.broadcast_to(b, z.shape)


def loss(params: dict[str, Any], xs: Int[Array, "B T"], ys: Int[Array, "B T"]) -> Float[Array, ""]:
    """The mean log-likelihood cost per step."""
    z = say(params, xs)
    return jnp.mean(costs.log_likelihood.value(z, jax.nn.one_hot(ys.T, z.shape[-1])))


def measure(
    params: dict[str, Any], xs: Int[Array, "B T"], ys: Int[Array, "B T"], *, symbols: int
) -> dict[str, Float[Array, ""]]:
    """The cost per step, and the fraction of the symbols that are recalled right."""
    read = jnp.argmax(say(params, xs)[-symbols:], axis=-1)
    return {"cost": loss(params, xs, ys), "recalled": jnp.mean(read == ys[:, -symbols:].T)}


def start(key: Key[Array, ""], config: Config, net: str) -> dict[str, Any]:
    """A random LSTM that begins by remembering and saving little, or a plain net with recurrent N(0, 1/d) weights."""
    cell_key, out_key = jax.random.split(key)
    (out,) = mlp.init(out_key, (config.units, config.alphabet + 1))
    inputs = config.alphabet + 2
    if net == "lstm":
        cell = lstm.init(cell_key, inputs, config.units, rem_bias=config.rem_bias)
        return {"cell": cell._replace(save=cell.save._replace(b=cell.save.b + config.save_bias)), "out": out}
    return {"cell": rnn.init(cell_key, inputs, config.units, recurrent_weights=mlp.scaled_normal), "out": out}


def learn(config: Config, net: str) -> tuple[Any, dict[str, Float[Array, "seeds epochs"]]]:
    """The trained nets, and what is measured after every epoch."""
    init_key, train_key, test_key = jax.random.split(jax.random.key(config.seed), 3)
    test = examples(test_key, range(config.tests), config=config)
    eta = config.eta if net == "lstm" else config.rnn_eta
    schedule = optax.cosine_decay_schedule(eta, config.epochs * config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    states = jax.jit(jax.vmap(lambda key: train.init(optimizer, start(key, config, net))))
    state, history = runner.fit(
        jax.random.split(train_key, config.seeds),
        jax.value_and_grad(loss),
        optimizer,
        states(jax.random.split(init_key, config.seeds)),
        (jnp.arange(config.steps * config.batch_size),),
        epochs=config.epochs,
        batch_size=config.batch_size,
        transform=partial(examples, config=config),
        evaluate=Partial(partial(measure, symbols=config.symbols), xs=test[0], ys=test[1]),
    )
    return state.params, history.metrics


def compute(config: Config) -> dict[str, Any]:
    """The learning curves of both nets, and what the first of each says of one new sequence."""
    for field in ("symbols", "alphabet", "delay", "units", "seeds"):
        _checks.count(field, getattr(config, field))
    xs, ys = examples(jax.random.key(config.seed + 1), range(1), config=config)
    found: dict[str, Any] = {"xs": xs[0], "ys": ys[0]}
    for net in NETS:
        params, measured = learn(config, net)
        found |= {f"{net}_{name}": np.asarray(values) for name, values in measured.items()}
        found |= runner.mean_and_standard_error(f"{net}_fraction_recalled", found[f"{net}_recalled"][:, -1])
        first = jax.tree.map(lambda a: a[0], params)
        found[f"{net}_says"] = softmax(say(first, xs))[:, 0]
    return found


def claims(config: Config, arrays: runner.Arrays) -> dict[str, bool]:
    """The LSTM remembers, and better than the plain net; at a small size, that learning begins."""
    long, short = arrays["lstm_cost"][:, -1], arrays["rnn_cost"][:, -1]
    if config.epochs < Config.epochs:
        return {"the mean cost of every LSTM falls": bool(np.all(long < arrays["lstm_cost"][:, 0]))}
    return {
        "most LSTMs' costs are below a tenth of that of guessing": bool(np.mean(long < config.baseline / 10) > 0.5),
        "most LSTMs' costs are below a tenth of the best plain net's": bool(np.mean(long < short.min() / 10) > 0.5),
    }


def draw(figure: Figure, config: Config, arrays: runner.Arrays) -> None:
    """What both nets say of one sequence, and the learning curves."""
    figure.set_size_inches(9, 4.6)
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.35, 1))
    left, right = halves
    _draw_recall(left, config, arrays)
    cost, recalled = np.ravel(right.subplots(2, 1, sharex=True))
    sequences = config.steps * config.batch_size / 1000 * np.arange(1, config.epochs + 1)
    for net, (name, colour) in NETS.items():
        for i in range(config.seeds):
            cost.semilogy(sequences, arrays[f"{net}_cost"][i], color=colour, label=name if i == 0 else None)
            recalled.plot(sequences, 100 * arrays[f"{net}_recalled"][i], color=colour)
    cost.axhline(config.baseline, color="black", linestyle=":", linewidth=1, label="guessing")
    recalled.axhline(100 / config.alphabet, color="black", linestyle=":", linewidth=1)
    cost.set(ylabel="cost $C$ per step")
    recalled.set(xlabel="training sequences / 1000", ylabel="symbols recalled / %", ylim=(0, 103))
    cost.legend(loc="lower left")


def _draw_recall(figure: SubFigure, config: Config, arrays: runner.Arrays) -> None:
    """The input, then the probabilities of what is said, as pictures over time."""
    names = ["blank", *map(str, range(1, config.alphabet + 1)), "go"]
    shown = {"input $x_t$": np.eye(len(names))[arrays["xs"]]}
    shown |= {f"{name}: probabilities $a_j$": arrays[f"{net}_says"] for net, (name, _) in NETS.items()}
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
    figure.axes[-1].set_xlabel("$t$; in orange what is to be said")


if __name__ == "__main__":
    sys.exit(runner.main(sys.modules[__name__]))
