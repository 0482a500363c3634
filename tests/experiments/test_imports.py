"""Imports within the experiments point one way, and the command loads nothing that it does not need."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import experiments

FOLDER = Path(experiments.__file__).parent
MODULES = {
    ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in FOLDER.rglob("*.py")
}


def imported(path):
    """The modules of the experiments that a file names in its imports, late ones included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from MODULES.keys() & {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


def test_imports_have_no_circle():
    graph = {name: set(imported(path)) for name, path in MODULES.items()}
    assert sum(map(len, graph.values())) > len(MODULES)
    assert {"experiments.runner", "experiments.runner.report"} <= graph["experiments.__main__"]
    graphlib.TopologicalSorter(graph).prepare()  # raises where there is one


def test_the_command_does_not_load_the_reader_of_pictures():
    code = "import sys, experiments.__main__; print({'PIL', 'jax', 'experiments.read'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
