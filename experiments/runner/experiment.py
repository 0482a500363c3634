"""What an experiment is: a module with a config, a computation, claims about its numbers and a figure."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, get_type_hints

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arrays = Mapping[str, Any]
"""The arrays that `compute` returns, by name."""

Claims = Mapping[str, bool | np.bool]
"""Whether each claim holds."""


class Experiment(Protocol):
    """A module with four names, and a docstring that `--help`, the list and the report show.

    `Config` is a frozen dataclass whose fields are the flags; its `quick` holds the fields that `--quick` changes.
    `compute(config)` has a second parameter, `training`, if it trains; see `Training`.
    """

    __doc__: str | None
    __file__: str
    Config: Any

    @property
    def compute(self) -> Callable[..., dict[str, Any]]: ...
    def claims(self, config: Any, arrays: Arrays, /) -> Claims: ...
    def draw(self, figure: "Figure", config: Any, arrays: Arrays, /) -> None: ...


@dataclasses.dataclass(frozen=True)
class AtLeast:
    """The least value of a config's field, or of each entry of a tuple: `seeds: Annotated[int, AtLeast(2)] = 5`."""

    bound: float


Count = Annotated[int, AtLeast(1)]
Counts = Annotated[tuple[int, ...], AtLeast(1)]


def check(config: Any) -> None:
    """Raise ValueError for a field below its `AtLeast`."""
    for name, hint in get_type_hints(type(config), include_extras=True).items():
        for least in getattr(hint, "__metadata__", ()):
            for value in np.ravel(getattr(config, name)) if isinstance(least, AtLeast) else ():
                if value < least.bound:
                    raise ValueError(f"{name} must be at least {least.bound:g}, got {value}")


def expanded(name: str, path: Path) -> Path:
    """The path with ~ expanded, which shells leave in --out=~/runs. Raises ValueError where no home folder is known."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{name} must not start with ~ where no home folder is known, got {path}") from error


def experiment_name(experiment: Experiment) -> str:
    """`digits` for experiments/chapter_1/digits.py."""
    return Path(experiment.__file__).stem
