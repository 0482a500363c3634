"""The config and the rows of the parts of the report."""

import dataclasses
from typing import Any

Row = dict[str, Any]
"""A row of a table: a number, a text or nothing in each column. `holds` is whether it is as required."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The config of all parts."""

    quick: bool = False
    """Use small sizes that still exercise everything."""
