"""Checks and measures the device that JAX uses: a GPU, a TPU or a CPU.

Trains in a process that is killed and resumes it, holds the hand-derived gradients against float64 on the host, runs
every experiment at its quick size, trains a network on host and device, and measures training runs as a share of what
the device can do; beside torch and flax, where they are installed. <out>/device/report.md has the results; they are
also in report.json and, drawn, in report.png. The exit code is 1 when a gradient, an experiment or a resumed training
run is wrong.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from experiments import docstring, runner
from experiments.device import curves, every, gradients, resumed, seen, speed
from experiments.device.report import Part, Report, check_device
from experiments.device.rows import Config

PARTS = (
    Part("resumed", "A training run that is killed and resumed", resumed, required=True),
    Part("seen", "What JAX sees", seen),
    Part("gradients", "Gradients by hand, against float64 on the host", gradients, required=True),
    Part("every", "Every experiment at its quick size", every, required=True),
    Part("curves", "The same training on host and device", curves),
    Part("speed", "Speed", speed),
)
"""In the order in which they run: the processes of the first need the device before this process opens it."""


@dataclasses.dataclass(frozen=True)
class Flags(Config):
    out: Path = Path("out")
    """Folder for the results, which go into its subfolder device."""


def main(args: Sequence[str]) -> int:
    """Check and measure, with the flags `args`. Returns the exit code."""
    runner.cache_compilations()
    with runner.report_mistakes() as outcome:
        flags = runner.parse(Flags, "device", docstring(sys.modules[__name__]), args)
        outcome.code = run(flags, runner.Settings(flags.out).out / "device")
    return outcome.code


def run(config: Config, folder: Path) -> int:
    """Run all parts and write the report after each row. Returns the exit code."""
    with_host()
    report = Report(folder, config)
    first, *others = PARTS
    report.run(first)
    runner.open_devices()
    check_device()
    report.machine = runner.machine()
    for part in others:
        report.run(part)
    report.finish()
    print(f"{report.verdict()}; see {report.path}")
    return report.code()


def with_host() -> None:
    """Lets JAX also use the host if JAX_PLATFORMS names only other platforms."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):
        jax.config.update("jax_platforms", f"{platforms},cpu")
