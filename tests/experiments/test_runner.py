"""One experiment from its flags to its files: a small one made here, and digits where it has to train."""

import dataclasses
import io
import json
import re
import sys
import types
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

from experiments import runner
from experiments.__main__ import main
from experiments.chapter_1 import nielsen
from experiments.runner import command, files, training
from jnn import train
from tests.helpers import interrupted_fit, raises


@dataclasses.dataclass(frozen=True)
class Config:
    quick: ClassVar[dict[str, Any]] = {"size": 2}

    size: Annotated[int, runner.AtLeast(0)] = 5
    """How many."""
    holds: bool = True
    """Whether the claim holds."""


def compute(config):
    if config.size > 1000:
        raise RuntimeError("a defect, not a mistake")
    squares = jnp.arange(config.size) ** 2
    precision = jax.config.jax_default_matmul_precision == "highest"
    return {"squares": squares, "exact": precision, **runner.mean_and_standard_error("mean_square", squares)}


def draw(figure, config, arrays):
    figure.subplots().plot(arrays["squares"], color="C1")


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.delenv("JNN_QUICK", raising=False)
    module = types.ModuleType("squares", "Squares, for the tests.")
    module.__file__ = "experiments/chapter_1/squares.py"
    module.Config, module.compute, module.draw = Config, compute, draw
    module.ARRAYS = {"squares": ("numbers", "the squares"), "mean_*": ("", "their mean")}
    module.claims = lambda config, arrays: {"the claim holds": config.holds, "squares grow": arrays["squares"][-1] >= 1}
    return module


def read_result(out):
    return json.loads((out / "squares" / "result.json").read_text())


def test_a_run_writes_three_files_and_prints_the_claims(experiment, tmp_path, capsys):
    assert runner.main(experiment, ["--size", "4", "--out", str(tmp_path / "new" / "out")]) == 0
    folder = tmp_path / "new" / "out" / "squares"
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.npz", "figure.png", "result.json"]
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["squares"], [0, 1, 4, 9])
        assert arrays["exact"]  # the matmul precision was set
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    result = read_result(folder.parent)
    assert result["experiment"] == "squares"
    assert result["config"] == {"size": 4, "holds": True}
    assert result["claims"] == {"the claim holds": True, "squares grow": True}
    assert result["numbers"]["mean_square"] == 3.5
    assert result["numbers"]["mean_square_standard_error"] == pytest.approx(np.std([0, 1, 4, 9], ddof=1) / 2)
    assert result["arrays"]["squares"] == {"shape": [4], "axes": ["numbers"], "meaning": "the squares"}
    assert result["arrays"]["mean_square_standard_error"]["meaning"] == "the standard error of their mean"
    assert result["arrays"]["exact"] == {"shape": []}  # which nothing describes
    assert result["platform"] == jax.default_backend()
    assert set(result["versions"]) == {"python", "jnn", "jax", "jaxlib", "numpy", "optax"}
    assert result["seconds"] > 0
    shown = capsys.readouterr().out
    assert "mean square: 3.5 ± 2\n" in shown
    assert "ok    the claim holds" in shown


def test_quick_is_a_smaller_default_and_a_second_run_replaces_the_first(experiment, tmp_path, capsys):
    """A false claim is the exit code."""
    for flags, size, code in ([], 5, 0), (["--quick"], 2, 0), (["--quick", "--size", "3", "--no-holds"], 3, 1):
        assert runner.main(experiment, [*flags, "--out", str(tmp_path)]) == code
        result = read_result(tmp_path)
        assert result["config"]["size"] == size
        assert result["claims"] == {"the claim holds": code == 0, "squares grow": True}
        assert len(list((tmp_path / "squares").iterdir())) == 3
    assert "FALSE the claim holds" in capsys.readouterr().out


def test_numbers_as_text():
    assert set(runner.mean_and_standard_error("x", [2.0])) == {"x"}
    assert runner.format_number("x", {"x": 2.0}) == "2"
    assert runner.format_number("x", {"x": 0.951, "x_standard_error": 0.0012}, scale=100, unit="%") == "95.1 ± 0.12 %"


