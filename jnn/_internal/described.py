"""Values that `help` and editors describe by the docstring of one of their functions, not by that of their class."""

import inspect
from collections.abc import Callable


def describe(value: object, function: Callable[..., object]) -> None:
    """Give a frozen value the docstring of its function, if that has one of its own."""
    if function.__doc__ != type(function).__doc__:
        object.__setattr__(value, "__doc__", inspect.getdoc(function))
