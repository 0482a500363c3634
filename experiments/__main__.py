"""List the experiments, run some or all of them, or report on their results.

python -m experiments                      list the experiments
python -m experiments digits --epochs 3    run one; its own flags: python -m experiments digits --help
python -m experiments digits bits --quick  run several, with the flags below
python -m experiments all                  run all, on a CPU as many at a time as it has cores
python -m experiments sweep digits --eta 0.1 0.5 --hidden 30 100
                                           run every combination; more: python -m experiments sweep --help
python -m experiments report               gather all results in one page, <out>/report.html
python -m experiments report DIR...        compare the results of several --out folders, <out>/comparison.html
python -m experiments read photo.jpg       read the digits in pictures; more: python -m experiments read --help
python -m experiments explore              write a page in which the figures of the notes move
python -m experiments device               check and measure everything on your GPU, TPU or CPU
python -m experiments compile              compile training runs for a TPU or GPU that is not there

--out DIR  folder for the results, by default out
--quick    use small sizes that still exercise everything
--resume   continue interrupted runs of the same configs

The exit code is 1 if a claim is false, 2 for a mistake or a file that cannot be written, 3 for a defect, 130 after
Ctrl-C, and else 0. Several experiments exit with the largest of their codes.
"""

import importlib
import importlib.util
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import docstring, load, names


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns the exit code."""
    args = list(sys.argv[1:] if args is None else args)
    if args[:1] in (["read"], ["explore"], ["device"], ["compile"]):
        return importlib.import_module(f"experiments.{args[0]}").main(args[1:])
    if args[:1] == ["sweep"]:
        return importlib.import_module("experiments.runner.sweep").main(args[1:])
    words, flags = _split(args)
    unknown = [word for word in words if word not in (*names(), "all", "report")]
    folders = [word for word in unknown if "report" in words and Path(word).is_dir()]
    if unknown := [word for word in unknown if word not in folders]:
        hint = f"; a folder is named by --out {unknown[0]}" if Path(unknown[0]).is_dir() else ""
        hint += "; nor a folder to report on" if "report" in words else ""
        print(f"error: no experiment {', '.join(unknown)}; there are: {', '.join(names())}{hint}", file=sys.stderr)
        return 2
    if len(words) == 1 and words[0] in names():
        from experiments import runner  # late, as it needs packages that may not be installed

        return runner.main(load(*words), flags)
    if {"--help", "-h"} & set(flags):
        print(docstring(sys.modules[__name__]))
        return 0
    return _run([word for word in words if word not in folders], flags, list(map(Path, dict.fromkeys(folders))))


def _run(words: Sequence[str], flags: Sequence[str], folders: Sequence[Path]) -> int:
    """Lists the experiments if there are no words; else runs the experiments they name, and writes the report."""
    import tyro

    from experiments import runner

    settings, others = tyro.cli(runner.Settings, args=flags, return_unknown_args=True, add_help=False)
    if others:
        print(f"error: {others[0]} is not a flag of the command, only of a single experiment", file=sys.stderr)
        return 2
    if not words:
        for name in names():
            first, *_ = docstring(load(name)).split("\n")
            print(f"{name:20} {first}")
        print("\nRead pictures of digits with python -m experiments read FILE...")
        print("Write a page in which the figures of the notes move with python -m experiments explore")
        print("Check and measure everything on your GPU, TPU or CPU with python -m experiments device")
        print("Compile them for a TPU or GPU that is not there with python -m experiments compile")
        print("Run one with python -m experiments NAME; all commands: python -m experiments --help")
    chosen = names() if "all" in words else [name for name in dict.fromkeys(words) if name != "report"]
    codes = [0, *(code for _, code in runner.run_each({name: [name, *flags] for name in chosen}))]
    if "report" in words and runner.INTERRUPTED not in codes:
        from experiments.runner import report  # late, as it loads what the others do not need

        path = settings.out / "comparison.html"
        if len(folders) < 2:
            folders = folders or [settings.out]
            path = folders[0] / "report.html"
        codes.append(report.write({name: load(name) for name in names()}, folders, path))
    return max(codes)


def _split(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names and the flags. Names may stand anywhere among the shared flags, but must precede all others."""
    names, flags, rest = [], [], iter(args)
    for arg in rest:
        if arg == "--out":
            flags += [arg, *itertools.islice(rest, 1)]
        elif arg in ("--quick", "--resume") or arg.startswith("--out="):
            flags.append(arg)
        elif arg.startswith("-"):
            return names, [*flags, arg, *rest]
        else:
            names.append(arg)
    return names, flags


def _is_missing() -> bool:
    """Reports the missing packages that every experiment needs in one line. Returns whether there are any."""
    missing = [name for name in ("jax", "matplotlib", "tyro") if importlib.util.find_spec(name) is None]
    if missing:
        install = 'activate the environment in which jnn is installed, or install it: pip install ".[experiments]"'
        print(f"error: the experiments need {', '.join(missing)}; {install}", file=sys.stderr)
    return bool(missing)


if __name__ == "__main__":
    # Members factorise small matrices side by side; OpenBLAS's threads would spin while they wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code = 2 if _is_missing() else main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # which Python flushes when it exits
        code = 141  # as in a shell
    raise SystemExit(code)
