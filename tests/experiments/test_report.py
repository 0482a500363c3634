"""The page of all results: complete, honest about what is damaged or false, and self-contained."""

import dataclasses
import html
import html.parser
import io
import itertools
import json
import re
import shlex
import types
from typing import ClassVar

import pytest
from PIL import Image

from experiments import __main__ as command
from experiments import load, names, paths, runner
from experiments.runner import report
from tests.browsing import contrast
from tests.helpers import raises

with io.BytesIO() as file:
    Image.new("L", (3, 2)).save(file, "PNG")
    PNG = file.getvalue()


@dataclasses.dataclass(frozen=True)
class Config:
    quick: ClassVar = {"size": 2, "many": (1,)}

    size: int = 5
    many: tuple[float, ...] = (0.5, -2.0)
    kind: str = "plain"
    holds: bool = True
    deep: bool = False


RESULT = {
    "config": {"size": 5, "many": [0.5, -2.0], "kind": "plain", "holds": True, "deep": False},
    "claims": {"one <b>is</b> & stays one": True, "two is two": True},
    "numbers": {"test_error": 0.1232, "test_error_standard_error": 0.012, "pairs": 3},
    "seconds": 1.25,
    "device": "abacus",
    "devices": 2,
    "platform": "cpu",
    "versions": {"python": "3.11.7", "jax": "0.10.2"},
}


REAL = names()
CHAPTERS = {"alpha": "chapter_1", "beta": "chapter_3", "gamma": "chapter_2"}


def module(name, doc):
    def draw(figure, config, arrays):
        """A line that rises, "steeply"."""

    made = types.ModuleType(name, doc)
    made.__file__ = f"experiments/{CHAPTERS[name]}/{name}.py"
    made.Config, made.draw = Config, draw
    return made


MODULES = {
    name: module(name, doc)
    for name, doc in {
        "alpha": 'Exercise 1.2: alpha <is> `<first> --of "all"`.\n\nMore of it,\non two lines.\n\nAnd then some.\n',
        "beta": "Equations (3.22): beta.",
        "gamma": "On paper: gamma 4.",
    }.items()
}


