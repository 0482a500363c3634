"""Section 3.3.2, dataset augmentation: plain multilayer perceptrons on MNIST, trained on images that never repeat.

The networks train with softmax and log-likelihood, momentum and a learning rate that falls along a cosine. Every image
of every mini-batch has a new affine and elastic distortion (Simard, Steinkraus and Platt, 2003), and half of them
thinner or thicker strokes. There is no convolution, but each hidden neuron has a place on the image: its weights start
smooth and from nearby, and those from nearby learn faster (`jnn.receptive`). Weak dropout and L2 regularise the
network.

Accuracies are of single networks after the last epoch; a vote of all networks is reported separately. The test images
are used once, after training. `--validate` holds out the last 10,000 training images and measures on them: all settings
were chosen this way, never on the test images. `--epochs 180` takes an hour on two cores. The net of Simard et al.:
`--hidden 800 --widths --activation relu --pens 0 --dropout 0 --decay 0 --eta 0.1 --epochs 200`.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key
from matplotlib.figure import SubFigure

from experiments import common, runner
from jnn import activations, augment, costs, data, dropout, mlp, receptive, regularize, train
from jnn.typing import Grad, Transform

SMOOTH = 0.7
"""Width in pixels of the Gaussian that smooths the first layer's initial weights."""

HELD_OUT = 10_000
"""Training images that `--validate` holds out."""


@dataclass(frozen=True)
class Config(common.Kept, common.Images):
    quick: ClassVar[dict[str, Any]] = {
        "data": "digits",
        "hidden": (100,),
        "widths": (1.5,),
        "epochs": 8,
        "seeds": 2,
        "elastic": 0.3,
    }

    folder: Path | None = None
    """A folder of four IDX files with square images, such as Fashion-MNIST, to read instead of MNIST."""
    validate: bool = False
    """Hold the last 10,000 training images out (at most a sixth) and measure on them instead."""
    seeds: int = 3
    hidden: tuple[int, ...] = (1000, 800, 400, 200)
    """Neurons in each hidden layer."""
    activation: Literal["relu", "gelu"] = "gelu"
    """Activation function of the hidden neurons."""
    widths: Annotated[tuple[float, ...], runner.AtLeast(0, numbers=0)] = (1.5, 2.0, 4.0, 8.0)
    """Widths of the receptive fields, in pixels, one for each hidden layer; none for neurons without a place."""
    floor: float = 0.1
    """Fraction of the learning rate that weights far outside their neuron's receptive field have."""
    elastic: float = 1.2
    """Root mean square of the elastic displacements, in pixels."""
    sigma: float = 5.0
    """Correlation length of the elastic displacements, in pixels."""
    rotate: float = 12.0
    """The largest rotation, in degrees."""
    scale: float = 0.15
    """The largest stretch of each axis, as a fraction."""
    shear: float = 0.15
    """The largest shear, as a fraction."""
    shift: float = 1.0
    """The largest shift along each axis, in pixels."""
    pens: float = 0.5
    """Fraction of the images whose strokes are made thinner or thicker, as other pens would draw them."""
    dropout: float = 0.1
    """Fraction of the hidden neurons that each step leaves out."""
    decay: runner.NotNegative = 2e-5
    """alpha of L2, which acts on all weights alike."""
    eta: runner.NotNegative = 0.2
    """Initial learning rate, which falls to 0 along a cosine."""
    momentum: runner.NotNegative = 0.9
    """Fraction of the previous step that the next one keeps."""
    batch_size: int = 100
    """Images in a mini-batch."""
    epochs: int = 26
    """Passes over the training images, with new distortions in each."""


LONG = Config(epochs=180)
"""An hour on two cores."""


def square(pixels: int) -> tuple[int, int]:
    """The height and width of an image of so many pixels. Raises ValueError unless it is square."""
    side = round(pixels**0.5)
    if side**2 != pixels:
        raise ValueError(f"images must be square, got {pixels} pixels: pad them in their IDX files")
    return side, side


