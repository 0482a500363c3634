"""Section 3.3.2, and from there to your own handwriting: networks that learn MNIST and read pictures of other digits.

Each picture goes through `pictures.normalise` first. Training sees the images of MNIST as other pens, hands and cameras
would give them: distorted, with strokes of other widths, and blurred; digits that the project draws, in the forms of
other schools, such as a 1 with a flag or a 7 with a bar; and, in place of some, what is no digit: two digits in one,
digits on their side, and noise, for which no output should be larger than another. Nothing that is measured on was seen
in training: MNIST's test images, the same on synthetic photos, the 1,797 embedded digits (UCI), and the digits in the
fonts of matplotlib. (What earlier networks misread of the last two is why some are drawn.) An answer is sure if its
probability is at least the level at which, on held-out training images, as many digits on photos are uncertain as pairs
and turned digits are sure. `--weights` writes the first network to a file; that which comes with jnn was made so.
"""

import functools
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Key
from matplotlib.axes import Axes

from experiments import common, runner
from experiments.read import probabilities, samples
from jnn import activations, augment, backprop, convert, costs, data, mlp

GRAD = Partial(backprop.minibatch_value_and_grad, cost=costs.log_likelihood, hidden=activations.relu)

EXAMPLES = 8
"""The pictures of each kind that the figure shows."""

KINDS = {
    "test": "MNIST's test images",
    "photos": "MNIST's on synthetic photos",
    "digits": "embedded digits (UCI)",
    "fonts": "digits in fonts",
    "letters": "letters in fonts",
    "empty": "blank or noise",
}
"""What is measured, and its name in the figure."""

SIZES = (24, 48, 96)
"""The sizes of the fonts' digits, in pixels."""


@dataclass(frozen=True)
class Config(common.Repeated):
    quick: ClassVar[dict[str, Any]] = {
        "data": "digits",
        "hidden": (60,),
        "epochs": 5,
        "seeds": 2,
        "most": 30,
        "images": 600,
        "held_out": 30,
        "drawn": 150,
    }

    data: Literal["mnist", "digits"] = "mnist"
    """The 70,000 images of MNIST (from $JNN_DATA_DIR or downloaded once), or the 1,797 embedded digits (UCI)."""
    seeds: int = 3
    """Networks trained side by side, each with its own random numbers."""
    hidden: tuple[int, ...] = (300, 200)
    """Neurons in each hidden layer; these make a file of 596 kB."""
    images: int = 60_000
    """The most images of the data to train on, from the first on."""
    most: int = 10_000
    """The most pictures of each kind to measure on."""
    drawn: Annotated[int, runner.AtLeast(0)] = 9_000
    """Digits that the project draws, to train on as well."""
    held_out: int = 2_000
    """Training images held out to choose the least probability of a sure answer; a tenth if that is less."""
    weights: Path | None = None
    """Write the first network to this file, for `python -m experiments read --weights`."""
    elastic: float = 1.2
    """Root mean square of the elastic displacements, in pixels."""
    rotate: float = 12.0
    """The largest rotation, in degrees."""
    scale: float = 0.15
    """The largest stretch of each axis, as a fraction."""
    shear: float = 0.15
    """The largest shear, as a fraction."""
    shift: float = 1.0
    """The largest shift along each axis, in pixels."""
    thinner: float = 0.5
    """By how much the edges of strokes move inwards, in pixels."""
    thicker: float = 1.0
    """By how much the edges of strokes move outwards, in pixels."""
    pens: float = 0.25
    """The fraction of images whose strokes are changed, and blurred."""
    others: float = 0.1
    """The fraction of a mini-batch that is replaced by what is no digit."""
    eta: runner.NotNegative = 0.1
    """Initial learning rate, which falls to 0 along a cosine."""
    momentum: runner.NotNegative = 0.9
    """Fraction of the previous step that the next one keeps."""
    batch_size: int = 100
    """Images in a mini-batch."""
    epochs: int = 120
    """Passes over the training images, with new distortions in each."""


