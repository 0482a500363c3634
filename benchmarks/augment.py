"""Augmentation: what it adds to a training step, and each transform against dm-pix's where dm-pix has one.

The steps are an epoch of the record's net, [784, 800, 10] with mini-batches of 100 and momentum, without and with
images distorted anew. The transforms act on 100 images in one compiled call. All alternatives of a table take turns
in one process.
"""

import functools
import importlib.util
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import tyro
from jax.tree_util import Partial

from benchmarks import timing
from jnn import activations, augment, backprop, costs, data, mlp, train

SHAPE = (28, 28)


@dataclass(frozen=True)
class Config:
    """The defaults are the record's net."""

    sizes: tuple[int, ...] = (784, 800, 10)
    """Neurons in each layer."""
    batch_size: int = 100
    """Images in a mini-batch, and in a call of a transform."""
    images: int = 12_000
    """Training images of an epoch."""
    rounds: int = 20
    """How often each alternative takes its turn."""
    out: Path = Path("out/benchmarks")
    """The folder that receives augment.json."""


def distortions() -> dict[str, augment.Picture | None]:
    """What an epoch is timed with; the first is what the others are compared with."""
    affine = {"shift": 1.0, "rotate": 12.0, "scale": 0.15, "shear": 0.15}
    return {
        "no augmentation": None,
        "affine": functools.partial(augment.distort, **affine),
        "affine and elastic": functools.partial(augment.distort, **affine, elastic=1.2),
    }


def epochs(config: Config) -> dict[str, Callable[[], Any]]:
    """An epoch with each distortion."""
    digits = data.mnist().train
    examples = (digits.xs[: config.images], data.one_hot(digits.labels[: config.images], 10))
    key = jax.random.key(0)
    optimizer = optax.sgd(0.1, momentum=0.9)
    state = train.init(optimizer, mlp.init(key, config.sizes))
    grad = Partial(backprop.minibatch_value_and_grad, cost=costs.log_likelihood, hidden=activations.relu)

    def program(picture: augment.Picture | None) -> Callable[[], Any]:
        transform = picture and functools.partial(augment.rows, picture=picture, shape=SHAPE)
        return lambda: jax.block_until_ready(
            train.epoch(
                key, grad, optimizer, state, examples, batch_size=config.batch_size, transform=transform or None
            )
        )

    return {name: program(picture) for name, picture in distortions().items()}


def transforms(config: Config) -> dict[str, dict[str, Callable[[], Any]]]:
    """Each transform beside dm-pix's."""
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


def main(config: Config) -> None:
    """Time, print and write."""
    seconds: dict[str, Any] = {"epoch": timing.interleaved(epochs(config), config.rounds)}
    timing.table(f"an epoch of {config.images} images at {list(config.sizes)}", seconds["epoch"])
    plain, *_, full = (statistics.median(times) for times in seconds["epoch"].values())
    print(f"  affine and elastic distortions add {full / plain - 1:.2f} of a training step")
    for name, alternatives in transforms(config).items():
        seconds[name] = timing.interleaved(alternatives, config.rounds)
        timing.table(f"{name}, {config.batch_size} images", seconds[name])
        if len(alternatives) == 1:
            print("  dm-pix is missing: pip install 'jnn[augment]'")
    timing.write(config.out / "augment.json", config, seconds, ("dm-pix",))


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
