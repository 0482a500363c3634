"""List the experiments, or run some or all of them: `python -m experiments [--quick] [--out DIR] [NAME ... | all]`.

`report`, alone or after what is to run, gathers all results in one page: `python -m experiments report`.
"""

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Annotated

import tyro

import experiments
from experiments import report, runner

MACHINERY = {"__main__", "report", "runner"}


def names() -> list[str]:
    """Every experiment, in alphabetical order."""
    return sorted({module.name for module in pkgutil.iter_modules(experiments.__path__)} - MACHINERY)


def main(
    names_or_all: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(name="names", metavar="NAME|all|report")
    ] = (),
    *,
    out: Path = Path("out"),
    quick: bool = False,
) -> int:
    """List the experiments, run those that are named, each with its default flags, or report on all that were run.

    Args:
        names_or_all: what to run; nothing lists them. Last of all, report writes report.html from all results.
        out: the folder that receives a folder of each experiment's name, and the report.
        quick: small sizes that still exercise everything.
    """
    modules = {name: importlib.import_module(f"experiments.{name}") for name in names()}
    if unknown := sorted(set(names_or_all) - modules.keys() - {"all", "report"}):
        print(f"error: no experiment {', '.join(unknown)}; there are: {', '.join(modules)}", file=sys.stderr)
        return 2
    if not names_or_all:
        for name, module in modules.items():
            print(f"{name:20} {(module.__doc__ or '').splitlines()[0]}")
        print("\npython -m experiments.NAME --help shows the flags of one, python -m experiments all runs all;")
        print("python -m experiments report gathers what was run in one page")
        return 0
    chosen = modules if "all" in names_or_all else [name for name in names_or_all if name != "report"]
    flags = ["--out", str(out), *(["--quick"] if quick else [])]
    codes = []
    for name in chosen:
        codes.append(runner.main(modules[name], flags))
        if codes[-1] == runner.INTERRUPTED:
            return runner.INTERRUPTED
    if "report" in names_or_all:
        codes.append(report.write(modules, out))
    return max(codes)


if __name__ == "__main__":
    sys.exit(tyro.cli(main, prog="python -m experiments", config=(tyro.conf.FlagCreatePairsOff,)))
