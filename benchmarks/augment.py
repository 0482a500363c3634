"""Augmentation: its cost in a training step, and each transform against dm-pix's, if dm-pix has one.

The steps are an epoch of [784, 800, 10], the network of Simard et al. (2003), in mini-batches of 100 with momentum,
without distortions and with a new distortion of each image. Each transform is one compiled call on 100 images. All
alternatives of a table take turns in one process.
"""

import functools
import importlib.util
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from benchmarks import timing
from jnn import activations, augment, backprop, costs, data, mlp, train

SHAPE = (28, 28)
PACKAGES = ("dm-pix",)


@dataclass(frozen=True)
class Config:
    """The defaults are the network of Simard et al. (2003)."""

    quick: ClassVar[Mapping[str, Any]] = {
        "sizes": (784, 30, 10),
        "batch_size": 10,
        "images": 100,
        "rounds": 2,
        "growth": (1, 100),
    }

    sizes: tuple[int, ...] = (784, 800, 10)
    """Neurons in each layer."""
    batch_size: int = 100
    """Images in a mini-batch, and in one call of a transform."""
    images: int = 12_000
    """Training images of an epoch."""
    rounds: int = 20
    """Timings of each alternative."""
    growth: tuple[int, ...] = (1, 10, 100, 1000)
    """Images in one call of `augment.distort`, to measure how time grows with their number."""


def distortions() -> dict[str, augment.ImageTransform | None]:
    """The image transforms an epoch is timed with; the first is the baseline."""
    affine = {"shift": 1.0, "rotate": 12.0, "scale": 0.15, "shear": 0.15}
    return {
        "no augmentation": None,
        "affine": functools.partial(augment.distort, **affine),
        "affine and elastic": functools.partial(augment.distort, **affine, elastic=1.2),
    }


def epochs(config: Config) -> dict[str, Callable[[], Any]]:
    """An epoch with each image transform."""
    digits = data.mnist().train
    examples = (digits.xs[: config.images], data.one_hot(digits.labels[: config.images], 10))
    key = jax.random.key(0)
    optimizer = optax.sgd(0.1, momentum=0.9)
    state = train.init(optimizer, mlp.init(key, config.sizes))
    grad = Partial(backprop.minibatch_value_and_grad, cost=costs.log_likelihood, hidden=activations.relu)

    def program(image_transform: augment.ImageTransform | None) -> Callable[[], Any]:
        transform = image_transform and functools.partial(augment.rows, image_transform=image_transform, shape=SHAPE)
        return lambda: jax.block_until_ready(
            train.epoch(
                key, grad, optimizer, state, examples, batch_size=config.batch_size, transform=transform or None
            )
        )

    return {name: program(image_transform) for name, image_transform in distortions().items()}


def transforms(config: Config) -> dict[str, dict[str, Callable[[], Any]]]:
    """Each transform, from jnn and from dm-pix."""
    ours: dict[str, Callable[..., Any]] = {
        "elastic": functools.partial(augment.elastic, pixels=1.2, sigma=4.0),
        "affine": functools.partial(augment.distort, shift=1.0, rotate=12.0, scale=0.15, shear=0.15),
        "blur": functools.partial(augment.blur, sigma=1.0),
    }
    theirs: dict[str, Callable[..., Any]] = {}
    if importlib.util.find_spec("dm_pix"):
        import dm_pix

        theirs = {
            "elastic": lambda key, image: dm_pix.elastic_deformation(key, image, 30.0, 4.0),
            "affine": lambda key, image: dm_pix.affine_transform(
                image, jnp.eye(3) + 0.1 * jax.random.normal(key, (3, 3))
            ),
            "blur": lambda _, image: dm_pix.gaussian_blur(image, 1.0, 7),
        }
    keys = jax.random.split(jax.random.key(1), config.batch_size)
    images = jax.random.uniform(jax.random.key(2), (config.batch_size, *SHAPE, 1))

    def program(f: Callable[..., Any]) -> Callable[[], Any]:
        compiled = jax.jit(jax.vmap(f))
        return lambda: jax.block_until_ready(compiled(keys, images))

    return {
        name: {who: program(fs[name]) for who, fs in (("jnn", ours), ("dm-pix", theirs)) if name in fs} for name in ours
    }


def measure(config: Config) -> Iterator[timing.Table]:
    """Yield tables: epochs with and without distortions, each transform, and growth."""
    seconds = timing.interleaved(epochs(config), config.rounds)
    plain, *_, full = (statistics.median(times) for times in seconds.values())
    note = f"affine and elastic distortions add {full / plain - 1:.2f} of a training step"
    yield timing.Table(f"an epoch of {config.images} images at {list(config.sizes)}", seconds, notes=(note,))
    notes = tuple(timing.missing({"dm_pix": "dm-pix"}))
    for name, alternatives in transforms(config).items():
        seconds = timing.interleaved(alternatives, config.rounds)
        yield timing.Table(f"{name}, {config.batch_size} images", seconds, notes=notes)
    yield growth(config)


def growth(config: Config) -> timing.Table:
    """Images per second, by the number of images in a call."""
    distort = jax.jit(jax.vmap(functools.partial(augment.distort, rotate=12.0, scale=0.15, elastic=1.2)))
    alternatives = {}
    for n in config.growth:
        keys = jax.random.split(jax.random.key(1), n)
        images = jax.random.uniform(jax.random.key(2), (n, *SHAPE))
        alternatives[f"{n} images"] = lambda keys=keys, images=images: jax.block_until_ready(distort(keys, images))
    table = timing.Table("affine and elastic distortion", timing.interleaved(alternatives, config.rounds))
    rates = {name: int(name.split()[0]) / median for name, median in table.medians.items()}
    return table._replace(remarks={name: f"{rate:.3g} images/s" for name, rate in rates.items()})


if __name__ == "__main__":
    sys.exit(timing.main(sys.modules[__name__]))
