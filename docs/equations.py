"""Write docs/equations.md, the index of the notes' numbers: `python -m docs.equations`.

A function of jnn/ carries its numbers in its docstring and comments, a test in its mark `equation`. equations.toml
says what neither can, and a notebook shows the formula. The code is read, not imported.
"""

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
KEYS = ("what", "functions", "experiments", "erratum")
NUMBER = r"\d(?:\.\d+){1,2}"
PUBLIC = re.compile(r"[a-z]\w*\.[A-Za-z]\w*")
HEAD = """# Equations

Every numbered equation, exercise and figure of the notes: the functions that implement it, the tests that check it, the
experiments that show it, and what is wrong in the notes.

`python -m docs.equations` writes this page. Its sources are the docstrings and comments of `jnn`, the marks of the
tests, the notebooks and [equations.toml](equations.toml); a test compares them.
"""

Places = dict[str, list[str]]
"""For each number or label, the names of the functions or tests that carry it, sorted."""


def chapters(root: Path) -> dict[str, dict[str, Any]]:
    """The chapters of equations.toml: the title of each, and a table for every label."""
    try:
        return tomllib.loads((root / "docs/equations.toml").read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"docs/equations.toml: {error}") from error


def number_of(label: str) -> str:
    """The number in a label: several rows share "section 5.1", and their labels continue after a comma."""
    return label.partition(",")[0]


def named(text: str) -> set[str]:
    """Every number that a text names: all three of "(2.4) to (2.6)", both of "figures 4.2, 4.3"."""

    def each(match: re.Match[str]) -> str:
        chapter, first, last = match.groups()
        return ", ".join(f"({chapter}.{n})" for n in range(int(first), int(last) + 1))

    text = re.sub(r"\((\d)\.(\d+)\) to \(\1\.(\d+)\)", each, " ".join(text.lower().split()))
    found = set(re.findall(r"\([1-5]\.[1-9]\d?\)", text))
    for kind, numbers in re.findall(rf"(exercise|figure|section)s? ({NUMBER}(?:(?:,| and) {NUMBER})*)", text):
        found |= {f"{kind} {number}" for number in re.findall(NUMBER, numbers)}
    return found


def functions(root: Path) -> Places:
    """For each number, the definitions in jnn/ whose docstring or comments name it, the private ones too."""
    found = defaultdict(set)
    for path in modules(root):
        room = path.relative_to(root / "jnn").parts[0].removesuffix(".py")
        for name, text in _prose(path).items():
            for number in named(text):
                found[number].add(f"{room}.{name}")
    return {number: sorted(names) for number, names in found.items()}


def formulas(root: Path) -> dict[str, str]:
    """The formula of each numbered equation, from the notebook that derives it."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(root.glob("notebooks/chapter_*.py")))
    blocks = re.findall(r"^# \$\$(.*?)\$\$", text, re.S | re.M)
    tagged = {number: block for block in blocks for number in re.findall(r"\\tag\{([\d.]+)\}", block)}
    return {f"({number})": " ".join(block.replace("\n# ", " ").split()) for number, block in tagged.items()}


def modules(root: Path) -> list[Path]:
    """The modules of jnn, without those of its private folder."""
    return sorted(path for path in (root / "jnn").rglob("*.py") if "_internal" not in path.parts)


def files(root: Path) -> dict[str, str]:
    """The file of each definition, below the root, by its public module and name."""
    return {
        f"{path.relative_to(root / 'jnn').parts[0].removesuffix('.py')}.{name}": path.relative_to(root).as_posix()
        for path in modules(root)
        for name in _prose(path)
    }


def _prose(path: Path) -> dict[str, str]:
    """The docstrings and comments of each top-level definition; those outside of all under an empty name.

    A constant such as `costs.cross_entropy` has those of its function, `_cross_entropy`.
    """
    text = path.read_text(encoding="utf-8")
    body = ast.parse(text, path).body
    constants = {f"_{ast.unparse(target)}" for node in body if isinstance(node, ast.Assign) for target in node.targets}
    owner = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.Expr):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", node)
        documented = target is not node and isinstance(after, ast.Expr)  # a constant, by the docstring below it
        last = after if documented and after else node
        name = getattr(target, "id", getattr(target, "name", ""))
        name = name.removeprefix("_") if name in constants else name
        owner |= dict.fromkeys(range(node.lineno, (last.end_lineno or last.lineno) + 1), name)
    found = defaultdict(str)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and '"""' in token.string[:4]):
            found[owner.get(token.start[0], "")] += " " + token.string.lstrip("# ")
    return found


