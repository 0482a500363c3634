"""`python -m experiments`: what it lists, runs and rejects."""

import contextlib
import importlib.util
import inspect
import os
import pwd
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import timing
from experiments import __main__ as command
from experiments import compile as compiling
from experiments import device, explore, load, names, paths, read, runner
from experiments.runner import experiment, report, sweep
from experiments.runner.command import cache_compilations

NAMES = names()


@pytest.fixture
def ran(monkeypatch):
    """Instead of running: the names and flags of what would run; the n-th exits with n - 1."""
    calls = []

    def main(module, flags):
        calls.append((runner.experiment_name(module), flags))
        return len(calls) - 1

    monkeypatch.setattr(runner, "main", main)
    monkeypatch.setattr(runner.several, "main", main)
    monkeypatch.setattr(runner.several, "cores", lambda: 1)

    def write(modules, folders, path):
        calls.append((list(modules), [*map(str, folders)], str(path)))
        return 1

    monkeypatch.setattr(report, "write", write)
    return calls


def test_the_list(capsys):
    assert command.main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{shown}" for name in NAMES)
    assert {"digits", "backprop_check"} <= set(NAMES)
    assert not {"corpus", "common", "report", "__init__"} & set(NAMES)


def test_outside_of_its_environment_a_line_says_what_to_install():
    command = [sys.executable, "-S", "-m", "experiments"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert re.fullmatch(r"error: the experiments need jax, .*tyro; activate .*pip install \S+\n", done.stderr)


def test_what_is_shown_does_not_depend_on_stripped_docstrings(capsys):
    """`python -OO` strips them, also that of a figure."""
    code = "from experiments import __main__, docstring, load; __main__.main([]); __main__.main(['--help'])"
    code += "; print(docstring(load('digits')), docstring(load('digits'), 'draw'))"
    stripped = subprocess.check_output([sys.executable, "-OO", "-c", code], text=True, cwd=ROOT)
    assert (command.main([]), command.main(["--help"])) == (0, 0)
    digits = load("digits")
    print(inspect.cleandoc(digits.__doc__), digits.draw.__doc__)
    assert stripped == capsys.readouterr().out


def test_a_reader_that_has_seen_enough_ends_the_list():
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-m", "experiments"], cwd=ROOT, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_help(capsys):
    """Of the command; of one, with fields that its config shares with others, and with its own defaults."""
    sweep, words = "sweep digits --eta 0.1 0.5", (["-h"], ["all", "--help"], ["sweep", "digits", "-h"], ["sweep"])
    for args, said, code in zip(words, ("all", "all", sweep, sweep), (0, 0, 0, 2), strict=True):
        assert command.main(args) == code
        assert f"python -m experiments {said}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="^0$"):
        command.main(["record", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "usage: python -m experiments record" in shown
    assert "--seeds INT Networks trained side by side, each with its own random numbers. (default: 3)" in shown
    assert "--seed INT Seed of the random numbers. (default: 0)" in shown
    assert "--momentum FLOAT Fraction of the previous step that the next one keeps. (default: 0.9)" in shown
    assert "--resume Continue an interrupted run" in shown


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--quick", "digits", "--hidden", "3", "4"], [("digits", ["--quick", "--hidden", "3", "4"])]),
        (["--out", "bits", "digits"], [("digits", ["--out", "bits"])]),
        (["bits", "--out=x", "digits", "bits"], [("bits", ["--out=x"]), ("digits", ["--out=x"])]),
        (["--quick", "all", "--resume"], [(name, ["--quick", "--resume"]) for name in NAMES]),
        (["report"], [(NAMES, ["out"], "out/report.html")]),
        (["report", "digits", "--out", "x"], [("digits", ["--out", "x"]), (NAMES, ["x"], "x/report.html")]),
        (["all", "report"], [*((name, []) for name in NAMES), (NAMES, ["out"], "out/report.html")]),
        (["report", "/"], [(NAMES, ["/"], "/report.html")]),
        (["report", "/", "/usr", "/"], [(NAMES, ["/", "/usr"], "out/comparison.html")]),
        (["/", "--out", "x", "report", "/usr"], [(NAMES, ["/", "/usr"], "x/comparison.html")]),
    ],
)
def test_what_runs(ran, args, expected):
    code = command.main(args)
    assert ran == expected
    assert code == max(len([run for run in expected if run[0] != NAMES]) - 1, NAMES in [run[0] for run in expected])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["digits", "typo", "--quick"], f"error: no experiment typo; there are: {', '.join(NAMES)}\n"),
        (["digits", "bits", "--epochs", "3"], "error: --epochs is not a flag of the command, only"),
        (["--fast"], "error: --fast is not a flag of the command, only"),
        (["digits", "/"], f"error: no experiment /; there are: {', '.join(NAMES)}; a folder is named by --out /\n"),
        (
            ["report", "/", "typo"],
            f"error: no experiment typo; there are: {', '.join(NAMES)}; nor a folder to report on\n",
        ),
        (["report", "--seeds", "2"], "error: --seeds is not a flag of the command, only"),
    ],
)
def test_mistakes_are_one_line(ran, args, message, capsys):
    assert command.main(args) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(message)
    assert shown.err.count("\n") == 1
    assert not shown.out
    assert not ran