# Training


def change(
    config: Config, key: Key[Array, ""], xs: Float[Array, "m 784"], ys: Float[Array, "m 10"]
) -> tuple[Float[Array, "m 784"], Float[Array, "m 10"]]:
    """A mini-batch as training sees it: some images replaced by what is no digit, and all distorted.

    A third of them each are two digits in one, digits on their side, of which zeros keep their label, and noise.
    """
    n = int(config.others * len(xs) / 3)
    noise_key, key = jax.random.split(key)
    paired, turned = jax.vmap(_side_by_side)(xs[:n], xs[len(xs) - n :]), jax.vmap(_turned)(xs[n : 2 * n])
    noise = jnp.pad(jax.random.uniform(noise_key, (n, 20, 20), xs.dtype), ((0, 0), (4, 4), (4, 4))).reshape(n, 784)
    others, labels = jnp.full((n, 10), 0.1, ys.dtype), ys[n : 2 * n]
    zeros = jnp.where(labels[:, :1] > 0.5, labels, others)
    xs = jnp.concatenate([paired, turned, noise, xs[3 * n :]])
    ys = jnp.concatenate([others, zeros, others, ys[3 * n :]])
    fields = ("shift", "rotate", "scale", "shear", "elastic")
    distort = functools.partial(augment.distort, **{name: getattr(config, name) for name in fields})
    pen = functools.partial(
        augment.thickness, thinner=config.thinner, thicker=config.thicker, softer=1.0, p=config.pens
    )
    return augment.rows(key, xs, ys, image_transform=augment.chain(distort, pen), shape=(28, 28))


def _side_by_side(a: Float[Array, "784"], b: Float[Array, "784"]) -> Float[Array, "784"]:
    """Both digits, each at half its width."""
    halves = [jnp.mean(x.reshape(28, 14, 2), axis=-1) for x in (a, b)]
    return jnp.concatenate(halves, axis=1).ravel()


def _turned(x: Float[Array, "784"]) -> Float[Array, "784"]:
    return jnp.rot90(x.reshape(28, 28)).ravel()


def train_networks(training: runner.Training, config: Config, images: data.Split) -> mlp.Params:
    """The networks side by side, rounded to float16."""
    steps = config.epochs * -(-len(images.xs) // config.batch_size)
    optimizer = optax.sgd(optax.cosine_decay_schedule(config.eta, steps), momentum=config.momentum)
    key, sizes = jax.random.key(config.seed), (784, *config.hidden, 10)
    state, train_keys = common.init_networks(key, config.seeds, optimizer, sizes, weights=common.he_normal)
    options = {"epochs": config.epochs, "batch_size": config.batch_size, "transform": functools.partial(change, config)}
    state, _ = common.fit_images(training, train_keys, GRAD, optimizer, state, images, **options)
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float16), state.params)


# The pictures that are measured on


