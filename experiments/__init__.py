"""One module for each figure or claim of the notes: `python -m experiments` lists and runs them.

`read` is no experiment, it reads the digits in pictures of the user's; nor is `device`, which shows what holds on the
user's device, and how fast it is.

Each has four names: a frozen dataclass `Config`, whose fields are the flags and whose `quick` holds those that
`--quick` changes; `compute(config)`, which returns a dict of arrays; `claims(config, arrays)`, which returns whether
each claim holds; and `draw(figure, config, arrays)`.
"""

import gc
import importlib.abc
import importlib.util
import os
import pkgutil
import sys

MACHINERY = frozenset({"__main__", "corpus", "device", "page", "read", "recipes", "report", "runner", "specimens"})


def names() -> list[str]:
    """Every experiment, in alphabetical order."""
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} - MACHINERY)


def _is_command() -> bool:
    """Whether Python is about to run this package or a module of it, by -m."""
    return sys.argv[:1] == ["-m"]


class _NoSuchExperiment(importlib.abc.MetaPathFinder):
    """Says which experiments there are where `python -m experiments.NAME` finds none of that name."""

    def find_spec(self, fullname: str, *_: object) -> None:
        package, name = fullname.rpartition(".")[::2]
        if package == __name__ and _is_command():
            print(f"error: no experiment {name}; there are: {', '.join(names())}", file=sys.stderr)
            raise SystemExit(2)


if _is_command():
    if missing := [name for name in ("jax", "matplotlib", "tyro") if importlib.util.find_spec(name) is None]:
        install = 'activate the environment in which jnn is installed, or install it: pip install ".[experiments]"'
        print(f"error: the experiments need {', '.join(missing)}; {install}", file=sys.stderr)
        raise SystemExit(2)
    # Members factorise small matrices side by side; OpenBLAS's threads would spin while they wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.set_threshold(100_000)  # objects between collections: with 700, importing jnn takes 1.15 times as long
sys.meta_path.append(_NoSuchExperiment())
