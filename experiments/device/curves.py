"""[64, 30, 10] with the cross-entropy on the embedded digits: mean cost of an epoch on each, and the largest difference
in the cost of a mini-batch so far. Both draw the same numbers (Threefry); products have the precision "highest".
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from experiments.device.rows import Config, Row
from jnn import backprop, costs, data, mlp, train


def rows(config: Config) -> Iterator[Row]:
    """Yield whether the random numbers agree, then the curves, an epoch each."""
    devices = {"host": jax.devices("cpu")[0], "device": jax.devices()[0]}
    found = {name: trained(device, 3 if config.quick else 30) for name, device in devices.items()}
    same = np.array_equal(found["host"][0], found["device"][0])
    yield {"epoch": 0, "": "the same random numbers" if same else "other random numbers", "holds": same}
    losses = {name: np.asarray(of_one) for name, (_, of_one) in found.items()}
    apart = np.abs(losses["host"] - losses["device"])
    for t in range(len(apart)):
        row: Row = {"epoch": t + 1, **{name: float(of_one[t].mean()) for name, of_one in losses.items()}}
        yield row | {"apart": float(apart[: t + 1].max())}


def trained(device: Any, epochs: int) -> tuple[Any, Any]:
    """Random numbers drawn on the device, and the costs [epochs, steps] of a training run there."""
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        split = data.digits().train
        optimizer = train.sgd(0.5)
        state = train.init(optimizer, mlp.init(jax.random.key(1), (64, 30, 10)))
        grad = Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy)
        examples = split.xs, data.one_hot(split.labels, 10)
        options = {"epochs": epochs, "batch_size": 10, "progress": False}
        _, history = train.fit(jax.random.key(0), grad, optimizer, state, examples, **options)
        return np.asarray(jax.random.bits(jax.random.key(2), (10_000,))), history.losses
