"""Seconds before the first result: importing jnn, and an experiment with a cold and with a warm compilation cache.

Each runs in its own process, interleaved. `import jnn` is compared with importing its dependencies alone; what
it adds to them is measured inside a process, without the start and end of the process.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import timing

PACKAGES = ("optax",)
DEPENDENCIES = "import jax, jaxtyping, optax"
OWN = f"import time; {DEPENDENCIES}; start = time.perf_counter(); import jnn; print(time.perf_counter() - start)"


@dataclass(frozen=True)
class Config:
    """Number of timings."""

    quick: ClassVar[Mapping[str, Any]] = {"rounds": 1, "experiment": ("fig_4_1_step", "--quick")}

    rounds: int = 5
    """Timings of each process."""
    experiment: tuple[str, ...] = ("digits",)
    """An experiment and its flags, timed with a cold and with a warm cache."""


def process(*arguments: str, cache: Path | None = None) -> Callable[[], None]:
    """A function that runs Python with the arguments until it exits."""
    env = os.environ | ({} if cache is None else {"JAX_COMPILATION_CACHE_DIR": str(cache)})
    return lambda: _run([sys.executable, *arguments], env)


def _run(command: list[str], env: Mapping[str, str]) -> None:
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def own_import() -> float:
    """Seconds that `import jnn` takes once its dependencies are loaded."""
    return float(subprocess.run([sys.executable, "-c", OWN], check=True, capture_output=True, text=True).stdout)


def measure(config: Config) -> Iterator[timing.Table]:
    """Yield the tables of the imports, then of the experiment."""
    imports = {"dependencies alone": process("-c", DEPENDENCIES), "import jnn": process("-c", "import jnn")}
    table = timing.Table("import", timing.interleaved(imports, config.rounds, warm_up=1))
    own = statistics.median(own_import() for _ in range(config.rounds))
    yield table._replace(notes=(f"import jnn takes {1e3 * own:.0f} ms after its dependencies",))
    name, *flags = config.experiment
    with tempfile.TemporaryDirectory() as scratch:
        arguments = ["-m", "experiments", name, *flags, "--out", f"{scratch}/out"]
        folders = iter(range(10 * config.rounds + 10))
        warm = Path(scratch, "warm")

        def cold() -> None:
            process(*arguments, cache=Path(scratch, str(next(folders))))()

        alternatives = {"warm cache": process(*arguments, cache=warm), "cold cache": cold}
        seconds = timing.interleaved(alternatives, config.rounds, warm_up=1)
    yield timing.Table(f"python -m experiments {' '.join(config.experiment)}", seconds)


if __name__ == "__main__":
    sys.exit(timing.main(sys.modules[__name__]))
