"""Training within an experiment: members side by side, on all devices, with checkpoints when the runner keeps them."""

import contextlib
import contextvars
import dataclasses
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import NamedSharding
from jaxtyping import Array, Key

from jnn import parallel, train
from jnn.checkpoint import Checkpoints


def fit(
    key: Key[Array, "*members"], *args: Any, name: str = "training", recurrent: bool = False, **options: Any
) -> tuple[train.State, train.History]:
    """`train.fit` on all devices, with checkpoints in the folder of the running experiment.

    Members are spread over the devices, or mini-batches split where there are fewer members than devices: on a CPU
    only those of a single recurrent net, as others are slower split. Every process gets the whole state.

    name: what to call this training among those of the experiment; it names the checkpoints' folder.
    Without a running experiment, as in a notebook, there are no checkpoints and no progress bar.

    Ctrl-C raises KeyboardInterrupt.

    Raises ValueError when the experiment has already used the name.
    """
    shared = _sharding(key.size, options["batch_size"], recurrent=recurrent)
    options = {"catch_interrupt": False, "sharding": shared, **options}
    folders = _folders.get()
    if folders is None:
        return parallel.local(train.fit(key, *args, **{"progress": False, **options}))
    return parallel.local(train.fit(key, *args, checkpoints=folders.checkpoints(name), **options))


def init_members(key: Any, seeds: int, init: Callable[[Any], train.State]) -> tuple[train.State, Any]:
    """The states `init(key)` of `seeds` networks side by side, and the keys that train them, for `fit`."""

    @jax.jit
    def start(key: Any) -> tuple[train.State, Any]:
        init_keys, train_keys = jax.random.split(key, (2, seeds))
        return jax.vmap(init)(init_keys), train_keys

    return start(key)


@contextlib.contextmanager
def keeping_checkpoints(folder: Path, config: Mapping[str, Any], *, resume: bool) -> Iterator[None]:
    """Within the block, each `fit` keeps its checkpoints in a folder of its own and, if wanted, resumes from them."""
    token = _folders.set(_Folders(folder, config, resume))
    try:
        yield
    finally:
        _folders.reset(token)


@dataclasses.dataclass(frozen=True)
class _Folders:
    """One folder of checkpoints for each training run of the running experiment."""

    parent: Path
    config: Mapping[str, Any]
    resume: bool
    used: set[str] = dataclasses.field(default_factory=set)

    def checkpoints(self, name: str) -> Checkpoints:
        folder = re.sub(r"[^\w.]+", "-", name).strip("-.").lower() or "_"
        if folder in self.used:
            raise ValueError(f"each training run of an experiment must have its own name, got {name!r} again")
        self.used.add(folder)
        return Checkpoints(self.parent / folder, seconds=30, resume=self.resume, config=self.config)


def _sharding(members: int, batch_size: int, *, recurrent: bool) -> NamedSharding | None:
    """Mini-batches split over as many devices as divide them, or None where a device trains whole members.

    Devices that cannot share a mini-batch repeat the work of others, and a line on stderr says so.

    On a CPU splitting slows other than recurrent nets: with two devices on two cores an epoch of [784, 30, 10] in
    mini-batches of 10 takes 3 times as long, of [784, 800, 10] in mini-batches of 100 1.6 times.
    """
    devices = jax.devices()
    if jax.process_count() == 1:
        on_cpu = jax.default_backend() == "cpu"
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


_folders: contextvars.ContextVar[_Folders | None] = contextvars.ContextVar("_folders", default=None)