# The commands that pages, docstrings and messages name

ROOT = Path(__file__).parents[2]
EXPERIMENTS = set(paths().values())
BENCHMARKS = {("benchmarks", name) for name in benchmarks.names()}
COMMAND = re.compile(r"""python -m (\w[\w.]*)((?: [^\s`";:|(){}#]+)*)|`(--[^`]+)`""")
PACKAGES = ("experiments", "benchmarks", "notebooks", "docs", "tests")
STANDS_FOR = {"benchmarks.NAME": "benchmarks.mlp", "NAME": "digits", "DIR...": "/"}
TEXTS = [path for pattern in ("*.md", "docs/*.md", "Makefile") for path in ROOT.glob(pattern)]
TEXTS += [path for package in (*PACKAGES[:4], "jnn") for path in ROOT.glob(f"{package}/**/*.py")]


def named(path):
    """The module and the arguments of each command in a file; flags alone are of the file's module or the last one."""
    text = path.read_text()
    if path.suffix == ".md":
        text = re.sub(r" #.*", "", text)
    last = ("experiments", [path.stem if path in EXPERIMENTS else "digits"])
    if (path.parent.name, path.stem) in BENCHMARKS:
        last = (f"benchmarks.{path.stem}", [])
    for module, arguments, flags in COMMAND.findall(text):
        if flags:
            yield last[0], [*last[1], *shlex.split(flags)]
        elif module.partition(".")[0] in PACKAGES and not module.endswith("."):  # f"... benchmarks.{name}"
            words = [STANDS_FOR.get(word, word) for word in shlex.split(arguments) if "[" not in word]
            last = STANDS_FOR.get(module, module), words
            yield last


@pytest.fixture
def accepts(monkeypatch):
    """Whether a command would run, by the parsers of the project itself."""
    monkeypatch.setattr(runner.command, "run", lambda module, config, out, resume: experiment.check(config) or True)
    monkeypatch.setattr(runner.several, "cores", lambda: 1)
    monkeypatch.setattr(report, "write", lambda *args: 0)
    monkeypatch.setattr(sweep.files, "writable", lambda folder: contextlib.nullcontext())
    monkeypatch.setattr(sweep, "run_each", lambda runs: dict.fromkeys(runs, 0).items())
    monkeypatch.setattr(sweep, "read_result", lambda path: {})
    monkeypatch.setattr(sweep, "write", lambda *table: None)
    for module in (read.command, explore.command, device, compiling):
        monkeypatch.setattr(module, "run", lambda *config: 0)
    monkeypatch.setattr(timing, "_write", lambda *result: None)

    def main(module, arguments):
        package, _, name = module.partition(".")
        if module == "experiments":
            return command.main(arguments)
        if (package, name) not in BENCHMARKS:
            return int(importlib.util.find_spec(module) is None)
        script = importlib.import_module(module)
        monkeypatch.setattr(script, "measure", lambda config: [])
        return timing.main(script, arguments)

    def accepts(module, arguments):
        try:
            return main(module, arguments) == 0
        except SystemExit as exited:
            return exited.code == 0

    return accepts


