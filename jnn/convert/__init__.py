"""Parameters to and from other libraries: torch and flax LSTMs, safetensors files, and the networks of Nielsen's book.

`to_torch`, `to_flax` and `from_flax` do not check the shapes of arrays: JAX raises ValueError or TypeError for those
that do not fit.
"""

from jnn.convert.arrays import (
    export,
    export_network2,
    from_flax,
    from_torch,
    load,
    load_network2,
    metadata,
    to_flax,
    to_torch,
)

__all__ = [
    "export",
    "export_network2",
    "from_flax",
    "from_torch",
    "load",
    "load_network2",
    "metadata",
    "to_flax",
    "to_torch",
]