def measured(config: Config, test: data.Split) -> dict[str, samples.Seen]:
    """The pictures of each kind that the networks are measured on."""

    def some(images: samples.Pictures) -> samples.Pictures:
        return images[:: -(-len(images) // config.most)]

    every = data.Split(*map(jnp.concatenate, zip(*data.digits(), strict=True)))
    few = common.first(test, config.most)
    return {
        "test": samples.Seen(*map(np.asarray, few)),
        "photos": samples.normalised(samples.photos(few)),
        "digits": samples.normalised(some(samples.scans(every))),
        "fonts": samples.normalised(some(samples.in_fonts(string.digits, SIZES))),
        "letters": samples.normalised(some(samples.in_fonts(string.ascii_letters, SIZES[1:2]))),
        "empty": samples.normalised(samples.empty(min(200, config.most))),
    }


# The experiment


def split(config: Config) -> tuple[data.Split, data.Split, data.Split]:
    """The images to train on, those held out of them, and the test images."""
    if config.data == "mnist":
        examples, test = data.mnist()
        examples = common.first(examples, config.images)
    else:
        parts = zip(data.digits(), (config.images, config.most), strict=True)
        examples, test = (
            data.Split(*map(jnp.asarray, samples.normalised(samples.scans(common.first(part, count), dark=(True,)))))
            for part, count in parts
        )
    train, held_out = common.hold_out(examples, min(config.held_out, len(examples.xs) // 10))
    if config.drawn:
        more = data.Split(*map(jnp.asarray, samples.normalised(samples.written(config.drawn))))
        train = data.Split(*map(jnp.concatenate, zip(train, more, strict=True)))
    return train, held_out, test


MATMUL_PRECISION = "default"

ARRAYS = {
    "sure": ("", "the least probability of a sure answer"),
    "accuracy_on_*": ("", "the mean fraction of the pictures of this kind that are read correctly"),
    "uncertain_*": ("", "the mean fraction of the answers to pictures of this kind that are uncertain"),
    "*_confidence": ("seeds pictures", "each network's largest probability for each picture of this kind"),
    "*_some": ("shown pixels", "some pictures of this kind, as the networks see them"),
    "*_some_read": ("shown", "what the first network reads in them"),
    "*_wrong": ("wrong pixels", "some pictures of this kind that the first network misreads"),
    "*_wrong_read": ("wrong", "what it reads in them"),
}


def compute(config: Config, training: runner.Training = runner.ALONE) -> dict[str, Any]:
    """Train the networks. Returns their accuracies on pictures of each kind, and how many answers are uncertain."""
    common.check_written("weights", config.weights)
    images, held_out, test = split(config)
    networks = train_networks(training, config, images)
    outputs = functools.partial(jax.vmap(probabilities, (0, None)), jax.tree.map(jnp.float32, networks))
    sure = least_sure(outputs(samples.normalised(samples.photos(held_out)).xs), outputs(no_digits(held_out)))
    if config.weights is not None:
        about = {"sure": sure, "hidden": "relu", "trained_by": "python -m experiments handwriting"}
        convert.export(config.weights, jax.tree.map(lambda leaf: leaf[0], networks), about)
    found: dict[str, Any] = {"sure": sure}
    for kind, seen in measured(config, test).items():
        found |= answers(kind, seen, np.asarray(outputs(seen.xs)), sure)
    return found


def answers(kind: str, seen: samples.Seen, outputs: Float[np.ndarray, "seeds N 10"], sure: float) -> dict[str, Any]:
    """How many answers are right and uncertain, and what the first network makes of some pictures."""
    answer = outputs.argmax(axis=-1)
    confidence = np.where(seen.xs.any(axis=1), outputs.max(axis=-1), 0)
    right = (answer == seen.labels) & (confidence > 0)
    digits = seen.labels[0] >= 0
    accuracy = runner.mean_and_standard_error(f"accuracy_on_{kind}", right.mean(axis=1)) if digits else {}
    wrong = np.flatnonzero(~right[0] if digits else confidence[0] >= sure)
    shown = {
        "some": np.linspace(0, len(seen.xs) - 1, EXAMPLES, dtype=int),
        "wrong": wrong[:: max(1, len(wrong) // EXAMPLES)][:EXAMPLES],
    }
    return {
        **accuracy,
        **runner.mean_and_standard_error(f"uncertain_{kind}", np.mean(confidence < sure, axis=1)),
        f"{kind}_confidence": confidence,
        **{f"{kind}_{name}": seen.xs[rows] for name, rows in shown.items()},
        **{f"{kind}_{name}_read": answer[0, rows] for name, rows in shown.items()},
    }


def no_digits(images: data.Split) -> Float[Array, "N 784"]:
    """Pairs of digits in one, and digits other than 0 on their side."""
    xs, labels = images
    half = len(xs) // 2
    return jnp.concatenate([jax.vmap(_side_by_side)(xs[:half], xs[-half:]), jax.vmap(_turned)(xs[labels != 0])])


def least_sure(digits: Float[Array, "seeds N 10"], others: Float[Array, "seeds M 10"]) -> float:
    """The least level, in hundredths, at which as large a fraction of digits is uncertain as of others is sure."""
    levels = np.arange(10, 101)[:, None, None] / 100
    missed, taken = np.asarray(digits).max(axis=-1) < levels, np.asarray(others).max(axis=-1) >= levels
    return float(levels.ravel()[np.argmax(missed.mean(axis=(1, 2)) >= taken.mean(axis=(1, 2)))])


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """The defaults read digits of other hands, cameras and printers nearly as well as those of MNIST."""
    accuracy = {kind: arrays[f"accuracy_on_{kind}"] for kind in ("test", "photos", "digits", "fonts")}
    found = {
        "more than half of the digits of every kind are read": min(accuracy.values()) > 0.5,
        "of pictures without a digit, more are uncertain than of digits": arrays["uncertain_letters"]
        > arrays["uncertain_photos"],
    }
    if config == Config(seed=config.seed, seeds=config.seeds, weights=config.weights):
        found |= {
            "at least 99.2 % of MNIST's test images are read": accuracy["test"] >= 0.992,
            "at most 1 % less of them on photos": accuracy["photos"] >= accuracy["test"] - 0.01,
            "at least 95 % of the embedded digits": accuracy["digits"] >= 0.95,
            "at least 98 % of the digits in fonts": accuracy["fonts"] >= 0.98,
        }
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """What the network sees of pictures of each kind, what it misreads, and how sure it is of each kind."""
    seen, wrong, curves = common.parts(figure, (12, 5.4), 1, 3, width_ratios=(1.2, 1.2, 1))
    for part, name in ((seen, "some"), (wrong, "wrong")):
        _draw_pictures(part.subplots(), name, arrays)
    _draw_confidence(curves.subplots(), config, arrays)


def _draw_pictures(axes: Axes, name: str, arrays: runner.Arrays) -> None:
    for i, kind in enumerate(KINDS):
        title = _title(kind, arrays) if name == "some" else _wrong(kind, arrays)
        axes.text(0, 2.0 * i - 0.1, title, color=f"C{i}", fontsize="medium")
        for k, (x, answer) in enumerate(zip(arrays[f"{kind}_{name}"], arrays[f"{kind}_{name}_read"], strict=True)):
            common.show_image(axes, x, 1.3 * k, 2.0 * i)
            axes.text(1.3 * k + 1, 2.0 * i + 1, answer, color="0.5", fontsize="small")
    axes.set(xlim=(0, 1.3 * EXAMPLES), ylim=(2.0 * len(KINDS) - 0.8, -0.5))
    axes.set_axis_off()


def _title(kind: str, arrays: runner.Arrays) -> str:
    key = f"accuracy_on_{kind}"
    read = f": {runner.format_number(key, arrays, scale=100, unit='%')} read" if key in arrays else ""
    return KINDS[kind] + read


def _wrong(kind: str, arrays: runner.Arrays) -> str:
    return "misread" if f"accuracy_on_{kind}" in arrays else "taken for digits"


def _draw_confidence(axes: Axes, config: Config, arrays: runner.Arrays) -> None:
    levels = np.linspace(0.1, 1, 91)
    for i, kind in enumerate(KINDS):
        confidence = arrays[f"{kind}_confidence"].ravel()
        axes.plot(levels, [100 * np.mean(confidence < level) for level in levels], color=f"C{i}")
    axes.axvline(arrays["sure"], color="0.5", linewidth=0.8, linestyle="--")
    axes.set(xlabel="least probability of a sure answer", ylabel="uncertain / %", ylim=(-2, 102))
    axes.set_title(f"{config.seeds} networks", fontsize="medium")