def tests(root: Path) -> Places:
    """For each label, the tests with the mark `equation` of it."""
    found = defaultdict(set)
    for path in (root / "tests").rglob("test_*.py"):
        name = path.relative_to(root / "tests").as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), path)):
            calls = [mark for mark in getattr(node, "decorator_list", []) if isinstance(mark, ast.Call)]
            marks = [call for call in calls if ast.unparse(call.func) == "pytest.mark.equation"]
            for number in [ast.literal_eval(argument) for mark in marks for argument in mark.args]:
                label = f"({number})" if re.fullmatch(NUMBER, number) else number
                found[label].add(f"{name}::{getattr(node, 'name', '')}")
    return {label: sorted(names) for label, names in found.items()}


def experiments(root: Path) -> dict[str, str]:
    """The file of each experiment, below the root, by its name."""
    return {path.stem: path.relative_to(root).as_posix() for path in root.glob("experiments/chapter_*/[!_]*.py")}


def page(root: Path = ROOT) -> str:
    """The text of equations.md. Raises ValueError for a number without code or test, and for one that is unknown."""
    named_by, tested_by = functions(root), tests(root)
    public = {number: [name for name in names if PUBLIC.fullmatch(name)] for number, names in named_by.items()}
    if wrong := "\n".join(_mistakes(root, named_by, public, tested_by)):
        raise ValueError(wrong)
    parts, scripts, places, shown = [HEAD], experiments(root), files(root), formulas(root)
    for chapter, entries in chapters(root).items():
        parts.append(f"\n## Chapter {chapter}: {entries.pop('title', '')}\n")
        parts.append(f"\nDerived in the [notebook](../notebooks/chapter_{chapter}.ipynb).\n")
        for label, entry in entries.items():
            names = sorted(entry.get("functions", public[number_of(label)]))
            parts.append(f"\n### {label[0].upper()}{label[1:]}: {entry['what']}\n\n")
            parts.append(f"$$\n{shown[label]}\n$$\n\n" if label in shown else "")
            rows = {
                "Functions": [f"[`{name}`](../{places[name]})" for name in names],
                "Tests": [f"[`{name}`](../tests/{name.partition('::')[0]})" for name in tested_by[label]],
                "Experiments": [f"[`{name}`](../{scripts[name]})" for name in entry.get("experiments", [])],
                "Erratum": [entry["erratum"]] if "erratum" in entry else [],
            }
            parts += [f"- {title}: {', '.join(cells)}\n" for title, cells in rows.items() if cells]
    return "".join(parts)


def _mistakes(root: Path, named_by: Places, public: Places, tested_by: Places) -> Iterator[str]:
    rows = {label: row for entries in chapters(root).values() for label, row in entries.items() if label != "title"}
    listed = defaultdict(set)
    for label, row in rows.items():
        number = number_of(label)
        listed[number] |= set(row.get("functions", public.get(number, [])))
        if "what" not in row or not set(row) <= set(KEYS):
            yield f"{label} of equations.toml must have `what` and may have {', '.join(KEYS[1:])}, got {', '.join(row)}"
        if label not in tested_by:
            yield f'no test holds {label}: mark one with @pytest.mark.equation("{label.strip("()")}")'
        for name in row.get("experiments", []):
            if name not in experiments(root):
                yield f"{label} of equations.toml names the experiment {name}, got no experiments/chapter_*/{name}.py"
    for number, names in listed.items():
        if not public.get(number):
            yield f"no public function of jnn/ names {number}: name it in a docstring or a comment"
        elif names != set(public[number]):
            yield f"{number} is named by {', '.join(public[number])}; equations.toml lists {', '.join(sorted(names))}"
    for number, names in named_by.items():
        if number not in listed and not number.startswith("section"):
            yield f"jnn/{names[0].partition('.')[0]}.py names {number}, which equations.toml lacks"
    for label, names in tested_by.items():
        if label not in rows:
            yield f"{names[0]} is marked with {label}, which equations.toml lacks"


def main(root: Path = ROOT) -> int:
    """Write the page whole, or say what is wrong, a line for each mistake. Returns the exit code."""
    target = root / "docs/equations.md"
    try:
        text = page(root)
        written = target.with_name(".equations.md.writing")
        written.write_text(text, encoding="utf-8")
        written.replace(target)
    except (OSError, SyntaxError, ValueError) as error:
        print(*(f"error: {line}" for line in str(error).splitlines()), sep="\n", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
