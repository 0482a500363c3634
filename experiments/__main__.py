"""List the experiments, or run some or all of them: `python -m experiments [--quick] [--out DIR] [NAME ... | all]`."""

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Annotated

import tyro

import experiments
from experiments import runner

MACHINERY = {"__main__", "runner"}


def names() -> list[str]:
    """Every experiment, in alphabetical order."""
    return sorted({module.name for module in pkgutil.iter_modules(experiments.__path__)} - MACHINERY)


def main(
    names_or_all: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(name="names", metavar="NAME|all")
    ] = (),
    *,
    out: Path = Path("out"),
    quick: bool = False,
) -> int:
    """List the experiments, or run those that are named, each with its default flags.

    Args:
        names_or_all: what to run; nothing lists them.
        out: the folder that receives a folder of each experiment's name.
        quick: small sizes that still exercise everything.
    """
    modules = {name: importlib.import_module(f"experiments.{name}") for name in names()}
    if unknown := sorted(set(names_or_all) - modules.keys() - {"all"}):
        print(f"error: no experiment {', '.join(unknown)}; there are: {', '.join(modules)}", file=sys.stderr)
        return 2
    if not names_or_all:
        for name, module in modules.items():
            print(f"{name:20} {(module.__doc__ or '').splitlines()[0]}")
        print("\npython -m experiments.NAME --help shows the flags of one, python -m experiments all runs all")
        return 0
    chosen = modules if "all" in names_or_all else names_or_all
    flags = ["--out", str(out), *(["--quick"] if quick else [])]
    return max(runner.main(modules[name], flags) for name in chosen)


if __name__ == "__main__":
    sys.exit(tyro.cli(main, prog="python -m experiments", config=(tyro.conf.FlagCreatePairsOff,)))
