"""python -m tests.compiling DEVICE NAME...: compiles programs of `test_portability` for devices that are not there.

Prints what each module shows, in JSON.
"""

import json
import sys

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.compile import modules, programs, targets
from tests.test_portability import PROGRAMS


def compiled(name, devices):
    """The module's loops, and what it needs."""
    program, arguments = PROGRAMS[name]()
    mesh = Mesh(np.array(devices[: 2 if name == "on two devices" else 1]), ("all",))
    shapes = programs.abstract(arguments, NamedSharding(mesh, PartitionSpec()))
    done = jax.jit(program).lower(*shapes).compile()
    text, memory = done.as_text(), done.memory_analysis()
    whole = modules.Module(text).whole
    return {
        "name": name,
        "all_reduces": [loop.all_reduces for loop in whole.everywhere()],
        "conditionals": text.count(" conditional("),
        "float64": "f64[" in text,
        "bytes": memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes,
    }


if __name__ == "__main__":
    device, *names = sys.argv[1:]
    found = targets.devices(device)
    jax.devices = lambda *_: found  # of which programs make their meshes
    for name in names:
        print(json.dumps(compiled(name, found)), flush=True)
