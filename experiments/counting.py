"""Section 5.2: an LSTM learns to count, and one of its long-term memories is the counter.

The strings of Edwin Chen's "Exploring LSTMs", the notes' reference [1]: n times a, an X, n times b, and the end. A
small LSTM predicts each next symbol; after the X all of them are certain for one who has counted. It trains on short
strings and is tested on longer ones than it has ever seen. How far it counts then differs from start to start; noise
on the weights during training, under which only a robust counter survives, takes most nets beyond twice the length.
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
from jaxtyping import Array, Bool, Float, Int
from matplotlib.figure import Figure, SubFigure

from experiments import runner
from jnn import _checks, costs, lstm, mlp, regularize, train
from jnn.activations import sigmoid

SYMBOLS = ("a", "X", "b", "end")
"""The alphabet, in the order of the input's and the output's neurons."""


@dataclass(frozen=True)
class Config:
    """The strings, the nets, and how they are trained."""

    quick: ClassVar[Mapping[str, Any]] = {"trained": 3, "units": 6, "epochs": 5, "seeds": 2}

    trained: int = 10
    """Strings with n = 1, ..., this are trained on."""
    tested: int = 4
    """Strings up to this many times longer are tested."""
    units: int = 8
    """Memory cells d."""
    rem_bias: float = 7.0
    """Where the bias of rem starts: at 7 a cell loses 0.1 % of its count in each step."""
    noise: float = 0.2
    """Standard deviation of the noise on every weight in every step of training; 0 is none."""
    eta: float = 0.01
    """Adam's first learning rate, which falls to 0 along a cosine."""
    batch_size: int = 20
    """Strings in a mini-batch."""
    steps: int = 200
    """Mini-batches in an epoch, after which the nets are tested."""
    epochs: int = 25
    """Of training."""
    seeds: int = 5
    """Nets side by side."""
    seed: int = 0
    """Where the random numbers start."""


def string(n: Int[Array, ""], length: int) -> Int[Array, " length"]:
    """The string a^n X b^n as indices into SYMBOLS, then ends up to `length`."""
    t = jnp.arange(length)
    return jnp.where(t < n, 0, jnp.where(t == n, 1, jnp.where(t <= 2 * n, 2, 3)))


def read(
    params: dict[str, Any], ns: Int[Array, " B"], longest: int
) -> tuple[Float[Array, "T B 4"], Int[Array, "T B"], lstm.State]:
    """For the strings of all n: the logits and the true index of each next symbol, and the memories."""
    symbols = jax.vmap(partial(string, length=2 * longest + 2))(ns).T
    cell, (w, b) = params["cell"], params["out"]
    xs = jax.nn.one_hot(symbols[:-1], len(SYMBOLS))
    _, states = lstm.unroll(cell, lstm.zero_state(len(cell.rem.b)), xs)
    z = states.wm @ w.T
    return z + jnp.broadcast_to(b, z.shape), symbols[1:], states


def loss(params: dict[str, Any], ns: Int[Array, " B"], *, longest: int) -> Float[Array, ""]:
    """The mean log-likelihood cost of the next symbols, up to the first end of each string."""
    z, nexts, _ = read(params, ns, longest)
    values = costs.log_likelihood.value(z, jax.nn.one_hot(nexts, len(SYMBOLS)))
    inside = jnp.arange(len(z))[:, None] <= 2 * ns[None]
    return jnp.sum(jnp.where(inside, values, 0)) / jnp.sum(inside)


def correct(params: dict[str, Any], ns: Int[Array, " B"], *, longest: int) -> Bool[Array, " B"]:
    """Whether, from the X on, each next symbol is predicted: n times b and then the end."""
    z, nexts, _ = read(params, ns, longest)
    t = jnp.arange(len(z))[:, None]
    certain = (t >= ns[None]) & (t <= 2 * ns[None])
    return jnp.all((jnp.argmax(z, axis=-1) == nexts) | ~certain, axis=0)


def start(key: Any, config: Config) -> dict[str, Any]:
    """A random LSTM with a layer of one linear neuron for each symbol."""
    cell_key, out_key = jax.random.split(key)
    (out,) = mlp.init(out_key, (config.units, len(SYMBOLS)))
    return {"cell": lstm.init(cell_key, len(SYMBOLS), config.units, rem_bias=config.rem_bias), "out": out}


