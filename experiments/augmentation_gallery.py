"""Section 3.3.2, dataset augmentation: every transform on real digits, and what each does to a network's reading.

Networks that never saw a transformed image read transformed test images. What keeps the label costs some accuracy;
the mirror, which the notes list with the others, makes other signs of most digits.
"""

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments import runner
from jnn import _checks, augment, backprop, costs, data, mlp, train

DRAWN = 9
"""Draws of each transform that are shown."""

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
"""What is drawn; `pixels` and Gaussian widths as fractions of the image's side."""


@dataclass(frozen=True)
class Config:
    """The images, and the networks that read them."""

    quick: ClassVar[Mapping[str, Any]] = {"data": "digits", "epochs": 20, "seeds": 2}

    data: Literal["mnist", "digits"] = "mnist"
    """The 70,000 of MNIST (read from $JNN_DATA_DIR or downloaded once), or 1,797 embedded digits of 8x8 pixels."""
    hidden: int = 100
    """Hidden neurons of the networks that read."""
    eta: float = 0.5
    """Their learning rate."""
    epochs: int = 5
    """How often they see every training image, as it is."""
    seeds: int = 5
    """Networks trained side by side."""
    seed: int = 0
    """Where the random numbers start."""


def pictures(side: int) -> dict[str, augment.Picture]:
    """The transforms, their lengths in pixels of an image of this side."""

    def sized(name: str, options: dict[str, float]) -> dict[str, float]:
        lengths = {"pixels"} | ({"sigma"} if name != "noise" else set())
        return {key: value * side if key in lengths else value for key, value in options.items()}

    return {name: functools.partial(f, **sized(name, options)) for name, (f, options) in TRANSFORMS.items()}


def tinted(key: Any, image: Float[Array, "H W"]) -> Float[Array, "H W 3"]:
    """The digit in blue on white, its colour changed at random."""
    blue = 1 - image[:, :, None] * jnp.array([1.0, 0.55, 0.3])[None, None]
    return jnp.clip(augment.colour(key, blue, amount=0.4), 0, 1)


def compute(config: Config) -> dict[str, Any]:
    """The pictures; the accuracy of networks trained without any of the transforms, on test images under each."""
    _checks.count("seeds", config.seeds)
    (xs, labels), test = getattr(data, config.data)()
    side = round(xs.shape[1] ** 0.5)
    init_keys, train_keys, draw_keys = jax.random.split(jax.random.key(config.seed), (3, config.seeds))
    optimizer = train.sgd(config.eta)
    grad = Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy)
    sizes = (xs.shape[1], config.hidden, 10)
    state, _ = runner.fit(
        train_keys,
        grad,
        optimizer,
        jax.vmap(lambda key: train.init(optimizer, mlp.init(key, sizes)))(init_keys),
        (xs, data.one_hot(labels, 10)),
        epochs=config.epochs,
        batch_size=10,
    )

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0, None, None))
    def measure(key: Any, params: mlp.Params, xs: Any, labels: Any) -> dict[str, Any]:
        found = {"none": mlp.accuracy(params, xs, labels)}
        for name, picture in pictures(side).items():
            found[name] = mlp.accuracy(params, augment.rows(key, xs, picture=picture, shape=(side, side))[0], labels)
        return found

    accuracies = measure(draw_keys, state.params, test.xs, test.labels)
    chosen = [int(np.flatnonzero(np.asarray(test.labels) == digit)[0]) for digit in (2, 3, 4, 5, 6, 7, 8, 9, 0)][:DRAWN]
    shown = test.xs[jnp.array(chosen)].reshape(-1, side, side)
    keys = jax.random.split(draw_keys[0], len(shown))
    found: dict[str, Any] = {"shown": shown, "colour": jax.vmap(tinted)(keys, shown)}
    for name, picture in pictures(side).items():
        found[f"drawn_{name}"] = jax.vmap(picture)(keys, shown)
    for name, values in accuracies.items():
        found |= runner.mean_and_standard_error(f"accuracy_{name}", values)
    return found


def claims(config: Config, arrays: runner.Arrays) -> dict[str, bool]:
    """All but the mirror keep what a digit says, mostly; the mirror does not."""
    del config
    kept = [name for name in TRANSFORMS if name != "mirror"]
    return {
        "every transform changes its images": bool(
            all(np.abs(arrays[f"drawn_{name}"] - arrays["shown"]).max(axis=(1, 2)).mean() > 0.02 for name in TRANSFORMS)
        ),
        "under each but the mirror, networks that never saw it still read more than 60 %": bool(
            min(arrays[f"accuracy_{name}"] for name in kept) > 0.6
        ),
        "mirrored digits are read worst of all, by more than ten standard errors": bool(
            arrays["accuracy_mirror"] + 10 * arrays["accuracy_mirror_standard_error"]
            < min(arrays[f"accuracy_{name}"] for name in kept)
        ),
    }


def draw(figure: Figure, config: Config, arrays: runner.Arrays) -> None:
    """A row of digits for each transform, with the accuracy of the networks beside it."""
    del config
    drawn = {"none": arrays["shown"]} | {name: arrays[f"drawn_{name}"] for name in TRANSFORMS}
    drawn["colour"] = arrays["colour"]
    # One axes over the whole figure, in pixels: 56 of them are twice MNIST's 28, so that no image is interpolated.
    side, step, left, top = 56, 60, 95, 36
    width, height = left + step * DRAWN + 125, top + step * len(drawn)
    figure.set_size_inches(width / 100, height / 100)
    figure.set_layout_engine("none")
    axes: Any = figure.add_axes((0, 0, 1, 1))
    title = "digits under each transform; test images read by networks that never saw it"
    axes.text(width / 2, top / 2, title, ha="center", va="center")
    for row, (name, images) in enumerate(drawn.items()):
        y = top + step * row
        axes.text(left - 10, y + side / 2, name, ha="right", va="center")
        for column, image in enumerate(images):
            x = left + step * column
            extent = (x, x + side, y + side, y)
            axes.imshow(image, cmap="Greys", vmin=0, vmax=1, extent=extent, aspect="auto", interpolation="nearest")
        if name != "colour":
            said = runner.said(f"accuracy_{name}", arrays, scale=100, unit="%")
            colour = "C1" if name == "mirror" else "black"
            axes.text(left + step * DRAWN + 8, y + side / 2, said, va="center", color=colour, fontsize="small")
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()


if __name__ == "__main__":
    sys.exit(runner.main(sys.modules[__name__]))
