"""Imports within the experiments point one way, and the command loads nothing that it does not need."""

import graphlib
import subprocess
import sys
from pathlib import Path

import experiments
from tests.helpers import import_graph


def test_imports_have_no_circle():
    graph = import_graph(Path(experiments.__file__).parent.parent, "experiments")
    assert sum(map(len, graph.values())) > len(graph)
    assert {"experiments.runner", "experiments.runner.report"} <= graph["experiments.__main__"]
    graphlib.TopologicalSorter(graph).prepare()  # raises where there is one


def test_the_command_does_not_load_the_reader_of_pictures():
    code = "import sys, experiments.__main__; print({'PIL', 'jax', 'experiments.read'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
