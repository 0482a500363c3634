"""The notebooks run, the committed ones are those of the sources, and nothing of the notes is missing."""

import base64
import importlib.util
import io
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import DeadKernelError
from PIL import Image

import jnn
from notebooks import renew
from tests.helpers import MODULES, raises
from tests.test_equations import NUMBERED

ROOT = Path(__file__).parent.parent
CHAPTERS = [f"chapter_{n}" for n in range(1, 6)]


def prose(name):
    return "\n".join(cell.source for cell in renew.source(name).cells if cell.cell_type == "markdown")


def committed(name):
    return nbformat.read(renew.FOLDER / f"{name}.ipynb", as_version=4)


def content(notebook):
    return [(cell.id, cell.cell_type, cell.source) for cell in notebook.cells]


def pictures(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


def files(folder):
    return {path.name for path in folder.iterdir()} - {"__pycache__"}


SIZES = {
    "chapter_1": ("sizes = (5, 8, 6, 2)", "sizes = (4, 7, 3)"),
    "chapter_2": ("sizes = (3, 5, 4, 2)", "sizes = (3, 6, 4, 2)"),
    "chapter_3": ("sizes = 7, (3, 5, 2)", "sizes = 6, (4, 3, 5)"),
    "chapter_4": ("bins = 4\n", "bins = 6\n"),
    "chapter_5": ("p, d = 7, 2, 3, 5", "p, d = 6, 3, 4, 2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAPTERS)
def test_it_runs_with_other_sizes(name):
    """In a kernel of its own, with small experiments; every claim of theirs is checked, and none is false."""
    before, (old, new) = files(renew.FOLDER), SIZES[name]
    edited = renew.source(name)
    (cell,) = [cell for cell in edited.cells if old in cell.source]
    cell.source = cell.source.replace(old, new)
    notebook = renew.execute(edited, quick=True)
    assert pictures(notebook)
    printed = [output.text for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output]
    assert any("ok   " in text for text in printed)
    assert not any("FALSE" in text for text in printed)
    assert files(renew.FOLDER) == before


@pytest.mark.parametrize("name", CHAPTERS)
def test_what_is_committed_is_the_source_executed(name):
    notebook = committed(name)
    assert content(notebook) == content(renew.source(name)), f"python -m notebooks.renew {name} renews it"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert pictures(notebook)
    nbformat.validate(notebook)
    assert notebook.metadata == renew.source(name).metadata
    assert [cell.id for cell in notebook.cells if cell.metadata] == ["cell-2"]  # the folded one that sets up
    assert notebook.cells[1].source == setup()  # the same in all
    path = renew.FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < 600_000
    texts = re.sub(r'"image/png": "[^"]*"', "", path.read_text())
    assert not re.findall(rf"(?:{ROOT}|/home|/root|/Users|/tmp|site-packages)\b[^\s\"]*", texts)


@pytest.mark.parametrize("name", CHAPTERS)
def test_nothing_of_the_notes_is_missing_and_what_is_named_exists(name):
    text = prose(name)
    found = {f"({number})" for number in re.findall(r"\\tag\{([\d.]+)\}", text)}
    found |= set(re.findall(r"exercise \d\.\d+|figure \d\.\d+", text.lower()))
    assert not {label for label in NUMBERED if re.search(r"\d", label).group() == name[-1]} - found
    for path in re.findall(r"\]\(([\w./-]+\.(?:ipynb|md|png|py))\)", text):
        assert (renew.FOLDER / path).exists(), path
    for module, function in re.findall(rf"`({'|'.join(MODULES)})\.(\w+)", text):
        assert hasattr(getattr(jnn, module), function), f"{module}.{function}"


# The cell that sets up


def setup():
    return renew.source("chapter_1").cells[1].source


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A kernel in the folder `notebooks` of somewhere that has no project: what the cell runs, and where it looks."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("JNN_REPOSITORY", "some/where.git")
    ran = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(command))
    return ran


def run_setup():
    exec(setup().replace("%matplotlib inline", ""), {})  # noqa: S102


def test_the_project_is_taken_where_it_is_at_hand_or_in_the_folder_above(elsewhere, monkeypatch):
    before = list(sys.path)
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: object())
        run_setup()
    assert sys.path == before
    Path("../experiments").mkdir()
    Path("../experiments/__init__.py").touch()
    run_setup()
    assert sys.path[0] == str(Path.cwd().parent)
    assert elsewhere == []


def test_where_there_is_no_project_it_is_cloned_and_installed(elsewhere, monkeypatch):
    """From an address that is asked for if it is not set."""
    run_setup()
    there = str(Path.cwd() / "jnn-project")
    clone, install = elsewhere
    assert clone == ["git", "clone", "--depth", "1", "some/where.git", there]
    assert install[:4] == [sys.executable, "-m", "pip", "install"]
    assert install[-1] == f"{there}[notebooks]"
    assert sys.path[0] == there
    Path(there).mkdir()
    run_setup()
    assert elsewhere[2:] == [install]  # what was cloned before is not cloned again
    Path(there).rmdir()
    monkeypatch.delenv("JNN_REPOSITORY")
    monkeypatch.setattr("builtins.input", lambda question: "asked/for.git")
    run_setup()
    assert "asked/for.git" in elsewhere[3]


# The command that renews

DRAWS = """# %% [markdown]
# # A title

# %%
import os

from matplotlib.figure import Figure

# %matplotlib inline
print(os.environ.get("JNN_QUICK", "full size"))
figure = Figure()
figure.subplots().plot([1, 2])
figure
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(renew, "FOLDER", tmp_path)
    (tmp_path / "draws.py").write_text(DRAWS)
    return tmp_path


@pytest.mark.slow
def test_renewed_at_full_size_and_the_same_with_any_settings_of_the_user(folder, tmp_path_factory, monkeypatch, capsys):
    monkeypatch.setenv("JNN_QUICK", "1")
    assert renew.main(("draws",)) == 0
    assert str(folder / "draws.ipynb") in capsys.readouterr().out
    notebook = committed("draws")
    assert [cell.id for cell in notebook.cells] == ["cell-1", "cell-2"]
    assert notebook.metadata == renew.source("draws").metadata
    said, shown = notebook.cells[1].outputs
    assert said.text == "full size\n"
    picture = Image.open(io.BytesIO(base64.b64decode(shown.data["image/png"])))
    assert picture.mode == "P"
    assert picture.width > 400
    first = (folder / "draws.ipynb").read_bytes()
    theirs = tmp_path_factory.mktemp("theirs")
    startup = theirs / "profile_default" / "startup"
    startup.mkdir(parents=True)
    for path in (startup / "startup.py", theirs / "startup.py"):
        path.write_text("print = lambda *words: None")
    (theirs / "matplotlibrc").write_text("lines.linewidth: 9\nsavefig.transparent: True\n")
    settings = {"IPYTHONDIR": theirs, "PYTHONSTARTUP": theirs / "startup.py", "MATPLOTLIBRC": theirs}
    for name, value in {**settings, "MPLBACKEND": "unknown"}.items():
        monkeypatch.setenv(name, str(value))
    renew.renew("draws")
    assert (folder / "draws.ipynb").read_bytes() == first


@pytest.mark.slow
def test_a_cell_that_fails_leaves_the_older_notebook(folder, capsys):
    (folder / "draws.ipynb").write_text("the older one")
    (folder / "draws.py").write_text(DRAWS.replace("figure = Figure()", "assert 1 + 1 == 3"))
    assert renew.main() == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: draws is as it was; a cell of its source fails")
    assert "assert 1 + 1 == 3" in said.err
    assert not said.out
    assert (folder / "draws.ipynb").read_text() == "the older one"
    assert files(folder) == {"draws.py", "draws.ipynb"}


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (TimeoutError("Cell 2 timed out"), 2, "error: draws is as it was; Cell 2 timed out\n"),
        (DeadKernelError("Kernel died"), 2, "error: draws is as it was; Kernel died\n"),
        (OSError(28, "full"), 2, "error: draws is as it was; [Errno 28] full\n"),
        (KeyboardInterrupt(), 130, "interrupted; draws is as it was\n"),
    ],
)
def test_what_does_not_end_leaves_the_older_notebook(error, code, said, folder, monkeypatch, capsys):
    (folder / "draws.ipynb").write_text("the older one")
    monkeypatch.setattr(renew, "execute", raises(error))
    assert renew.main() == code
    assert capsys.readouterr().err == said
    assert (folder / "draws.ipynb").read_text() == "the older one"
    assert files(folder) == {"draws.py", "draws.ipynb"}
    monkeypatch.setattr(renew.tempfile, "TemporaryDirectory", raises(PermissionError(13, "Permission denied")))
    assert renew.main() == 2  # found before executing
    message = f"error: draws is as it was; cannot write to {folder} ([Errno 13] Permission denied)\n"
    assert capsys.readouterr().err == message


def test_the_notebooks_are_those_of_the_chapters(capsys):
    assert renew.names() == CHAPTERS
    assert renew.main(("chapter_1", "chapter_9")) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"error: no notebook chapter_9; there are: {', '.join(CHAPTERS)}\n")