def test_where_a_sign_cannot_be_shown_another_one_is(experiment, tmp_path, monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "ascii"))
    assert runner.main(experiment, ["--size", "4", "--out", str(tmp_path)]) == 0
    sys.stdout.flush()
    assert b"mean square: 3.5 ? 2\n" in shown.getvalue()


# Mistakes


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["digits", "--hidden", "2", "0"], "hidden must be at least 1, got 0"),
        (["digits", "--hidden"], "hidden must have at least one number, got none"),
        (["digits", "--seed", "-1"], "seed must be at least 0, got -1"),
        (["digits", "--eta", "-3"], "eta must be positive and finite, got -3.0"),  # by jnn
        (["approximate_2d", "--points", "-1"], "points must be at least 1, got -1"),
        (["approximate_3d", "--slices", "0", "nan"], "slices must be finite, got nan"),
        (["noise_is_l2", "--sigmas", "1", "-1"], "sigmas must be at least 0, got -1.0"),
        (["overfitting", "--quick", "--mixup", "0"], "beta must be positive and finite, got 0.0"),  # before it trains
        (["overfitting", "--quick", "--window", "99"], "the window of stopping.error_change(window=99, further=0) m"),
        (["early_stopping", "--quick", "--windows", "5", "99"], "the window of stopping.error_change(window=99, "),
    ],
)
def test_a_wrong_value_is_one_line(flags, message, tmp_path, capsys):
    assert main([*flags, "--out", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {message}")
    assert err.endswith(" (JNN_TRACEBACK=1 shows where)\n")
    assert (out, err.count("\n"), list(tmp_path.iterdir())) == ("", 1, [])


def test_a_defect_keeps_its_traceback(experiment, tmp_path, monkeypatch, capsys):
    """Its exit code is not 1, as Python's would be: that means that a claim is false."""
    assert runner.main(experiment, ["--size", "1001", "--out", str(tmp_path)]) == 3
    assert "Traceback" in (shown := capsys.readouterr().err)
    assert shown.endswith("RuntimeError: a defect, not a mistake\n")
    monkeypatch.setenv("JNN_TRACEBACK", "1")
    assert runner.main(experiment, ["--size", "-1", "--out", str(tmp_path)]) == 2
    assert "Traceback" in (shown := capsys.readouterr().err)
    assert shown.endswith("ValueError: size must be at least 0, got -1\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("compute", "code", "said"),
    [
        (raises(MemoryError()), 2, "error: MemoryError (JNN_TRACEBACK=1 shows where)"),
        (raises(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: ")), 2, "error: RESOURCE_EXHAUSTED:  (JNN_TRACEBACK=1"),
        (jax.jit(raises(ValueError("p is 1")), static_argnums=0), 2, "error: p is 1 (JNN_TRACEBACK=1 shows where)"),
        (raises(KeyboardInterrupt()), 130, "interrupted; nothing was written"),
    ],
    ids=["Python's memory", "a device's memory", "a mistake that tracing finds", "Ctrl-C"],
)
def test_what_ends_a_run_is_one_line_and_nothing_is_left(experiment, compute, code, said, tmp_path, capsys):
    experiment.compute = compute
    assert runner.main(experiment, ["--out", str(tmp_path / "out")]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
    assert not list(tmp_path.iterdir())


def test_a_device_that_is_missing_is_one_line(experiment, monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", raises(AssertionError()))  # as JAX does without a jaxlib for CUDA
    assert runner.main(experiment, []) == 2
    assert capsys.readouterr().err.startswith("error: JAX_PLATFORMS must name platforms of this machine, got 'cuda': ")


@pytest.mark.parametrize("way", ["a file in the way", "a folder for a file", "no permission", "a full disk"])
def test_an_out_that_is_not_writable_is_found_before_computing(experiment, way, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    if way == "a file in the way":
        out.write_text("older")
    elif way == "a folder for a file":
        (out / "squares" / "figure.png").mkdir(parents=True)
    elif way == "a full disk" and Path("/dev/full").exists():
        monkeypatch.setattr(files.tempfile, "TemporaryFile", lambda **options: Path("/dev/full").open("wb"))  # noqa: SIM115
    else:
        monkeypatch.setattr(files.tempfile, "TemporaryFile", raises(PermissionError(13, "Permission denied")))
    before = sorted(tmp_path.rglob("*"))
    experiment.compute = lambda config: pytest.fail("it computes first")
    assert runner.main(experiment, ["--out", str(out)]) == 2
    shown = capsys.readouterr().err
    assert re.fullmatch(rf"error: cannot write to {out}/squares \(.*\); choose another --out .*\n", shown)
    assert sorted(tmp_path.rglob("*")) == before


# What was computed is kept


def kept(shown):
    """The numbers in the folder that the message names."""
    folder = Path(re.search(r"the computed arrays are in (.*?)(?: \(JNN_TRACEBACK|\n|$)", shown).group(1))
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        return folder, list(arrays["squares"])


@pytest.mark.parametrize(
    ("error", "code", "first"),
    [
        (RuntimeError("no figure"), 3, "Traceback"),
        (OSError(28, "No space left on device"), 2, "error: [Errno 28] No space left on device; the computed arrays"),
        (KeyboardInterrupt(), 130, "interrupted; the computed arrays are in "),
    ],
)
@pytest.mark.parametrize("step", ["draw", "claims"])
def test_after_the_computation_nothing_is_lost(experiment, step, error, code, first, tmp_path, capsys):
    """The older run is whole, and the new arrays are beside it."""
    runner.main(experiment, ["--out", str(tmp_path)])
    before = {path.name: path.read_bytes() for path in (tmp_path / "squares").iterdir()}
    setattr(experiment, step, raises(error))
    assert runner.main(experiment, ["--size", "3", "--out", str(tmp_path)]) == code
    shown = capsys.readouterr().err
    assert shown.startswith(first)
    folder, squares = kept(shown)
    assert squares == [0, 1, 4]
    assert (folder / "result.json").exists() == (step == "draw")
    assert folder.parent == tmp_path / "squares"
    assert {path.name: path.read_bytes() for path in folder.parent.iterdir() if path.is_file()} == before


def test_where_the_folder_becomes_unwritable_another_is_taken(experiment, tmp_path, monkeypatch, capsys):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path / "temporary"))
    experiment.compute = lambda config: (tmp_path / "out" / "squares").rmdir() or compute(config)
    assert runner.main(experiment, ["--size", "3", "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert re.match(
        rf"error: cannot write to {tmp_path}/out/squares \(.*No such file .*\); the computed arrays are", shown
    )
    folder, squares = kept(shown)
    assert squares == [0, 1, 4]
    assert {path.name for path in folder.iterdir()} == set(files.FILES)
    assert folder.parent == tmp_path / "temporary"


def test_where_nothing_can_be_written_the_message_says_so(experiment, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files.np, "savez_compressed", raises(OSError(28, "No space left on device")))
    experiment.compute = lambda config: (tmp_path / "squares" / "checkpoints").mkdir() or compute(config)
    assert runner.main(experiment, ["--out", str(tmp_path)]) == 2
    full = r"\(\[Errno 28\] No space left on device\)"
    assert re.fullmatch(
        rf"error: cannot write to {tmp_path}/squares {full}; nor to the folder for temporary files {full}; "
        r"--resume continues from the last checkpoint \(.*\)\n",
        capsys.readouterr().err,
    )
    assert [path.name for path in (tmp_path / "squares").iterdir()] == ["checkpoints"]


# Shown in a notebook


def test_what_is_shown_is_not_written(experiment, tmp_path, monkeypatch, capfd):
    """A false claim raises; the environment makes the size small, the experiment chooses the precision."""
    monkeypatch.chdir(tmp_path)
    figure, arrays = runner.show(experiment, size=4)
    np.testing.assert_array_equal(arrays["squares"], [0, 1, 4, 9])
    assert arrays["exact"]  # the matmul precision was set
    assert figure.axes[0].lines
    assert capfd.readouterr() == ("ok    the claim holds\nok    squares grow\n", "")
    with pytest.raises(AssertionError, match="squares with Config.* false: the claim holds$"):
        runner.show(experiment, holds=False)
    assert "FALSE the claim holds\nok    squares grow\n" in capfd.readouterr().out
    with pytest.raises(ValueError, match="size must be at least 0, got -1"):
        runner.show(experiment, size=-1)
    monkeypatch.setenv("JNN_QUICK", "1")
    experiment.MATMUL_PRECISION = "default"
    _, arrays = runner.show(experiment, size=4)
    assert len(arrays["squares"]) == 2
    assert not arrays["exact"]
    assert not list(tmp_path.iterdir())


def test_epochs_are_whole_numbers(experiment):
    """Also where few of them leave room for halves."""

    def draw(figure, config, arrays):
        left, right = figure.subplots(1, 2)
        for axes, label in ((left, "epoch"), (right, "x")):
            axes.plot([1, 2, 3], [1, 4, 9])
            axes.set(xlabel=label)

    experiment.draw = draw
    figure, _ = runner.show(experiment)
    left, right = (axes.get_xticks() for axes in figure.axes)
    assert all(tick == int(tick) for tick in left)
    assert any(tick != int(tick) for tick in right)


def test_figures_do_not_depend_on_the_settings_of_the_user(experiment, tmp_path):
    """Those of a matplotlibrc, which is read when matplotlib is imported; without LaTeX the first one raises."""
    runner.main(experiment, ["--out", str(tmp_path)])
    theirs = {"text.usetex": True, "font.size": 30, "savefig.bbox": "tight", "lines.linewidth": 9, "backend": "svg"}
    with matplotlib.rc_context(theirs):
        assert runner.main(experiment, ["--out", str(tmp_path / "theirs")]) == 0
        figure, _ = runner.show(experiment)
        figure.savefig(tmp_path / "saved.png", metadata={"Software": None})
        figure.canvas.print_figure(tmp_path / "shown.png", metadata={"Software": None})  # as a notebook does
        assert matplotlib.rcParams["font.size"] == 30
    expected = (tmp_path / "squares" / "figure.png").read_bytes()
    for path in ("theirs/squares/figure.png", "saved.png", "shown.png"):
        assert (tmp_path / path).read_bytes() == expected, path


# Trainings


def train_each(*names, epochs=4):
    """A `compute` that trains once for each of these options of `fit`, on numbers in random order."""

    def compute_by_training(config, training=runner.ALONE):
        optimizer, numbers = train.sgd(0.1), (jnp.arange(config.size + 2.0),)
        grad = jax.value_and_grad(lambda w, x: jnp.sum((w - x) ** 2))
        found = {"squares": jnp.ones(1)}
        for i, name in enumerate(names):
            state = train.init(optimizer, jnp.zeros(()))
            options = {"epochs": epochs, "batch_size": 1, **name}
            state, history = training.fit(jax.random.key(i), grad, optimizer, state, numbers, **options)
            found |= {f"params_{i}": state.params, f"losses_{i}": history.losses}
        return found

    return compute_by_training


SHARED = [("cpu", 8, 1, 12, True, 4), ("cpu", 2, 1, 16, True, 2), ("cpu", 8, 1, 16, False, None)]
SHARED += [("cpu", 8, 2, 16, True, None), ("gpu", 2, 1, 16, False, 8), ("gpu", 2, 7, 12, True, 4)]


@pytest.mark.parametrize(
    ("backend", "cores", "members", "batch_size", "recurrent", "parts"), [*SHARED, ("gpu", 2, 8, 16, True, None)]
)
def test_what_is_split_over_eight_devices(backend, cores, members, batch_size, recurrent, parts, monkeypatch, capsys):
    """Members where there are enough; else mini-batches, which on a CPU pays off only for a single recurrent net.

    On a CPU over as many devices as there are cores.
    """
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(training, "cores", lambda: cores)
    sharding = training.shared_sharding(members, batch_size, recurrent=recurrent, devices=jax.devices())
    assert (None if sharding is None else sharding.mesh.shape["batch"]) == parts
    said = "4 of 8 devices share a mini-batch of 12; a --batch-size divisible by 8 uses all\n"
    assert capsys.readouterr().err == (said if parts == 4 else "")


@pytest.mark.parametrize(
    ("name", "value", "changed"),
    [
        ("JAX_NUM_CPU_DEVICES", "3", []),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=2", []),
        ("XLA_FLAGS", "--xla_dump_to=dump", [("jax_num_cpu_devices", 7)]),
    ],
)
def test_four_cores_are_seven_devices_unless_the_user_says_how_many(name, value, changed, monkeypatch):
    updated = []
    for variable in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(command, "cores", lambda: 4)
    monkeypatch.setattr(type(jax.config), "update", lambda _, *change: updated.append(change))
    command._use_all_cores()
    assert updated == changed


@pytest.mark.parametrize(("seeds", "devices"), [(1, 1), (3, 3), (50, 7)])
def test_a_cpu_has_no_more_devices_than_there_are_networks(seeds, devices, tmp_path, monkeypatch):
    updated = {}
    for variable in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(command, "cores", lambda: 4)
    monkeypatch.setattr(command, "run", lambda *arguments, **options: True)
    monkeypatch.setattr(type(jax.config), "update", lambda _, name, value: updated.update({name: value}))
    assert runner.main(nielsen, ["--seeds", str(seeds), "--out", str(tmp_path)]) == 0
    assert updated["jax_num_cpu_devices"] == devices


def test_only_a_run_draws_a_progress_bar(experiment, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    experiment.compute = train_each({}, {"name": "other"})
    runner.show(experiment)
    assert capfd.readouterr().err == ""
    assert runner.main(experiment, ["--out", str(tmp_path)]) == 0
    bars = capfd.readouterr().err.rstrip("\n").split("\n")  # a slow bar draws its end twice, over itself
    assert len(bars) == 2
    assert all("100%" in bar for bar in bars)


@pytest.mark.parametrize("names", [({}, {}), ({"name": "1/sqrt(n), w"}, {"name": "1 sqrt n W"})])
def test_each_training_has_its_own_name(experiment, names, tmp_path, capsys):
    experiment.compute = train_each(*names, epochs=1)
    assert runner.main(experiment, ["--out", str(tmp_path)]) == 2
    name = names[1].get("name", "training")
    message = f"error: each training run of an experiment must have its own name, got {name!r}"
    assert message in capsys.readouterr().err


def test_checkpoints_are_in_folders_of_these_names(tmp_path):
    folders = runner.Training(tmp_path)
    for name in nielsen.ROWS:
        folders.checkpoints(name)
    assert {"30-hidden-quadratic", "1-000-images-lambda-0.1", "100-hidden-1-sqrt-n"} < folders.used
    assert len(folders.used) == len(nielsen.ROWS)
    assert all(re.fullmatch(r"[\w.-]+", name) for name in folders.used)


def test_an_interrupted_run_resumes(experiment, tmp_path, capfd, monkeypatch):
    """Ctrl-C in the second of two training runs, then --resume: the same arrays, to the last bit, as without."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    experiment.compute = train_each({"name": "one"}, {"name": "other"})
    flags = ["--size", "7", "--out", str(tmp_path / "again")]
    assert runner.main(experiment, [*flags[:2], "--out", str(tmp_path / "alone")]) == 0
    with interrupted_fit(epoch=3, call=2):
        assert runner.main(experiment, flags) == 130
    command = f"python -m experiments squares {' '.join(flags)} --resume"
    folder = tmp_path / "again" / "squares"
    saved = f"epoch 2 is saved in {folder / 'checkpoints' / 'other'}"
    assert f"interrupted; {saved}; resume with {command}\n" in capfd.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["checkpoints"]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["one", "other"]
    assert runner.main(experiment, ["--size", "8", *flags[2:], "--resume"]) == 2
    assert "config" in capfd.readouterr().err
    assert runner.main(experiment, [*flags, "--resume"]) == 0
    shown = capfd.readouterr().err
    assert "2/4" in shown
    assert "1/4" not in shown
    alone, resumed = (np.load(tmp_path / name / "squares" / "arrays.npz") for name in ("alone", "again"))
    for key in alone:
        np.testing.assert_array_equal(resumed[key], alone[key])
    assert not (folder / "checkpoints").exists()
