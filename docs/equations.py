"""Write docs/equations.md, the index of the notes' numbers: `python -m docs.equations`, after a change of any line.

The source is equations.toml. Every name in it is looked up in the code as it stands, without importing it, so that
links lead to today's lines and a name that is gone is an error.
"""

import ast
import functools
import re
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
SOURCE, TARGET = ROOT / "docs/equations.toml", ROOT / "docs/equations.md"
KEYS = ("what", "functions", "tests", "experiments", "erratum")
NUMBER = r"\d(?:[._]\d+){1,2}"
HEAD = """# Equations

Every numbered equation, exercise and figure of the notes: the function that is it, the test that holds them together,
the experiment that shows it, and what the notes have wrong there. A link leads to the line that bears the number, or
to the definition. Each chapter has a notebook.

This page is made by `python -m docs.equations` from [equations.toml](equations.toml); a test compares the two.
"""


class Place(NamedTuple):
    """One definition: the file, relative to the project, the first line, and the lines."""

    path: str
    first: int
    lines: list[str]

    def link(self, text: str, number: str) -> str:
        """A link to the line whose comment names the number, or to the first."""
        tagged = (i for i, line in enumerate(self.lines) if number in named(line.partition("#")[2]))
        return f"[{text}](../{self.path}#L{self.first + next(tagged, 0)})"


@functools.cache
def definitions(path: str) -> dict[str, Place]:
    """The functions, classes and constants at the top level of a file, constants with the docstring below them."""
    text = (ROOT / path).read_text(encoding="utf-8")
    lines, body = text.splitlines(), ast.parse(text).body
    found = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        last = node.end_lineno or node.lineno
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                last = after.end_lineno or last
        else:
            continue
        found |= {name: Place(path, node.lineno, lines[node.lineno - 1 : last]) for name in names}
    return found


def place(folder: str, name: str) -> Place:
    """Where `module.name` of jnn/ or tests/ is defined. Raises ValueError where it is not."""
    module, _, short = name.partition(".")
    path = f"{folder}/{module}.py"
    if not (ROOT / path).is_file() or short not in (known := definitions(path)):
        raise ValueError(f"equations.toml names {name}; {path} has no such definition: correct the name")
    return known[short]


def named(text: str) -> set[str]:
    """Every number that a text names: of "(2.4) to (2.6)" all three, of "figures 4.2, 4.3" both; also "figure_4_2"."""

    def each(match: re.Match[str]) -> str:
        left, chapter, first, right, last = match.groups()
        return ", ".join(f"{left}{chapter}.{n}{right}" for n in range(int(first), int(last) + 1))

    text = re.sub(r"(\(?)(\d)\.(\d+)(\)?) to \(?\2\.(\d+)\)?", each, " ".join(text.lower().split()))
    found = set(re.findall(r"\([1-5]\.[1-9]\d?\)", text))
    for kind, numbers in re.findall(rf"(exercise|figure|section)s?[ _]({NUMBER}(?:(?:,| and) {NUMBER})*)", text):
        found |= {f"{kind} {number.replace('_', '.')}" for number in re.findall(NUMBER, numbers)}
    return found


def chapters() -> dict[str, dict[str, Any]]:
    """The chapters of equations.toml: of each its title, and a table for every number."""
    return tomllib.loads(SOURCE.read_text(encoding="utf-8"))


def page() -> str:
    """equations.md as it should be now. Raises ValueError for a name that does not exist."""
    parts = [HEAD]
    for chapter, entries in chapters().items():
        parts.append(f"\n## Chapter {chapter}: {entries.pop('title', '')}\n")
        parts.append(f"\n[Notebook](../notebooks/chapter_{chapter}.ipynb)\n")
        parts.append("\n| notes | what | function | test | experiment | erratum |\n|---|---|---|---|---|---|\n")
        parts += [_row(label, entry) for label, entry in entries.items()]
    return "".join(parts)


def _row(label: str, entry: dict[str, Any]) -> str:
    if "what" not in entry or not set(entry) <= set(KEYS):
        raise ValueError(f"equations.toml: {label} has {', '.join(entry)}; {', '.join(KEYS)} are wanted")
    number = label.partition(",")[0]
    functions = [place("jnn", name).link(f"`{name}`", number) for name in entry.get("functions", [])]
    tests = [place("tests", name).link(_said(name), number) for name in entry.get("tests", [])]
    experiments = [f"[`{name}`](../{_experiment(name)})" for name in entry.get("experiments", [])]
    cells = [label, entry["what"], *map(", ".join, (functions, tests, experiments)), entry.get("erratum", "")]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def _said(test: str) -> str:
    """The name of a test as words: "a step is section 2.2"."""
    words = test.partition(".")[2].removeprefix("test_")
    return re.sub(r"(\d)_(?=\d)", r"\1.", words).replace("_", " ")


def _experiment(name: str) -> str:
    path = f"experiments/{name}.py"
    if not (ROOT / path).is_file():
        raise ValueError(f"equations.toml names the experiment {name}; there is no {path}: correct the name")
    return path


def main() -> int:
    """Write the page whole, or say in one line what is wrong. Returns the exit code."""
    try:
        text = page()
        written = TARGET.with_name(".equations.md.writing")
        written.write_text(text, encoding="utf-8")
        written.replace(TARGET)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
