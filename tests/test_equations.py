"""The index of the notes' numbers: none is missing, none is unknown, and the page agrees with the code."""

import re

import pytest

from docs import equations

NUMBERED = {
    *(f"({chapter}.{n})" for chapter, last in ((2, 9), (3, 22), (5, 6)) for n in range(1, last + 1)),
    *(f"exercise {chapter}.{n}" for chapter, last in ((1, 4), (3, 3), (5, 1)) for n in range(1, last + 1)),
    *(f"figure {chapter}.{n}" for chapter, last in ((3, 1), (4, 7), (5, 2)) for n in range(1, last + 1)),
}
SECTIONS = {
    *(f"section {number}" for number in ("2.1", "2.2", "3.2", "3.3", "4.2", "4.3")),
    *(f"section 3.3.2, {part}" for part in ("early stopping", "augmentation", "noise", "dropout")),
    *(f"section 5.1, {part}" for part in ("the chain", "any net")),
    "section 5.2, through time",
}
PROJECT = {
    "jnn/layer.py": 'cost = 1\n"""(2.2) to (2.3)."""\n\n\ndef errors():\n    delta = slope(2.9)  # (2.3)\n\n\n'
    'def _helper():\n    """(2.3)."""\n',
    "tests/deep/test_layer.py": '@pytest.mark.equation("2.2", "2.3")\ndef test_errors():\n    pass\n',
    "experiments/chapter_1/digits.py": "",
    "notebooks/chapter_2.py": "# $$a_j = b\n# \\tag{2.3}$$\n",
    "docs/equations.toml": '[2]\ntitle = "backpropagation"\n[2."(2.2)"]\nwhat = "outputs"\n'
    '[2."(2.3)"]\nwhat = "a | b"\nexperiments = ["digits"]\nerratum = "no"\n',
}
ENTRY = r"""
### (2.3): a | b

$$
a_j = b \tag{2.3}
$$

- Functions: [`layer.cost`](../jnn/layer.py), [`layer.errors`](../jnn/layer.py)
- Tests: [`deep/test_layer.py::test_errors`](../tests/deep/test_layer.py)
- Experiments: [`digits`](../experiments/chapter_1/digits.py)
- Erratum: no
"""


@pytest.fixture
def project(tmp_path):
    """A project with two numbers."""
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_every_number_of_the_notes_has_one_row_in_its_chapter():
    rows = [(chapter, label) for chapter, rows in equations.chapters(equations.ROOT).items() for label in rows]
    rows = [(chapter, label) for chapter, label in rows if label != "title"]
    assert len(NUMBERED) == 37 + 8 + 10
    assert sorted(label for _, label in rows) == sorted(NUMBERED | SECTIONS)
    assert all(re.search(r"\d", label).group() == chapter for chapter, label in rows)


def test_the_page_is_what_the_code_and_the_tests_say():
    """Every number has a public function, a test and the experiments that it names, and no other number is named."""
    page = (equations.ROOT / "docs/equations.md").read_text(encoding="utf-8")
    assert page == equations.page(), "renew it: python -m docs.equations"
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) > 3 * len(NUMBERED)
    assert all((equations.ROOT / "docs" / link).is_file() for link in links)
    assert {f"({number})" for number in re.findall(r"\\tag\{([\d.]+)\}", page)} == {n for n in NUMBERED if n[0] == "("}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# (2.3)", {"(2.3)"}),
        ("(2.4) to (2.6) in matrix form, (3.12)", {"(2.4)", "(2.5)", "(2.6)", "(3.12)"}),
        ("(3.9) to\n    (3.11)", {"(3.9)", "(3.10)", "(3.11)"}),
        ("figures 4.2, 4.3 and 4.5, section 5.1", {"figure 4.2", "figure 4.3", "figure 4.5", "section 5.1"}),
        ("Exercise 1.2 in section 3.3.2", {"exercise 1.2", "section 3.3.2"}),
        ("f(0.5) + f(1.0), 2.3, version 2.1", set()),
    ],
)
def test_numbers_are_read(text, found):
    assert equations.named(text) == found


def test_the_command_writes_the_page_and_lines_that_move_change_nothing(project):
    assert equations.main(project) == 0
    page = (project / "docs/equations.md").read_text(encoding="utf-8")
    assert page.endswith(ENTRY)
    code = project / "jnn/layer.py"
    cost, errors, helper = code.read_text(encoding="utf-8").split("\n\n\n")
    code.write_text("\n\n\n".join(["import jax", helper, errors, cost]), encoding="utf-8")
    assert equations.page(project) == page


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("jnn/layer.py", "(2.2) to ", "", "no public function of jnn/ names (2.2)"),
        ("jnn/layer.py", "# (2.3)", "# (2.10)", "jnn/layer.py names (2.10), which equations.toml lacks"),
        ("jnn/layer.py", "def errors()", "def errors(", "(layer.py, line 5)"),
        ("tests/deep/test_layer.py", '"2.2", ', "", 'no test holds (2.2): mark one with @pytest.mark.equation("2.2")'),
        ("tests/deep/test_layer.py", '"2.2", ', '"2.2", "2.1", ', "::test_errors is marked with (2.1), which"),
        ("docs/equations.toml", '["digits"]', '["digit"]', "got no experiments/chapter_*/digit.py"),
        ("docs/equations.toml", "what", "who", "(2.2) of equations.toml must have `what`"),
        ("docs/equations.toml", 'erratum = "no"', 'functions = ["layer.cost"]', "named by layer.cost, layer.errors;"),
        ("docs/equations.toml", "(2.2)", "(2.3)", "docs/equations.toml: Cannot declare"),
    ],
)
def test_mistakes(name, old, new, said, project, capsys):
    assert old in PROJECT[name]
    (project / name).write_text(PROJECT[name].replace(old, new, 1), encoding="utf-8")
    assert equations.main(project) == 2
    (complaint,) = [line for line in capsys.readouterr().err.splitlines() if said in line]
    assert complaint.startswith("error: ")
    assert [path.name for path in (project / "docs").iterdir()] == ["equations.toml"]
