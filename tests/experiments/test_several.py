"""Several experiments at one command: side by side on a CPU, one after another elsewhere."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import jax
import pytest

from experiments import __main__ as command
from experiments import names, runner
from experiments.runner import report, several
from tests.helpers import raises


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(several, "cores", lambda: 2)


@pytest.fixture
def codes(monkeypatch, two_cores):
    """The exit codes of the experiments, by name, instead of running them; the names of those that began."""
    codes, begun = {}, []

    def run(line, **options):
        name = line[3]
        begun.append(name)
        time.sleep(0.05)  # until what waits for it is told
        return subprocess.CompletedProcess(line, codes.get(name, 0), f"{name} ran\n", f"{name} warned\n")

    monkeypatch.setattr(several.subprocess, "run", run)
    return codes, begun


def test_each_runs_in_a_process_of_its_own(two_cores, tmp_path, capfd):
    """As it runs alone: with the flags, its lines in one block, and without a bar of its own."""
    names = ["digits", "fig_5_1_tanh"]
    assert command.main([*names, "--quick", "--out", str(tmp_path)]) == 0
    shown = capfd.readouterr()
    for name in names:
        assert json.loads((tmp_path / name / "result.json").read_text())["experiment"] == name
        block = shown.out.partition(f"--- {name}\n")[2].partition("---")[0]
        assert "ok    " in block
        assert block.endswith(f"see {tmp_path / name}\n")
    assert shown.err == ""  # which is no terminal


def test_the_exit_code_is_the_largest(codes, monkeypatch, capsys):
    """A terminal shows one bar for all."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    codes[0].update(bits=1, digits=-9)
    assert command.main(["bits", "digits", "rows"]) == 3
    shown = capsys.readouterr()
    assert sorted(shown.out.splitlines()) == sorted(
        line for name in ("bits", "digits", "rows") for line in (f"--- {name}", f"{name} ran")
    )
    assert "bits warned\n" in shown.err
    assert "error: digits was ended by signal 9\n" in shown.err
    assert "3/3" in shown.err


def test_after_an_interrupt_none_begins(codes, monkeypatch):
    codes[0].update(dict.fromkeys(names(), runner.INTERRUPTED))
    monkeypatch.setattr(report, "write", lambda *args: pytest.fail("a report was written"))
    assert command.main(["all", "report"]) == runner.INTERRUPTED
    assert len(codes[1]) < len(names()) / 2


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (several, "cores", lambda: 1),
        (jax, "default_backend", lambda: "gpu"),
        (jax, "process_count", lambda: 2),
        (several, "open_devices", raises(ValueError("JAX_PLATFORMS must name platforms of this machine"))),
    ],
    ids=["one core", "an accelerator", "several processes", "no device"],
)
def test_one_after_another(module, name, value, codes, monkeypatch):
    """In this process, where the second one is interrupted."""
    begun = []

    def main(module, flags):
        begun.append((runner.experiment_name(module), flags))
        return runner.INTERRUPTED if len(begun) == 2 else 1

    monkeypatch.setattr(several, "main", main)
    monkeypatch.setattr(module, name, value)
    assert command.main(["bits", "rows", "digits", "--quick"]) == runner.INTERRUPTED
    assert begun == [("bits", ["--quick"]), ("rows", ["--quick"])]
    assert not codes[1]


@pytest.mark.slow
def test_an_interrupt_reaches_all(tmp_path):
    """As Ctrl-C does, which the terminal sends to every process: both end in a line, and the third never runs."""
    names = ["early_stopping", "nielsen", "bits"]
    line = [sys.executable, "-m", "experiments", *names, "--out", str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    cores = os.sched_getaffinity(0)
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job, and its children, may ignore it
    os.sched_setaffinity(0, sorted(cores)[:2])
    process = subprocess.Popen(line, **pipes, start_new_session=True)
    os.sched_setaffinity(0, cores)
    signal.signal(signal.SIGINT, ours)
    deadline = time.monotonic() + 120
    while len({path.parent for path in tmp_path.glob("*/checkpoints/*")}) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    err = None
    while err is None:
        os.killpg(process.pid, signal.SIGINT)  # again, as one that comes while JAX collects garbage is lost
        with contextlib.suppress(subprocess.TimeoutExpired):
            err = process.communicate(timeout=10)[1]
    assert process.returncode == runner.INTERRUPTED
    assert err.count("interrupted; ") == 2
    assert not (tmp_path / "bits").exists()
