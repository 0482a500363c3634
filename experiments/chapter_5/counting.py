"""Section 5.2: an LSTM learns to count, and one of its long-term memories is the counter.

The strings of Edwin Chen's "Exploring LSTMs", the notes' reference [1]: n times a, an X, n times b, and the end. A
small LSTM predicts each next symbol; after the X a net that has counted can be certain of all of them. It trains on
short strings and is tested on longer strings than it has ever seen. How far it then counts depends on its random start;
noise on the weights during training, under which only a robust counter survives, takes most nets beyond twice the
length.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int
from matplotlib.figure import SubFigure

from experiments import common, runner
from jnn import costs, lstm, mlp, regularize
from jnn.activations import sigmoid

SYMBOLS = ("a", "X", "b", "end")
"""The alphabet, in the order of the input and output neurons."""


@dataclass(frozen=True)
class Config(common.Repeated):
    quick: ClassVar[dict[str, Any]] = {"trained": 3, "units": 6, "epochs": 5, "seeds": 2}

    trained: int = 10
    """The largest n of the training strings, which start at n = 1."""
    tested: int = 4
    """How many times longer the longest test string is."""
    units: int = 8
    """Memory cells d."""
    rem_bias: float = 7.0
    """Initial bias of rem: at 7 a cell loses 0.1 % of its count in each step."""
    noise: runner.NotNegative = 0.2
    """Standard deviation of the noise on every weight in every training step; 0 for none."""
    eta: runner.NotNegative = 0.01
    """Adam's initial learning rate, which falls to 0 along a cosine."""
    batch_size: int = 20
    """Strings in a mini-batch."""
    steps: int = 200
    """Mini-batches in an epoch. The nets are tested after each epoch."""
    epochs: int = 25
    """Epochs of training."""


def string(n: Int[Array, ""], length: int) -> Int[Array, " length"]:
    """The string a^n X b^n as indices into SYMBOLS, then ends up to `length`."""
    t = jnp.arange(length)
    return jnp.where(t < n, 0, jnp.where(t == n, 1, jnp.where(t <= 2 * n, 2, 3)))


def read(
    net: common.Net, ns: Int[Array, " B"], longest: int
) -> tuple[Float[Array, "T B 4"], Int[Array, "T B"], lstm.State]:
    """For the strings of all n: the logits and the true index of each next symbol, and the memories."""
    symbols = jax.vmap(partial(string, length=2 * longest + 2))(ns).T
    xs = jax.nn.one_hot(symbols[:-1], len(SYMBOLS))
    _, states = lstm.unroll(net.cell, lstm.zero_state(len(net.cell.rem.b)), xs)
    return mlp.linear(net.out, states.wm), symbols[1:], states


def loss(net: common.Net, ns: Int[Array, " B"], *, longest: int) -> Float[Array, ""]:
    """The mean log-likelihood cost of the next symbols, up to the first end of each string."""
    z, nexts, _ = read(net, ns, longest)
    values = costs.log_likelihood.value(z, jax.nn.one_hot(nexts, len(SYMBOLS)))
    inside = jnp.arange(len(z))[:, None] <= 2 * ns[None]
    return jnp.sum(jnp.where(inside, values, 0)) / jnp.sum(inside)


def correct(net: common.Net, ns: Int[Array, " B"], *, longest: int) -> Bool[Array, " B"]:
    """Whether each prediction from the X on is correct: n times b and then the end."""
    z, nexts, _ = read(net, ns, longest)
    t = jnp.arange(len(z))[:, None]
    certain = (t >= ns[None]) & (t <= 2 * ns[None])
    return jnp.all((jnp.argmax(z, axis=-1) == nexts) | ~certain, axis=0)


ARRAYS = {
    "correct_up_to_n": ("", "the mean n up to which a net predicts every string after the last epoch"),
    "reach": ("seeds epochs", "the n up to which each net predicts every string after each epoch"),
    "correct": ("seeds strings", "whether each net predicts the string of each n, from 1 on, after the last epoch"),
    "costs": ("seeds epochs", "the mean training cost of each net in each epoch"),
    "unit": ("", "the memory cell of the best net whose long-term memory counts best"),
    "correlation": ("", "the correlation of this memory with the count, without its sign"),
    "symbols": ("T", "the symbols of one string, as indices into a, X, b, end"),
    "count": ("T", "the a's minus the b's so far"),
    "rem": ("T", "the remember gate of this cell at each step"),
    "save": ("T", "its save gate"),
    "focus": ("T", "its focus gate"),
    "candidate": ("T", "its candidate memory ltm'"),
    "ltm": ("T", "its long-term memory"),
    "wm": ("T", "its working memory"),
}


