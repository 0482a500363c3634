"""How Sphinx makes a site of the pages, the notebooks and the docstrings: `make docs`."""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.nodes import make_refnode

import jnn
from experiments import explore, read
from experiments.read import page

project, author, version = "jnn", "the jnn authors", jnn.__version__
project_copyright = "the jnn authors"
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinxcontrib.katex",
    "myst_nb",
]
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = ["docs/templates"]
templates_path = [str(Path(__file__).parent / "templates")]
highlight_language = "none"  # derivations in docstrings; doctests and fenced code are highlighted all the same

nb_execution_mode = "off"  # `make notebooks` executes them
nb_code_prompt_show, nb_code_prompt_hide = "Show the set-up", "Hide the set-up"
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
katex_css_path = "katex/katex.min.css"  # of the version that sphinxcontrib-katex contains, with its fonts

viewcode_follow_imported_members = False
default_role = "py:obj"
autodoc_default_options = {"members": True, "member-order": "bysource", "no-value": True}
napoleon_numpy_docstring = napoleon_attr_annotations = False
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"jnn {version}"
html_favicon = "static/favicon.svg"
html_additional_pages = {"index": "index.html"}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = html_show_sourcelink = html_use_index = False


def names(module: ModuleType) -> list[tuple[str, str]]:
    """The public names that a module defines, each with the directive that describes it."""
    is_package = hasattr(module, "__path__")
    described = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
    for inner in pkgutil.iter_modules(module.__path__, f"{module.__name__}.") if is_package else ():
        docs = ModuleAnalyzer.for_module(inner.name).find_attr_docs()  # constants that the package imports
        described.update({key: lines for key, lines in docs.items() if key[1] in module.__all__})
    found = []
    for name, value in vars(module).items():
        home = getattr(value, "__module__", "")
        is_own = home == module.__name__ or ("", name) in described
        if name in module.__all__ if is_package else is_own and not name.startswith("_"):
            kind = "class" if inspect.isclass(value) and home.startswith("jnn.") else "data"
            found.append(("auto" + ("function" if inspect.isfunction(inspect.unwrap(value)) else kind), name))
    return found


autosummary_context = {
    "names": {
        name: names(importlib.import_module(name))
        for _, name, _ in pkgutil.iter_modules(jnn.__path__, "jnn.")
        if "._" not in name
    }
}


def as_written(*event: Any) -> tuple[str, str | None] | None:
    """The signature of a function with the types of its source; that of a class names its fields."""
    _, kind, _, value, _, _, _ = event
    if kind == "class":
        parameters = inspect.signature(value).parameters.values()
        return str(inspect.Signature([parameter.replace(annotation=parameter.empty) for parameter in parameters])), None
    if kind not in ("function", "method"):
        return None
    node: Any = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(value)))).body[0]
    arguments, result = (re.sub(r", ' (?=\w)", ", '", ast.unparse(part)) for part in (node.args, node.returns))
    return f"({arguments})", result


def exactly(_: Sphinx, page: nodes.document) -> None:
    """Take a name for that of any object of the module, not for any class of that name."""
    for link in page.findall(pending_xref):
        if link["refdomain"] == "py":
            link["reftype"] = "obj"
            link.attributes.pop("refspecific", None)


def within_jnn(app: Sphinx, env: BuildEnvironment, node: nodes.Element, text: nodes.Element) -> nodes.Element | None:
    """Link `lstm.scan` and `State` from every page; other types where only one has the name."""
    domain, name = env.domains.python_domain, node["reftarget"]
    found = []
    if node["refdomain"] == "py" and "." in name:
        found = domain.find_obj(env, "jnn", "", name, "obj")
    elif node["refdomain"] == "py" and name[:1].isupper():
        found = domain.find_obj(env, "jnn.typing", "", name, "obj") or domain.find_obj(env, "", "", name, "obj", 1)
    if len(found) != 1:
        return None
    ((place, entry),) = found
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, text, place)


def linked(*event: Any) -> None:
    """Let the functions in the index of equations lead to the reference instead of the source."""
    source = event[-1]
    source[0] = re.sub(r"\[`([\w.]+)`\]\(\.\./jnn/[\w/]+\.py\)", r"{py:obj}`\1 <jnn.\1>`", source[0])


def skip_fields(*event: Any) -> bool | None:
    """Leave out the fields of NamedTuples, of which Python says only their numbers: `Attributes:` describes them."""
    return True if type(event[3]).__name__ == "_tuplegetter" else None


def pages_to_touch(app: Sphinx, error: Exception | None) -> None:
    """Add the page that reads what is drawn on it and the page in which figures move, with a way back."""
    if error is None:
        back = '<nav aria-label="Site"><a href="docs/index.html">← jnn</a></nav>\n<h1>'
        for name, text in {"draw": page.html(*read.load_network()), "explore": explore.html()}.items():
            (Path(app.outdir) / f"{name}.html").write_text(text.replace("<h1>", back, 1), encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register all of these."""
    app.connect("source-read", linked)
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("doctree-read", exactly)
    app.connect("missing-reference", within_jnn)
    app.connect("build-finished", pages_to_touch)
