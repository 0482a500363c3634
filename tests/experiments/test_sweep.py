"""Every combination of some flags' values: which runs are made, their table and figure, and mistakes."""

import csv
import json

import numpy as np
import pytest

from experiments import __main__ as command
from experiments import runner
from experiments.runner import figures, sweep


@pytest.fixture
def runs(monkeypatch):
    """Instead of running: writes a result whose accuracy is eta, and whose second claim is false for 0.5."""
    made = {}

    def run_each(lines):
        for label, (name, *flags) in lines.items():
            made[label] = [name, *flags]
            eta, folder = float(flags[flags.index("--eta") + 1]), sweep.Path(flags[-1]) / name
            folder.mkdir(parents=True)
            result = {"experiment": name, "config": {}, "claims": {"one": True, "two": eta < 0.5}}
            result |= {"numbers": {"test_accuracy": eta, "test_accuracy_standard_error": 0.25}, "seconds": 2.0}
            result |= {"device": "cpu", "devices": 1, "platform": "cpu", "versions": {}}
            (folder / "result.json").write_text(json.dumps(result))
            yield label, codes.get(label, int(eta >= 0.5))

    codes = made["codes"] = {}
    monkeypatch.setattr(sweep, "run_each", run_each)
    return made


def test_every_combination_is_run_in_a_folder_of_its_own_and_is_in_the_table(runs, tmp_path, capsys):
    flags = ["--eta", "0.1", "0.5", "--hidden", "30", "20,15", "--epochs", "3", "--quick", "--out", str(tmp_path)]
    assert command.main(["sweep", "digits", *flags]) == 1
    del runs["codes"]
    assert list(runs) == ["eta=0.1,hidden=30", "eta=0.1,hidden=20,15", "eta=0.5,hidden=30", "eta=0.5,hidden=20,15"]
    for label, line in runs.items():
        eta, hidden = label.removeprefix("eta=").split(",hidden=")
        flags = ["--quick", "--eta", eta, "--hidden", *hidden.split(","), "--epochs", "3"]
        assert line == ["digits", *flags, "--out", str(tmp_path / "sweep_digits" / label)]
    texts = ["30 hidden", "1,000 images"]  # which are a value each
    assert sweep.combine("nielsen", {"--only": texts}, []) == {(one,): ["nielsen", "--only", one] for one in texts}
    printed = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in printed[:5]] == [
        "eta hidden test accuracy claims",
        "0.1 30 0.1 ± 0.25 2 of 2 hold",
        "0.1 20,15 0.1 ± 0.25 2 of 2 hold",
        "0.5 30 0.5 ± 0.25 1 of 2 hold",
        "0.5 20,15 0.5 ± 0.25 1 of 2 hold",
    ]
    assert printed[5:] == [f"4 runs; see {tmp_path / 'sweep_digits'}"]
    with (tmp_path / "sweep_digits" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = [[row[name] for row in rows] for name in ("eta", "hidden", "test_accuracy", "claims that hold")]
    assert columns == [["0.1", "0.1", "0.5", "0.5"], 2 * ["30", "20,15"], ["0.1", "0.1", "0.5", "0.5"], [*"2211"]]


def test_the_figure_has_a_panel_for_each_number_and_a_line_for_each_choice():
    choices = {"--eta": ["0.1", "0.5"], "--batch-size": ["5", "10"]}
    numbers = {"loss": 1.0, "accuracy": 0.5, "accuracy_standard_error": 0.1}
    results = {(eta, size): {"numbers": numbers} for eta in ("0.1", "0.5") for size in ("5", "10")}
    del results["0.5", "10"]
    figure = figures.drawn(lambda figure: sweep.draw(figure, choices, results, ["loss", "accuracy"]))
    loss, accuracy = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy"]
    assert [tick.get_text() for tick in accuracy.get_xticklabels()] == ["0.1", "0.5"]
    assert [len(axes.containers) for axes in figure.axes] == [2, 2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["batch-size 5", "batch-size 10"]
    y = np.asarray(loss.containers[1].lines[0].get_ydata(), float)
    np.testing.assert_array_equal(y, [1.0, np.nan])


def test_a_run_that_fails_is_not_in_the_table(runs, tmp_path, capsys):
    runs["codes"]["eta=0.1"] = 2
    assert command.main(["sweep", "digits", "--eta", "0.1", "0.2", "--out", str(tmp_path)]) == 2
    table = capsys.readouterr().out.splitlines()[:-1]
    assert [line.split()[0] for line in table] == ["eta", "0.2"]


def test_where_every_run_fails_nothing_is_left(runs, tmp_path, monkeypatch, capsys):
    """As with a rate that only jnn refuses."""
    monkeypatch.setattr(sweep, "run_each", lambda lines: dict.fromkeys(lines, 2).items())
    assert command.main(["sweep", "digits", "--eta", "-1", "-2", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: at least one run of a sweep must succeed, got none")
    assert not list(tmp_path.iterdir())


def test_after_an_interrupt_there_is_no_table(runs, tmp_path, capsys):
    runs["codes"]["eta=0.2"] = runner.INTERRUPTED
    assert command.main(["sweep", "digits", "--eta", "0.1", "0.2", "--out", str(tmp_path)]) == runner.INTERRUPTED
    assert not list(tmp_path.glob("*/table.csv"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["typo", "--eta", "1", "2"], "sweep must be followed by the name of an experiment, got typo: "),
        (["digits"], "a flag must have at least two values, such as --eta 0.1 0.5, got none"),
        (["digits", "--eta", "0.1", "0.1"], "a flag must have at least two values"),
        (["digits", "0.1"], "a value must follow its flag, got 0.1"),
        (["digits", "--rate", "1", "2"], "--rate is not a flag of digits; there are: --seeds"),
        (["digits", "--eta", "1", "--eta", "2"], "each flag must be given once, with all of its values, got --eta"),
        (["digits", "--hidden", "30", "0"], "hidden must be at least 1, got 0"),
        (["digits", "--eta", "1", "2", "--weights", "net"], "--weights must not be given to a sweep"),
        (["text", "--file", "a/b", "a:b"], "values must differ in more than punctuation"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(words, message, runs, tmp_path, capsys):
    assert command.main(["sweep", *words, "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {message}")
    assert shown.err.count("\n") == 1
    assert (shown.out, list(tmp_path.iterdir())) == ("", [])
    assert list(runs) == ["codes"]


def test_a_real_sweep(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner.several, "cores", lambda: 1)  # in this process
    flags = ["--largest", "4", "5", "--quick", "--out", str(tmp_path)]
    assert command.main(["sweep", "fig_5_1_tanh", *flags]) == 0
    folder = tmp_path / "sweep_fig_5_1_tanh"
    assert sorted(path.name for path in folder.iterdir()) == ["figure.png", "largest=4", "largest=5", "table.csv"]
    assert (folder / "largest=4" / "fig_5_1_tanh" / "result.json").exists()