def learn(
    config: Config, training: runner.Training = runner.ALONE
) -> tuple[Float[Array, "N E steps"], Bool[np.ndarray, "N E n"], common.Net]:
    """Trains the nets. Returns their losses, the strings that each predicts after every epoch, and the best net."""
    longest = config.tested * config.trained
    sizes = {"inputs": len(SYMBOLS), "units": config.units, "outputs": len(SYMBOLS)}
    init_keys, train_keys = jax.random.split(jax.random.key(config.seed), (2, config.seeds))
    state, history = common.train_nets(
        training,
        init_keys,
        train_keys,
        partial(common.init_net, rem_bias=config.rem_bias, **sizes),
        regularize.weight_noise(jax.value_and_grad(partial(loss, longest=config.trained)), config.noise),
        (1 + jnp.arange(config.steps * config.batch_size) % config.trained,),
        eta=config.eta,
        epochs=config.epochs,
        batch_size=config.batch_size,
        transform=regularize.append_key,
        evaluate=Partial(partial(correct, longest=longest), ns=jnp.arange(1, longest + 1)),
    )
    right = np.asarray(history.metrics)
    best = int(np.argmax(_reach(right)[:, -1]))
    return history.losses, right, jax.tree.map(lambda a: np.asarray(a)[best], state.params)


def _reach(right: Bool[np.ndarray, "N E n"]) -> Int[np.ndarray, "N E"]:
    """The n up to which each net predicts every string."""
    return np.sum(np.cumprod(right, axis=-1), axis=-1)


def compute(config: Config, training: runner.Training = runner.ALONE) -> dict[str, Any]:
    """The strings that each net predicts after every epoch, and the state of the best net over one string."""
    losses, right, best = learn(config, training)
    reach = _reach(right)
    return {
        **runner.mean_and_standard_error("correct_up_to_n", reach[:, -1]),
        "reach": reach,
        "correct": right[:, -1],
        "costs": jnp.mean(losses, axis=-1),
        **inside(best, 2 * config.trained),
    }


@partial(jax.jit, static_argnames="n")
def inside(net: common.Net, n: int) -> dict[str, Any]:
    """The gates and memories, over the string of n, of the cell whose ltm best counts the a's minus the b's."""
    _, _, states = read(net, jnp.array([n]), n)
    ltm, wm = states.ltm[:, 0], states.wm[:, 0]
    symbols = string(jnp.array(n), 2 * n + 1)
    count = jnp.cumsum(symbols == 0) - jnp.cumsum(symbols == 2)
    correlations = jnp.corrcoef(jnp.concatenate([ltm, count[:, None]], axis=1), rowvar=False)[-1, :-1]
    unit = jnp.argmax(jnp.abs(correlations))
    before = jnp.concatenate([jnp.zeros_like(wm[:1]), wm[:-1]])
    xs = jax.nn.one_hot(symbols, len(SYMBOLS))
    z = {name: xs @ gate.W[unit] + before @ gate.U[unit] + gate.b[unit] for name, gate in net.cell._asdict().items()}
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


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """Most nets count beyond the training strings; at a small size, learning begins."""
    last, curves = arrays["reach"][:, -1], arrays["costs"]
    found = {"the mean training cost of every net falls": np.all(curves[:, -1] < curves[:, 0])}
    if config.epochs >= Config.epochs:
        found |= {
            f"every net predicts every string up to the longest trained, n = {config.trained}": np.all(
                last >= config.trained
            ),
            f"most nets predict every string up to twice the longest trained, n = {2 * config.trained}": (
                np.mean(last >= 2 * config.trained) > 0.5
            ),
            "in the best net one long-term memory is the count, with a correlation above 0.95": (
                arrays["correlation"] > 0.95
            ),
        }
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """The counter of the best net over one string, and how far each net counts as it learns."""
    inner, outer = common.parts(figure, (9, 5), 1, 2, width_ratios=(2.1, 1))
    _draw_counter(inner, arrays)
    axes = outer.subplots()
    for i, reach in enumerate(arrays["reach"]):
        axes.plot(np.arange(1, config.epochs + 1), reach, color=f"C{i % 6}", linewidth=1.5)
    for times, words in ((1, "longest\ntrained"), (2, "twice\nthat"), (config.tested, "longest\ntested")):
        n = times * config.trained
        axes.axhline(n, color="black", linestyle=":", linewidth=1)
        axes.annotate(words, (1.02, n), xycoords=("axes fraction", "data"), fontsize="small", va="center")
    axes.set(title=f"{config.seeds} nets", xlabel="epoch", ylabel="predicts every string up to this $n$")
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
    extent = (0.5, len(t) + 0.5, len(rows) - 0.5, -0.5)
    picture = gates.imshow(list(rows.values()), aspect="auto", cmap="PuOr_r", vmin=-1, vmax=1, extent=extent)
    gates.set_yticks(range(len(rows)), list(rows))
    gates.set_xticks(t, [SYMBOLS[symbol] for symbol in arrays["symbols"]], fontsize="small")
    gates.grid(visible=False)
    gates.set_xlabel("input $x_t$")
    figure.colorbar(picture, ax=gates, orientation="horizontal", fraction=0.08, aspect=50, ticks=[-1, 0, 1])
