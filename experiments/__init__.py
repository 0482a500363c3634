"""One file for each figure or claim of the notes, in the folder of its chapter: `python -m experiments` runs them.

Each has five names: a frozen dataclass `Config`, whose fields are the flags and whose `quick` holds the values that
`--quick` changes; `compute(config)`, which returns a dict of arrays; `ARRAYS`, the axes and the meaning of each of
them; `claims(config, arrays)`, which returns whether each claim holds; and `draw(figure, config, arrays)`. A `compute`
that trains has a second parameter, `training: runner.Training = runner.ALONE`, and calls its `fit`. Products are
exact unless `MATMUL_PRECISION = "default"` rounds their operands on accelerators, which training on digits tolerates.

Beside the chapters are the package that runs the experiments (`runner`), code that several of them share (`common`),
and four commands that are not experiments: `read`, which reads the digits in pictures, `explore`, which writes a page
in which the figures of the notes move, `device`, which checks the results on your device and measures its speed, and
`compile`, which compiles training runs for other devices.
"""

import ast
import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.runner.experiment import Experiment


def paths() -> dict[str, Path]:
    """The file of each experiment by its name, in alphabetical order."""
    files = Path(__file__).parent.glob("chapter_*/[!_]*.py")
    return {path.stem: path for path in sorted(files, key=lambda path: path.stem)}


def names() -> list[str]:
    """Every experiment, in alphabetical order."""
    return list(paths())


def docstring(module: Any, function: str = "") -> str:
    """The docstring of a module or of a function in it, read from the source if `python -OO` has stripped it."""
    described = getattr(module, function) if function else module
    if described.__doc__ is not None:
        return inspect.cleandoc(described.__doc__)
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    return ast.get_docstring(functions[function] if function else tree) or ""


def load(name: str) -> "Experiment":
    """The module of an experiment."""
    module: Any = importlib.import_module(f"{__name__}.{paths()[name].parent.name}.{name}")
    return module
