"""Section 5.2: an LSTM learns to write, character by character, and some of its cells track its place in the text.

Such networks are examined in Edwin Chen's "Exploring LSTMs", the notes' reference [1]. By default the network learns
the source of Python's standard library, of which a twentieth of the files is held out; `--file` names another text. Its
memories are carried from window to window (truncated backpropagation through time; Williams and Peng, 1990).

Bits per held-out character are measured twice: of the trained network, and of a copy that takes a gradient step after
each window that it has predicted (dynamic evaluation; Mikolov et al., 2010; Graves, 2013). The first are compared with
`bzip2 -9` and with the counts of six characters in a row, the second with `xz -9`, which also learns as it reads and
sees the training text first. Cells are selected as by Karpathy, Johnson and Fei-Fei (2015): by the correlation of their
long-term memory with being in a string, in a comment, in brackets, and indented, the best on one half of a text and
measured on the other. A single network trains, as that takes minutes; `--seed` trains another.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Integer, Key
from matplotlib.axes import Axes

from experiments import common, runner
from experiments.chapter_5 import corpus
from jnn import language, lstm, train

GRAD = Partial(jax.value_and_grad(language.cost, has_aux=True))

READING = (8, 32)
"""Rows, and characters between two steps, of a network that learns as it reads the held-out text."""

EXCERPTS = (32, 1024)
"""Rows, and characters of each, in which cells are looked for: the first half to choose them, the second to test."""

LINES, COLUMNS = 8, 76
"""Of the text that shows a cell."""

SAMPLE_LINES = 10
"""Of each sample that the figure shows."""

MODELS = {"xz": corpus.xz, "bzip2": corpus.bzip2, "counts": corpus.counts}
NAMES = {"xz": "xz -9, after the training text", "bzip2": "bzip2 -9", "counts": "counts of six in a row"}

Windows = Integer[Array, "steps rows T_plus_1"]


@dataclass(frozen=True)
class Config(common.Kept, common.Seeded):
    quick: ClassVar[dict[str, Any]] = {
        "most": 20_000,
        "units": 16,
        "rows": 8,
        "window": 20,
        "epochs": 2,
        "eta": 0.03,
        "written": 60,
    }

    file: Path | None = None
    """A text file in UTF-8 of at most 100 MB; by default the source of Python's standard library."""
    most: int = 20_000_000
    """The most characters to train on, and to measure on."""
    units: int = 320
    """Memory cells d of each layer."""
    layers: int = 1
    """Layers, each of which reads the one below."""
    inputs: int = 32
    """The dimension p in which characters are embedded."""
    rows: int = 32
    """Rows into which the training text is cut, read side by side."""
    window: int = 64
    """Characters T of a window, through which gradients are propagated."""
    eta: runner.NotNegative = 0.003
    """Adam's initial learning rate, which falls to 0 along a cosine."""
    epochs: int = 2
    """Passes over the training text."""
    eta_reading: runner.NotNegative = 1.0
    """Learning rate of the network that learns as it reads the held-out text."""
    start: str | None = None
    """Text that the samples continue; by default "def " in Python's library, in another text a line break or, if it has
    none, its first character."""
    written: int = 400
    """Characters of each sample."""
    temperatures: Annotated[tuple[float, ...], runner.AtLeast(0)] = (0.5, 0.8, 1.0)
    """Temperatures of the samples: below 1 likely characters become likelier."""


def learn(
    training: runner.Training, config: Config, characters: int, train_text: Windows, held_out: Windows
) -> tuple[language.Params, train.History]:
    """The parameters after training, and its history, in which the metric is the bits of the held-out text."""
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    params = language.init(init_key, characters, config.inputs, config.units, layers=config.layers)
    schedule = optax.cosine_decay_schedule(config.eta, config.epochs * len(train_text))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    state, history = training.fit(
        train_key,
        GRAD,
        optimizer,
        train.init(optimizer, params, carry=language.zero_states(params, config.rows)),
        (train_text.reshape(-1, config.window + 1),),
        epochs=config.epochs,
        batch_size=config.rows,
        evaluate=Partial(bits, held_out=held_out),
        recurrent=True,
    )
    return state.params, history


