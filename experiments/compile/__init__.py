"""Compile the training runs of experiments for TPUs and GPUs, on a machine that has none.

XLA's own compilers make the programs' machine code, which shows whether they fit the device's memory, how many kernels
and all-reduces a step has, and the least time of a step: by its arithmetic, by its memory traffic, which counts what
every kernel reads and writes, and by its kernels, whose launches are assumed to take 3 microseconds on a GPU and 0.2 on
a TPU. A step is a mini-batch of all networks that train side by side. Of each experiment the first training run is
compiled, at its default size. <out>/compile/report.md has the results; they are also in report.json and, drawn, in
report.png. The exit code is 1 when a program does not fit or is refused.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import tyro

from experiments import docstring, names, runner
from experiments.compile import report, targets

Device = Literal["v5e", "v6e", "h100", "a100"]


@dataclasses.dataclass(frozen=True)
class Flags:
    experiments: tyro.conf.Positional[tuple[str, ...]] = ()
    """Experiments to compile; all that train by default."""
    device: tuple[Device, ...] = ("v5e",)
    """Devices to compile for."""
    devices: tuple[Literal[1, 4], ...] = (1,)
    """How many of them: one, four, or one and then four."""
    out: Path = Path("out")
    """Folder for the results, which go into its folder compile."""


def main(args: Sequence[str]) -> int:
    """Compile, with the flags `args`. Returns the exit code."""
    with runner.report_mistakes() as outcome:
        flags = runner.parse(Flags, "compile", docstring(sys.modules[__name__]), args)
        outcome.code = run(flags, runner.Settings(flags.out).out / "compile")
    return outcome.code


def run(flags: Flags, folder: Path) -> int:
    """Compile for each device in a process of its own, and write the report after each row. Returns the exit code."""
    chosen = chosen_names(flags.experiments)
    if absent := [package for device in flags.device for package in targets.missing(device)]:
        raise ImportError(f"compiling for {', '.join(flags.device)} needs {', '.join(absent)}: {targets.INSTALL}")
    written = report.Report(folder)
    for device in flags.device:
        for count in flags.devices:
            for row in rows(device, count, chosen):
                written.add(row)
    written.finish()
    print(f"{written.verdict()}; see {written.path}")
    return 0 if written.holds() else 1


def chosen_names(wanted: Sequence[str]) -> list[str]:
    """The experiments to compile. Raises ValueError for one that does not train."""
    from experiments.compile import programs  # late, as it loads all experiments

    trained = list(filter(programs.trains, names()))
    if others := sorted(set(wanted) - set(trained)):
        raise ValueError(
            f"experiments must be some that train, got {', '.join(others)}; these do: {', '.join(trained)}"
        )
    return list(dict.fromkeys(wanted)) or trained


def rows(device: str, count: int, chosen: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the row of each program; a compiler that ends the process has refused the program that it was at."""
    left = list(chosen)
    with tempfile.TemporaryDirectory() as folder:
        environment = targets.environment(device, folder)
        path = filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])
        environment["PYTHONPATH"] = os.pathsep.join(path)
        while left:
            log = Path(folder) / "log"
            command = [sys.executable, "-m", "experiments.compile.worker", device, str(count), *left]
            with (
                log.open("w") as errors,
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
            ):
                for line in process.stdout or ():
                    left.pop(0)
                    yield json.loads(line)
            if left:
                said = (log.read_text(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"])[-1]
                yield {"program": left.pop(0), "device": device, "devices": count, "error": said, "holds": False}