def keep(out, name, png=PNG, **changes):
    folder = out / name
    folder.mkdir()
    (folder / "figure.png").write_bytes(png)
    (folder / "result.json").write_text(json.dumps({"experiment": name} | RESULT | changes))
    return folder


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the text of the page; fails where tags do not close."""

    VOID = ("meta", "link", "img")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text, self.styles = [], [], "", ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            self.styles += data
        else:
            self.text += " " + data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def said(self):
        return " ".join(self.text.split())


def read(out):
    return Page((out / "report.html").read_text(encoding="utf-8"))


def write(out, modules=MODULES):
    return report.write(modules, [out], out / "report.html")


def test_all_that_was_run_is_on_the_page(tmp_path, capsys):
    keep(tmp_path, "alpha")
    keep(tmp_path, "beta", config=RESULT["config"] | {"size": 7}, claims={"beta holds": True})
    keep(tmp_path, "gamma")
    assert write(tmp_path) == 0
    printed = capsys.readouterr()
    assert printed.out == f"3 of 3 experiments, 5 of 5 claims hold; see {tmp_path / 'report.html'}\n"
    assert not printed.err
    page = read(tmp_path)
    for words in (
        "3 of 3 experiments, 5 of 5 claims hold.",
        "Chapter 1: perceptrons and handwritten digits",
        "2 of 2 claims hold",
        'Exercise 1.2: alpha <is> <first> --of "all" .',
        "More of it, on two lines.",
        "And then some.",
        "✓ holds: one <b>is</b> & stays one",
        "test error 0.1232 ± 0.012",
        "pairs 3",
        "--size 7 --many 0.5 -2.0 --kind plain --holds True --deep False",
        "Command python -m experiments alpha 1.2 s on abacus (cpu, 2 devices)",
        "Command python -m experiments beta --size 7",
        "python 3.11.7, jax 0.10.2",
    ):
        assert words in page.said, words
    assert "✗" not in page.said
    assert "false" not in page.said
    assert "standard error" not in page.said
    assert [(figure["width"], figure["height"], figure["alt"]) for figure in page.all("img")] == 3 * [
        ("3", "2", 'A line that rises, "steeply".')
    ]
    of_chapters = ("Chapter 1", "alpha <is>", "Chapter 2", "gamma 4", "Chapter 3", "beta.")
    places = [page.said.rindex(words) for words in of_chapters]
    assert places == sorted(places)
    assert "Chapter 4" not in page.said


def test_experiments_are_in_the_chapters_that_their_first_lines_name():
    for name in REAL:
        chapter = re.search(r"\d", load(name).__doc__.partition(":")[0])
        assert paths()[name].parent.name == f"chapter_{chapter.group() if chapter else 2}", name  # roofline names none


def test_what_was_not_run_is_listed_with_its_command(tmp_path):
    keep(tmp_path, "alpha")
    (tmp_path / "beta" / "checkpoints").mkdir(parents=True)
    assert write(tmp_path) == 0
    said = read(tmp_path).said
    assert "2 not run yet Chapter 1" in said
    assert said.index("alpha <is>") < said.index("2 not run yet, with their commands beta Equations (3.22): beta.")
    assert "gamma On paper: gamma 4. python -m experiments gamma" in said
    assert "Interrupted; --resume continues it. python -m experiments beta" in said
    assert "Chapter 2" not in said  # of gamma alone
    assert len(re.findall(r"<details>\s*<summary>2 not run yet", (tmp_path / "report.html").read_text())) == 1  # folded


def test_runs_of_several_folders_are_side_by_side(tmp_path, capsys):
    """Alpha with sizes 5 and 7, where the second has no gamma, and beta was never run; a false claim is the code."""
    five, seven = folders = [tmp_path / "five", tmp_path / "seven"]
    for folder in folders:
        folder.mkdir()
    keep(five, "alpha")
    keep(five, "gamma")
    claims = {"two is two": False, "seven is seven": True}
    config = RESULT["config"] | {"size": 7, "many": [1.0]}
    keep(seven, "alpha", config=config, claims=claims, numbers={"test_error": 0.5, "new": 1})
    assert report.write(MODULES, folders, tmp_path / "comparison.html") == 1
    printed = capsys.readouterr()
    assert not printed.err
    assert printed.out.startswith(
        f"{five}: 2 of 3 experiments, 4 of 4 claims hold\n{seven}: 1 of 3 experiments, 1 of 2 claims hold"
    )
    page = Page((tmp_path / "comparison.html").read_text(encoding="utf-8"))
    for words in (
        "test error 0.1232 ± 0.012 0.5 pairs 3 new 1 Command (five)",
        "five seven one <b>is</b> & stays one ✓ holds not claimed two is two ✓ holds ✗ false seven is seven",
        "✗ alpha 2 of 2 claims hold (five) 1 of 2 claims false (seven)",
        "Command (seven) python -m experiments alpha --quick --size 7",
        "Differences five seven --size 5 7 --many 0.5 -2.0 1.0 five seven Claims",
    ):
        assert words in page.said, words
    assert page.said.count("Differences") == 1  # gamma has one run
    assert len(page.all("img")) == 3
    report.write(MODULES, [five, five], tmp_path / "same.html")
    assert "The flags and the versions are the same." in Page((tmp_path / "same.html").read_text()).said
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert report.write(MODULES, [*folders, tmp_path / "empty"], tmp_path / "other.html") == 2
    assert capsys.readouterr().err.startswith(f"error: no results in {tmp_path / 'empty'}; run some experiments first")
    assert not (tmp_path / "other.html").exists()


def changed(**fields):
    return json.dumps({"experiment": "beta"} | RESULT | fields).encode()


@pytest.mark.parametrize(
    ("file", "content", "said", "shown"),
    [
        ("figure.png", None, "figure.png: No such file", "result"),
        ("figure.png", b"", "figure.png: not a PNG", "result"),
        ("figure.png", PNG[:50], "figure.png: a damaged PNG", "result"),
        ("figure.png", PNG[:20] + b"\xff" + PNG[21:], "figure.png: a damaged PNG", "result"),
        ("result.json", None, "result.json: No such file", "figure"),
        ("result.json", b"\xff\xfe{", "result.json: not JSON", "figure"),
        ("result.json", 100_000 * b"[", "result.json: not JSON", "figure"),
        ("result.json", b"[1, 2]", "result.json: must be an object, got [1, 2]", "figure"),
        ("result.json", b'{"experiment": "beta"}', "result.json: config is missing", "figure"),
        ("result.json", changed(experiment="alpha"), "result.json: must be of beta, got alpha", "figure"),
        ("result.json", changed(claims=[True]), "claims has the wrong type, got [true]", "figure"),
        ("result.json", changed(claims={}), "claims must be true or false", "figure"),
        ("result.json", changed(numbers={"x": None}), "numbers must be numbers", "figure"),
        ("result.json", changed(numbers={"x": 10**400}), "numbers must be numbers", "figure"),
        ("result.json", changed(seconds=None), "seconds has the wrong type, got null", "figure"),
        ("result.json", changed(config={"size": 5, "old": 1}), "many, old; to replace it, run python -m ", "both"),
    ],
)
def test_a_damaged_result_is_reported_and_the_rest_is_shown(file, content, said, shown, tmp_path, capsys):
    keep(tmp_path, "alpha")
    path = keep(tmp_path, "beta") / file
    path.unlink() if content is None else path.write_bytes(content)
    assert write(tmp_path) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("error: beta: ")
    assert said in printed.err
    assert "python -m experiments beta" in printed.err
    assert ", 1 damaged; see" in printed.out
    page = read(tmp_path)
    assert "! beta damaged" in page.said
    assert f"Damaged: {printed.err.removeprefix('error: beta: ').partition(';')[0]}" in page.said
    assert len(page.all("img")) == 1 + (shown in ("figure", "both"))
    assert page.said.count("one <b>is</b> & stays one") == 1 + (shown in ("result", "both"))
    assert str(tmp_path) not in page.text


def test_without_results_nothing_is_written(tmp_path, capsys):
    (tmp_path / "other").mkdir()
    for out in (tmp_path, tmp_path / "none"):
        assert write(out) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith(f"error: no results in {out}; run some experiments first")
        assert printed.err.count("\n") == 1
        assert not printed.out
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RuntimeError("a defect"), 3, r"Traceback (?s:.*)RuntimeError: a defect\n"),
        (OSError(28, "No space left"), 2, r"error: cannot write .*/report.html \(\[Errno 28\] No space left\); .*\n"),
    ],
)
def test_a_page_that_fails_leaves_the_older_one_whole(error, code, said, tmp_path, monkeypatch, capsys):
    keep(tmp_path, "alpha")
    write(tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    keep(tmp_path, "beta")

    monkeypatch.setattr(report.Path, "replace", raises(error))
    assert write(tmp_path) == code
    assert re.fullmatch(said, capsys.readouterr().err)
    assert (tmp_path / "report.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alpha", "beta", "report.html"]


def test_the_page_is_self_contained_and_in_order(tmp_path):
    keep(tmp_path, "alpha", claims={"<script>alert(1)</script>": True, "not so": False})
    keep(tmp_path, "beta", device="<img src=x>")
    assert write(tmp_path) == 1
    page = read(tmp_path)
    assert "✗ alpha 1 of 2 claims false" in page.said
    assert "✗ false: not so" in page.said
    assert not page.all("script")
    assert len(page.all("img")) == 2
    links = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert all(link.startswith("data:") or link[1:] in ids for link in links)
    assert len(links) == 2 + 1 + 2 + 1  # results and what was not run, figures, icon
    assert not re.search(r"url\(|@import", page.styles)
    assert {"http-equiv", "content"} <= page.all("meta")[2].keys()
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 == levels.count(1)
    assert all(level <= before + 1 for before, level in itertools.pairwise(levels))
    assert len(ids) == len(set(ids))
    assert {attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes} <= set(ids)


def rgb(colour):
    colour = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    return [int(colour[i : i + 2], 16) for i in (0, 2, 4)]


def test_all_text_has_the_contrast_that_wcag_asks_for(tmp_path):
    keep(tmp_path, "alpha")
    write(tmp_path)
    styles = read(tmp_path).styles
    assert "prefers-color-scheme: dark" in styles
    light, dark = (dict(re.findall(r"--(\w+): #(\w+)", part)) for part in re.findall(r":root \{(.*?)\}", styles, re.S))
    assert light.keys() == dark.keys()
    for colours, ink, paper in itertools.product(
        (light, dark), ("ink", "soft", "link", "good", "bad"), ("paper", "card")
    ):
        assert contrast(*(rgb(colours[name]) for name in (ink, paper))) >= 4.5, (ink, paper)


# The command that made a result


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        ({}, ""),
        ({"size": 2, "many": [1.0]}, "--quick"),
        ({"size": 2, "many": [1.0], "kind": "two words"}, "--quick --kind 'two words'"),
        ({"many": [1.0]}, "--many 1.0"),
        ({"many": [], "holds": False}, "--many --no-holds"),
        ({"deep": True, "unknown": 3}, "--deep"),
        ({"kind": None}, "--kind None"),
    ],
)
def test_the_shortest_command(config, flags):
    found = report.command(MODULES["alpha"], RESULT["config"] | config)
    assert found == f"python -m experiments alpha {flags}".strip()
    assert report.command(MODULES["alpha"], {}) == "python -m experiments alpha"  # a config of another version


def other(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return tuple(value[:1]) if len(value) > 2 else value
    return value + 1 if isinstance(value, int | float) else value


# The commands that the report prints


@pytest.fixture
def configs(monkeypatch):
    """Instead of running: the configs, by the name of the experiment."""
    ran = {}

    def run(module, config, out, resume):
        ran[runner.experiment_name(module)] = config
        return True

    monkeypatch.setattr(runner.command, "run", run)
    monkeypatch.setattr(runner.several, "cores", lambda: 1)
    return ran


@pytest.mark.parametrize("changed", ["not run", "every field", "several"])
def test_the_commands_on_a_page_run_what_it_shows(changed, tmp_path, configs):
    """With and without results, for every field that can be changed, above all for those of several values."""
    expected = {}
    for name in REAL:
        config = load(name).Config
        fields = {
            "every field": {field: other(value) for field, value in dataclasses.asdict(config()).items()},
            "several": {"only": ("100 images", "30 hidden")}
            if name == "nielsen"
            else {
                field.name: (*field.default[::-1], *field.default[:1])
                for field in dataclasses.fields(config)
                if isinstance(field.default, tuple) and "..." in str(field.type)
            },
        }.get(changed, {})
        expected[name] = config(**fields)
        if changed != "not run" or name == "digits":
            keep(tmp_path, name, config=dataclasses.asdict(expected[name]))
    assert write(tmp_path, {name: load(name) for name in REAL}) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for line in re.findall(r"<pre><code>(.*?)</code></pre>", page, re.S):
        assert command.main(shlex.split(html.unescape(line))[3:]) == 0, line
        assert not re.search(r"--\w*_", line)
    assert configs == expected


def test_the_commands_in_messages_write_where_it_was_read(tmp_path, configs, capsys, monkeypatch):
    out = tmp_path / "two words"
    out.mkdir()
    modules = {name: load(name) for name in ("digits", "nielsen")}
    assert write(out, modules) == 2
    said = [re.search(r"first: (python .*?) \(JNN_TRACEBACK", capsys.readouterr().err).group(1)]
    for name, module in modules.items():
        (keep(out, name, config=dataclasses.asdict(module.Config())) / "figure.png").write_text("damaged")
    assert write(out, modules) == 2
    said += re.findall(r"to replace it, run (.*)", capsys.readouterr().err)
    assert [line.partition(" --out ")[0].split()[3:] for line in said] == [["all", "--quick"], ["digits"], ["nielsen"]]
    for line in said:
        assert shlex.split(line)[-2:] == ["--out", str(out)]
        assert command.main(shlex.split(line)[3:]) == 0