def bits(params: language.Params, held_out: Windows) -> Float[Array, ""]:
    """Bits per character, with the memories carried along each row."""

    def one(states: language.States, xs: Integer[Array, "rows T_plus_1"]) -> tuple[language.States, Float[Array, ""]]:
        cost, states = language.cost(params, states, xs)
        return states, cost

    _, costs = jax.lax.scan(one, language.zero_states(params, held_out.shape[1]), held_out)
    return jnp.mean(costs) / jnp.log(2)


@jax.jit
def bits_while_learning(params: language.Params, held_out: Windows, eta: float) -> Float[Array, ""]:
    """Bits per character, each window predicted before a step of gradient descent on it."""
    rows = held_out.shape[1]
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(eta))
    state = train.init(optimizer, params, carry=language.zero_states(params, rows))
    windows = (held_out.reshape(-1, held_out.shape[-1]),)
    _, costs = train.epoch(jax.random.key(0), GRAD, optimizer, state, windows, batch_size=rows, shuffle=False)
    return jnp.mean(costs) / jnp.log(2)


def write(
    key: Key[Array, ""],
    params: language.Params,
    start: Integer[np.ndarray, " k"],
    temperatures: Float[Array, " n"],
    steps: int,
) -> Integer[Array, "n steps"]:
    """Samples of `steps` characters that continue `start`, one for each temperature."""
    states = language.zero_states(params)
    if len(start) > 1:
        states, _ = language.logits(params, states, start[:-1])

    def one(key: Key[Array, ""], temperature: Float[Array, ""]) -> Integer[Array, " steps"]:
        return language.generate(key, params, states, start[-1], steps, temperature=temperature)[1]

    return jax.jit(jax.vmap(one))(jax.random.split(key, len(temperatures)), temperatures)