def distortion(config: Config, shape: tuple[int, int]) -> Transform:
    """The transform that distorts the images of each mini-batch at random, and appends a key for dropout."""
    fields = ("shift", "rotate", "scale", "shear", "elastic", "sigma")
    distort = functools.partial(augment.distort, **{name: getattr(config, name) for name in fields})
    if config.pens:
        pens = functools.partial(augment.thickness, thinner=0.5, thicker=0.7, p=config.pens)
        distort = augment.chain(distort, pens)

    def transform(key: Key[Array, ""], *batch: Any) -> tuple[Any, ...]:
        image_key, dropout_key = jax.random.split(key)
        return regularize.append_key(
            dropout_key, *augment.rows(image_key, *batch, image_transform=distort, shape=shape)
        )

    return transform


def recipe(
    config: Config, sizes: tuple[int, ...], shape: tuple[int, int]
) -> tuple[Callable[[Key[Array, ""]], mlp.Params], Grad]:
    """How a network starts, and its gradient: with receptive fields where the digit is, if the config has widths."""
    options = {"p": config.dropout, "cost": costs.log_likelihood, "hidden": getattr(activations, config.activation)}
    grad = functools.partial(dropout.minibatch_value_and_grad, **options)
    init = functools.partial(mlp.init, sizes=sizes, weights=common.he_normal)
    if not config.widths:
        return init, grad
    windows = receptive.windows(sizes, shape, widths=config.widths, margin=shape[0] / 7)

    def local(key: Key[Array, ""]) -> mlp.Params:
        return receptive.localise(receptive.smooth(init(key), shape, sigma=SMOOTH), windows)

    return local, receptive.localised(grad, windows, floor=config.floor)


@jax.jit
def outputs(
    networks: mlp.Params, xs: Float[Array, "N pixels"], hidden: activations.Activation
) -> Float[Array, "seeds N classes"]:
    """The probability of each class, by each network, for each image."""
    logits = jax.vmap(functools.partial(mlp.logits, hidden=hidden), in_axes=(None, 0))
    return activations.softmax(jax.vmap(logits, in_axes=(0, None))(networks, xs))


