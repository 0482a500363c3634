"""Every experiment at its quick size: the claims hold and the figure is drawn."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import load, names, runner
from experiments.chapter_1 import digits
from experiments.chapter_2 import backprop_check
from experiments.chapter_3 import record
from experiments.runner import training
from jnn import backprop, convert, data
from tests.helpers import idx


def check_descriptions(experiment, described, arrays):
    """Each array has a meaning and a name for each axis; axes of one name have one length, and "3" is 3 long."""
    assert {name: tuple(array["shape"]) for name, array in described.items()} == {
        name: array.shape for name, array in arrays.items()
    }
    lengths = {}
    for name, array in described.items():
        assert array.get("meaning"), name
        assert len(array["axes"]) == len(array["shape"]), name
        for axis, length in zip(array["axes"], array["shape"], strict=True):
            assert axis in (str(length), axis.lstrip("0123456789")), name
            if name in experiment.ARRAYS:  # not those that a pattern describes, such as rows of several lengths
                assert lengths.setdefault(axis, length) == length, name


@pytest.mark.parametrize("name", names())
def test_quick(name, tmp_path):
    """Here, too, are checked the descriptions and the file of networks, for which each would have to run again."""
    experiment, weights = load(name), tmp_path / "networks.safetensors"
    keep = ["--weights", str(weights)] if getattr(experiment.Config, "weights", ()) is None else []
    assert runner.main(experiment, ["--quick", *keep, "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / name / "result.json").read_text())
    assert result["claims"]
    assert all(result["claims"].values())
    assert (tmp_path / name / "figure.png").stat().st_size > 5000
    with np.load(tmp_path / name / "arrays.npz") as arrays:
        check_descriptions(experiment, result["arrays"], arrays)
    if keep:
        assert jax.tree.leaves(convert.load(weights))
        assert convert.metadata(weights)


def test_the_lines_in_the_docs_read_a_test_image(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text()
    (line,) = re.findall(r"python -m experiments (digits --weights \S+)", page)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (printed,) = re.findall(r"```text\n(.*?)```", page, re.S)
    monkeypatch.chdir(tmp_path)
    name, *flags = line.split()
    assert runner.main(load(name), [*flags, "--epochs", "3", "--seeds", "2"]) == 0
    capsys.readouterr()
    (tmp_path / "lines.py").write_text(code)
    runpy.run_path("lines.py")
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    ("name", "file"), [("digits", "none/net"), ("nielsen", ""), ("record", "none/net"), ("rows", "x" * 250)]
)
def test_weights_that_cannot_be_written_are_refused_before_training(name, file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner.Training, "fit", lambda *args, **options: pytest.fail("it trains first"))
    flags = ["--quick", "--weights", str(tmp_path / file), "--out", str(tmp_path / "out")]
    assert runner.main(load(name), flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: weights must be a file ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_experiment_has_a_line_a_text_for_its_figure_and_a_precision():
    """The default precision is for those that train digits or text."""
    for name in names():
        experiment = load(name)
        assert re.fullmatch(r"[^\n]+\.\n(\n.*)?", experiment.__doc__, re.S), name
        assert re.fullmatch(r"(\S+\s+){4,}\S+\.", experiment.draw.__doc__), name
    rounded = [name for name in names() if getattr(load(name), "MATMUL_PRECISION", "highest") == "default"]
    digits_or_text = "augmentation_gallery digits early_stopping handwriting nielsen overfitting record rows text"
    assert rounded == digits_or_text.split()


def test_digits_with_another_cost():
    config = digits.Config(cost="log_likelihood", eta=0.5, epochs=5, seeds=2, hidden=(20, 15))
    assert digits.compute(config)["test_accuracy"] > 0.8


def test_digits_claims_can_be_false():
    arrays = {"test_accuracy": np.asarray(0.3), "costs": np.array([[0.1, 0.2]])}
    for changes, count in ({}, 3), ({"data": "mnist"}, 3), ({"hidden": (5,)}, 2):
        claims = digits.claims(digits.Config(**changes), arrays)
        assert len(claims) == count
        assert not any(claims.values())


def idx_folder(folder, width=8):
    """Zeros, ones and twos of the embedded digits as a data set of the user's, with the labels 10, 11 and 12."""
    for name, part in zip(("train", "t10k"), data.digits(), strict=True):
        few = np.asarray(part.labels) < 3
        images = np.uint8(255 * np.asarray(part.xs[few])).reshape(-1, 8, 8)[:, :, :width]
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.uint8(part.labels[few] + 10)))


def test_record_trains_on_a_folder_of_the_users(tmp_path):
    idx_folder(tmp_path)
    flags = ["--widths", "--activation", "relu", "--pens", "0", "--weights", str(tmp_path / "networks")]
    assert runner.main(record, ["--quick", *flags, "--folder", str(tmp_path), "--out", str(tmp_path)]) == 0
    assert convert.metadata(tmp_path / "networks")["scale"] == 1 / 255
    arrays = np.load(tmp_path / "record" / "arrays.npz")
    assert arrays["accuracy"] > 0.8


@pytest.mark.parametrize(
    ("width", "says"), [(7, "images must be square, got 56 pixels"), (None, "must hold train-images-idx3-ubyte")]
)
def test_record_says_which_folder_it_needs(width, says, tmp_path, capsys):
    if width:
        idx_folder(tmp_path, width)
    assert runner.main(record, ["--quick", "--folder", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err


def test_backprop_check_finds_a_wrong_derivation(monkeypatch):
    right = backprop.minibatch_value_and_grad

    def wrong(params, xs, ys, **options):
        value, (first, *rest) = right(params, xs, ys, **options)
        return value, (first._replace(b=first.b * jnp.asarray(1 + 1e-10, first.b.dtype)), *rest)

    monkeypatch.setattr(backprop, "minibatch_value_and_grad", wrong)
    config = backprop_check.Config(networks=1, deepest=2, seed=7)
    claims = backprop_check.claims(config, {k: np.asarray(v) for k, v in backprop_check.compute(config).items()})
    assert [claim for claim, holds in claims.items() if not holds] == [
        "matrix form by hand equals jax.grad of the mean cost to 1e-12 in float64"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "least"),
    [
        ("digits", 0.94),
        ("backprop_check --quick", None),
        # Nielsen reports 91.29 % for his network after one epoch.
        pytest.param("digits --data mnist --epochs 1 --seeds 2", 0.91, marks=pytest.mark.mnist),
    ],
)
def test_as_users_run_it(command, least, tmp_path):
    """In a process of its own, compiled with all optimizations, which other tests do without."""
    name, *flags = command.split()
    env = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_"))}
    subprocess.run([sys.executable, "-m", "experiments", name, *flags, "--out", tmp_path], env=env, check=True)
    result = json.loads((tmp_path / name / "result.json").read_text())
    assert all(result["claims"].values())
    assert result["devices"] == min(result["config"].get("seeds", np.inf), 2 * training.cores() - 1)
    assert least is None or result["numbers"]["test_accuracy"] >= least
