"""The report: the rows of each part, written to Markdown and JSON as they are measured, and a figure at the end."""

import dataclasses
import datetime
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from experiments import docstring, runner
from experiments.device.rows import Config, Row
from experiments.runner import files


class Measurement(Protocol):
    """A module whose docstring explains the columns of its table in the report."""

    __doc__: str | None

    @property
    def rows(self) -> Callable[[Config], Iterator[Row]]: ...


class Part(NamedTuple):
    """One table of the report; if a required one does not hold, the exit code is 1."""

    name: str
    title: str
    module: Measurement
    required: bool = False


@dataclasses.dataclass
class Found:
    """The measurements of a part, and the error that ended it."""

    part: Part
    rows: list[Row] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    error: str = ""

    @property
    def wrong(self) -> list[Row]:
        """The rows that do not hold."""
        return [row for row in self.rows if not row.get("holds", True)]

    @property
    def holds(self) -> bool:
        """Whether everything was measured, and holds."""
        return bool(self.rows) and not self.error and not self.wrong


class Report:
    """Runs parts, and writes their results into a folder after each row."""

    def __init__(self, folder: Path, config: Config) -> None:
        """Raises OSError if the folder cannot be written."""
        self.path, self.config, self.found = folder / "report.md", config, list[Found]()
        self.machine: dict[str, Any] = {}
        self._start = time.perf_counter()
        files.make(folder)

    def run(self, part: Part) -> None:
        """Measures a part. An error ends it and is reported; it is raised if the device then no longer answers."""
        found, start = Found(part), time.perf_counter()
        self.found.append(found)
        print(f"{part.title}:", flush=True)
        try:
            for row in part.module.rows(self.config):
                found.rows.append(row)
                found.seconds = time.perf_counter() - start
                print(f"  {line(row)}", flush=True)
                self.write()
                if not row.get("holds", True):
                    check_device()
        except runner.MISTAKES as error:
            found.error = (str(error) or type(error).__name__).splitlines()[0]
            try:
                check_device()
            except runner.MISTAKES:
                self.keep(error)
                raise error from None
            print(f"  error: {found.error}", flush=True)
            self.write()
        except KeyboardInterrupt as error:
            found.error = "interrupted"
            self.keep(error)
            raise

    def keep(self, error: BaseException) -> None:
        """Writes the results so far, and adds their place to the error."""
        if any(found.rows for found in self.found):
            self.write()
            error.add_note(f"what was measured is in {self.path}")

    def write(self) -> None:
        """Write report.md and report.json."""
        result = self.result()
        files.write(self.path.with_suffix(".json"), json.dumps(_finite(result), indent=2) + "\n")
        files.write(self.path, markdown(result))

    def finish(self) -> None:
        """Write everything, with the figure."""
        from experiments.device import figure  # late, as matplotlib takes half a second

        self.write()
        parts = {found.part.name: found.rows for found in self.found}
        figure.drawn(parts).savefig(self.path.with_suffix(".png"), metadata={"Software": None})

    def result(self) -> dict[str, Any]:
        """The content of report.json."""
        return {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "verdict": self.verdict(),
            "quick": self.config.quick,
            "seconds": round(time.perf_counter() - self._start, 1),
            **self.machine,
            "parts": [
                {
                    "name": found.part.name,
                    "title": found.part.title,
                    "about": docstring(found.part.module),
                    "required": found.part.required,
                    "seconds": round(found.seconds, 1),
                    "error": found.error,
                    "rows": found.rows,
                }
                for found in self.found
            ],
        }

    def verdict(self) -> str:
        """Whether everything required holds so far."""
        failed = [found for found in self.found if not found.holds and (found.part.required or found.error)]
        if not failed:
            return "everything holds"
        said = [found.error or f"{len(found.wrong)} of {len(found.rows)} rows do not hold" for found in failed]
        return "; ".join(f"{found.part.title}: {text}" for found, text in zip(failed, said, strict=True))

    def code(self) -> int:
        """The exit code: 1 if something required does not hold, 2 if something else was not measured."""
        if not all(found.holds for found in self.found if found.part.required):
            return 1
        return 2 if any(found.error for found in self.found) else 0


def check_device() -> None:
    """Raise an error unless the device answers, and each platform in JAX_PLATFORMS is there.

    Where JAX_PLATFORMS names the host, too, JAX uses that without a word if there is no other.
    """
    try:
        for platform in filter(None, os.environ.get("JAX_PLATFORMS", "").split(",")):
            jax.devices(platform)
        np.asarray(jnp.zeros(1) + 1)
    except (AssertionError, RuntimeError) as error:
        raise jax.errors.JaxRuntimeError(f"the device does not answer: {error}") from error


def line(row: Row) -> str:
    """A row in one line."""
    said = [_cell(value) for name, value in row.items() if name != "holds" and value not in ("", None)]
    return ("" if row.get("holds", True) else "FALSE ") + "  ".join(said)


def markdown(result: Mapping[str, Any]) -> str:
    """The page, from the content of report.json."""
    versions = ", ".join(f"{name} {version}" for name, version in result.get("versions", {}).items())
    size = ", at the quick size" if result["quick"] else ""
    lines = [
        f"# {result['devices']} x {result['device']}" if "device" in result else "# The device is not open yet",
        f"{result['date']}: `python -m experiments device`{size}, {result['seconds']:.0f} s so far; {versions}",
        f"**{result['verdict']}**",
    ]
    for part in result["parts"]:
        about = " ".join(part["about"].split())
        lines += [f"## {part['title']}", about, table(part["rows"]), f"{part['seconds']:.0f} s."]
        lines += [f"Error: {part['error']}"] if part["error"] else []
    return "\n\n".join(filter(None, lines)) + "\n"


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not columns:
        return ""
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return "\n".join(lines + ["| " + " | ".join(_cell(row.get(name)) for name in columns) + " |" for row in rows])


def _finite(tree: Any) -> Any:
    """Replaces infinities and NaN, which JSON lacks, by text."""
    return jax.tree.map(lambda leaf: str(leaf) if isinstance(leaf, float) and not np.isfinite(leaf) else leaf, tree)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value or "")
