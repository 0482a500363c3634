"""Section 3.3.2, dataset augmentation: plain multilayer perceptrons on MNIST, trained on images that never repeat.

The default has 800 hidden neurons as in Simard, Steinkraus and Platt (2003), gelu, softmax, log-likelihood, momentum,
a learning rate that falls along a cosine, and a new affine and elastic distortion for every image of every mini-batch.
There is no convolution. Digits are set upright before, and a gradient is estimated from a quarter of its mini-batch,
drawn by the size of the errors. Accuracies are those of single networks; a vote of all is reported separately.
`--validate` holds out the last 10,000 training images and measures on them: all settings were chosen this way, and test
images are read once, after training. Three deeper nets train in an hour on two cores:
`--hidden 1500 1000 500 --pens 0.5 --eta 0.1 --epochs 120`.
"""

import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key
from matplotlib.figure import SubFigure

from experiments import recipes, runner
from jnn import activations, augment, backprop, costs, data, mlp, pictures, regularize
from jnn.typing import Transform

HIDDEN = activations.gelu

HELD_OUT = 10_000
"""Training images that `--validate` holds out."""


@dataclass(frozen=True)
class Config(recipes.Images):
    quick: ClassVar[dict[str, Any]] = {
        "data": "digits",
        "hidden": (100,),
        "epochs": 8,
        "seeds": 2,
        "elastic": 0.3,
        "sigma": 5.0,
    }

    folder: Path | None = None
    """A folder of four IDX files with square images, such as Fashion-MNIST, to read in place of `--data`."""
    validate: bool = False
    """Hold the last 10,000 training images out (at most a seventh) and measure on them instead."""
    seeds: runner.Count = 3
    hidden: runner.Counts = (800,)
    """Neurons in each hidden layer."""
    elastic: float = 0.8
    """Root mean square of the elastic displacements, in pixels."""
    sigma: float = 4.0
    """Correlation length of the elastic displacements, in pixels."""
    rotate: float = 8.0
    """The largest rotation, in degrees."""
    scale: float = 0.15
    """The largest stretch of each axis, as a fraction."""
    shear: float = 0.1
    """The largest shear, as a fraction."""
    shift: float = 1.0
    """The largest shift along each axis, in pixels."""
    thinner: float = 0.5
    """The farthest that the edges of strokes move inwards, in pixels."""
    thicker: float = 0.7
    """The farthest that the edges of strokes move outwards, in pixels."""
    pens: float = 0.0
    """Fraction of the images whose strokes change."""
    eta: float = 0.2
    """Initial learning rate, which falls to 0 along a cosine."""
    momentum: float = 0.9
    """Fraction of the previous step that the next one keeps."""
    batch_size: int = 200
    """Images in a mini-batch."""
    fraction: float = 0.25
    """Fraction of a mini-batch from which its gradient is estimated."""
    epochs: int = 90
    """Passes over the training images, with new distortions in each."""


LARGE = Config(hidden=(1500, 1000, 500), pens=0.5, eta=0.1, epochs=120)


def distortion(config: Config, side: int) -> Transform:
    """The transform that distorts every image of a mini-batch, and writes some with another pen."""
    amounts = {name: getattr(config, name) for name in ("shift", "rotate", "scale", "shear", "elastic", "sigma")}
    distort = functools.partial(augment.distort, **amounts)
    pen = functools.partial(augment.thickness, thinner=config.thinner, thicker=config.thicker, p=config.pens)
    return functools.partial(augment.rows, image_transform=augment.chain(distort, pen), shape=(side, side))


def change(distort: Transform, key: Key[Array, ""], *batch: Any) -> tuple[Any, ...]:
    """A mini-batch for the gradient: distorted, with the key that samples it."""
    distort_key, sample_key = jax.random.split(key)
    return regularize.append_key(sample_key, *distort(distort_key, *batch))


@jax.jit
def probabilities(networks: mlp.Params, xs: Float[Array, "N pixels"]) -> Float[Array, "seeds N classes"]:
    """The outputs of each network for each image."""
    logits = jax.vmap(functools.partial(mlp.logits, hidden=HIDDEN), in_axes=(None, 0))
    return activations.softmax(jax.vmap(logits, in_axes=(0, None))(networks, xs))


@jax.jit
def upright(xs: Float[Array, "N pixels"]) -> Float[Array, "N pixels"]:
    """The images without their slant."""
    side = _side(xs)
    return jax.lax.map(lambda x: pictures.deskew(x.reshape(side, side)).ravel(), xs, batch_size=100)


