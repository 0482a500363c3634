"""Run an experiment with every combination of some flags' values, and show their numbers in one table and one figure.

python -m experiments sweep digits --eta 0.1 0.5 --hidden 30 100    run it four times
python -m experiments sweep digits --hidden 30 30,20 --epochs 5     join several numbers of one value by commas

A flag with one value holds for all runs. As many run at a time as with `all`. Each writes its results into a folder of
its own, <out>/sweep_NAME/FLAG=VALUE,.../NAME; table.csv and figure.png are in <out>/sweep_NAME. All flags of the
experiment can be given, and --out, --quick and --resume, but not --weights, as all runs would write the same file.
"""

import csv
import dataclasses
import io
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import jax
import numpy as np
import tyro

from experiments import docstring, load, names
from experiments.runner import files
from experiments.runner.command import INTERRUPTED, Settings, print_any_character, read_flags, report_mistakes
from experiments.runner.experiment import check
from experiments.runner.report import read_result
from experiments.runner.results import ERROR, format_number
from experiments.runner.several import run_each

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARED = ("--out", "--quick", "--resume")

Choices = Mapping[str, Sequence[str]]
"""The values of each flag."""

Results = Mapping[tuple[str, ...], Mapping[str, Any]]
"""The content of `result.json` for each combination of the values."""


def main(args: Sequence[str]) -> int:
    """Runs the sweep with these words of the command line. Returns the exit code."""
    if not args or {"--help", "-h"} & set(args):
        print(docstring(sys.modules[__name__]))
        return 0 if args else 2
    (name, *rest), codes = args, {}
    print_any_character()
    with report_mistakes() as outcome:
        if name not in names():
            raise ValueError(f"sweep must be followed by the name of an experiment, got {name}: {', '.join(names())}")
        flags = read(rest)
        shared = [word for flag in SHARED if flag in flags for word in (flag, *flags.pop(flag))]
        settings = tyro.cli(Settings, args=shared)
        folder = settings.out / f"sweep_{name}"
        commands = combine(name, flags, [word for word in shared if word in SHARED[1:]])
        choices = {flag: values for flag, values in flags.items() if len(values) > 1}
        labels = {values: label(choices, values) for values in commands}
        if len(set(labels.values())) < len(labels):
            raise ValueError(f"values must differ in more than punctuation, got {'; '.join(map(', '.join, labels))}")
        runs = {labels[values]: [*line, "--out", str(folder / labels[values])] for values, line in commands.items()}
        with files.writable(folder):
            codes = dict(run_each(runs))
            if INTERRUPTED in codes.values() or jax.process_index():  # the first process writes
                return max(codes.values())
            found = {
                values: read_result(folder / labels[values] / name / "result.json")
                for values in commands
                if codes[labels[values]] in (0, 1)
            }
            if not found:
                raise ValueError("at least one run of a sweep must succeed, got none; their messages are above")
            write(folder, choices, found)
        outcome.code = 0
    return max([outcome.code, *codes.values()])


def read(args: Sequence[str]) -> dict[str, list[str]]:
    """The values of each flag, without repetitions. Raises ValueError for a repeated flag."""
    flags: dict[str, list[str]] = {}
    for word in itertools.chain.from_iterable(arg.split("=", 1) if arg.startswith("--") else [arg] for arg in args):
        if word.startswith("--"):
            if word in flags:
                raise ValueError(f"each flag must be given once, with all of its values, got {word} again")
            flags[word] = []
        elif not flags:
            raise ValueError(f"a value must follow its flag, got {word}: sweep NAME --eta 0.1 0.5")
        elif word not in (values := flags[list(flags)[-1]]):
            values.append(word)
    return flags


