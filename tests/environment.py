"""What must be set before JAX and jnn are imported: `tests.conftest` and `tests.mutants` import this first."""

import os
from importlib.metadata import version
from pathlib import Path

from beartype import beartype

OLDER = version("jaxlib").startswith("0.10.")
# Programs that another worker or an earlier run has compiled are not compiled again.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more spin while they wait, and a worker has a core
# Most of a test's time is compilation. What users compile is compiled in `test_as_users_run_it`.
if "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    flags = "--xla_cpu_parallel_codegen_split_count=1"  # 0.7 of the time
    if OLDER:  # an older way to compile, which 0.12 has not: 0.3 of the time
        flags += " --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()


def checked(f):
    """Check the types of arguments at run time; those of an inner function, which each call makes anew, if shapes."""
    return beartype(f) if "<locals>" not in f.__qualname__ or "jaxtyping" in str(f.__annotations__) else f
