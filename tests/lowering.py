"""Lowering programs for machines that are not at hand, and reading what comes out."""

import contextlib
import functools
import re

import jax
import numpy as np
import pytest
from jax import export

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
RANDOM = ("cu_threefry2x32_ffi", "hip_threefry2x32_ffi")
JAXS_OWN = re.compile(
    r"Sharding|SPMDFullToShardShape|SPMDShardToFullShape"  # where arrays lie
    rf"|{'|'.join(RANDOM)}"  # random bits on GPUs
    r"|Eigh|Qr|ProductOfElementaryHouseholderReflectors|Cholesky"  # linear algebra: of a TPU,
    r"|(lapack|cusolver|hipsolver|cu|hip)_\w+_ffi"  # and of the others
)


def lowered(program, *args, **kwargs):
    """The module of a jitted program, lowered for every platform at once."""
    checks = [export.DisabledSafetyCheck.custom_call(name) for name in RANDOM]
    exported = export.export(program, platforms=PLATFORMS, disabled_checks=checks)(*args, **kwargs)
    assert exported.platforms == PLATFORMS
    return exported.mlir_module()


def strangers(module):
    """What a portable program has no need of: float64, callbacks to the host, calls that JAX does not make itself."""
    calls = set(re.findall(r"custom_call @([\w.$]+)", module)) | set(
        re.findall(r'call_target_name = "([^"]+)"', module)
    )
    doubles = ["float64"] if re.search(r"[x<]f64>", module) else []
    return sorted(call for call in calls if not JAXS_OWN.fullmatch(call)) + doubles


def kind_of(leaf):
    """The dtype and shape of an array; a static argument itself."""
    return str(jax.typeof(leaf)) if isinstance(leaf, jax.Array | np.ndarray | np.generic | float) else leaf


@contextlib.contextmanager
def recorded(*modules):
    """Every program of `modules`, and every one that `jax.jit` makes, that is called: (program, args, kwargs).

    Calls with the same shapes count once; programs inside of others are parts of these.
    """
    programs, seen = [], set()

    def recording(program):
        @functools.wraps(program)
        def call(*args, **kwargs):
            leaves, structure = jax.tree.flatten((args, kwargs))
            if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
                known = (program, structure, *map(kind_of, leaves))
                if known not in seen:
                    seen.add(known)
                    programs.append((program, args, kwargs))
            return program(*args, **kwargs)

        call.lower, call.trace = program.lower, program.trace
        return call

    jit, kind = jax.jit, type(jax.jit(abs))
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            for name, value in list(vars(module).items()):
                if isinstance(value, kind):
                    patch.setattr(module, name, recording(value))
        patch.setattr(jax, "jit", lambda f, **options: recording(jit(f, **options)))
        yield programs
