"""Section 4.3: a surface and a picture, R^2 -> R^1 and R^2 -> R^3, from towers.

The surface has two hills and a hollow. The picture is an evening by a lake, given by a formula; its three colours are
the three outputs of one network.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments import common, runner
from jnn import mlp, universal


@dataclass(frozen=True)
class Config:
    quick: ClassVar[dict[str, Any]] = {"bins": (5, 10, 20), "picture_bins": (8, 16), "points": 32, "pixels": 48}

    bins: tuple[int, ...] = (5, 10, 20, 40, 80)
    """Bins of the surface's networks."""
    points: int = 96
    """Points of the drawn surfaces."""
    picture_bins: tuple[int, int] = (24, 96)
    """Bins of the picture's networks."""
    pixels: int = 192
    """Pixels of the picture."""


@jax.jit
def surface(x: Float[Array, "2"]) -> Float[Array, ""]:
    """Two hills and a hollow on [-2, 2]^2."""

    def bell(u: float, v: float, width: float) -> Array:
        return jnp.exp(-((x[0] - u) ** 2 + (x[1] - v) ** 2) / width)

    return bell(0.7, 0.6, 0.6) + 0.7 * bell(-0.9, -0.5, 0.4) - 0.8 * bell(0.5, -1.0, 0.5)


@jax.jit
def picture(x: Float[Array, "2"]) -> Float[Array, "3"]:
    """Red, green and blue in [0, 1] at a point of [0, 1]^2, whose second coordinate points upwards."""
    u, v = x
    shore = 0.34
    height = jnp.abs(v - shore)  # the lake mirrors what stands above its shore
    ripple = jnp.where(v < shore, 0.012 * jnp.sin(90 * height / (0.15 + height)), 0.0)
    u = u + ripple

    def mixed(a: Array, b: Array, share: Array) -> Array:
        return a + (b - a) * jnp.clip(share, 0, 1)

    def colour(*rgb: float) -> Array:
        return jnp.array(rgb)

    sky = mixed(colour(0.99, 0.72, 0.42), colour(0.22, 0.32, 0.60), height / 0.6)
    from_sun = jnp.hypot(u - 0.68, height - 0.25)
    sky = mixed(sky, colour(1.0, 0.90, 0.62), 0.7 * jnp.exp(-((from_sun / 0.16) ** 2)))
    sky = mixed(sky, colour(1.0, 0.97, 0.86), (0.055 - from_sun) / 0.006)
    far = 0.20 + 0.07 * jnp.sin(7 * u + 1) + 0.03 * jnp.sin(19 * u) + 0.010 * jnp.sin(53 * u + 2)
    near = 0.07 + 0.06 * jnp.sin(4 * u + 4) + 0.012 * jnp.sin(31 * u) + 0.006 * jnp.sin(97 * u + 1)
    land = mixed(sky, colour(0.42, 0.36, 0.50), (far - height) / 0.006)
    land = mixed(land, colour(0.13, 0.17, 0.22), (near - height) / 0.006)
    return jnp.where(v < shore, 0.80 * land + 0.04, land)


@jax.jit
def evaluate(net: mlp.Params, points: Float[Array, "P 2"]) -> Float[Array, "P n"]:
    """The network's outputs, 2,048 points at a time."""
    return jax.lax.map(partial(mlp.logits, net), points, batch_size=2048)


ARRAYS = {
    "ends": ("points", "the coordinates of the surface's points along each axis"),
    "surface": ("points points", "the surface f"),
    "surface_*": ("points points", "the output of the network with so many bins along each axis"),
    "bounds": ("bins", "half the diagonal of a cell times the largest slope of f"),
    "errors": ("bins", "the sup error of each network"),
    "rate": ("", "the slope of ln(error) over ln(bins)"),
    "picture": ("pixels pixels 3", "the picture f: x, y (upwards), and red, green and blue"),
    "picture_rms_*": ("", "the root-mean-square error of the network with so many bins along each axis"),
    "picture_*": ("pixels pixels 3", "the picture that the network with so many bins along each axis gives"),
}


