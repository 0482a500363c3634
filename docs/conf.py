"""How Sphinx makes a site of the pages, the notebooks and the docstrings: `make docs`."""

import contextlib
import functools
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import jax
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.typing import stringify_annotation

import jnn
from experiments import explore, read
from experiments.read import page
from jnn import typing

project, author, version = "jnn", "the jnn authors", jnn.__version__
project_copyright = "the jnn authors"
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
]
modules = [module for module in pkgutil.iter_modules(jnn.__path__, "jnn.") if "._" not in module.name]
autosummary_context = {"packages": [module.name for module in modules if module.ispkg]}
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*.ipynb", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = ["docs/templates"]
templates_path = [str(Path(__file__).parent / "templates")]

nb_execution_mode = "off"  # `make notebooks` executes them
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource", "no-value": True}
viewcode_follow_imported_members = False
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
default_role = "code"
napoleon_numpy_docstring = napoleon_attr_annotations = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"jnn {version}"
html_additional_pages = {"index": "index.html"}
html_sidebars = {
    "**": [
        *("sidebar/brand.html", "sidebar/search.html", "sidebar/scroll-start.html"),
        *("sidebar/navigation.html", "draw.html", "sidebar/scroll-end.html"),
    ]
}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = html_use_index = False
html_math_renderer = "mathml"

ALIASES = ("Evaluate", "Grad", "PathLike", "Scalar", "Transform")


def mathml(self: Any, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers draw by themselves."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    formula = convert(re.sub(r"\\tag\{(.*?)\}", r"\\qquad (\1)", node.astext()), display=display)
    self.body.append(f'<div class="formula">{formula}</div>' if display == "block" else formula)
    raise nodes.SkipNode


def plain_text(*event: Any) -> None:
    """Turn the lines of a docstring into reStructuredText: parameters, code, indented blocks, and no other markup."""
    _, _, _, obj, _, lines = event
    names = ()
    with contextlib.suppress(TypeError, ValueError):  # where there is no signature
        names = inspect.signature(obj).parameters
    found, before, indent, block, example = [], "", "", False, False
    for line in lines:
        example = example or line == "Example:"
        if example:  # code
            found.append(line)
            continue
        begins, is_indented = re.match(r"(\w+): ", line), line.startswith("    ")
        is_parameter = begins is not None and begins[1] in names
        if is_parameter:
            indent = "    "
        elif line and not before and not is_indented and not line[0].islower():
            indent = ""
        if is_indented and not before and not block:
            found += [f"{indent}::", ""]
        block = (is_indented and (block or not before)) or (block and not line)
        text = line if block else re.sub(r"`[^`]*`|[*_|\\]", _literal, line)
        found.append((":param " if is_parameter else indent) + text if line else "")
        before = line
    lines[:] = found


def describe_constants() -> None:
    """Give autodoc the descriptions of constants that have no string below them in the public module.

    Costs and others have a docstring of their own, and packages import constants from their inner modules.
    """
    for module in (importlib.import_module(module.name) for module in modules):
        described = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
        for inner in pkgutil.iter_modules(getattr(module, "__path__", []), f"{module.__name__}."):
            docs = ModuleAnalyzer.for_module(inner.name).find_attr_docs()
            described.update({key: lines for key, lines in docs.items() if key[1] in module.__all__})
        for name, value in vars(module).items():
            if "__doc__" in getattr(value, "__dict__", {}) and type(value).__module__ == module.__name__:
                described["", name] = [*value.__doc__.splitlines(), ""]


def _literal(match: re.Match[str]) -> str:
    text = match[0]
    return f"`{text}`" if text.startswith("`") else f"\\{text}"


def linked(*event: Any) -> None:
    """Let the functions in the index of equations lead to the reference instead of the source."""
    source = event[-1]
    source[0] = re.sub(r"\[`([\w.]+)`\]\(\.\./jnn/[\w/]+\.py\)", r"{py:obj}`\1 <jnn.\1>`", source[0])


@functools.cache
def names_of_types() -> dict[str, str]:
    """What Sphinx writes for types, and the names that the source has for them."""
    return {stringify_annotation(vars(typing)[name], "smart"): name for name in ALIASES} | {
        "jaxlib._jax.Array": "Array"
    }


def as_written(*event: Any) -> tuple[str | None, str | None]:
    """The types of a signature by the names that the source has for them."""
    known = re.compile("|".join(map(re.escape, names_of_types())))
    arguments, result = (part and known.sub(lambda found: names_of_types()[found[0]], part) for part in event[-2:])
    return arguments, result


def skip_fields(*event: Any) -> bool | None:
    """Leave out the fields of NamedTuples, of which Python says only their numbers; the signature has them."""
    return True if type(event[3]).__name__ == "_tuplegetter" else None


def pages_to_touch(app: Sphinx, error: Exception | None) -> None:
    """Add the page that reads what is drawn on it, and the page in which the notes' figures move."""
    if error is None:
        (Path(app.outdir) / "draw.html").write_text(page.html(*read.load_network()), encoding="utf-8")
        (Path(app.outdir) / "explore.html").write_text(explore.html(), encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register all of these."""
    jax.Array.__qualname__ = "Array"  # not jaxlib._jax.Array
    app.add_html_math_renderer("mathml", inline_renderers=(mathml, None), block_renderers=(mathml, None))
    app.connect("source-read", linked)
    describe_constants()
    app.connect("autodoc-process-docstring", plain_text, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("build-finished", pages_to_touch)
