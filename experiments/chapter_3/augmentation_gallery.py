"""Section 3.3.2, dataset augmentation: every transform on real digits, and its effect on a network's accuracy.

Networks that never saw a transformed image classify transformed test images. Transforms that keep the label cost some
accuracy; the mirror, which the notes list with the others, turns most digits into something else.
"""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from experiments import common, runner
from jnn import augment, backprop, costs, mlp, train

DRAWN = 9
"""Images to draw of each transform."""

TRANSFORMS: dict[str, Any] = {
    "shift": (augment.shift, {"pixels": 0.08}),
    "rotate": (augment.rotate, {"degrees": 20.0}),
    "scale": (augment.scale, {"fraction": 0.2}),
    "shear": (augment.shear, {"fraction": 0.3}),
    "elastic": (augment.elastic, {"pixels": 0.05, "sigma": 0.18}),
    "blur": (augment.blur, {"sigma": 0.06}),
    "noise": (augment.noise, {"sigma": 0.15}),
    "brightness": (augment.brightness, {"amount": 0.3}),
    "contrast": (augment.contrast, {"amount": 0.5}),
    "mirror": (augment.mirror, {"p": 1.0}),
}
"""Each transform and its options; `pixels` and Gaussian widths as fractions of the image's side."""


@dataclass(frozen=True)
class Config(common.Images):
    quick: ClassVar[dict[str, Any]] = {"data": "digits", "epochs": 10, "seeds": 2}

    hidden: int = 100
    """Hidden neurons of the networks."""
    eta: float = 0.5
    """Learning rate of the networks."""
    epochs: int = 5
    """Passes over the training images, which stay untransformed."""


def transforms(side: int) -> dict[str, augment.ImageTransform]:
    """The transforms for images of this side, their lengths in pixels."""

    def sized(name: str, options: dict[str, float]) -> dict[str, float]:
        lengths = {"pixels"} | ({"sigma"} if name != "noise" else set())
        return {key: value * side if key in lengths else value for key, value in options.items()}

    return {name: functools.partial(f, **sized(name, options)) for name, (f, options) in TRANSFORMS.items()}


def tinted(key: Any, image: Float[Array, "H W"]) -> Float[Array, "H W 3"]:
    """The digit in blue on white, its colour changed at random."""
    blue = 1 - image[:, :, None] * jnp.array([1.0, 0.55, 0.3])[None, None]
    return jnp.clip(augment.colour(key, blue, amount=0.4), 0, 1)


MATMUL_PRECISION = "default"

ARRAYS = {
    "shown": ("shown height width", "the digits that are drawn, untransformed"),
    "colour": ("shown height width 3", "the same digits in random colours, in red, green and blue"),
    "drawn_*": ("shown height width", "the same digits under this transform"),
    "accuracy_*": ("", "the mean accuracy of the networks on test images under this transform"),
}


def compute(config: Config, training: runner.Training = runner.ALONE) -> dict[str, Any]:
    """Transformed images, and the accuracy on test images under each transform of networks trained without any."""
    images, test = common.load(config)
    side = round(images.xs.shape[1] ** 0.5)
    init_keys, train_keys, draw_keys = jax.random.split(jax.random.key(config.seed), (3, config.seeds))
    optimizer = train.sgd(config.eta)
    grad = Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy)
    state = jax.vmap(lambda key: train.init(optimizer, mlp.init(key, (side**2, config.hidden, 10))))(init_keys)
    state, _ = common.fit_images(training, train_keys, grad, optimizer, state, images, epochs=config.epochs)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0, None, None))
    def measure(key: Any, params: mlp.Params, xs: Any, labels: Any) -> dict[str, Any]:
        found = {"none": mlp.accuracy(params, xs, labels)}
        for name, transform in transforms(side).items():
            (changed,) = augment.rows(key, xs, image_transform=transform, shape=(side, side))
            found[name] = mlp.accuracy(params, changed, labels)
        return found

    chosen = [int(np.flatnonzero(np.asarray(test.labels) == digit)[0]) for digit in (2, 3, 4, 5, 6, 7, 8, 9, 0)][:DRAWN]
    shown = test.xs[jnp.array(chosen)].reshape(-1, side, side)
    keys = jax.random.split(draw_keys[0], len(shown))
    found: dict[str, Any] = {"shown": shown, "colour": jax.jit(jax.vmap(tinted))(keys, shown)}
    for name, transform in transforms(side).items():
        found[f"drawn_{name}"] = jax.jit(jax.vmap(transform))(keys, shown)
    for name, values in measure(draw_keys, state.params, test.xs, test.labels).items():
        found |= runner.mean_and_standard_error(f"accuracy_{name}", values)
    return found


def claims(_: Config, arrays: runner.Arrays) -> runner.Claims:
    """All transforms but the mirror keep most digits recognisable."""
    kept = [name for name in TRANSFORMS if name != "mirror"]
    return {
        "every transform changes its images": all(
            np.abs(arrays[f"drawn_{name}"] - arrays["shown"]).max(axis=(1, 2)).mean() > 0.02 for name in TRANSFORMS
        ),
        "under each but the mirror, the accuracy is above 60 %": (
            min(arrays[f"accuracy_{name}"] for name in kept) > 0.6
        ),
        "the accuracy on mirrored digits is the lowest, by more than ten standard errors": (
            arrays["accuracy_mirror"] + 10 * arrays["accuracy_mirror_standard_error"]
            < min(arrays[f"accuracy_{name}"] for name in kept)
        ),
    }


def draw(figure: runner.Figure, _: Config, arrays: runner.Arrays) -> None:
    """A row of digits for each transform, with the accuracy of the networks beside it."""
    drawn = {"none": arrays["shown"]} | {name: arrays[f"drawn_{name}"] for name in TRANSFORMS}
    drawn["colour"] = arrays["colour"]
    # One axes over the whole figure, in pixels: 56 of them are twice MNIST's 28, so that no image is interpolated.
    side, step, left, top = 56, 60, 95, 36
    width, height = left + step * DRAWN + 125, top + step * len(drawn)
    figure.set_size_inches(width / 100, height / 100)
    figure.set_layout_engine("none")
    axes: Any = figure.add_axes((0, 0, 1, 1))
    title = "digits under each transform, and the test accuracy of networks that never saw it"
    axes.text(width / 2, top / 2, title, ha="center", va="center")
    for row, (name, images) in enumerate(drawn.items()):
        y = top + step * row
        axes.text(left - 10, y + side / 2, name, ha="right", va="center")
        for column, image in enumerate(images):
            x = left + step * column
            extent = (x, x + side, y + side, y)
            axes.imshow(image, cmap="Greys", vmin=0, vmax=1, extent=extent, aspect="auto", interpolation="nearest")
        if name != "colour":
            accuracy = runner.format_number(f"accuracy_{name}", arrays, scale=100, unit="%")
            colour = "C1" if name == "mirror" else "black"
            axes.text(left + step * DRAWN + 8, y + side / 2, accuracy, va="center", color=colour, fontsize="small")
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
