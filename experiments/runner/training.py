"""Training within an experiment: members side by side, on all devices, with checkpoints if the runner keeps them."""

import dataclasses
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import NamedSharding
from jaxtyping import Array, Key

from jnn import parallel, train
from jnn.checkpoint import Checkpoints


@dataclasses.dataclass(frozen=True)
class Training:
    """How an experiment trains: on all devices and, where it has a folder, with checkpoints and a progress bar.

    The runner hands one to every `compute` that has a parameter `training`, whose default is `ALONE`.

    Attributes:
      folder: Where each training run keeps its checkpoints, in a folder of its own; None for a run without.
      config: The config of the experiment, which the checkpoints hold.
      resume: Whether to continue from the checkpoints.
      used: The names of the folders in use.
    """

    folder: Path | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    resume: bool = False
    used: set[str] = dataclasses.field(default_factory=set)

    def fit(
        self,
        key: Key[Array, "*members"],
        *args: Any,
        batch_size: int,
        name: str = "training",
        recurrent: bool = False,
        **options: Any,
    ) -> tuple[train.State, train.History]:
        """Calls `train.fit` on all devices. Every process gets the whole state.

        Ensemble members are distributed over the devices. If there are fewer members than devices, mini-batches are
        split instead; on a CPU only those of a single recurrent net, as splitting slows all other training.

        Args:
          key: A key for each ensemble member.
          args: The other positional arguments of `train.fit`.
          batch_size: The number of examples in a mini-batch.
          name: The name of this training run among those of the experiment.
          recurrent: Whether the net is recurrent.
          options: Keyword arguments of `train.fit`.

        Returns:
          The state and the history.

        Raises:
          ValueError: If the experiment has already used the name.
          KeyboardInterrupt: On Ctrl-C.
        """
        checkpoints = self.checkpoints(name)
        shared = shared_sharding(key.size, batch_size, recurrent=recurrent, devices=jax.devices())
        options = {"progress": checkpoints is not None, "catch_interrupt": False, "sharding": shared, **options}
        return parallel.local(train.fit(key, *args, batch_size=batch_size, checkpoints=checkpoints, **options))

    def checkpoints(self, name: str) -> Checkpoints | None:
        """The checkpoints of the training run of this name. Raises ValueError when the name has already been used."""
        if self.folder is None:
            return None
        folder = re.sub(r"[^\w.]+", "-", name).strip("-.").lower() or "_"
        if folder in self.used:
            raise ValueError(f"each training run of an experiment must have its own name, got {name!r} again")
        self.used.add(folder)
        # The work of less than 30 seconds is repeated.
        return Checkpoints(self.folder / folder, seconds=30, final=False, resume=self.resume, config=self.config)


ALONE = Training()
"""Training outside of the runner, as in a notebook: without checkpoints and progress bar."""


def init_members(
    key: Key[Array, ""], seeds: int, init: Callable[[Key[Array, ""]], train.State]
) -> tuple[train.State, Key[Array, " seeds"]]:
    """The states `init(key)` of `seeds` networks side by side, and the keys that train them, for `Training.fit`."""

    @jax.jit
    def start(key: Key[Array, ""]) -> tuple[train.State, Key[Array, " seeds"]]:
        init_keys, train_keys = jax.random.split(key, (2, seeds))
        return jax.vmap(init)(init_keys), train_keys

    return start(key)


def shared_sharding(members: int, batch_size: int, *, recurrent: bool, devices: Sequence[Any]) -> NamedSharding | None:
    """The sharding of mini-batches over as many devices as divide them, or None if each device trains whole members.

    Devices that cannot share a mini-batch repeat the work of others, which a line on stderr reports.

    On a CPU, splitting slows all but recurrent nets: with two devices on two cores an epoch of [784, 30, 10] in
    mini-batches of 10 takes 3 times as long, of [784, 800, 10] in mini-batches of 100 1.6 times.
    """
    if jax.process_count() == 1:
        on_cpu = jax.default_backend() == "cpu" and devices[0].platform == "cpu"
        if members >= len(devices) or (on_cpu and (members > 1 or not recurrent)):
            return None
        if on_cpu:
            devices = devices[: cores()]
    count = len(devices)
    share = math.gcd(batch_size, count)
    if share < count and jax.process_index() == 0:
        advice = f"a --batch-size divisible by {count} uses all"
        print(f"{share} of {count} devices share a mini-batch of {batch_size}; {advice}", file=sys.stderr)
    return parallel.batches(parallel.mesh(model=count // share, devices=devices))


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
