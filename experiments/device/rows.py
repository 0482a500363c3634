"""What the parts of the report share: their config and their rows."""

import dataclasses
from typing import Any

Row = dict[str, Any]
"""A row of a table: a number, a text or nothing in each column. `holds` says whether it is as it must be."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What all parts get."""

    quick: bool = False
    """Use small sizes that still exercise everything."""
