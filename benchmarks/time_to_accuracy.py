"""Seconds from process start to 95, 97, 98, 98.5 and 99 % test accuracy on MNIST: jnn and torch.

One recipe for both: a multilayer perceptron of rectified linear units and a softmax, momentum with a cosine schedule, a
new shift, rotation, scaling and shear of every image, and an evaluation on the test images after each epoch. The two
are interleaved, each in its own process, including imports, data and compilation; jnn starts without a compilation
cache. Training ends at 99 %. An accuracy counts as reached at the end of the first epoch with at least that accuracy.
"""

import importlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

from benchmarks import timing

PACKAGES = ("torch", "optax")
MILESTONES = (0.95, 0.97, 0.98, 0.985, 0.99)
Reached = Callable[[float], bool]


@dataclass(frozen=True)
class Config:
    """The recipe, and the number of runs."""

    quick: ClassVar[Mapping[str, Any]] = {"hidden": (30,), "images": 6_000, "epochs": 1, "rounds": 1}

    hidden: tuple[int, ...] = (800,)
    """Neurons in each hidden layer."""
    images: int = 60_000
    """Images of the training set."""
    epochs: int = 20
    """Epochs of the schedule."""
    eta: float = 0.1
    """The initial learning rate."""
    momentum: float = 0.9
    """The fraction of the previous step that is added to the next."""
    batch_size: int = 100
    """Images in a mini-batch."""
    shift: float = 1.0
    """The largest shift, in pixels."""
    rotate: float = 12.0
    """The largest rotation, in degrees."""
    scale: float = 0.15
    """The largest change of size, as a fraction of it."""
    shear: float = 0.15
    """The largest shear, as a fraction of the height."""
    rounds: int = 3
    """Runs of each, with different seeds."""


def jnn(config: Config, seed: int, reached: Reached) -> None:
    """`train.fit`, which calls `reached` after each epoch."""
    import jax
    import optax
    from jax.tree_util import Partial

    from jnn import activations, augment, backprop, costs, data, mlp, train

    digits = data.mnist()
    (xs, labels), test = (digits.train.xs[: config.images], digits.train.labels[: config.images]), digits.test
    steps = config.epochs * len(xs) // config.batch_size
    optimizer = optax.sgd(optax.cosine_decay_schedule(config.eta, steps), config.momentum)
    init_key, train_key = jax.random.split(jax.random.key(seed))
    params = mlp.init(init_key, (784, *config.hidden, 10), weights=jax.nn.initializers.he_normal())
    distort = partial(augment.distort, shift=config.shift, rotate=config.rotate, scale=config.scale, shear=config.shear)

    train.fit(
        train_key,
        Partial(backprop.minibatch_value_and_grad, cost=costs.log_likelihood, hidden=activations.relu),
        optimizer,
        train.init(optimizer, params),
        (xs, data.one_hot(labels, 10)),
        epochs=config.epochs,
        batch_size=config.batch_size,
        transform=partial(augment.rows, image_transform=distort, shape=(28, 28)),
        evaluate=Partial(mlp.accuracy, hidden=activations.relu, xs=test.xs, labels=test.labels),
        callbacks=[lambda report: reached(float(report.metrics))],
        progress=False,
    )


