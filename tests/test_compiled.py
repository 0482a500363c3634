"""Training programs are compiled to machine code for a TPU and a GPU that are not there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.compile import targets
from tests.test_portability import PROGRAMS

MOST = 10e6
"""Bytes that any of the programs may need; what they train, and on what, takes a few thousand."""


def compiled(device, names, folder):
    """What the modules show, by name, as a process of its own prints it."""
    command = [sys.executable, "-m", "tests.compiling", device, *names]
    root, environment = Path(__file__).parents[1], targets.environment(device, str(folder))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


def check(row):
    """Raise AssertionError unless the module is as it must be, with every version of the compiler."""
    assert not row["float64"]
    assert row["bytes"] <= MOST
    assert max(row["all_reduces"]) == (1 if row["name"] == "on two devices" else 0)
    assert row["conditionals"] or not row["name"].startswith("stopping")


@pytest.mark.slow
@pytest.mark.parametrize("device", ["v5e", "h100"])
def test_every_training_program_compiles(device, tmp_path):
    if absent := targets.missing(device):
        pytest.skip(f"needs {', '.join(absent)}: {targets.INSTALL}")
    found = compiled(device, PROGRAMS, tmp_path)
    assert found.keys() == PROGRAMS.keys()
    for row in found.values():
        check(row)
