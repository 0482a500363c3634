"""Shared by all benchmarks: flags, interleaved timing of alternatives, tables, JSON.

A benchmark is a module with `Config`, a frozen dataclass whose fields are its flags and whose `quick` has the values
that `--quick` sets; `measure(config)`, which yields `Table`s; and `PACKAGES`, whose versions are recorded.
"""

import dataclasses
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np
import tyro

from experiments.runner.training import cores

Alternatives = Mapping[str, Callable[[], Any]]
Seconds = Mapping[str, Sequence[float]]
C = TypeVar("C")


class Table(NamedTuple):
    """The seconds of each alternative at one size, remarks on single alternatives, and notes on all of them."""

    title: str
    seconds: Seconds
    remarks: Mapping[str, str] = {}
    notes: Sequence[str] = ()

    @property
    def medians(self) -> dict[str, float]:
        """The median of every alternative that was timed."""
        return {name: statistics.median(times) for name, times in self.seconds.items() if times}


def interleaved(alternatives: Alternatives, rounds: int, *, warm_up: int = 2) -> dict[str, list[float]]:
    """Times each alternative, a function that returns when its work is done; every other round reverses their order."""
    names = list(alternatives)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(-warm_up, rounds):
        for name in names if i % 2 else reversed(names):
            start = time.perf_counter()
            alternatives[name]()
            if i >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def memory(program: Any) -> int:
    """Bytes that a compiled program allocates in addition to its arguments and results."""
    return program.memory_analysis().temp_size_in_bytes


def plain_text(table: Table) -> str:
    """Medians, minima, and the ratio of each median to the first, as text."""
    medians = table.medians
    first = next(iter(medians.values()))
    lines = [f"{table.title}: milliseconds, median and minimum, and ratio of medians"]
    for name, median in medians.items():
        numbers = f"{1e3 * median:11.3f} {1e3 * min(table.seconds[name]):11.3f} {median / first:8.3f}"
        lines.append(f"  {name:44} {numbers}  {table.remarks.get(name, '')}".rstrip())
    return "\n".join([*lines, *(f"  {note}" for note in table.notes)])


def markdown(tables: Sequence[Table]) -> str:
    """The tables in Markdown: a row for each table, a column for each alternative, ratios of medians in the cells."""
    columns = list(dict.fromkeys(name for table in tables for name in table.medians))
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    notes = []
    for table in tables:
        medians = table.medians
        first, base = next(iter(medians.items()))
        cells = {name: f"{median / base:.3g}" for name, median in medians.items()} | {first: f"1 ({1e3 * base:.4g} ms)"}
        for name, remark in table.remarks.items():
            cells[name] += f" ({remark})"
        lines.append(f"| {table.title} | " + " | ".join(cells.get(name, "") for name in columns) + " |")
        notes += [f"- {table.title}: {note}" for note in table.notes]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


@dataclasses.dataclass(frozen=True)
class _Flags(Generic[C]):
    config: Annotated[C, tyro.conf.arg(name="")]
    out: Path = Path("out/benchmarks")
    """The folder for the results, a JSON file with this benchmark's name."""
    quick: bool = False
    """Use small sizes that still exercise everything."""


def main(benchmark: Any, args: Sequence[str] | None = None) -> int:
    """Run one benchmark with the flags in `args`, by default the command line's: time, print and write."""
    args = sys.argv[1:] if args is None else args
    name = Path(benchmark.__file__).stem
    try:
        quick = benchmark.Config.quick if "--quick" in args else {}
        flags = tyro.cli(
            _Flags[benchmark.Config],
            prog=f"python -m benchmarks.{name}",
            description=benchmark.__doc__,
            args=args,
            default=_Flags(config=benchmark.Config(**quick)),
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        about = machine(benchmark.PACKAGES)
        print(f"{about['processor']}: {about['noise']}", flush=True)
        tables = []
        for table in benchmark.measure(flags.config):
            print(plain_text(table), flush=True)
            tables.append(table)
        _write(flags.out / f"{name}.json", flags.config, tables, about)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


def machine(packages: Sequence[str] = ()) -> dict[str, Any]:
    """The processor and how steady it is, the device, XLA's threads, and the versions of the packages."""
    return {
        "processor": processor(),
        "noise": noise(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.local_device_count(),
        "threads": max(int(os.environ.get("NPROC", cores())), jax.local_device_count()),
        "versions": {"python": platform.python_version()}
        | {package: _version(package) for package in ("jax", "jaxlib", "numpy", *packages)},
    }


def noise() -> str:
    """How the time of the same work differs between ten times."""
    square = np.random.default_rng(0).random((1000, 1000))
    seconds = interleaved({"product": lambda: square @ square}, 10)["product"]
    fastest, slowest = (of(seconds) / statistics.median(seconds) for of in (min, max))
    return f"the same work ten times takes {fastest:.2f} to {slowest:.2f} of its median"


def _write(path: Path, config: Any, tables: Sequence[Table], about: Mapping[str, Any]) -> None:
    result = {"config": dataclasses.asdict(config), "tables": [table._asdict() for table in tables], **about}
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".writing")
    written.write_text(json.dumps(result, indent=2, default=str) + "\n")
    written.replace(path)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def processor() -> str:
    """The name of the processor, as far as the system reports it, and its cores."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores()} cores"


def missing(modules: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each missing module of {import name: package}."""
    for module, package in modules.items():
        if importlib.util.find_spec(module) is None:
            yield f"{package} is missing: pip install '.[peers]'"