def compute(config: Config) -> dict[str, Any]:
    """The surface, the picture, their networks, and the surface's errors by the number of bins."""
    if len(config.bins) < 2:
        raise ValueError(f"bins must have at least two sizes, got {config.bins}")
    ends = 4 * (jnp.arange(config.points) + 0.5) / config.points - 2
    grid = _grid(ends)
    found: dict[str, Any] = {"ends": ends, "surface": jax.vmap(surface)(grid).reshape(config.points, config.points)}
    slope = jnp.max(jnp.linalg.norm(jax.jit(jax.vmap(jax.grad(surface)))(_grid(jnp.linspace(-2, 2, 201))), axis=1))
    found["bounds"] = [slope * np.sqrt(2) * 2 / bins for bins in config.bins]  # half the diagonal of a cell
    found["errors"], within = [], np.linspace(0.025, 0.975, 3)
    for bins in config.bins:
        net = universal.approximate(surface, (-2.0, -2.0), (2.0, 2.0), bins)
        points = _grid(jnp.asarray(4 * (np.arange(bins)[:, None] + within).ravel() / bins - 2, jnp.float32))
        found["errors"].append(jnp.max(jnp.abs(evaluate(net, points)[:, 0] - jax.vmap(surface)(points))))
        found[f"surface_{bins}"] = evaluate(net, grid).reshape(config.points, config.points)
    found["rate"] = np.polyfit(np.log(config.bins), np.log(found["errors"]), 1)[0]

    pixels = _grid((jnp.arange(config.pixels) + 0.5) / config.pixels)
    found["picture"] = jax.vmap(picture)(pixels).reshape(config.pixels, config.pixels, 3)
    for bins in config.picture_bins:
        net = universal.approximate(picture, (0.0, 0.0), (1.0, 1.0), bins)
        found[f"picture_{bins}"] = evaluate(net, pixels).reshape(config.pixels, config.pixels, 3)
        found[f"picture_rms_{bins}"] = jnp.sqrt(jnp.mean((found[f"picture_{bins}"] - found["picture"]) ** 2))
    return found


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """The bound from the modulus of continuity, first order, and a picture that gets closer."""
    coarse, fine = (arrays[f"picture_rms_{bins}"] for bins in config.picture_bins)
    return {
        "no error exceeds half a cell's diagonal times the largest slope of f": np.all(
            arrays["errors"] <= arrays["bounds"]
        ),
        "the sup error decays at first order: a rate of -1 +- 0.2": abs(arrays["rate"] + 1) < 0.2,
        "more bins lower the error of the picture": fine < coarse,
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """A row for the surface, a row for the picture."""
    upper, lower = common.parts(figure, (9, 5.8), 2, 1)
    for i, bins in enumerate((None, *config.bins[1:3]), start=1):
        axes: Any = upper.add_subplot(1, 4, i, projection="3d")
        name, title = ("surface", "$f$") if bins is None else (f"surface_{bins}", f"${bins} \\times {bins}$ cells")
        common.draw_surface(axes, arrays["ends"], arrays["ends"], arrays[name])
        axes.set(title=title, xticks=(-2, 0, 2), yticks=(-2, 0, 2), xlabel="$x_1$", ylabel="$x_2$")
        axes.set(zlim=(-0.8, 1.0), zticks=(-0.5, 0, 0.5, 1))
        axes.view_init(elev=35, azim=-60)
    decay = upper.add_subplot(1, 4, 4)
    decay.loglog(config.bins, arrays["errors"], "o", markersize=4, label=f"rate {arrays['rate']:.2f}")
    decay.loglog(config.bins, arrays["bounds"], color="black", linewidth=1, label="bound")
    decay.set(title="sup error", xlabel="bins along each axis")
    decay.set_xticks(config.bins, [str(bins) for bins in config.bins])
    decay.set_xticks([], minor=True)
    decay.legend()
    names = (*(f"picture_{bins}" for bins in config.picture_bins), "picture")
    titles = (*(f"${bins} \\times {bins}$ cells" for bins in config.picture_bins), r"$f: R^2 \to R^3$")
    for axes, name, title in zip(np.ravel(lower.subplots(1, 3)), names, titles, strict=True):
        axes.imshow(np.clip(np.swapaxes(arrays[name], 0, 1), 0, 1), origin="lower", extent=(0, 1, 0, 1))
        axes.set_title(title)
        axes.set_axis_off()


def _grid(ends: Float[Array, " k"]) -> Float[Array, "P 2"]:
    return jnp.stack(jnp.meshgrid(ends, ends, indexing="ij"), axis=-1).reshape(-1, 2)