def cells(params: language.Params, text: corpus.Corpus) -> dict[str, Any]:
    """For each label, the cell that correlates best with it in the first half of a text.

    Returns the layer and the unit of these cells and their correlations in the second half, and a piece of that half
    with the cell's long-term memory, with the sign that makes it grow with the label.
    """
    rows = min(EXCERPTS[0], len(text.held_out))
    excerpts = text.held_out[: min(EXCERPTS[1], len(text.held_out) // rows) * rows].reshape(rows, -1)
    _, states = lstm.stack(params.layers, language.zero_states(params), params.embedding[excerpts.T])
    ltm = np.concatenate([np.swapaxes(state.ltm, 0, 1).reshape(excerpts.size, -1) for state in states], axis=-1)
    characters = text.decode(excerpts.ravel())
    half, size = len(characters) // 2, LINES * COLUMNS
    begins = [i for i in range(half, len(characters) - size) if characters[i - 1] == "\n"] or [half]
    found = {name: [] for name in ("labels", "cells", "correlations", "shown", "memories")}
    for name, label in corpus.labels(characters).items():
        cell = int(np.argmax(np.abs(_correlations(ltm[:half], label[:half]))))
        (correlation,) = _correlations(ltm[half:, [cell]], label[half:])
        begin = max(begins, key=lambda i, label=label: np.std(label[i : i + size]))
        found["labels"].append(name)
        found["cells"].append(divmod(cell, len(params.layers[0].rem.b)))
        found["correlations"].append(abs(correlation))
        found["shown"].append(characters[begin : begin + size])
        found["memories"].append(np.copysign(1.0, correlation) * ltm[begin : begin + size, cell])
    return {name: np.array(values) for name, values in found.items()}


def _correlations(ltm: Float[np.ndarray, "n d"], label: Float[np.ndarray, " n"]) -> Float[np.ndarray, " d"]:
    """The correlation of each cell with a label; 0 where one of the two does not change."""
    x, y = ltm - ltm.mean(axis=0), label - label.mean()
    scale = np.linalg.norm(x, axis=0) * np.linalg.norm(y)
    return np.divide(y @ x, scale, out=np.zeros(x.shape[1]), where=scale > 0)


def check(config: Config) -> None:
    """Raises ValueError if the start is empty, or the file of weights could not be written."""
    common.check_written("weights", config.weights)
    if config.start == "":
        raise ValueError("start must have at least one character, got none")


def load(config: Config) -> corpus.Corpus:
    """The text that the config names."""
    if config.file is None:
        return corpus.standard_library(config.most)
    return corpus.from_file(runner.expanded("file", config.file), config.most)


def default_start(config: Config, text: corpus.Corpus) -> str:
    """The text that the samples continue if the config names none."""
    if config.file is None:
        return "def "
    return "\n" if "\n" in text.alphabet else text.decode(text.train[:1])


MATMUL_PRECISION = "default"

ARRAYS = {
    "bits_per_character": ("", "bits per held-out character of the trained network"),
    "bits_per_character_learning_as_it_reads": ("", "the same of a network that also learns from the text it has read"),
    **{f"bits_of_{name}": ("", f"bits per held-out character of {words}") for name, words in NAMES.items()},
    "seconds_of_training": ("", "the seconds of training"),
    "characters_in_training_text": ("", "the number of characters to train on"),
    "characters_in_alphabet": ("", "the number of different characters"),
    "share_of_characters_replaced": ("", "the fraction of characters too rare for the alphabet"),
    "training_bits": ("epochs steps", "bits per character of each mini-batch, before it is learnt"),
    "held_out_bits": ("epochs", "bits per held-out character after each epoch"),
    "sample_at_*": ("", "a text that the network writes at this temperature"),
    "labels": ("labels", "the properties of a character"),
    "cells": ("labels 2", "the layer and the unit, from 0, of the cell that correlates best with each label"),
    "correlations": ("labels", "the correlation of its long-term memory with the label, without its sign"),
    "shown": ("labels", "a piece of the text that shows this cell"),
    "memories": ("labels characters", "its long-term memory after each character of the piece"),
    "source": ("", "where the text comes from"),
}


def compute(config: Config, training: runner.Training = runner.ALONE) -> dict[str, Any]:
    """Trains the network. Returns bits per character, also of other models, samples, and cells that track the text."""
    check(config)
    text = load(config)
    start = config.start if config.start is not None else default_start(config, text)
    train_text, held_out = (jnp.asarray(corpus.windows(part, config.rows, config.window)) for part in text[:2])
    if train_text.shape[1] < config.rows:
        raise ValueError(
            f"the training text must have more than rows * window = {config.rows * config.window} characters, "
            f"got {len(text.train)}: lower --rows or --window"
        )
    first = text.encode(start)
    text = text._replace(held_out=text.held_out[: held_out[..., 1:].size + 1])  # the same for all models
    read_again = jnp.asarray(corpus.windows(text.held_out, *READING))
    begin = time.perf_counter()
    params, history = learn(training, config, len(text.alphabet), train_text, held_out)
    seconds = time.perf_counter() - begin
    common.keep(config, params, {"alphabet": text.alphabet, "source": text.source})
    reading = bits_while_learning(params, read_again, config.eta_reading)
    samples = write(jax.random.key(config.seed + 1), params, first, jnp.array(config.temperatures), config.written)
    return {
        "bits_per_character": history.metrics[-1],
        "bits_per_character_learning_as_it_reads": reading,
        **{f"bits_of_{name}": model(text) for name, model in MODELS.items()},
        "seconds_of_training": seconds,
        "characters_in_training_text": len(text.train),
        "characters_in_alphabet": len(text.alphabet),
        "share_of_characters_replaced": text.replaced,
        "training_bits": history.losses / np.log(2),
        "held_out_bits": history.metrics,
        **{
            f"sample_at_{temperature:g}": np.array(start + text.decode(sample))
            for temperature, sample in zip(config.temperatures, np.asarray(samples), strict=True)
        },
        **cells(params, text),
        "source": np.array(text.source),
    }


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """The network learns the text; at its full size it needs fewer bits than the programs that see the same text."""
    network, reading = arrays["bits_per_character"], arrays["bits_per_character_learning_as_it_reads"]
    curve = arrays["training_bits"].ravel()
    found = {
        "new text costs fewer bits in the end than at first": curve[-len(curve) // 10 :].mean() < curve[0],
        f"at most 1 % of the characters are so rare that {corpus.OTHER} replaces them": (
            arrays["share_of_characters_replaced"] <= 0.01
        ),
    }
    if config == Config(seed=config.seed):
        found |= {
            "the network needs fewer bits than bzip2 -9": network < arrays["bits_of_bzip2"],
            "the network needs fewer bits than the counts of six characters in a row": network
            < arrays["bits_of_counts"],
            "learning as it reads, it needs fewer bits than xz -9 with the training text as its past": (
                reading < arrays["bits_of_xz"]
            ),
            "a cell tracks the depth of brackets, with a correlation above 0.4": (
                arrays["correlations"][list(arrays["labels"]).index("brackets")] > 0.4
            ),
        }
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """Bits per character during training, samples, and cells that track the text."""
    curves, samples, *below = common.parts(figure, (13, 11), 3, 2, height_ratios=(1.5, 1, 1))
    _draw_curves(curves.subplots(), config, arrays)
    _draw_samples(samples.subplots(len(config.temperatures), 1, squeeze=False)[:, 0], config, arrays)
    names = ("labels", "cells", "correlations", "shown", "memories")
    for part, label, (layer, unit), correlation, text, ltm in zip(
        below, *(arrays[name] for name in names), strict=True
    ):
        axes = part.subplots()
        _draw_cell(axes, str(text), ltm)
        axes.set_title(f"{label}: layer {layer + 1}, cell {unit + 1}, correlation {correlation:.2f}", fontsize="medium")


def _draw_curves(axes: Axes, config: Config, arrays: runner.Arrays) -> None:
    losses, held_out = arrays["training_bits"], arrays["held_out_bits"]
    reading = arrays["bits_per_character_learning_as_it_reads"]
    per_step = config.rows * config.window / 1e6
    width = max(1, losses.size // 200)
    smooth = np.convolve(losses.ravel(), np.ones(width) / width, mode="valid")
    read = per_step * losses.shape[1] * (1 + np.arange(len(held_out)))
    read_before = per_step * (width + np.arange(len(smooth)))
    axes.plot(read_before, smooth, color="C0", alpha=0.5, label="each mini-batch, before it is learned")
    axes.plot(read, held_out, "o", color="C0", label=f"held out: {held_out[-1]:.3f}")
    axes.plot(read[-1:], [reading], "D", color="C1", label=f"held out, learning as it reads: {reading:.3f}")
    needed = {name: arrays[f"bits_of_{name}"] for name in MODELS}
    for (name, bits), linestyle in zip(needed.items(), (":", "--", "-."), strict=True):
        axes.axhline(bits, color="black", linestyle=linestyle, linewidth=1, label=f"{NAMES[name]}: {bits:.3f}")
    speed = 1e6 * read[-1] / arrays["seconds_of_training"]
    axes.set(
        xlabel=f"characters read / million, {speed:,.0f} a second",
        ylabel="bits per character",
        ylim=(0.95 * min(reading, smooth.min(), *needed.values()), 1.4 * max(held_out[0], *needed.values())),
        title=f"{arrays['source']}, {config.layers} x {config.units} cells",
    )
    axes.legend(fontsize="small", loc="upper right")


def _draw_samples(panels: Any, config: Config, arrays: runner.Arrays) -> None:
    for axes, temperature in zip(panels, config.temperatures, strict=True):
        sample = str(arrays[f"sample_at_{temperature:g}"]).lstrip("\n")
        lines = "\n".join(line for line, _ in _wrapped(sample, COLUMNS)[:SAMPLE_LINES])
        axes.axis("off")
        axes.set_title(f"written at temperature {temperature:g}", loc="left", fontsize="medium")
        style = {"family": "monospace", "fontsize": 7, "parse_math": False}
        axes.text(0, 1, lines, va="top", transform=axes.transAxes, **style)


def _draw_cell(axes: Axes, text: str, ltm: Float[np.ndarray, " n"]) -> None:
    """The text, each character on a colour for the memory after it: purple above the mean of the piece, else orange."""
    colours = np.full((LINES, COLUMNS), np.nan)
    away = ltm - ltm.mean()
    for i, (line, start) in enumerate(_wrapped(text, COLUMNS)[:LINES]):
        colours[i, : len(line)] = away[start : start + len(line)]
        for j, character in enumerate(line):
            axes.text(j, i, character, family="monospace", fontsize=7, ha="center", va="center", parse_math=False)
    largest = max(2 * away.std(), 1e-9)
    axes.imshow(colours, cmap="PuOr", vmin=-largest, vmax=largest, aspect="auto", alpha=0.6)
    axes.axis("off")


def _wrapped(text: str, columns: int) -> list[tuple[str, int]]:
    """The lines of a text in pieces of at most so many characters, and where in the text each begins."""
    pieces, start = [], 0
    for line in text.split("\n"):
        pieces += [(line[i : i + columns], start + i) for i in range(0, max(len(line), 1), columns)]
        start += len(line) + 1
    return pieces