def test_every_command_that_is_named_runs(accepts):
    commands = sorted({(module, *arguments) for path in TEXTS for module, arguments in named(path)})
    assert len(commands) > 40
    refused = [words for words in commands if not accepts(words[0], words[1:])]
    # Where a flag is named without its value, it has one.
    assert not [words for words in refused if not (words[-1].startswith("--") and accepts(words[0], [*words[1:], "3"]))]


@pytest.mark.parametrize(
    "flags",
    [
        ["nielsen", "--only", "1,000 images, lambda 0.1", "100 images", "--first", "300"],
        ["digits", "--quick", "--hidden", "20", "15", "--eta", "1e-05"],
        ["fig_4_7_tower", "--lower", "-1e-05", "-2.0"],
    ],
)
def test_the_command_that_resumes_is_the_same(flags, monkeypatch, tmp_path, capsys):
    begun = []

    def interrupted(module, config, out, resume):
        begun.append((module, config, out, resume))
        (out / runner.experiment_name(module) / "checkpoints").mkdir(parents=True, exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner.command, "run", interrupted)
    assert command.main([*flags, "--out", str(tmp_path / "two words")]) == runner.INTERRUPTED
    resume = shlex.split(capsys.readouterr().err.partition("resume with ")[2])
    assert command.main(resume[3:]) == runner.INTERRUPTED
    assert begun[1] == (*begun[0][:3], True)


# Folders of the user


def test_a_home_is_expanded_where_the_shell_does_not(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert command.main(["fig_5_1_tanh", "--quick", "--out=~/runs"]) == 0
    assert f"see {tmp_path}/runs/fig_5_1_tanh\n" in capsys.readouterr().out
    assert command.main(["report", "--out=~/runs"]) == 0
    assert capsys.readouterr().out == (
        f"1 of {len(NAMES)} experiments, 6 of 6 claims hold; 1 at the small size of --quick; see "
        f"{tmp_path}/runs/report.html\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """The user of a container, with a number and no more, in an empty folder."""

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("names", [["digits"], ["digits", "bits"], ["report"]])
def test_without_a_home_there_is_none_to_expand(homeless, names, capsys):
    try:
        code = command.main([*names, "--out=~/runs"])
    except SystemExit as exited:
        code = exited.code
    assert code == 2
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "out must not start with ~ where no home folder is known, got ~/runs" in shown
    assert not list(homeless.iterdir())


@pytest.fixture
def options(monkeypatch):
    """Those of JAX that are set, for none of its variables in the environment."""
    options = {}
    for name in [name for name in os.environ if name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(jax.config, "update", options.__setitem__)
    return options


@pytest.mark.parametrize("home", [None, "a file", "."])
def test_compiled_programs_are_kept_in_the_cache_folder(homeless, options, home, monkeypatch):
    """If there is one."""
    if home:
        (homeless / "a file").touch()
        monkeypatch.setenv("HOME", str(homeless / home))
    before = list(homeless.iterdir())
    cache_compilations()
    folder = options["jax_compilation_cache_dir"]
    if home == ".":
        assert Path(folder).is_dir()
        assert homeless in Path(folder).parents
    else:
        assert folder is None
        assert list(homeless.iterdir()) == before


def test_another_cache_folder_is_left_to_jax(homeless, options, monkeypatch):
    monkeypatch.setenv("HOME", str(homeless))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/other")
    cache_compilations()
    assert "jax_compilation_cache_dir" not in options
    assert not list(homeless.iterdir())