def combine(name: str, flags: Choices, shared: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
    """The name and the flags of each run, by its values of the flags that have several values.

    Raises ValueError, or exits, if a run would refuse its flags.
    """
    config = load(name).Config
    hints = get_type_hints(config)
    fields = {f"--{field.name.replace('_', '-')}": field for field in dataclasses.fields(config)}
    for flag in flags:
        if flag not in fields and flag.replace("--no-", "--", 1) not in fields:
            raise ValueError(f"{flag} is not a flag of {name}; there are: {', '.join((*fields, *SHARED))}")
        if flag == "--weights" and Path in get_args(hints["weights"]):
            raise ValueError("--weights must not be given to a sweep, whose runs would all write the same file")
    if all(len(values) < 2 for values in flags.values()):
        raise ValueError("a flag must have at least two values, such as --eta 0.1 0.5, got none")

    def words(flag: str, value: str) -> list[str]:
        kinds = get_args(hints[fields[flag].name])
        is_joined = kinds and kinds[0] in (int, float)  # texts may hold commas
        return [flag, *(value.split(",") if is_joined else [value])]

    commands = {}
    for values in itertools.product(*(values or [""] for values in flags.values())):
        pairs = dict(zip(flags, values, strict=True))
        line = [word for flag, value in pairs.items() for word in (words(flag, value) if flags[flag] else [flag])]
        check(read_flags(load(name), [*shared, *line]).config)
        commands[tuple(value for flag, value in pairs.items() if len(flags[flag]) > 1)] = [name, *shared, *line]
    return commands


def label(choices: Choices, values: Sequence[str]) -> str:
    """The name of a run and of its folder: eta=0.1,hidden=30."""
    pairs = zip(choices, values, strict=True)
    return ",".join(re.sub(r"[^\w.,=+-]+", "-", f"{flag.removeprefix('--')}={value}") for flag, value in pairs)


def write(folder: Path, choices: Choices, results: Results) -> None:
    """Prints the table, and writes it as table.csv and the figure as figure.png."""
    from experiments.runner import figures  # late, as matplotlib takes half a second

    keys = list(dict.fromkeys(key for result in results.values() for key in result["numbers"]))
    shown = [key for key in keys if not key.endswith(ERROR)]
    names = [flag.removeprefix("--") for flag in choices]
    rows = [[*names, *(key.replace("_", " ") for key in shown), "claims"]]
    lines = [[*names, *keys, "claims that hold", "claims", "seconds"]]
    for values, result in results.items():
        numbers, claims = result["numbers"], list(result["claims"].values())
        texts = [format_number(key, numbers) if key in numbers else "" for key in shown]
        rows.append([*values, *texts, f"{sum(claims)} of {len(claims)} hold"])
        lines.append([*values, *(numbers.get(key, "") for key in keys), sum(claims), len(claims), result["seconds"]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    files.write(folder / "table.csv", text.getvalue())
    figure = figures.drawn(lambda figure: draw(figure, choices, results, shown))
    figure.savefig(folder / "figure.png", metadata={"Software": None})
    print(f"{len(results)} runs; see {folder}")


def draw(figure: "Figure", choices: Choices, results: Results, keys: Sequence[str]) -> None:
    """A panel for each number: along its x-axis the first flag's values, and a line for each choice of the others."""
    (along, ticks), *others = choices.items()
    columns = min(3, len(keys))
    rows = -(-len(keys) // max(1, columns))
    figure.set_size_inches(3.6 * max(1, columns), 0.4 + 2.8 * max(1, rows))
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False)) if keys else []
    for axes, key in itertools.zip_longest(panels, keys):
        if key is None:
            axes.set_axis_off()
            continue
        for rest in itertools.product(*(values for _, values in others)):
            numbers = [results.get((tick, *rest), {}).get("numbers", {}) for tick in ticks]
            y, error = ([n.get(name, np.nan) for n in numbers] for name in (key, key + ERROR))
            pairs = zip(others, rest, strict=True)
            line = ", ".join(f"{flag.removeprefix('--')} {value}" for (flag, _), value in pairs)
            axes.errorbar(range(len(ticks)), y, error if np.isfinite(error).any() else None, fmt="o-", label=line)
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set(xlabel=along.removeprefix("--").replace("-", " "), title=key.replace("_", " "))
    if others and len(panels):
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
