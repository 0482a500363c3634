"""`python -m experiments device`: what it finds wrong, and what it keeps."""

import json

import jax
import pytest

from experiments import device
from experiments.device import gradients, report, speed
from jnn import activations, backprop, costs


def test_a_wrong_gradient_is_found(monkeypatch):
    case = gradients.perceptron(costs.cross_entropy, activations.sigmoid)
    bounds = gradients.explained(case, 2.0**-24)
    errors = gradients.compare(case, "highest")
    assert all(errors[leaf] <= gradients.FACTOR * bounds[leaf] for leaf in bounds)
    right = backprop.minibatch_value_and_grad

    def wrong(*args, **options):
        value, (first, *rest) = right(*args, **options)
        return value, (first._replace(w=first.w * (1 + 1e-4)), *rest)

    monkeypatch.setattr(backprop, "minibatch_value_and_grad", wrong)
    errors = gradients.compare(gradients.perceptron(costs.cross_entropy, activations.sigmoid), "highest")
    assert [leaf for leaf in bounds if errors[leaf] > gradients.FACTOR * bounds[leaf]] == ["[0].w"]


def test_too_little_memory_for_a_size():
    def alternatives():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")

    meter = speed.Meter(report.Config(quick=True))
    assert meter.measure("a size", alternatives, 1, 1.0, 1.0) == {"what": "a size", "": "too little memory"}


class Measured:
    """Two rows, then the error."""

    def __init__(self, error=None, holds=True):
        self.error, self.holds = error, holds

    def rows(self, _):
        yield {"what": "first", "value": 1.5}
        yield {"what": "second", "holds": self.holds}
        if self.error:
            raise self.error


@pytest.mark.parametrize(
    ("error", "holds", "required", "code"),
    [(None, True, True, 0), (None, False, True, 1), (None, False, False, 0), (ValueError("no"), True, False, 2)],
)
def test_exit_codes(error, holds, required, code, tmp_path):
    found = report.Report(tmp_path, report.Config())
    found.run(report.Part("every", "A part", Measured(error, holds), required))
    assert found.code() == code
    assert ("everything holds" in found.verdict()) == (code == 0)
    assert "| first | 1.5 |" in (tmp_path / "report.md").read_text()


def test_what_was_measured_is_kept_when_the_device_is_lost(tmp_path, monkeypatch):
    def lost():
        raise jax.errors.JaxRuntimeError("the device does not answer")

    monkeypatch.setattr(report, "check_device", lost)
    found = report.Report(tmp_path, report.Config())
    with pytest.raises(ValueError, match="lost") as raised:
        found.run(report.Part("every", "A part", Measured(ValueError("lost"))))
    assert raised.value.__notes__ == [f"what was measured is in {tmp_path / 'report.md'}"]
    (part,) = json.loads((tmp_path / "report.json").read_text())["parts"]
    assert (len(part["rows"]), part["error"]) == (2, "lost")


def test_a_platform_that_is_not_there(tmp_path, monkeypatch, capsys):
    """The host must not take its place."""
    monkeypatch.setenv("JAX_PLATFORMS", "rocm")
    monkeypatch.setattr(device, "with_host", lambda: None)
    assert device.main(["--quick", "--out", str(tmp_path)]) == 2
    assert "JAX_PLATFORMS must name platforms of this machine, got 'rocm'" in capsys.readouterr().err
    assert not list((tmp_path / "device").iterdir())


def test_json_has_no_infinity():
    assert report._finite({"a": [float("inf"), 1.5, "b"], "c": float("nan")}) == {"a": ["inf", 1.5, "b"], "c": "nan"}


@pytest.mark.slow
def test_the_quick_size(tmp_path, capsys):
    assert device.main(["--quick", "--out", str(tmp_path)]) == 0
    assert "everything holds" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "device").iterdir()} == {"report.md", "report.json", "report.png"}
