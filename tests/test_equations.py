"""The index of the notes' numbers: nothing is missing, every link leads somewhere, and the code says the same."""

import ast
import re

import pytest

from docs import equations

ROWS = {label: row for rows in equations.chapters().values() for label, row in rows.items() if label != "title"}
NUMBERED = {
    *(f"({chapter}.{n})" for chapter, last in ((2, 9), (3, 22), (5, 6)) for n in range(1, last + 1)),
    *(f"exercise {chapter}.{n}" for chapter, last in ((1, 4), (3, 3), (5, 1)) for n in range(1, last + 1)),
    *(f"figure {chapter}.{n}" for chapter, last in ((3, 1), (4, 7), (5, 2)) for n in range(1, last + 1)),
}
SECTIONS = {
    "section 2.1",
    "section 2.2",
    "section 3.2",
    "section 3.3",
    *(f"section 3.3.2, {part}" for part in ("early stopping", "augmentation", "noise", "dropout")),
    "section 4.2",
    "section 4.3",
    *(f"section 5.1, {part}" for part in ("the chain", "any net")),
    "section 5.2, through time",
}
LABELS = pytest.mark.parametrize("label", ROWS)
PAGE = equations.TARGET.read_text(encoding="utf-8")


def number_of(label):
    return label.partition(",")[0]


def test_every_number_has_one_row():
    assert len(NUMBERED) == 37 + 8 + 10
    assert set(ROWS) == NUMBERED | SECTIONS
    assert sorted(re.findall(r"^\| ([^|]+) \|", PAGE, re.M)) == sorted([*ROWS, *["notes"] * 5])


def test_every_row_is_in_its_chapter():
    for chapter, rows in equations.chapters().items():
        assert all(re.search(r"\d", label).group() == chapter for label in rows if label != "title")


@LABELS
def test_the_code_names_the_number(label):
    assert ROWS[label]["functions"]
    for name in ROWS[label]["functions"]:
        assert number_of(label) in equations.named("\n".join(equations.place("jnn", name).lines)), name


@LABELS
def test_the_test_names_the_number(label):
    assert ROWS[label]["tests"]
    for name in ROWS[label]["tests"]:
        place = equations.place("tests", name)
        above = ast.get_docstring(ast.parse((equations.ROOT / place.path).read_text(encoding="utf-8"))) or ""
        assert name.partition(".")[2].startswith("test_")
        assert number_of(label) in equations.named("\n".join([above, *place.lines])), name


def test_no_number_in_the_code_is_unknown():
    for path in (equations.ROOT / "jnn").glob("*.py"):
        found = {label for label in equations.named(path.read_text(encoding="utf-8")) if "section" not in label}
        assert found <= NUMBERED, path


def test_the_page_is_up_to_date():
    assert equations.page() == PAGE, "renew it: python -m docs.equations"


def test_every_link_leads_to_what_it_says():
    links = re.findall(r"\[([^]]+)\]\(([^)#]+)(?:#L(\d+))?\)", PAGE)
    assert len(links) > 2 * len(ROWS)
    for text, path, line in links:
        target = equations.TARGET.parent / path
        assert target.is_file(), path
        if line:
            there = target.read_text(encoding="utf-8").splitlines()[int(line) - 1]
            name = text.strip("`").rpartition(".")[2]
            defined = re.match(rf"(def|class) (test_)?{name}\b|{name} = ", there) or there.startswith("def test_")
            assert defined or equations.named(there.partition("#")[2]) & NUMBERED, f"{path}#L{line}: {there}"


def test_every_row_of_the_page_has_the_same_cells():
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# (2.3)", {"(2.3)"}),
        ("(2.4) to (2.6) in matrix form, (3.12)", {"(2.4)", "(2.5)", "(2.6)", "(3.12)"}),
        ("(3.9) to\n    (3.11)", {"(3.9)", "(3.10)", "(3.11)"}),
        ("Exercises 1.1 to 1.3", {"exercise 1.1", "exercise 1.2", "exercise 1.3"}),
        ("figures 4.2, 4.3 and 4.5, section 5.1", {"figure 4.2", "figure 4.3", "figure 4.5", "section 5.1"}),
        ("def test_figure_4_5(bins): in section 3.3.2", {"figure 4.5", "section 3.3.2"}),
        ("f(0.5) + f(1.0), 2.3, version 2.1", set()),
    ],
)
def test_numbers_are_read(text, found):
    assert equations.named(text) == found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"backprop.errors"', '"backprop.error"', "jnn/backprop.py has no such definition"),
        ('"test_mlp.test_forward', '"test_mlp.test_backward', "tests/test_mlp.py has no such definition"),
        ('"test_mlp.test_forward', '"test_map.test_forward', "tests/test_map.py has no such definition"),
        ('["bits"]', '["bytes"]', "there is no experiments/bytes.py"),
        ('what = "softmax and', 'who = "softmax and', "section 3.2 has who, functions"),
        ('[2."(2.4)"]', '[2."(2.3)"]', "Cannot declare"),
    ],
)
def test_mistakes_in_the_source(old, new, said, tmp_path, monkeypatch, capsys):
    source, target = tmp_path / "equations.toml", tmp_path / "equations.md"
    text = equations.SOURCE.read_text(encoding="utf-8")
    assert old in text
    source.write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(equations, "SOURCE", source)
    monkeypatch.setattr(equations, "TARGET", target)
    assert equations.main() == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
    assert list(tmp_path.iterdir()) == [source]


def test_the_command_writes_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(equations, "TARGET", tmp_path / "equations.md")
    assert equations.main() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["equations.md"]
    assert (tmp_path / "equations.md").read_text(encoding="utf-8") == equations.page()