def compute(config: Config) -> dict[str, Any]:
    """Which strings each net gets right after every epoch, and the inside of the best net over one string."""
    _checks.count("seeds", config.seeds)
    init_keys, train_keys = jax.random.split(jax.random.key(config.seed), (2, config.seeds))
    schedule = optax.cosine_decay_schedule(config.eta, config.epochs * config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    longest = config.tested * config.trained
    ns = jnp.arange(1, longest + 1)
    state, history = runner.fit(
        train_keys,
        regularize.weight_noise(jax.value_and_grad(partial(loss, longest=config.trained)), config.noise),
        optimizer,
        jax.jit(jax.vmap(lambda key: train.init(optimizer, start(key, config))))(init_keys),
        (1 + jnp.arange(config.steps * config.batch_size) % config.trained,),
        epochs=config.epochs,
        batch_size=config.batch_size,
        transform=regularize.with_key,
        evaluate=Partial(partial(correct, longest=longest), ns=ns),
    )
    right = np.asarray(history.metrics)
    reach = np.sum(np.cumprod(right, axis=-1), axis=-1)
    best = int(np.argmax(reach[:, -1]))
    return {
        **runner.mean_and_standard_error("correct_up_to_n", reach[:, -1]),
        "reach": reach,
        "correct": right[:, -1],
        "costs": jnp.mean(history.values, axis=-1),
        **inside(jax.tree.map(lambda a: a[best], state.params), 2 * config.trained),
    }


def inside(params: dict[str, Any], n: int) -> dict[str, Any]:
    """What one memory cell does over the string of n: the one whose ltm is the best counter of a's minus b's."""
    _, _, states = read(params, jnp.array([n]), n)
    ltm, wm = states.ltm[:, 0], states.wm[:, 0]
    symbols = string(jnp.array(n), 2 * n + 1)
    count = jnp.cumsum(symbols == 0) - jnp.cumsum(symbols == 2)
    correlations = jnp.corrcoef(jnp.concatenate([ltm, count[:, None]], axis=1), rowvar=False)[-1, :-1]
    unit = int(jnp.argmax(jnp.abs(correlations)))
    before = jnp.concatenate([jnp.zeros_like(wm[:1]), wm[:-1]])
    xs = jax.nn.one_hot(symbols, len(SYMBOLS))
    z = {
        name: xs @ gate.W[unit] + before @ gate.U[unit] + gate.b[unit]
        for name, gate in params["cell"]._asdict().items()
    }
    return {
        "unit": unit,
        "correlation": jnp.abs(correlations[unit]),
        "symbols": symbols,
        "count": count,
        **{name: sigmoid(z[name]) for name in ("rem", "save", "focus")},
        "candidate": jnp.tanh(z["ltm"]),
        "ltm": ltm[:, unit],
        "wm": wm[:, unit],
    }


def claims(config: Config, arrays: runner.Arrays) -> dict[str, bool]:
    """Counting, beyond the strings it was learnt from; at a small size, that learning begins."""
    last, first = arrays["reach"][:, -1], arrays["costs"]
    found = {"the mean training cost of every net falls": bool(np.all(first[:, -1] < first[:, 0]))}
    if config.epochs >= Config.epochs:
        found |= {
            f"every net gets every string up to the longest trained, n = {config.trained}, right": bool(
                np.all(last >= config.trained)
            ),
            f"most nets get every string up to twice the longest trained, n = {2 * config.trained}, right": bool(
                np.mean(last >= 2 * config.trained) > 0.5
            ),
            "in the best net one long-term memory is the count, with a correlation above 0.95": bool(
                arrays["correlation"] > 0.95
            ),
        }
    return found


def draw(figure: Figure, config: Config, arrays: runner.Arrays) -> None:
    """The counter of the best net over one string, and how far each net counts as it learns."""
    figure.set_size_inches(9, 5)
    halves: Any = figure.subfigures(1, 2, width_ratios=(2.1, 1))
    inner, outer = halves
    _draw_counter(inner, arrays)
    axes = outer.subplots()
    epochs = np.arange(1, config.epochs + 1)
    for i, reach in enumerate(arrays["reach"]):
        axes.plot(epochs, reach, color=f"C{i % 6}", linewidth=1.5)
    for times, words in ((1, "longest\ntrained"), (2, "twice\nthat"), (config.tested, "longest\ntested")):
        axes.axhline(times * config.trained, color="black", linestyle=":", linewidth=1)
        axes.annotate(
            words, (1.02, times * config.trained), xycoords=("axes fraction", "data"), fontsize="small", va="center"
        )
    axes.set(title=f"{config.seeds} nets", xlabel="epoch", ylabel="every string right up to this $n$")
    axes.set_ylim(0, 1.07 * config.tested * config.trained)


def _draw_counter(figure: SubFigure, arrays: runner.Arrays) -> None:
    memory, gates = np.ravel(figure.subplots(2, 1, sharex=True, height_ratios=(1.3, 1)))
    t = np.arange(1, len(arrays["symbols"]) + 1)
    n = len(t) // 2
    sign = np.sign(np.sum(arrays["ltm"] * arrays["count"]))
    minus = "-" if sign < 0 else ""
    memory.plot(t, arrays["count"], color="black", linestyle=":", label="a's minus b's")
    memory.plot(t, sign * arrays["ltm"], "o-", markersize=3, label=rf"${minus}\mathrm{{ltm}}_t$")
    memory.set(title=f"one memory cell of the best net over $a^{{{n}}} X b^{{{n}}}$")
    memory.legend(loc="upper left")
    rows = {
        r"$\mathrm{rem}_t$": arrays["rem"],
        r"$\mathrm{save}_t$": arrays["save"],
        rf"${minus}\mathrm{{ltm}}'_t$": sign * arrays["candidate"],
        r"$\mathrm{focus}_t$": arrays["focus"],
        rf"${minus}\mathrm{{wm}}_t$": sign * arrays["wm"],
    }
    picture = gates.imshow(
        np.stack(list(rows.values())),
        aspect="auto",
        cmap="PuOr_r",
        vmin=-1,
        vmax=1,
        extent=(0.5, len(t) + 0.5, len(rows) - 0.5, -0.5),
    )
    gates.set_yticks(range(len(rows)), list(rows))
    gates.set_xticks(t, [SYMBOLS[symbol] for symbol in arrays["symbols"]], fontsize="small")
    gates.grid(visible=False)
    gates.set_xlabel("input $x_t$")
    figure.colorbar(picture, ax=gates, orientation="horizontal", fraction=0.08, aspect=50, ticks=[-1, 0, 1])


if __name__ == "__main__":
    sys.exit(runner.main(sys.modules[__name__]))
