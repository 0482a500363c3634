"""`python -m experiments`: what it lists, runs and rejects."""

import os
import pwd
import runpy
import sys
from pathlib import Path

import jax
import pytest

from experiments import __main__ as command
from experiments import report, runner
from experiments.runner.command import _cache_compilations

NAMES = command.names()


@pytest.fixture
def ran(monkeypatch):
    """Instead of running: the names and flags of what would run; the n-th exits with n - 1."""
    calls = []

    def main(module, flags):
        calls.append((runner.experiment_name(module), flags))
        return len(calls) - 1

    monkeypatch.setattr(runner, "main", main)
    monkeypatch.setattr(report, "write", lambda modules, out: calls.append((list(modules), str(out))) or 1)
    return calls


def test_the_list(capsys):
    assert command.main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{shown}" for name in NAMES)
    assert {"digits", "backprop_check"} <= set(NAMES)
    assert not {"runner", "recipes", "report", "__main__"} & set(NAMES)


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["all", "--help"], ["report", "--help"]])
def test_help(args, capsys):
    assert command.main(args) == 0
    assert "python -m experiments all" in capsys.readouterr().out


def test_help_of_one(capsys):
    """With fields that its config shares with others, whose help is written once, and with its own defaults."""
    with pytest.raises(SystemExit, match="^0$"):
        command.main(["record", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "usage: python -m experiments record" in shown
    assert "--seeds INT Networks trained side by side, each with its own random numbers. (default: 3)" in shown
    assert "--seed INT Seed of the random numbers. (default: 0)" in shown
    assert "--momentum FLOAT Fraction of the previous step that the next one keeps. (default: 0.9)" in shown
    assert "--out PATH Folder for the results" in shown
    assert "--resume Continue an interrupted run" in shown


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["digits"], [("digits", [])]),
        (["digits", "--epochs", "3", "--quick"], [("digits", ["--epochs", "3", "--quick"])]),
        (["--quick", "digits", "--hidden", "3", "4"], [("digits", ["--quick", "--hidden", "3", "4"])]),
        (["--out", "bits", "digits"], [("digits", ["--out", "bits"])]),
        (["bits", "--out=x", "digits", "bits"], [("bits", ["--out=x"]), ("digits", ["--out=x"])]),
        (["--quick", "all", "--resume"], [(name, ["--quick", "--resume"]) for name in NAMES]),
        (["report"], [(NAMES, "out")]),
        (["report", "digits", "--out", "x"], [("digits", ["--out", "x"]), (NAMES, "x")]),
        (["all", "report"], [*((name, []) for name in NAMES), (NAMES, "out")]),
    ],
)
def test_what_runs(ran, args, expected):
    code = command.main(args)
    assert ran == expected
    assert code == max(len([name for name, _ in expected if name != NAMES]) - 1, NAMES in [n for n, _ in expected])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["typo"], f"error: no experiment typo; there are: {', '.join(NAMES)}\n"),
        (["digits", "typo", "--quick"], f"error: no experiment typo; there are: {', '.join(NAMES)}\n"),
        (["digits", "bits", "--epochs", "3"], "error: --epochs is not a flag of the command, only"),
        (["all", "--fast"], "error: --fast is not a flag of the command, only"),
        (["--fast"], "error: --fast is not a flag of the command, only"),
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


def test_an_interrupt_ends_a_run_of_several(monkeypatch, tmp_path):
    begun = []
    monkeypatch.setattr(
        runner, "main", lambda module, flags: begun.append(runner.experiment_name(module)) or runner.INTERRUPTED
    )
    assert command.main(["bits", "digits", "report", "--out", str(tmp_path)]) == 130
    assert begun == ["bits"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "names"), [("experiments.__main__", ["fig_5_1_tanh"]), ("experiments.fig_5_1_tanh", [])]
)
def test_both_commands_run_the_experiment(module, names, tmp_path, monkeypatch, capsys):
    """As `python -m` does: the module runs under the name __main__, and exits."""
    monkeypatch.setattr(sys, "argv", ["", *names, "--quick", "--out", str(tmp_path)])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit, match="^0$"):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert "fig_5_1_tanh: " in capsys.readouterr().out
    assert (tmp_path / "fig_5_1_tanh" / "result.json").exists()


# Folders of the user


def test_a_home_is_expanded_where_the_shell_does_not(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert command.main(["fig_5_1_tanh", "--quick", "--out=~/runs"]) == 0
    assert f"see {tmp_path}/runs/fig_5_1_tanh\n" in capsys.readouterr().out
    assert command.main(["report", "--out=~/runs"]) == 0
    assert f"see {tmp_path}/runs/report.html\n" in capsys.readouterr().out
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


@pytest.mark.parametrize("home", [None, "a file"])
def test_without_a_home_compiled_programs_are_not_kept(homeless, options, home, monkeypatch):
    if home:
        (homeless / home).touch()
        monkeypatch.setenv("HOME", str(homeless / home))
    before = list(homeless.iterdir())
    _cache_compilations()
    assert options["jax_compilation_cache_dir"] is None
    assert list(homeless.iterdir()) == before


def test_compiled_programs_are_kept_in_the_cache_folder(homeless, options, monkeypatch):
    monkeypatch.setenv("HOME", str(homeless))
    _cache_compilations()
    assert Path(options["jax_compilation_cache_dir"]).is_dir()
    assert homeless in Path(options["jax_compilation_cache_dir"]).parents


def test_another_cache_folder_is_left_to_jax(homeless, options, monkeypatch):
    monkeypatch.setenv("HOME", str(homeless))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/other")
    _cache_compilations()
    assert "jax_compilation_cache_dir" not in options
    assert not list(homeless.iterdir())
