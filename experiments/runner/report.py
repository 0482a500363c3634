"""All results on one page: every experiment with its figure, claims, numbers, config and the command that runs it.

`write` reads `<out>/<name>/result.json` and `figure.png` and writes `<out>/report.html`, a self-contained page. It
lists experiments without a result with their command, and reports damaged results, on the page and on stderr.
"""

import base64
import dataclasses
import importlib
import json
import re
import shlex
import sys
from collections.abc import Mapping
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
class Entry:
    """One experiment on the page; an unreadable `result` or `figure` is None."""

    name: str
    title: str
    paragraphs: tuple[str, ...]
    alt: str
    chapter: str
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
    def state(self) -> str:
        """One of "damaged", "not run", "false" and "holds"."""
        if self.problems:
            return "damaged"
        if self.result is None:
            return "not run"
        return "holds" if all(self.claims.values()) else "false"


def write(experiments: Mapping[str, Experiment], out: Path) -> int:
    """Write the page of these experiments, modules by name, or leave an older page intact.

    Returns the exit code: 1 when a claim is false, 2 when a result is damaged or there are no results.
    """
    there = "" if out == Settings().out else f" --out {shlex.quote(str(out))}"
    with report_mistakes() as outcome:
        entries = [entry(module, out) for module in experiments.values()]
        if all(found.state == "not run" for found in entries):
            first = f"python -m experiments all --quick{there}"
            raise ValueError(f"no results in {out}; run some experiments first: {first}")
        path = out / "report.html"
        files.write(path, page(entries))
        for found in entries:
            for problem in found.problems:
                print(f"error: {found.name}: {problem}; to replace it, run {found.command}{there}", file=sys.stderr)
        print(f"{summary(entries)}; see {path}")
        states = {found.state for found in entries}
        false = any(not all(found.claims.values()) for found in entries)
        outcome.code = 2 if "damaged" in states else int(false)
    return outcome.code


def entry(experiment: Experiment, out: Path) -> Entry:
    """An experiment with its result from the folder `out`, if there is one."""
    name = experiment_name(experiment)
    title, *paragraphs = re.split(r"\n\s*\n", docstring(experiment) or name)
    found = Entry(
        name=name,
        title=title,
        paragraphs=tuple(paragraphs),
        alt=docstring(experiment, "draw") or name,
        chapter=Path(experiment.__file__).parent.name,
        command=command(experiment, {}),
        begun=(out / name / "checkpoints").is_dir(),
    )
    files = [out / name / file for file in ("result.json", "figure.png")]
    if not any(path.exists() for path in files):
        return found
    problems, read = [], []
    for path, reader in zip(files, (read_result, read_figure), strict=True):
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
        found = dataclasses.replace(found, command=command(experiment, result["config"]))
    return dataclasses.replace(found, problems=tuple(problems), result=result, figure=figure)


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
    """A PNG file. Raises ValueError when it is not one or not complete."""
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
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    return flags


def summary(entries: list[Entry]) -> str:
    """The number of experiments with results, and of claims that hold."""
    holds = [claim for found in entries for claim in found.claims.values()]
    run = sum(found.result is not None for found in entries)
    damaged = sum(found.state == "damaged" for found in entries)
    quick = sum(found.result is not None and "--quick" in found.command for found in entries)
    words = f"{run} of {len(entries)} experiments, {sum(holds)} of {len(holds)} claims hold"
    words += f", {damaged} damaged" if damaged else ""
    return words + (f"; {quick} at the small size of --quick" if quick else "")


def page(entries: list[Entry]) -> str:
    """The whole HTML page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["flag"] = lambda value: " ".join(map(str, value)) if isinstance(value, list) else str(value)
    chapters: dict[str, list[Entry]] = {}
    for found in sorted(entries, key=lambda found: found.chapter):
        title = docstring(importlib.import_module(f"experiments.{found.chapter}")) or found.chapter
        chapters.setdefault(title.rstrip("."), []).append(found)
    return environment.get_template("report.html").render(chapters=chapters, summary=summary(entries))