def split(config: Config) -> tuple[data.Split, data.Split]:
    """The images to train on, and those to measure on."""
    examples, test = recipes.load(config) if config.folder is None else data.idx_folder(config.folder)
    return recipes.hold_out(examples, min(HELD_OUT, len(examples.xs) // 7)) if config.validate else (examples, test)


def _side(xs: Float[Array, "N pixels"]) -> int:
    """The side of square images; raises ValueError for others."""
    side = round(xs.shape[1] ** 0.5)
    if side**2 != xs.shape[1]:
        raise ValueError(f"images must be square, got {xs.shape[1]} pixels: pad them in their IDX files")
    return side


def train_networks(config: Config, key: Key[Array, ""], images: data.Split, classes: int) -> tuple[Any, Any]:
    """The parameters of networks side by side, and the cost of each of their mini-batches."""
    side = _side(images.xs)
    steps = config.epochs * -(-len(images.xs) // config.batch_size)
    optimizer = optax.sgd(optax.cosine_decay_schedule(config.eta, steps), momentum=config.momentum)
    weights = jax.nn.initializers.he_normal(in_axis=-1, out_axis=-2)
    sizes = (side**2, *config.hidden, classes)
    state, train_keys = recipes.init_networks(key, config.seeds, optimizer, sizes, weights=weights)
    grad = functools.partial(
        backprop.sampled_value_and_grad, fraction=config.fraction, cost=costs.log_likelihood, hidden=HIDDEN
    )
    transform = functools.partial(change, distortion(config, side))
    options = {"epochs": config.epochs, "batch_size": config.batch_size, "transform": transform}
    state, history = recipes.fit_images(train_keys, grad, optimizer, state, images, classes=classes, **options)
    return state.params, history.losses


def compute(config: Config) -> dict[str, Any]:
    """Train the networks. Returns the learning curves, and the images that a vote of all networks misreads."""
    images, measured = split(config)
    side, classes = _side(images.xs), int(max(jnp.max(part.labels) for part in (images, measured))) + 1
    key, begin = jax.random.key(config.seed), time.perf_counter()
    learnt, seen = (part._replace(xs=upright(part.xs)) for part in (images, measured))
    networks, losses = train_networks(config, key, learnt, classes)
    seconds = (time.perf_counter() - begin) / config.seeds
    outputs = probabilities(networks, seen.xs)
    accuracies = jnp.mean(jnp.argmax(outputs, axis=-1) == seen.labels, axis=-1)
    read = np.asarray(jnp.argmax(jnp.mean(outputs, axis=0), axis=-1))
    wrong = np.flatnonzero(read != seen.labels)
    return {
        **recipes.learning_curves("accuracy", accuracies[:, None], losses),
        "accuracy_of_a_vote": np.mean(read == seen.labels),
        "seconds_a_network": seconds,
        "examples": jax.jit(distortion(config, side))(key, np.repeat(learnt.xs[:6], 6, axis=0))[0],
        "misread": measured.xs[wrong],
        "misread_as": read[wrong],
        "misread_labels": measured.labels[wrong],
    }


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """Learning lowers the cost and generalises; the defaults and the larger net reach published accuracies."""
    mean = arrays["accuracy"]
    found = recipes.learning_claims(arrays["costs"], mean)
    for known, least in ((Config(), 0.993), (LARGE, 0.995)):
        if config == replace(known, seed=config.seed, seeds=config.seeds):
            found[f"the mean test accuracy is at least {100 * least:.1f} %"] = mean >= least
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """The cost by epoch, six digits as training sees them, and the digits that a vote misreads."""
    curves, seen, misread = recipes.parts(figure, (10, 4.2), 1, 3, width_ratios=(1.1, 1, 1.4))
    axes = curves.subplots()
    recipes.draw_curves(axes, arrays["costs"])
    axes.set(xlabel="epoch", ylabel="mean cost of distorted images", yscale="log")
    where, accuracy = "held out" if config.validate else "test", runner.format_number("accuracy", arrays, 100, "%")
    axes.set_title(f"{config.seeds} networks, {where}: {accuracy}", fontsize="medium")
    seen.suptitle("six digits, six times as training sees them", fontsize="medium")
    _draw_images(seen, arrays["examples"], 6)
    misread.suptitle(f"{len(arrays['misread'])} misread by a vote of {config.seeds} (their labels)", fontsize="medium")
    titles = [f"{a} ({b})" for a, b in zip(arrays["misread_as"], arrays["misread_labels"], strict=True)]
    _draw_images(misread, arrays["misread"], 8, titles)


def _draw_images(figure: SubFigure, images: np.ndarray, columns: int, titles: list[str] | None = None) -> None:
    axes, rows = figure.subplots(), max(1, min(6, -(-len(images) // columns)))
    height = 1.6 if titles else 1.15
    for i, image in enumerate(images[: rows * columns]):
        left, top = 1.15 * (i % columns), height * (i // columns)
        recipes.show_image(axes, image, left, top)
        if titles:
            axes.text(left + 0.5, top - 0.08, titles[i], fontsize="small", ha="center")
    axes.set(xlim=(0, 1.15 * columns), ylim=(height * rows - 0.1, -0.5 if titles else 0))
    axes.set_axis_off()


if __name__ == "__main__":
    raise SystemExit(runner.main())
