"""The API reference: every public name is described, with shapes and errors, and pdoc renders it."""

import ast
import html
import inspect
import re
import textwrap
import types
from pathlib import Path

import pytest

import jnn

ROOT = Path(__file__).parent.parent
MODULES = {name: getattr(jnn, name) for name in jnn.__all__}
MADE = ("Alias for field number", "Create new instance of")  # what Python says of every NamedTuple


def own(module):
    """The public functions and classes that a module defines, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and isinstance(value, types.FunctionType | type)
        and value.__module__ == module.__name__
    }


def constants(module):
    """The public constants and type aliases of a module, and the docstring below each; decorated functions are none."""
    body = ast.parse(inspect.getsource(module)).body
    found = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value
        names = [name for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)]
        found |= {name.id: said or "" for name in names if not name.id.startswith("_")}
    return found


def decorated(module):
    """Functions that a decorator wraps, as functools.cache does: not of the type function any more."""
    body = ast.parse(inspect.getsource(module)).body
    return {
        node.name: getattr(module, node.name)
        for node in body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.name not in own(module)
    }


FUNCTIONS = {
    f"{name}.{short}": f
    for name, module in MODULES.items()
    for short, f in {**own(module), **decorated(module)}.items()
    if not isinstance(f, type)
}
CLASSES = {
    f"{name}.{short}": f for name, module in MODULES.items() for short, f in own(module).items() if isinstance(f, type)
}
METHODS = {
    f"{name}.{short}": f
    for name, of in CLASSES.items()
    for short, f in vars(of).items()
    if not short.startswith("_") and isinstance(f, types.FunctionType | property)
}
CONSTANTS = {f"{name}.{short}": said for name, module in MODULES.items() for short, said in constants(module).items()}


def raise_by_test():
    """The functions that a test marked bad_input calls where it wants an error, or gets as parameters."""
    for path in (ROOT / "tests").glob("test_*.py"):
        if path.stem in ("test_fuzz", "test_docs"):
            continue
        for test in marked(ast.parse(path.read_text(encoding="utf-8"))):
            for decorator in test.decorator_list:
                if isinstance(decorator, ast.Call):
                    yield from tried(ast.Tuple(decorator.args))
            for node in ast.walk(test):
                if isinstance(node, ast.With) and ast.unparse(node.items[0]).startswith("pytest.raises"):
                    yield from tried(ast.Module(node.body, []))


def marked(tree, above=False):
    """The tests that bear the mark bad_input, or whose class does."""
    for node in getattr(tree, "body", []):
        bears = above or "bad_input" in " ".join(map(ast.dump, getattr(node, "decorator_list", [])))
        if isinstance(node, ast.ClassDef):
            yield from marked(node, bears)
        elif isinstance(node, ast.FunctionDef) and bears:
            yield node


def tried(node):
    """The public functions that a piece of code calls or hands on, but not those that make a call's arguments."""
    if isinstance(node, ast.Attribute):
        if (name := ast.unparse(node).removeprefix("jnn.")) in FUNCTIONS:
            yield name
    elif isinstance(node, ast.Call):
        for part in (node.func, *(argument for argument in node.args if isinstance(argument, ast.Attribute))):
            yield from tried(part)
    else:
        for child in ast.iter_child_nodes(node):
            yield from tried(child)


RAISING = sorted(set(raise_by_test()))


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES, *METHODS])
def test_a_docstring(name):
    said = ({**FUNCTIONS, **CLASSES, **METHODS}[name].__doc__ or "").strip()
    assert re.match(r"\S.{8,}", said), f"{name}: {said!r}"
    assert not said.startswith((f"{name.rpartition('.')[2]}(", *MADE)), said  # what Python makes of the signature


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_docstring_of_a_constant(name):
    assert len(CONSTANTS[name]) > 8


@pytest.mark.parametrize("name", MODULES)
def test_a_docstring_of_a_module(name):
    assert re.match(r"\S.{20,}\n", MODULES[name].__doc__)


