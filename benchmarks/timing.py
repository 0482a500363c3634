"""What every benchmark shares: alternatives that take turns in one process, medians and ratios, a table, JSON."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

Alternatives = Mapping[str, Callable[[], Any]]
Seconds = dict[str, list[float]]


def interleaved(alternatives: Alternatives, rounds: int, *, warm_up: int = 2) -> Seconds:
    """Seconds of each alternative, which returns when its work is done; every other round goes backwards."""
    names = list(alternatives)
    seconds: Seconds = {name: [] for name in names}
    for i in range(-warm_up, rounds):
        for name in names if i % 2 else reversed(names):
            start = time.perf_counter()
            alternatives[name]()
            if i >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def table(title: str, seconds: Seconds) -> None:
    """Medians, minima, and the ratio of each median to the first one's."""
    medians = {name: statistics.median(times) for name, times in seconds.items() if times}
    first = next(iter(medians.values()))
    print(f"{title}: milliseconds, median and least, and the ratio of medians")
    for name, median in medians.items():
        print(f"  {name:44} {1e3 * median:9.3f} {1e3 * min(seconds[name]):9.3f} {median / first:7.3f}")


def write(path: Path, config: Any, seconds: Any, packages: tuple[str, ...]) -> None:
    """The seconds with what they were measured by and on."""
    versions = {}
    for package in ("jax", "jaxlib", "numpy", *packages):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "missing"
    result = {
        "config": asdict(config),
        "seconds": seconds,
        "processor": _processor(),
        "versions": {"python": platform.python_version(), **versions},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2, default=str) + "\n")


def _processor() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
