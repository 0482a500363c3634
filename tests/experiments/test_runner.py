import dataclasses
import json
import re
import signal
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import __main__ as command
from experiments import runner
from jnn import train


@dataclasses.dataclass(frozen=True)
class Config:
    quick = {"size": 2}  # noqa: RUF012

    size: int = 5
    """How many."""
    holds: bool = True
    """Whether the claim holds."""


def compute(config):
    if config.size < 0:
        raise ValueError(f"size is {config.size}; at least 0 is wanted")
    if config.size > 1000:
        raise RuntimeError("a defect, not a mistake")
    squares = jnp.arange(config.size) ** 2
    precision = jax.config.jax_default_matmul_precision == "highest"
    return {"squares": squares, "exact": precision, **runner.mean_and_standard_error("mean_square", squares)}


def draw(figure, config, arrays):
    figure.subplots().plot(arrays["squares"])


@pytest.fixture
def experiment():
    module = types.ModuleType("squares", "Squares, for the tests.")
    module.__file__ = "experiments/squares.py"
    module.Config, module.compute, module.draw = Config, compute, draw
    module.claims = lambda config, arrays: {"the claim holds": config.holds, "squares grow": arrays["squares"][-1] >= 1}
    return module


def test_a_run_writes_three_files_and_prints_the_claims(experiment, tmp_path, capsys):
    assert runner.main(experiment, ["--size", "4", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "squares"
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.npz", "figure.png", "result.json"]
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["squares"], [0, 1, 4, 9])
        assert arrays["exact"]  # the matmul precision was set
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((folder / "result.json").read_text())
    assert result["config"] == {"size": 4, "holds": True}
    assert result["claims"] == {"the claim holds": True, "squares grow": True}
    assert result["numbers"]["mean_square"] == 3.5
    assert result["numbers"]["mean_square_standard_error"] == pytest.approx(np.std([0, 1, 4, 9], ddof=1) / 2)
    assert result["platform"] == jax.default_backend()
    assert set(result["versions"]) == {"python", "jnn", "jax", "jaxlib", "numpy", "optax"}
    assert result["seconds"] > 0
    shown = capsys.readouterr().out
    assert "mean square: 3.5 ± 2\n" in shown
    assert "ok    the claim holds" in shown


def test_a_claim_that_fails_is_the_exit_code(experiment, tmp_path, capsys):
    assert runner.main(experiment, ["--no-holds", "--out", str(tmp_path)]) == 1
    assert "FALSE the claim holds" in capsys.readouterr().out
    assert json.loads((tmp_path / "squares" / "result.json").read_text())["claims"]["the claim holds"] is False


@pytest.mark.parametrize(("flags", "size"), [([], 5), (["--quick"], 2), (["--quick", "--size", "3"], 3)])
def test_quick_is_a_smaller_default(experiment, tmp_path, flags, size):
    runner.main(experiment, [*flags, "--out", str(tmp_path)])
    assert json.loads((tmp_path / "squares" / "result.json").read_text())["config"]["size"] == size


def test_a_second_run_replaces_the_first(experiment, tmp_path):
    for size in ("4", "3"):
        runner.main(experiment, ["--size", size, "--out", str(tmp_path)])
    assert json.loads((tmp_path / "squares" / "result.json").read_text())["config"]["size"] == 3
    assert len(list((tmp_path / "squares").iterdir())) == 3


def test_one_member_has_no_standard_error():
    assert set(runner.mean_and_standard_error("x", [2.0])) == {"x"}
    assert runner.said("x", {"x": 2.0}) == "2"
    assert runner.said("x", {"x": 0.951, "x_standard_error": 0.0012}, scale=100, unit="%") == "95.1 ± 0.12 %"


def test_a_users_mistake_is_one_line(experiment, tmp_path, capsys):
    assert runner.main(experiment, ["--size", "-1", "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: size is -1; at least 0 is wanted")
    assert printed.err.count("\n") == 1
    assert not printed.out
    assert not list(tmp_path.iterdir())


def test_a_defect_keeps_its_traceback(experiment, tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="a defect"):
        runner.main(experiment, ["--size", "1001", "--out", str(tmp_path)])
    monkeypatch.setenv("JNN_TRACEBACK", "1")
    with pytest.raises(ValueError, match="size is -1"):
        runner.main(experiment, ["--size", "-1", "--out", str(tmp_path)])


def test_an_interrupt_leaves_nothing(experiment, tmp_path, capsys):
    def interrupted(config):
        raise KeyboardInterrupt

    experiment.compute = interrupted
    assert runner.main(experiment, ["--out", str(tmp_path)]) == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(experiment, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert runner.main(experiment, ["--out", str(tmp_path / "file")]) == 2
    assert "error: " in capsys.readouterr().err


def test_a_figure_that_fails_leaves_the_older_run_whole(experiment, tmp_path):
    runner.main(experiment, ["--out", str(tmp_path)])
    before = {path.name: path.read_bytes() for path in (tmp_path / "squares").iterdir()}

    def broken(figure, config, arrays):
        raise RuntimeError("no figure")

    experiment.draw = broken
    with pytest.raises(RuntimeError, match="no figure"):
        runner.main(experiment, ["--size", "3", "--out", str(tmp_path)])
    assert {path.name: path.read_bytes() for path in (tmp_path / "squares").iterdir()} == before


# A look, for notebooks


def test_a_look_prints_the_claims_and_writes_nothing(experiment, tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("JNN_QUICK", raising=False)
    monkeypatch.chdir(tmp_path)
    figure, arrays = runner.look(experiment, size=4)
    np.testing.assert_array_equal(arrays["squares"], [0, 1, 4, 9])
    assert arrays["exact"]  # the matmul precision was set
    assert figure.axes[0].lines
    assert capfd.readouterr() == ("ok    the claim holds\nok    squares grow\n", "")
    assert not list(tmp_path.iterdir())


def test_a_look_raises_where_a_claim_is_false(experiment, capsys):
    with pytest.raises(AssertionError, match="squares with Config.* false is the claim holds$"):
        runner.look(experiment, holds=False)
    assert "FALSE the claim holds\nok    squares grow\n" in capsys.readouterr().out


@pytest.mark.parametrize(("quick", "size"), [("", 4), ("1", 2)])
def test_a_look_is_quick_where_the_environment_says_so(experiment, monkeypatch, quick, size):
    monkeypatch.setenv("JNN_QUICK", quick)
    assert len(runner.look(experiment, size=4)[1]["squares"]) == size


def test_a_look_is_shown_as_a_run_is_saved(experiment, tmp_path, monkeypatch):
    """In the same style, though it is drawn later, where other settings may hold."""
    monkeypatch.delenv("JNN_QUICK", raising=False)
    experiment.draw = lambda figure, config, arrays: figure.subplots().plot(arrays["squares"], color="C1")
    runner.main(experiment, ["--out", str(tmp_path)])
    figure, _ = runner.look(experiment)
    figure.savefig(tmp_path / "shown.png", metadata={"Software": None})
    assert (tmp_path / "shown.png").read_bytes() == (tmp_path / "squares" / "figure.png").read_bytes()


def test_a_look_draws_no_progress_bar(experiment, tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("JNN_QUICK", raising=False)

    def trained(config):
        optimizer = train.sgd(0.1)
        start = train.init(optimizer, jnp.zeros(()))
        grad = jax.value_and_grad(lambda w, x: jnp.sum(w * x))
        runner.fit(jax.random.key(0), grad, optimizer, start, (jnp.ones(2),), epochs=2, batch_size=1)
        return compute(config)

    experiment.compute = trained
    runner.look(experiment)
    assert capfd.readouterr().err == ""
    runner.main(experiment, ["--out", str(tmp_path)])
    assert "2/2" in capfd.readouterr().err


# The command that lists and runs


def test_the_list(capsys):
    assert command.main() == 0
    shown = capsys.readouterr().out
    for name in command.names():
        assert name in shown
    assert {"digits", "backprop_check"} <= set(command.names())
    assert "runner" not in command.names()


def test_an_unknown_name(capsys):
    assert command.main(("digits", "typo")) == 2
    assert f"error: no experiment typo; there are: {', '.join(command.names())}\n" in capsys.readouterr().err


def test_several_by_name(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(
        runner, "main", lambda module, flags: ran.append((runner.name_of(module), flags)) or len(ran) - 1
    )
    assert command.main(("digits", "backprop_check"), out=tmp_path, quick=True) == 1
    flags = ["--out", str(tmp_path), "--quick"]
    assert ran == [("digits", flags), ("backprop_check", flags)]
    ran.clear()
    command.main(("all",))
    assert [name for name, _ in ran] == command.names()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["experiments.digits", "--bogus", "3"], "--bogus"),
        (["experiments.digits", "--data", "letters"], "letters"),
        (["experiments.digits", "--eta", "-3"], "eta is -3.0"),
        (["experiments", "digit"], "no experiment digit"),
        (["experiments", "--fast"], "--fast"),
    ],
)
def test_mistakes_at_the_command_line(arguments, said, tmp_path):
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_an_interrupt_ends_a_run_of_several(monkeypatch, tmp_path):
    begun = []

    def interrupted(experiment, flags):
        begun.append(runner.name_of(experiment))
        return runner.INTERRUPTED

    monkeypatch.setattr(runner, "main", interrupted)
    assert command.main(("bits", "digits", "report"), out=tmp_path) == 130
    assert begun == ["bits"]
    assert not list(tmp_path.iterdir())


def test_an_interrupted_experiment_goes_on(tmp_path):
    """Ctrl-C in the middle of a training, then --resume: the arrays of a run that was left alone, to the last bit."""
    command = [sys.executable, "-m", "experiments.digits", "--epochs", "600", "--seeds", "2", "--hidden", "10"]
    subprocess.run([*command, "--out", str(tmp_path / "alone")], check=True, capture_output=True)
    again = [*command, "--out", str(tmp_path / "again")]
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job, and its children, may ignore it
    process = subprocess.Popen(again, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, ours)
    said = b""
    while not re.search(rb" [1-4]\d\d/600", said):
        assert process.poll() is None, said
        said += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130, said
    assert b"python -m experiments.digits with the same flags and --resume goes on" in said
    assert b"Traceback" not in said
    folder = tmp_path / "again" / "digits"
    assert [path.name for path in folder.iterdir()] == ["checkpoints"]
    resumed = subprocess.run([*again, "--resume"], check=True, capture_output=True)
    assert b" 0/600" not in resumed.stderr
    alone, gone_on = (np.load(tmp_path / name / "digits" / "arrays.npz") for name in ("alone", "again"))
    for key in alone:
        np.testing.assert_array_equal(gone_on[key], alone[key])
    assert not (folder / "checkpoints").exists()
