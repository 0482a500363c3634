"""The docstrings: every public name is described, with types, shapes and errors."""

import ast
import re
from pathlib import Path

import jnn
from experiments import paths
from tests import helpers

ROOT = Path(__file__).parent.parent
MODULES = {name: getattr(jnn, name) for name in helpers.MODULES}


def defined(body, prefix):
    """The public names of a module and of its classes, each with its node and its docstring.

    That of a constant is below it, or that of its function: `_relu` describes `relu`.
    """
    functions = {node.name: ast.get_docstring(node) for node in body if isinstance(node, ast.FunctionDef)}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if "overload" in map(ast.unparse, getattr(node, "decorator_list", [])):
            continue
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node, ast.get_docstring(node)
            if isinstance(node, ast.ClassDef):
                yield from defined(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            below = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value
            for target in getattr(node, "targets", None) or [node.target]:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name) and not name.id.startswith("_"):
                        yield prefix + name.id, node, functions.get(f"_{name.id}", below)


def public(name, module):
    """The public names of a module; of a package those that it exports, from where they are defined."""
    for place, tree in SOURCE[name].items():
        for row in defined(tree.body, f"{name}."):
            top = row[0].split(".")[1]
            home = getattr(getattr(module, top, None), "__module__", place)
            elsewhere = str(home).startswith("jnn.") and home != place
            if not hasattr(module, "__path__") or (top in module.__all__ and not elsewhere):
                yield row


def files(name, module):
    """Where the names of a module are defined: in its file, or in those of a package."""
    path = Path(module.__file__)
    if not hasattr(module, "__path__"):
        return {module.__name__: path}
    inner = {path.stem: path for path in sorted(path.parent.glob("*.py"))}
    return {f"jnn.{name}" + f".{stem}" * (stem != "__init__"): path for stem, path in inner.items()}


SOURCE = {
    name: {place: ast.parse(path.read_text()) for place, path in files(name, module).items()}
    for name, module in MODULES.items()
}
PUBLIC = [row for name, module in MODULES.items() for row in public(name, module)]
FUNCTIONS = {name: node for name, node, _ in PUBLIC if isinstance(node, ast.FunctionDef)}
DOCSTRINGS = {name: ast.get_docstring(node) or "" for name, node in FUNCTIONS.items()}
SHOWN = set(MODULES) - {"augment", "cell", "gradient_flow", "language", "perceptron", "receptive", "ridge"}
FIELDS = {name: node for name, node, _ in PUBLIC if name.count(".") == 2 and isinstance(node, ast.AnnAssign)}


def arguments(function):
    """The arguments of a function but `self`."""
    of = function.args
    found = [*of.posonlyargs, *of.args, of.vararg, *of.kwonlyargs, of.kwarg]
    return [argument for argument in found if argument and argument.arg != "self"]


def annotations(function):
    """The types of a function's arguments and result, as written; None for a missing one."""
    return [argument.annotation for argument in arguments(function)] + [function.returns]


def shapes(annotation):
    """The shapes in a jaxtyping annotation; None for every array without one."""
    kinds = ("Float", "Int", "Integer", "Bool", "Key")
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in kinds:
        yield annotation.slice.elts[1].value.strip()
    elif annotation and ast.unparse(annotation) in ("Array", "jax.Array", "np.ndarray"):
        yield None
    elif annotation:
        for child in ast.iter_child_nodes(annotation):
            yield from shapes(child)


def raising(tree):
    """The functions and classes of a module that raise, call `checks`, or call a private helper that does."""
    found, before = {"checks"}, None
    while found != before:
        before = set(found)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                inner = [part for statement in node.body for part in ast.walk(statement)]
                helpers = {
                    part.id
                    for part in inner
                    if isinstance(part, ast.Name) and (part.id.startswith("_") or part.id == "checks")
                }
                if helpers & found or any(isinstance(part, ast.Raise) and part.exc for part in inner):
                    found.add(node.name)
    return found


def test_every_public_name_is_described():
    described = [(name, said) for name, _, said in PUBLIC if name not in FIELDS]
    described += [(name, module.__doc__) for name, module in MODULES.items()]
    missing = [name for name, said in described if not re.match(r"\S.{8,}", said or "")]
    assert not missing, missing


def test_every_argument_has_a_type_and_every_array_a_shape():
    """A shape is in the annotation or, where an array has none, in brackets in the docstring."""
    untyped = [name for name, node in FUNCTIONS.items() if None in annotations(node)]
    assert not untyped, untyped
    bare = [name for name, node in FUNCTIONS.items() if None in [s for a in annotations(node) for s in shapes(a)]]
    missing = [name for name in bare if not re.search(r"\[\w+(, \w+)*\]", ast.get_docstring(FUNCTIONS[name]) or "")]
    assert not missing, missing


def test_no_signature_names_what_is_private():
    types = {name: annotations(node) for name, node in FUNCTIONS.items()}
    types |= {name: [node.annotation] for name, node in FIELDS.items()}
    private = [name for name, of in types.items() if any(re.search(r"\b_[a-zA-Z]", ast.unparse(a)) for a in of if a)]
    assert not private, private


def test_what_can_raise_says_so():
    found = {
        f"{module}.{name}" for module, trees in SOURCE.items() for tree in trees.values() for name in raising(tree)
    } & FUNCTIONS.keys()
    assert len(found) > len(FUNCTIONS) / 3
    silent = [name for name in found if not re.search(r"\b[Rr]aises?\b", DOCSTRINGS[name] + shared(name))]
    assert not silent, silent


def shared(name):
    """What the docstring of its module says of the errors of all of its functions."""
    said = " ".join(MODULES[name.split(".")[0]].__doc__.split())
    return " ".join(re.findall(r"[^.]*\braises?\b[^.]*(?:Value|Type|Import)Error[^.]*", said))


def test_every_argument_is_described():
    """On a line of its own below `Args:`, unless a single one explains itself."""
    silent = []
    for name, node in FUNCTIONS.items():
        section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", DOCSTRINGS[name], re.M | re.S)
        described = re.findall(r"^  \*{0,2}(\w+): \S", section[1], re.M) if section else []
        expected = [argument.arg for argument in arguments(node)]
        if sorted(described) != sorted(expected) and not (section is None and len(expected) <= 1):
            silent.append(name)
    assert not silent, silent


def test_no_result_begins_with_what_napoleon_reads_as_its_type():
    results = {name: re.search(r"^Returns:\n  (.*)", said, re.M) for name, said in DOCSTRINGS.items()}
    lines = {name: re.sub(r"(:math:)?`.*?`", "", line[1]) for name, line in results.items() if line}
    typed = [name for name, line in lines.items() if re.search(r":\s", line)]
    assert not typed, typed


def test_every_function_has_an_example():
    """But methods, and `data.mnist`, which may download."""
    shown = {name for name in FUNCTIONS if name.split(".")[0] in SHOWN and name.count(".") == 1} - {"data.mnist"}
    silent = [name for name in shown if ">>> " not in DOCSTRINGS[name]]
    assert not silent, silent


def test_the_gallery_shows_every_experiment_in_its_own_words():
    page = (ROOT / "docs/gallery.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (\w+)\n\n(.*?)(?=\n##|\Z)", page, re.S | re.M))
    assert set(sections) == set(paths())
    for name, section in sections.items():
        said = ast.get_docstring(ast.parse(paths()[name].read_text(encoding="utf-8")))
        sentence = " ".join(said.split("\n\n")[0].split())
        assert re.fullmatch(rf"{re.escape(sentence)}\n\n!\[\w.+\]\(\.\./figures/{name}\.png\)\s*", section), name