def split(config: Config) -> tuple[data.Split, data.Split]:
    """The images to train on, and the images to measure on."""
    examples, test = common.load(config) if config.folder is None else data.idx_folder(config.folder)
    return common.hold_out(examples, min(HELD_OUT, len(examples.xs) // 6)) if config.validate else (examples, test)


MATMUL_PRECISION = "default"

ARRAYS = {
    "accuracy": ("", "the mean accuracy of the networks"),
    "accuracies": ("seeds", "the accuracy of each network after the last epoch"),
    "accuracy_of_a_vote": ("", "the accuracy of the mean of all networks' probabilities"),
    "costs": ("seeds epochs", "the mean training cost of each network in each epoch"),
    "seconds_a_network": ("", "the seconds of training, divided by the number of networks"),
    "examples": ("36 pixels", "six training images, each distorted six times"),
    "misread": ("misread pixels", "the images that the vote misreads"),
    "misread_as": ("misread", "the digit that the vote reads in them"),
    "misread_labels": ("misread", "their labels"),
}


def compute(config: Config, training: runner.Training = runner.ALONE) -> dict[str, Any]:
    """Trains the networks. Returns their costs and accuracies, and the images that a vote of all misreads."""
    common.check_written("weights", config.weights)
    images, measured = split(config)
    classes = int(max(jnp.max(part.labels) for part in (images, measured))) + 1
    shape, sizes = square(images.xs.shape[1]), (images.xs.shape[1], *config.hidden, classes)
    steps = config.epochs * -(-len(images.xs) // config.batch_size)
    optimizer = optax.chain(
        optax.add_decayed_weights(config.decay, regularize.weights),
        optax.sgd(optax.cosine_decay_schedule(config.eta, steps), momentum=config.momentum),
    )
    init, grad = recipe(config, sizes, shape)
    key, distort = jax.random.key(config.seed), distortion(config, shape)
    begin = time.perf_counter()
    state, train_keys = runner.init_members(key, config.seeds, lambda key: train.init(optimizer, init(key)))
    options = {"epochs": config.epochs, "batch_size": config.batch_size, "transform": distort}
    state, history = common.fit_images(training, train_keys, grad, optimizer, state, images, classes=classes, **options)
    seconds = time.perf_counter() - begin
    networks = jax.vmap(functools.partial(dropout.at_test, p=config.dropout))(state.params)
    about = common.about_networks(config, costs.log_likelihood, hidden=config.activation, sizes=sizes)
    if config.folder is not None:
        about["scale"] = 1 / 255  # IDX files hold bytes, whatever --data is
    common.keep(config, networks, about)
    found = np.asarray(outputs(networks, measured.xs, getattr(activations, config.activation)))
    read, labels = np.argmax(np.mean(found, axis=0), axis=-1), np.asarray(measured.labels)
    wrong = np.flatnonzero(read != labels)
    accuracies = np.mean(np.argmax(found, axis=-1) == labels, axis=-1)
    return {
        **runner.mean_and_standard_error("accuracy", accuracies),
        "accuracies": accuracies,
        "accuracy_of_a_vote": np.mean(read == labels),
        "costs": np.mean(np.asarray(history.losses), axis=-1),
        "seconds_a_network": seconds / config.seeds,
        "examples": jax.jit(distort)(key, np.repeat(images.xs[:6], 6, axis=0))[0],
        "misread": measured.xs[wrong],
        "misread_as": read[wrong],
        "misread_labels": labels[wrong],
    }


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """Learning lowers the cost and generalises; the defaults, and training for an hour, reach published accuracies.

    Nothing is claimed of images from a folder.
    """
    if config.folder is not None:
        return {}
    mean = arrays["accuracy"]
    found = common.learning_claims(arrays["costs"], mean)
    for known, least in ((Config(), 0.994), (LONG, 0.996)):
        if config == replace(known, seed=config.seed, seeds=config.seeds):
            found[f"the mean test accuracy is at least {100 * least:.1f} %"] = mean >= least
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """Costs by epoch, six digits as training distorts them, and the digits that a vote misreads."""
    curves, seen, misread = common.parts(figure, (10, 4.2), 1, 3, width_ratios=(1.25, 1, 1.25))
    _draw_curves(curves, config, arrays)
    seen.suptitle("six digits, six times as training sees them", fontsize="medium")
    _draw_images(seen, arrays["examples"], 6)
    misread.suptitle(f"{len(arrays['misread'])} misread by a vote of {config.seeds} (their labels)", fontsize="medium")
    titles = [f"{a} ({b})" for a, b in zip(arrays["misread_as"], arrays["misread_labels"], strict=True)]
    _draw_images(misread, arrays["misread"], 8, titles)


def _draw_curves(figure: SubFigure, config: Config, arrays: runner.Arrays) -> None:
    axes = figure.subplots()
    common.draw_curves(axes, arrays["costs"])
    axes.set(xlabel="epoch", ylabel="mean cost of distorted training images", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    where = "held-out" if config.validate else "test"
    accuracy, vote = (
        runner.format_number(name, arrays, scale=100, unit="%") for name in ("accuracy", "accuracy_of_a_vote")
    )
    axes.set_title(f"{where} accuracy {accuracy},\nby a vote of {config.seeds} {vote}", fontsize="medium")


def _draw_images(figure: SubFigure, images: np.ndarray, columns: int, titles: list[str] | None = None) -> None:
    axes, rows = figure.subplots(), max(1, min(6, -(-len(images) // columns)))
    height = 1.6 if titles else 1.15
    for i, image in enumerate(images[: rows * columns]):
        left, top = 1.15 * (i % columns), height * (i // columns)
        common.show_image(axes, image, left, top)
        if titles:
            axes.text(left + 0.5, top - 0.08, titles[i], fontsize="small", ha="center")
    axes.set(xlim=(0, 1.15 * columns), ylim=(height * rows - 0.1, -0.5 if titles else 0))
    axes.set_axis_off()
