"""One page of what was run: every experiment with its figure, claims, numbers, config and the command that reruns it.

`write` reads `<out>/<name>/result.json` and `figure.png` and writes `<out>/report.html`, which needs no other file and
no network. What was not run is listed with its command; a damaged result is said, on the page and on stderr.
"""

import base64
import dataclasses
import inspect
import json
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from matplotlib import image

from experiments import runner

CHAPTERS = {
    "1": "Chapter 1: perceptrons and handwritten digits",
    "2": "Chapter 2: backpropagation",
    "3": "Chapter 3: costs and regularisation",
    "4": "Chapter 4: networks that compute any function",
    "5": "Chapter 5: recurrent nets and the LSTM",
    "": "Beyond the notes",
}
"""By the first digit of what an experiment's docstring names before its first colon, as in "Equation (3.22): ..."."""

FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "config": dict,
    "claims": dict,
    "numbers": dict,
    "seconds": (int, float),
    "device": str,
    "devices": int,
    "platform": str,
    "versions": dict,
}
"""What `result.json` must have for the page, besides its experiment."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A PNG as it is, and its size in pixels."""

    png: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The picture itself as an address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclasses.dataclass(frozen=True)
class Entry:
    """One experiment on the page; `result` and `figure` are None where there is none that can be read."""

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
        """What it claims, and whether that holds."""
        return self.result["claims"] if self.result else {}

    @property
    def numbers(self) -> dict[str, str]:
        """Each number for people, with its standard error."""
        return runner.headlines(self.result["numbers"]) if self.result else {}

    @property
    def state(self) -> str:
        """One of damaged, not run, false and holds."""
        if self.problems:
            return "damaged"
        if self.result is None:
            return "not run"
        return "holds" if all(self.claims.values()) else "false"


def write(experiments: Mapping[str, Any], out: Path) -> int:
    """Write the page of the experiments, modules by their names, whole or not at all.

    Returns the exit code: 1 when a claim is false, 2 when a result is damaged or there is none at all.
    """
    with runner.mistakes() as outcome:
        entries = [entry(module, out) for module in experiments.values()]
        if all(found.state == "not run" for found in entries):
            raise ValueError(f"no results in {out}; run some first, as with python -m experiments --quick all")
        path = out / "report.html"
        text = page(entries)
        with tempfile.TemporaryDirectory(dir=out, prefix=".writing-") as scratch:
            written = Path(scratch) / path.name
            written.write_text(text, encoding="utf-8")
            written.replace(path)
        for found in entries:
            for problem in found.problems:
                print(f"error: {found.name}: {problem}; {found.command} makes it anew", file=sys.stderr)
        print(f"{summary(entries)}; see {path}")
        states = {found.state for found in entries}
        false = any(not all(found.claims.values()) for found in entries)
        outcome.code = 2 if "damaged" in states else int(false)
    return outcome.code


def entry(experiment: Any, out: Path) -> Entry:
    """What there is of an experiment in a folder of results."""
    name = runner.name_of(experiment)
    title, *paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(experiment.__doc__ or name))
    number = re.search(r"\d", title.partition(":")[0])
    chapter = number.group() if number else ""
    found = Entry(
        name=name,
        title=title,
        paragraphs=tuple(paragraphs),
        alt=inspect.cleandoc(experiment.draw.__doc__ or name),
        chapter=chapter if chapter in CHAPTERS else "",
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
            said = error.strerror if isinstance(error, OSError) and error.strerror else error
            problems.append(f"{path.name}: {said}")
            read.append(None)
    result, figure = read
    if result and result["experiment"] != name:
        problems.append(f"result.json: of {result['experiment']}, where {name} is wanted")
        result = None
    if result:
        fields = {field.name for field in dataclasses.fields(experiment.Config)}
        if strange := sorted(fields ^ result["config"].keys()):
            problems.append(f"result.json: of another version, as the config differs in {', '.join(strange)}")
        found = dataclasses.replace(found, command=command(experiment, result["config"]))
    return dataclasses.replace(found, problems=tuple(problems), result=result, figure=figure)


def read_result(path: Path) -> dict[str, Any]:
    """What `result.json` holds; ValueError where something the page needs is missing or of a wrong kind."""
    try:
        result = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON, {error}") from None
    if not isinstance(result, dict) or not isinstance(result.get("experiment"), str):
        raise ValueError("it names no experiment")
    for field, kind in FIELDS.items():
        if field not in result:
            raise ValueError(f"without {field}")
        if not isinstance(result[field], kind):
            raise ValueError(f"{field} is {json.dumps(result[field])[:40]}, which is of a wrong kind")
    claims, numbers = result["claims"], result["numbers"]
    if not claims or not all(isinstance(holds, bool) for holds in claims.values()):
        raise ValueError("claims are wanted, each true or false")
    if not all(isinstance(number, int | float) for number in numbers.values()):
        raise ValueError("numbers has something else than a number")
    return result


def read_figure(path: Path) -> Figure:
    """A PNG that can be read to its end; ValueError where it cannot."""
    png = path.read_bytes()
    if not png.startswith(b"\x89PNG"):
        raise ValueError("not a PNG")
    if not png.endswith(b"IEND\xaeB`\x82"):
        raise ValueError("a damaged PNG, cut off before its end")
    try:
        height, width, *_ = image.imread(path, format="png").shape
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"a damaged PNG, {error}") from None
    return Figure(png, width, height)


def command(experiment: Any, config: Mapping[str, Any]) -> str:
    """The shortest command line that runs an experiment with this config, a dict as read from JSON."""
    quick = experiment.Config.quick
    candidates = [_flags(experiment.Config(), config), ["--quick", *_flags(experiment.Config(**quick), config)]]
    return shlex.join(["python", "-m", f"experiments.{runner.name_of(experiment)}", *min(candidates, key=len)])


def _flags(defaults: Any, config: Mapping[str, Any]) -> list[str]:
    """The flags for the fields that differ from the defaults."""
    flags = []
    for name, default in dataclasses.asdict(defaults).items():
        value = config.get(name, default)
        if value == (list(default) if isinstance(default, tuple) else default):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    return flags


def summary(entries: list[Entry]) -> str:
    """How many experiments were run, and how many claims hold."""
    holds = [claim for found in entries for claim in found.claims.values()]
    run = sum(found.result is not None for found in entries)
    damaged = sum(found.state == "damaged" for found in entries)
    said = f"{run} of {len(entries)} experiments, {sum(holds)} of {len(holds)} claims hold"
    quick = sum(found.result is not None and "--quick" in found.command for found in entries)
    said += f", {damaged} damaged" if damaged else ""
    return said + (f"; {quick} at the small size of --quick" if quick else "")


def page(entries: list[Entry]) -> str:
    """The whole HTML page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["flag"] = _flag
    chapters = {title: [found for found in entries if found.chapter == key] for key, title in CHAPTERS.items()}
    return environment.get_template("report.html").render(
        chapters={title: found for title, found in chapters.items() if found}, summary=summary(entries)
    )


def _flag(value: Any) -> str:
    """A field of a config as one reads it."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