def torch(config: Config, seed: int, reached: Reached) -> None:
    """torch.nn, torch.optim and grid_sample, in the usual loop."""
    torch = importlib.import_module("torch")
    functional = torch.nn.functional
    from jnn import data  # the same files; nothing else uses JAX

    train, test = (tuple(torch.from_numpy(a.copy()) for a in map(_numpy, split)) for split in data.mnist())
    xs, labels = (a[: config.images] for a in train)
    torch.manual_seed(seed)
    sizes = (784, *config.hidden, 10)
    layers = [torch.nn.Linear(n_in, n_out) for n_in, n_out in itertools.pairwise(sizes)]
    for layer in layers:
        torch.nn.init.kaiming_normal_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    net = torch.nn.Sequential(*[module for layer in layers for module in (layer, torch.nn.ReLU())][:-1])
    optimizer = torch.optim.SGD(net.parameters(), lr=config.eta, momentum=config.momentum)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * len(xs) // config.batch_size)

    def distorted(x: Any) -> Any:
        m = len(x)

        def uniform(most: float, *shape: int) -> Any:
            return most * (2 * torch.rand(m, *shape) - 1)

        turn, scale = torch.deg2rad(uniform(config.rotate)), 1 + uniform(config.scale, 2)
        shear, shift = uniform(config.shear), uniform(config.shift * 2 / 28, 2)
        cos, sin, zoom = torch.cos(turn), torch.sin(turn), torch.diag_embed(scale)
        rotation = torch.stack([cos, cos * shear - sin, sin, sin * shear + cos], 1).reshape(m, 2, 2)
        matrix = torch.cat([rotation @ zoom, shift[:, :, None]], 2)
        grid = functional.affine_grid(matrix, [m, 1, 28, 28], align_corners=False)
        return functional.grid_sample(x.reshape(m, 1, 28, 28), grid, align_corners=False).reshape(m, 784)

    for _ in range(config.epochs):
        for rows in torch.randperm(len(xs)).split(config.batch_size):
            optimizer.zero_grad()
            functional.cross_entropy(net(distorted(xs[rows])), labels[rows]).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            if reached(float((net(test[0]).argmax(1) == test[1]).float().mean())):
                return


def _numpy(a: Any) -> Any:
    import numpy as np

    a = np.asarray(a)
    return a.astype(np.int64) if a.ndim == 1 else a


def child(who: str, seed: int, config: Config) -> None:
    """In its own process: train, and after each epoch print the seconds since process start and the accuracy."""
    start = float(os.environ["JNN_STARTED"])

    def reached(accuracy: float) -> bool:
        print(json.dumps([time.time() - start, accuracy]), flush=True)
        return accuracy >= MILESTONES[-1]

    {"jnn": jnn, "torch": torch}[who](config, seed, reached)


def curve(who: str, seed: int, config: Config) -> list[tuple[float, float]]:
    """The seconds and accuracies of one run."""
    arguments = ["--child", who, str(seed), json.dumps(asdict(config))]
    command = [sys.executable, "-m", "benchmarks.time_to_accuracy", *arguments]
    started = {"JNN_STARTED": str(time.time())}
    done = subprocess.run(command, env=os.environ | started, check=True, stdout=subprocess.PIPE, text=True)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def measure(config: Config) -> Iterator[timing.Table]:
    """Yield a table for each accuracy that was reached, and one of the complete runs."""
    names = ["jnn", *(["torch"] if importlib.util.find_spec("torch") else [])]
    curves: dict[str, list[Any]] = {name: [] for name in names}
    for seed in range(config.rounds):
        for name in names if seed % 2 else reversed(names):
            curves[name].append(curve(name, seed, config))
    notes = tuple(timing.missing({"torch": "torch"}))
    best = {name: ", ".join(f"{max(a for _, a in run):.4f}" for run in runs) for name, runs in curves.items()}
    notes += tuple(f"best accuracy of each run of {name}: {accuracies}" for name, accuracies in best.items())
    for milestone in MILESTONES:
        seconds = {
            name: [next(s for s, a in run if a >= milestone) for run in runs if any(a >= milestone for _, a in run)]
            for name, runs in curves.items()
        }
        remarks = {name: f"{len(times)} of {config.rounds} runs" for name, times in seconds.items() if times}
        if remarks:
            yield timing.Table(f"to {100 * milestone:g} %", seconds, remarks)
    totals = {name: [run[-1][0] for run in runs] for name, runs in curves.items()}
    yield timing.Table("complete runs", totals, notes=notes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, who, seed, fields = sys.argv
        child(who, int(seed), Config(**json.loads(fields)))
    else:
        sys.exit(timing.main(sys.modules[__name__]))
