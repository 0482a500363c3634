"""Run some or all benchmarks, each in its own process: `python -m benchmarks [--quick] [--out DIR] [NAME ...]`.

Each writes <out>/<name>.json; then a page named after the processor gathers the tables of its results in the folder.
"""

import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import tyro

import benchmarks
from benchmarks import timing

MACHINERY = {"__main__", "timing"}


def names() -> list[str]:
    """Every benchmark, in alphabetical order."""
    return sorted({module.name for module in pkgutil.iter_modules(benchmarks.__path__)} - MACHINERY)


def page(folder: Path) -> str:
    """The tables of all results of this processor in a folder, as a Markdown page."""
    parts = [
        f"# {timing.processor()}",
        "Medians over interleaved runs, as multiples of the first column's. `make benchmarks` writes this page.",
    ]
    for name in names():
        path = folder / f"{name}.json"
        result = json.loads(path.read_text()) if path.exists() else {}
        if result.get("processor") != timing.processor():
            continue
        tables = [timing.Table(**table) for table in result["tables"]]
        versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
        where = f"threads: {result['threads']}, devices: {result['devices']}; {result['noise']}; {versions}"
        parts += [f"## {name}", f"`python -m benchmarks.{name}`; {where}"]
        groups: dict[tuple[str, ...], list[timing.Table]] = {}
        for table in tables:
            groups.setdefault(tuple(table.seconds), []).append(table)
        parts += [timing.markdown(group) for group in groups.values()]
    return "\n\n".join(parts) + "\n"


def main(
    names_to_run: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(name="names", metavar="NAME")] = (),
    *,
    out: Path = Path("out/benchmarks"),
    quick: bool = False,
) -> int:
    """Run the named benchmarks, or all of them.

    Args:
        names_to_run: benchmarks to run; by default all.
        out: the folder for the results.
        quick: use small sizes that still exercise everything.
    """
    if unknown := sorted(set(names_to_run) - set(names())):
        print(f"error: no benchmark {', '.join(unknown)}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    codes = []
    for name in names_to_run or names():
        print(f"{name}:", flush=True)
        flags = ["--out", str(out), *(["--quick"] if quick else [])]
        try:
            codes.append(subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *flags], check=False).returncode)
        except KeyboardInterrupt:
            print("interrupted; earlier results are kept", file=sys.stderr)
            return 130
    out.mkdir(parents=True, exist_ok=True)
    words = re.findall(r"\w+", timing.processor().lower())
    path = out / f"{'-'.join(words)}.md"
    path.write_text(page(out))
    print(f"see {path}")
    return max(codes)


if __name__ == "__main__":
    sys.exit(tyro.cli(main, prog="python -m benchmarks", config=(tyro.conf.FlagCreatePairsOff,)))
