"""The interface of an experiment: a module with a config, a computation, claims about its numbers and a figure."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, get_args, get_origin, get_type_hints

import jax
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arrays = Mapping[str, Any]
"""The arrays that `compute` returns, by name."""

Claims = Mapping[str, bool | np.bool]
"""Whether each claim holds."""


class Experiment(Protocol):
    """A module with five names, and a docstring that `--help`, the list and the report show.

    `Config` is a frozen dataclass whose fields are the flags; its `quick` holds the fields that `--quick` changes.
    `ARRAYS` holds the axes and the meaning of each array that `compute` returns, by its name or by a pattern:
    `"curves_*": ("seeds epochs", "the accuracy after each epoch")`. The first key that matches counts.
    `compute(config)` has a second parameter, `training`, if it trains; see `Training`. A sixth name is optional:
    `MATMUL_PRECISION`, the precision of products, is "highest" unless set, as claims about exactness need.
    """

    __doc__: str | None
    __file__: str
    Config: Any
    ARRAYS: dict[str, tuple[str, str]]

    @property
    def compute(self) -> Callable[..., dict[str, Any]]: ...
    def claims(self, config: Any, arrays: Arrays, /) -> Claims: ...
    def draw(self, figure: "Figure", config: Any, arrays: Arrays, /) -> None: ...


@dataclasses.dataclass(frozen=True)
class AtLeast:
    """The least value of a field of a config, by default 1 of whole numbers: `seed: Annotated[int, AtLeast(0)] = 0`.

    For a tuple it bounds each number, and `numbers` is the least length.
    """

    bound: float
    numbers: int = 1


NotNegative = Annotated[float, AtLeast(0)]


def check(config: Any) -> None:
    """Raises ValueError for numbers that are not finite or below their `AtLeast`, and for tuples with too few."""
    for field in dataclasses.fields(config):
        hint, value = get_type_hints(type(config), include_extras=True)[field.name], getattr(config, field.name)
        kind, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        kinds = {kind, *get_args(kind)}
        if not kinds & {int, float}:
            continue
        (least,) = metadata or [AtLeast(1 if int in kinds else -math.inf)]
        values = value if isinstance(value, tuple) else (value,)
        if len(values) < least.numbers:
            raise ValueError(f"{field.name} must have at least one number, got none")
        for number in values:
            if not math.isfinite(number):
                raise ValueError(f"{field.name} must be finite, got {number}")
            if number < least.bound:
                raise ValueError(f"{field.name} must be at least {least.bound:g}, got {number}")


def expanded(name: str, path: Path) -> Path:
    """The path with ~ expanded, which shells leave in --out=~/runs. Raises ValueError if no home is known."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{name} must not start with ~ where no home folder is known, got {path}") from error


def matmul_precision(experiment: Experiment) -> AbstractContextManager[None]:
    """The context in which products have the experiment's `MATMUL_PRECISION`."""
    return jax.default_matmul_precision(getattr(experiment, "MATMUL_PRECISION", "highest"))


def experiment_name(experiment: Experiment) -> str:
    """`digits` for experiments/chapter_1/digits.py."""
    return Path(experiment.__file__).stem
