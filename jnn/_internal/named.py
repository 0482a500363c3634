"""Values with a name in their module, such as `activations.sigmoid`."""

import functools
import inspect
import sys
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class Named:
    """The base of frozen dataclasses of functions: printed and pickled by name, described by a function's docstring.

    made_by: the function with the arguments that give the value again, if one does.
    """

    name: str
    made_by: functools.partial[Any] | None = field(default=None, compare=False, kw_only=True)
    _described_by: ClassVar[str] = "value"

    def __post_init__(self) -> None:
        for function in filter(None, (getattr(self, self._described_by), self.made_by and self.made_by.func)):
            if function.__doc__ and function.__doc__ != type(function).__doc__:  # not inherited
                object.__setattr__(self, "__doc__", inspect.getdoc(function))
                break

    def __repr__(self) -> str:
        return f"{type(self).__module__.removeprefix('jnn.')}.{self.name}"

    def __reduce__(self) -> Any:
        if self is getattr(sys.modules[type(self).__module__], self.name, None):
            return self.name
        return (self.made_by, ()) if self.made_by else super().__reduce__()
