"""All results on one page: every experiment with its figure, claims, numbers, config and the command that runs it.

`write` reads `<folder>/<name>/result.json` and `figure.png` and writes a self-contained page. Runs from several folders
stand side by side, with the flags in which they differ. Experiments without a result are listed at the end with their
commands. Damaged results are reported on the page and on stderr.
"""

import base64
import dataclasses
import importlib
import itertools
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from matplotlib import image

from experiments import docstring
from experiments.runner import files
from experiments.runner.command import Settings, report_mistakes
from experiments.runner.experiment import Experiment, experiment_name
from experiments.runner.results import format_numbers

FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "experiment": str,
    "config": dict,
    "claims": dict,
    "numbers": dict,
    "seconds": (int, float),
    "device": str,
    "devices": int,
    "platform": str,
    "versions": dict,
}
"""The fields of `result.json` that the page needs, and their types."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A PNG file, and its size in pixels."""

    png: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclasses.dataclass(frozen=True)
class Run:
    """The results of an experiment in one folder; an unreadable `result` or `figure` is None."""

    folder: Path
    command: str
    problems: tuple[str, ...] = ()
    result: Mapping[str, Any] | None = None
    figure: Figure | None = None
    begun: bool = False

    @property
    def claims(self) -> Mapping[str, bool]:
        """Whether each claim holds."""
        return self.result["claims"] if self.result else {}

    @property
    def numbers(self) -> dict[str, str]:
        """Each number as text, with its standard error."""
        return format_numbers(self.result["numbers"]) if self.result else {}

    @property
    def config(self) -> dict[str, str]:
        """The flag and the value of each field, as text."""
        return {_flag(name): _text(value) for name, value in self.result["config"].items()} if self.result else {}

    @property
    def versions(self) -> str:
        """The versions of Python and of the packages."""
        return ", ".join(f"{name} {version}" for name, version in (self.result or {}).get("versions", {}).items())

    @property
    def time(self) -> str:
        """The duration of the run, and its device."""
        if not self.result:
            return ""
        seconds, device, platform, count = (self.result[name] for name in ("seconds", "device", "platform", "devices"))
        return f"{seconds:.1f} s on {device} ({platform}, {count} device{'' if count == 1 else 's'})"

    @property
    def state(self) -> str:
        """One of "damaged", "not run", "false" and "holds"."""
        if self.problems:
            return "damaged"
        if self.result is None:
            return "not run"
        return "holds" if all(self.claims.values()) else "false"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One experiment on the page, with a run for each folder."""

    name: str
    title: str
    paragraphs: tuple[str, ...]
    alt: str
    chapter: str
    runs: tuple[Run, ...]

    @property
    def state(self) -> str:
        """The first of "damaged", "false", "holds" and "not run" that is the state of a run."""
        states = [run.state for run in self.runs]
        return next(state for state in ("damaged", "false", "holds", "not run") if state in states)

    @property
    def shown(self) -> tuple[Run, ...]:
        """The runs with results, damaged ones included."""
        return tuple(run for run in self.runs if run.state != "not run")

    @property
    def differences(self) -> dict[str, list[str]]:
        """The flags, and the versions, in which the runs differ, with a text for each run."""
        rows = table([run.config for run in self.shown]) | {"versions": [run.versions for run in self.shown]}
        known = [run.result is not None for run in self.shown]
        return {
            name: texts
            for name, texts in rows.items()
            if len({text for text, is_known in zip(texts, known, strict=True) if is_known}) > 1
        }


def table(columns: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """A row for each key of any column, with an empty text where a column does not have it."""
    return {key: [column.get(key, "") for column in columns] for key in dict.fromkeys(itertools.chain(*columns))}


def write(experiments: Mapping[str, Experiment], folders: Sequence[Path], path: Path) -> int:
    """Writes the page of these experiments, modules by name, or leaves an older page unchanged.

    Returns the exit code: 1 when a claim is false, 2 when a result is damaged or a folder has no results.
    """
    with report_mistakes() as outcome:
        entries = [entry(module, folders) for module in experiments.values()]
        for i, folder in enumerate(folders):
            if all(found.runs[i].state == "not run" for found in entries):
                first = f"python -m experiments all --quick{_out(folder)}"
                raise ValueError(f"no results in {folder}; run some experiments first: {first}")
        files.write(path, page(entries, folders))
        for found in entries:
            for run in found.runs:
                for problem in run.problems:
                    again = f"{run.command}{_out(run.folder)}"
                    print(f"error: {found.name}: {problem}; to replace it, run {again}", file=sys.stderr)
        print(f"{summary(entries, folders)}; see {path}")
        states = {found.state for found in entries}
        false = any(not all(run.claims.values()) for found in entries for run in found.runs)
        outcome.code = 2 if "damaged" in states else int(false)
    return outcome.code


def _out(folder: Path) -> str:
    return "" if folder == Settings().out else f" --out {shlex.quote(str(folder))}"


def entry(experiment: Experiment, folders: Sequence[Path]) -> Entry:
    """An experiment with its results from each folder, if any."""
    name = experiment_name(experiment)
    title, *paragraphs = re.split(r"\n\s*\n", docstring(experiment) or name)
    return Entry(
        name=name,
        title=title,
        paragraphs=tuple(paragraphs),
        alt=docstring(experiment, "draw") or name,
        chapter=Path(experiment.__file__).parent.name,
        runs=tuple(read_run(experiment, folder) for folder in folders),
    )


def read_run(experiment: Experiment, folder: Path) -> Run:
    """The results of an experiment in a folder."""
    name = experiment_name(experiment)
    begun = (folder / name / "checkpoints").is_dir()
    run = Run(folder, command(experiment, {}), begun=begun)
    paths = [folder / name / file for file in ("result.json", "figure.png")]
    if not any(path.exists() for path in paths):
        return run
    problems, read = [], []
    for path, reader in zip(paths, (read_result, read_figure), strict=True):
        try:
            read.append(reader(path))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            problems.append(f"{path.name}: {reason}")
            read.append(None)
    result, figure = read
    if result and result["experiment"] != name:
        problems.append(f"result.json: must be of {name}, got {result['experiment']}")
        result = None
    if result:
        fields = {field.name for field in dataclasses.fields(experiment.Config)}
        if strange := sorted(fields ^ result["config"].keys()):
            problems.append(f"result.json: from another version, whose config differs in {', '.join(strange)}")
        run = dataclasses.replace(run, command=command(experiment, result["config"]))
    return dataclasses.replace(run, problems=tuple(problems), result=result, figure=figure)


def read_result(path: Path) -> dict[str, Any]:
    """The content of `result.json`. Raises ValueError when a field is missing or has the wrong type."""
    try:
        result = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON, {error}") from None
    if not isinstance(result, dict):
        raise ValueError(f"must be an object, got {json.dumps(result)[:40]}")
    for field, kind in FIELDS.items():
        if field not in result:
            raise ValueError(f"{field} is missing")
        if not isinstance(result[field], kind):
            raise ValueError(f"{field} has the wrong type, got {json.dumps(result[field])[:40]}")
    claims, numbers = result["claims"], result["numbers"]
    if not claims or not all(isinstance(holds, bool) for holds in claims.values()):
        raise ValueError("claims must be true or false, and at least one")
    try:
        format_numbers({**numbers, "seconds": result["seconds"]})
    except (OverflowError, TypeError, ValueError):
        raise ValueError("numbers must be numbers, each below 1e308") from None
    return result


def read_figure(path: Path) -> Figure:
    """A PNG file. Raises ValueError if it is of another kind or incomplete."""
    png = path.read_bytes()
    if not png.startswith(b"\x89PNG"):
        raise ValueError("not a PNG")
    if not png.endswith(b"IEND\xaeB`\x82"):
        raise ValueError("a damaged PNG, truncated")
    try:
        height, width, *_ = image.imread(path, format="png").shape
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"a damaged PNG, {error}") from None
    return Figure(png, width, height)


def command(experiment: Experiment, config: Mapping[str, Any]) -> str:
    """The shortest command that runs an experiment with this config, a dict read from JSON."""
    quick = experiment.Config.quick
    candidates = [_flags(experiment.Config(), config), ["--quick", *_flags(experiment.Config(**quick), config)]]
    return shlex.join(["python", "-m", "experiments", experiment_name(experiment), *min(candidates, key=len)])


def _flags(defaults: Any, config: Mapping[str, Any]) -> list[str]:
    """The flags for the fields that differ from the defaults."""
    flags = []
    for name, default in json.loads(json.dumps(dataclasses.asdict(defaults))).items():
        value = config.get(name, default)
        if value == default:
            continue
        if isinstance(value, bool):
            flags.append(_flag(name if value else f"no_{name}"))
        else:
            flags += [_flag(name), *map(str, value if isinstance(value, list) else [value])]
    return flags


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def summary(entries: Sequence[Entry], folders: Sequence[Path]) -> str:
    """The number of experiments with results, and of claims that hold, for each folder."""
    summaries = []
    for i, folder in enumerate(folders):
        runs = [found.runs[i] for found in entries]
        holds = [claim for run in runs for claim in run.claims.values()]
        done = sum(run.result is not None for run in runs)
        damaged = sum(run.state == "damaged" for run in runs)
        quick = sum(run.result is not None and "--quick" in run.command for run in runs)
        words = f"{done} of {len(runs)} experiments, {sum(holds)} of {len(holds)} claims hold"
        words += f", {damaged} damaged" if damaged else ""
        words += f"; {quick} at the small size of --quick" if quick else ""
        summaries.append(words if len(folders) == 1 else f"{folder}: {words}")
    return "\n".join(summaries)


def page(entries: Sequence[Entry], folders: Sequence[Path]) -> str:
    """The whole HTML page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shared = os.path.commonpath([folder.absolute() for folder in folders])
    environment.filters["short"] = lambda folder: os.path.relpath(folder.absolute(), shared)
    chapters: dict[str, list[Entry]] = {}
    for found in sorted(entries, key=lambda found: found.chapter):
        if found.state != "not run":
            title = docstring(importlib.import_module(f"experiments.{found.chapter}")) or found.chapter
            chapters.setdefault(title.rstrip("."), []).append(found)
    return environment.get_template("report.html").render(
        chapters=chapters,
        compared=len(folders) > 1,
        not_run=[found for found in entries if found.state == "not run"],
        summaries=summary(entries, folders).split("\n"),
        table=table,
    )
