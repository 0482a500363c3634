"""Values with a docstring of their own, which `help` and editors show in place of that of their class."""

import inspect
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Described:
    """The base of frozen dataclasses whose keyword `doc` describes an instance; comparisons ignore it."""

    doc: str | None = field(default=None, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.doc:
            object.__setattr__(self, "__doc__", inspect.cleandoc(self.doc))
