"""Code that several experiments share: fields of configs, sets of digits, recurrent nets and learning curves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Key
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import runner
from jnn import backprop, convert, costs, data, lstm, mlp, rnn, train
from jnn.typing import Grad

# Configs


@dataclass(frozen=True)
class Seeded:
    """A config with a seed."""

    seed: Annotated[int, runner.AtLeast(0)] = 0
    """Seed of the random numbers."""


@dataclass(frozen=True)
class Repeated:
    """A config of networks that differ in their random numbers."""

    seeds: int = 5
    """Networks trained side by side, each with its own random numbers."""
    seed: Annotated[int, runner.AtLeast(0)] = 0
    """Seed of the random numbers."""


@dataclass(frozen=True)
class Images(Repeated):
    """A config of networks that read digits."""

    data: Literal["mnist", "digits"] = "mnist"
    """The 70,000 images of MNIST (from $JNN_DATA_DIR or downloaded once), or the 1,797 embedded digits (UCI)."""


@dataclass(frozen=True)
class Kept:
    """A config of networks that can be kept after training."""

    weights: Path | None = field(default=None, compare=False)
    """Write the trained networks to this safetensors file, for `jnn.convert.load`."""


def check_written(name: str, file: Path | None) -> None:
    """Raises ValueError or OSError if a file of parameters, if any, could not be written after training."""
    if file is None:
        return
    path = runner.expanded(name, file)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{name} must be a file in a folder that exists, got {file}")
    probe = path.with_name(f"{path.name}.probe")
    try:
        convert.export(probe, np.zeros(1))
        probe.unlink()
    except OSError as error:
        raise OSError(f"{name} must be a file that can be written, got {file}: {error}") from error


def keep(config: Kept, networks: Any, about: Mapping[str, Any]) -> None:
    """Writes the networks, with these metadata, to the file that the config names, if any."""
    if config.weights is not None and jax.process_index() == 0:
        convert.export(config.weights, networks, about)


# Networks that read digits


def load(config: Images) -> data.Dataset:
    """The images that the config names."""
    return getattr(data, config.data)()


def first(images: data.Split, count: int) -> data.Split:
    """The first `count` images."""
    return data.Split(*(a[:count] for a in images))


def hold_out(split: data.Split, count: int) -> tuple[data.Split, data.Split]:
    """All images but the last `count`, and the last `count`."""
    return data.Split(*(a[:-count] for a in split)), data.Split(*(a[-count:] for a in split))


def about_networks(config: Images, cost: costs.Cost, **others: Any) -> dict[str, Any]:
    """The metadata of networks side by side: their number, cost, output and `others`, and the scale of their inputs.

    An input is the number in the image file times `scale`: MNIST's numbers go up to 255, the embedded digits' up to 16.
    """
    scale = 1 / 16 if config.data == "digits" else 1 / 255
    output = "softmax" if cost is costs.log_likelihood else "sigmoid"
    return {"networks": config.seeds, "cost": cost.name, "output": output, "scale": scale, **others}


def init_networks(
    key: Key[Array, ""], seeds: int, optimizer: optax.GradientTransformation, sizes: tuple[int, ...], **options: Any
) -> tuple[train.State, Key[Array, " seeds"]]:
    """Networks of these sizes side by side, from `mlp.init`, and the keys that train them."""
    return runner.init_members(key, seeds, lambda key: train.init(optimizer, mlp.init(key, sizes, **options)))


def fit_images(
    training: runner.Training,
    train_keys: Key[Array, " seeds"],
    grad: Grad,
    optimizer: optax.GradientTransformation,
    state: train.State,
    images: data.Split,
    *,
    classes: int = 10,
    **options: Any,
) -> tuple[train.State, train.History]:
    """`Training.fit` on images with one-hot labels, in mini-batches of 10 by default."""
    examples = (images.xs, data.one_hot(images.labels, classes))
    return training.fit(train_keys, grad, optimizer, state, examples, **{"batch_size": 10, **options})


def train_network(
    init_key: Key[Array, ""], train_key: Key[Array, ""], images: data.Split, *, hidden: int, eta: float, epochs: int
) -> mlp.Params:
    """A single network after training with the cross-entropy cost and mini-batches of 10."""
    optimizer = train.sgd(eta)
    state = train.init(optimizer, mlp.init(init_key, (images.xs.shape[1], hidden, 10)))
    grad = Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy)
    examples = (images.xs, data.one_hot(images.labels, 10))
    state, _ = train.run(train_key, grad, optimizer, state, examples, epochs=epochs, batch_size=10)
    return state.params


def he_normal(
    key: Key[Array, ""], shape: Sequence[Any], dtype: Any = None, out_sharding: Any = None
) -> Float[Array, "n_in n_out"]:
    """Weights from N(0, 2/n_in), for relu neurons (He et al., 2015), drawn one neuron after another."""
    draw = jax.nn.initializers.he_normal(in_axis=-1, out_axis=-2)
    return draw(key, shape[::-1], dtype, out_sharding).T


# Recurrent nets

NETS = {"lstm": ("LSTM", "C0"), "rnn": ("RNN", "C1")}
"""The two kinds of net, with their label and colour."""


class Net(NamedTuple):
    """A recurrent cell, `lstm.Params` or `rnn.Params` of d units, and a linear layer [n, d] that reads it."""

    cell: Any
    out: mlp.Layer


def init_net(
    key: Key[Array, ""],
    inputs: int,
    units: int,
    outputs: int,
    *,
    kind: str = "lstm",
    rem_bias: float = 1.0,
    save_bias: float = 0.0,
) -> Net:
    """A random LSTM with these biases of rem and save, or a plain net with recurrent weights from N(0, 1/d)."""
    cell_key, out_key = jax.random.split(key)
    (out,) = mlp.init(out_key, (units, outputs))
    if kind == "rnn":
        return Net(rnn.init(cell_key, inputs, units, recurrent_weights=mlp.scaled_normal), out)
    cell = lstm.init(cell_key, inputs, units, rem_bias=rem_bias)
    return Net(cell._replace(save=cell.save._replace(b=cell.save.b + save_bias)), out)


def memories(cell: lstm.Params | rnn.Params, xs: Float[Array, "T B p"]) -> Float[Array, "T B d"]:
    """The working memories wm_t of an LSTM, or the states h_t of a plain net, after every step."""
    if isinstance(cell, lstm.Params):
        return lstm.unroll(cell, lstm.zero_state(len(cell.rem.b)), xs)[1].wm
    return rnn.unroll(cell, rnn.zero_state(len(cell.b)), xs)[1]


def train_nets(
    training: runner.Training,
    init_keys: Key[Array, " seeds"],
    train_keys: Key[Array, " seeds"],
    init: Callable[[Key[Array, ""]], Net],
    grad: Grad,
    examples: tuple[Array, ...],
    *,
    eta: float,
    epochs: int,
    batch_size: int,
    **options: Any,
) -> tuple[train.State, train.History]:
    """Trains nets side by side with Adam, on gradients clipped to a norm of 1; eta falls to 0 along a cosine.

    The options are passed to `Training.fit`.
    """
    schedule = optax.cosine_decay_schedule(eta, epochs * -(-len(examples[0]) // batch_size))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    state = jax.jit(jax.vmap(lambda key: train.init(optimizer, init(key))))(init_keys)
    options |= {"epochs": epochs, "batch_size": batch_size, "recurrent": True}
    return training.fit(train_keys, grad, optimizer, state, examples, **options)


# Learning curves and figures

LEARNING_CURVES = {
    "test_accuracy": ("", "the mean test accuracy of the networks after the last epoch"),
    "accuracies": ("seeds epochs", "the test accuracy of each network after each epoch"),
    "costs": ("seeds epochs", "the mean training cost of each network in each epoch"),
}
"""The axes and the meaning of what `learning_curves` returns under the name test_accuracy."""


def learning_curves(name: str, accuracies: Float[Array, "seeds epochs"], losses: Any) -> dict[str, Any]:
    """The accuracies and the mean cost of each epoch, and the mean of the last accuracies under `name`."""
    curves = np.asarray(accuracies)  # without compiling
    last = runner.mean_and_standard_error(name, curves[:, -1])
    return {**last, "accuracies": curves, "costs": np.mean(np.asarray(losses), axis=-1)}


def learning_claims(costs: np.ndarray, accuracy: float) -> dict[str, bool | np.bool]:
    """Claims about any training run: the costs [seeds, epochs] fall, and the mean accuracy beats guessing."""
    return {
        "the mean training cost of every network falls": costs.shape[1] == 1 or np.all(costs[:, -1] < costs[:, 0]),
        "the mean accuracy is above 50 %, where guessing gives 10 %": accuracy > 0.5,
    }


def draw_curves(axes: Axes, curves: Float[Array, "seeds epochs"]) -> None:
    """A thin line over the epochs for each network, and a thick one for their mean."""
    epochs = np.arange(1, curves.shape[1] + 1)
    axes.plot(epochs, curves.T, color="C0", alpha=0.3, linewidth=0.8)
    axes.plot(epochs, curves.mean(axis=0), color="C0", linewidth=2)


def panels(figure: Figure, size: tuple[float, float], rows: int, columns: int, **options: Any) -> Any:
    """The axes, row by row, of a figure of this size in inches."""
    figure.set_size_inches(size)
    return np.ravel(figure.subplots(rows, columns, **options))


def show_image(axes: Axes, image: np.ndarray, left: float, top: float) -> None:
    """A grey image [side^2], dark ink on light paper, in a square of side 1; y grows downwards."""
    side = round(len(image) ** 0.5)
    extent = (left, left + 1, top + 1, top)
    axes.imshow(image.reshape(side, side), cmap="Greys", vmin=0, vmax=1, extent=extent)


def parts(figure: Figure, size: tuple[float, float], rows: int, columns: int, **options: Any) -> Any:
    """The subfigures, row by row, of a figure of this size in inches."""
    figure.set_size_inches(size)
    return np.ravel(np.asarray(figure.subfigures(rows, columns, **options), object))


def draw_surface(axes: Any, x: np.ndarray, y: np.ndarray, z: np.ndarray, **options: Any) -> None:
    """The heights z [len(x), len(y)] over every pair of x and y, without downsampling."""
    x, y = np.meshgrid(x, y, indexing="ij")
    axes.plot_surface(x, y, z, cmap="viridis", rcount=len(x), ccount=len(y), antialiased=False, **options)