def annotations(f):
    """What f's arguments and its result are annotated with, as it is written."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(f))).body
    arguments = [*node.args.posonlyargs, *node.args.args, node.args.vararg, *node.args.kwonlyargs, node.args.kwarg]
    return [argument.annotation for argument in arguments if argument] + [node.returns]


def shapes(annotation):
    """The shapes in a jaxtyping annotation; None for every array without one."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in ("Float", "Int", "Bool", "Key"):
        yield annotation.slice.elts[1].value.strip()
    elif ast.unparse(annotation) in ("Array", "jax.Array", "np.ndarray"):
        yield None
    else:
        for child in ast.iter_child_nodes(annotation):
            yield from shapes(child)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_has_a_type_and_every_array_a_shape(name):
    """A shape is in the annotation or, where an array has none, in brackets in the docstring."""
    found = annotations(FUNCTIONS[name])
    assert None not in found
    if None in [shape for annotation in found for shape in shapes(annotation)]:
        assert re.search(r"\[\w+(, \w+)*\]", FUNCTIONS[name].__doc__)


def test_tests_show_errors_of_many_functions():
    """Found in a block that wants an error, under `jit` there, and among a test's parameters."""
    assert {"backprop.value_and_grad", "lstm.from_torch", "universal.leak", "rnn.unroll"} <= set(RAISING)
    assert len(RAISING) > len(FUNCTIONS) / 3


@pytest.mark.parametrize("name", RAISING)
def test_what_raises_says_so(name):
    assert re.search(r"\b[Rr]aises?\b", FUNCTIONS[name].__doc__)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """As `make docs` renders them."""
    import pdoc

    folder = tmp_path_factory.mktemp("docs")
    pdoc.render.configure(docformat="markdown", template_directory=ROOT / "docs/pdoc")
    pdoc.pdoc("jnn", output_directory=folder)
    return {name: (folder / f"jnn/{name}.html").read_text(encoding="utf-8") for name in MODULES}


def text_of(markup):
    return html.unescape(re.sub(r"<[^>]+>", "", markup))


def test_the_pages_show_every_name(pages):
    for module, page in pages.items():
        names = (*FUNCTIONS, *CLASSES, *METHODS, *CONSTANTS)
        wanted = {name.removeprefix(f"{module}.") for name in names if name.startswith(f"{module}.")}
        fields = {f"{of}.{field}" for of, c in own(MODULES[module]).items() for field in getattr(c, "_fields", ())}
        ids = set(re.findall(r'<(?:section|div) id="([\w.]+)"', page))
        assert wanted | fields <= ids, module
        assert {name for name in ids if "." not in name} == {name for name in wanted if "." not in name}, module


def test_the_signatures_show_every_shape(pages):
    for name, f in FUNCTIONS.items():
        module, _, short = name.partition(".")
        section = pages[module].partition(f'<section id="{short}">')[2].partition("</section>")[0]
        signature = text_of(section.partition('class="signature')[2].partition("</label>")[0])
        for shape in [shape for annotation in annotations(f) for shape in shapes(annotation)]:
            assert shape is None or f"'{shape}'" in signature, f"{name}: {shape!r} in {signature}"
        assert "_jax" not in signature
        assert "jaxtyping" not in signature


def test_the_descriptions_are_plain_text(pages):
    """No emphasis or table out of a formula's signs, nothing that Python made; a derivation keeps its lines."""
    for module, page in pages.items():
        for text in re.findall(r'<div class="docstring">(.*?)</div>', page, re.S):
            assert not re.search(r"<(em|strong|del|s|table|h\d|ul|ol|blockquote)\b", text), (module, text)
            assert not any(made in text for made in MADE), (module, text)
    derivation = re.search(r"<pre><code>(dfocus_t.*?)</code></pre>", pages["lstm"], re.S).group(1)
    assert len(derivation.strip().splitlines()) == 7


def test_the_pages_are_whole_without_a_network(pages):
    for page in pages.values():
        assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"https?:", page)
