"""The report: a row for each program as it is compiled, in Markdown and JSON, and a figure at the end."""

import datetime
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from experiments.device.report import line, table
from experiments.runner import files

Row = dict[str, Any]
PACKAGES = ("jnn", "jax", "jaxlib", "libtpu", "jax-cuda12-plugin", "jax-cuda12-pjrt")
TIMES = ("arithmetic", "memory", "launches")


class Report:
    """Prints rows, and writes them into a folder after each."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError if the folder cannot be written."""
        self.path, self.rows = folder / "report.md", list[Row]()
        files.make(folder)

    def add(self, row: Row) -> None:
        """Print it, and write report.md and report.json."""
        self.rows.append(row)
        print(line(row), flush=True)
        result = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "verdict": self.verdict(),
            "versions": versions(),
            "rows": self.rows,
        }
        files.write(self.path.with_suffix(".json"), json.dumps(result, indent=2) + "\n")
        files.write(self.path, markdown(result))

    def holds(self) -> bool:
        """Whether every program compiles and fits."""
        return all(row["holds"] for row in self.rows)

    def verdict(self) -> str:
        """How many programs compile and fit."""
        return f"{sum(row['holds'] for row in self.rows)} of {len(self.rows)} programs compile and fit"

    def finish(self) -> None:
        """Draw the times."""
        from experiments.runner import figures  # late, as matplotlib takes half a second

        drawn = figures.drawn(lambda figure: draw(figure, [row for row in self.rows if "bound by" in row]))
        drawn.savefig(self.path.with_suffix(".png"), metadata={"Software": None})


def versions() -> dict[str, str]:
    """The packages whose versions matter, as far as they are installed."""
    found = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in PACKAGES if name in found}


def markdown(result: dict[str, Any]) -> str:
    """The page, from what report.json holds."""
    said = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    kinds = dict.fromkeys((row["device"], row["devices"]) for row in result["rows"])
    about = f"{result['date']}: `python -m experiments compile`; {said}"
    lines = ["# Compiled, not run", about, f"**{result['verdict']}**"]
    for device, count in kinds:
        alike = [row for row in result["rows"] if (row["device"], row["devices"]) == (device, count)]
        hidden = ("device", "devices", "holds")
        lines += [f"## {count} x {device}", table([{k: v for k, v in row.items() if k not in hidden} for row in alike])]
    return "\n\n".join(lines) + "\n"


def draw(figure: Any, rows: list[Row]) -> None:
    """The least times of a step, a point for each program and what may bound it."""
    figure.set_size_inches(9, 1.6 + 0.25 * len(rows))
    axes, places = figure.subplots(), range(len(rows))
    for i, name in enumerate(TIMES):
        axes.semilogx([row[f"{name} us"] for row in rows], places, "os^"[i], color=f"C{i}", label=name)
    axes.set_yticks(places, [f"{row['program']}, {row['devices']} x {row['device']}" for row in rows], fontsize="small")
    axes.invert_yaxis()
    axes.set(xlabel="least time of a step / us, as compiled")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
