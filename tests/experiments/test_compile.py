"""`python -m experiments compile`: reading modules, counting operations, and what it says where it cannot compile."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from experiments import __main__ as command
from experiments import compile as compiling
from experiments.compile import modules, programs, targets, worker

TEXT = """HloModule jit_run

%sliced (p.0: f32[100,4], p.1: s32[]) -> f32[1,4] {
  %p.0 = f32[100,4]{1,0} parameter(0)
  %p.1 = s32[] parameter(1)
  ROOT %slice = f32[1,4]{1,0} dynamic-slice(%p.0, %p.1, %p.1), dynamic_slice_sizes={1,4}
}

%put (p.2: f32[100], p.3: f32[1], p.4: s32[]) -> f32[100] {
  %p.2 = f32[100]{0} parameter(0)
  %p.3 = f32[1]{0} parameter(1)
  %p.4 = s32[] parameter(2)
  ROOT %update = f32[100]{0} dynamic-update-slice(%p.2, %p.3, %p.4)
}

%inner (t.0: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t.0 = (s32[], f32[8]{0:T(8)S(1)}) parameter(0)
  %near = f32[8]{0:T(8)S(1)} get-tuple-element(%t.0), index=1
  %exp = f32[8]{0:T(8)S(1)} exponential(%near)
  %add = s32[] add(%near, %near)
}

%until (t.1: (s32[], f32[8])) -> pred[] {
  %t.1 = (s32[], f32[8]{0}) parameter(0)
  %n = s32[]{:T(128)} constant(28)
  ROOT %less = pred[] compare(%t.1, %n), direction=LT
}

%step (t.2: (s32[], f32[100,4], f32[100])) -> (s32[], f32[100,4], f32[100]) {
  %t.2 = (s32[], f32[100,4]{1,0}, f32[100]{0}) parameter(0)
  %i = s32[] get-tuple-element(%t.2), index=0
  %data = f32[100,4]{1,0} get-tuple-element(%t.2), index=1
  %losses = f32[100]{0} get-tuple-element(%t.2), index=2
  %row = f32[1,4]{1,0} fusion(%data, %i), kind=kLoop, calls=%sliced
  %summed = f32[1]{0} all-reduce(%row), to_apply=%adder
  %stored = f32[100]{0} fusion(%losses, %summed, %i), kind=kLoop, calls=%put
  %while.2 = (s32[], f32[8]{0}) while(%t.2), condition=%until, body=%inner, metadata={op_name="jit(f)/jvp()/while"}
}

ENTRY %main (a: f32[100,4]) -> f32[100] {
  %a = f32[100,4]{1,0} parameter(0)
  %while.1 = (s32[]) while(%a), condition=%c, body=%step, backend_config={"known_trip_count":{"n":"50"}}
  %copy = f32[100,4]{0,1} copy(%a)
}
"""


def test_what_is_read_in_a_module():
    """Turns are the compiler's or the condition's; bytes those of slices, not of what is near the cores."""
    whole = modules.Module(TEXT).whole
    (step,) = whole.loops
    (inner,) = step.loops
    loops = (whole, step, inner)
    assert [loop.turns for loop in loops] == [1, 50, 28]
    assert inner.name == "forward"
    assert [loop.kernels for loop in loops] == [1, 2, 1]  # scalars are no kernels
    assert step.total("kernels") == 2 + 28
    assert [loop.all_reduces for loop in (whole, step)] == [0, 1]
    # a row and its index; a loss, its place and its index
    assert [loop.moved for loop in loops] == [2 * 4 * 400, (16 + 16 + 4) + (4 + 4 + 4), 0]
    assert worker.step_of(whole, 1, 50) is step
    assert worker.step_of(whole, 50, 28) is inner
    with pytest.raises(ValueError, match=re.escape("a loop of 7 turns, got [50]")):
        worker.step_of(whole, 1, 7)


def test_operations_of_products_by_precision():
    def program(a, b):
        def body(c, _):
            exact = jnp.matmul(c, b, precision="highest")
            return c + exact @ b + (c.astype("bfloat16") @ b.astype("bfloat16")), None

        return jax.lax.scan(body, a, length=10)[0]

    jaxpr = jax.make_jaxpr(jax.jit(program))(jnp.ones((3, 5)), jnp.ones((5, 5))).jaxpr
    assert programs.counted(jaxpr) == dict.fromkeys(("highest", "default", "bfloat16"), 10 * 2 * 3 * 5 * 5)
    assert programs.counted(programs.step_of(jaxpr, (10,)))["highest"] == 2 * 3 * 5 * 5


def test_the_largest_time_bounds_a_step():
    loop = modules.Loop("", 1, 10, 0, 819e3)
    row = worker.least(loop, {"default": 197e6, "highest": 197e6 / 6}, targets.TARGETS["v5e"])
    assert row["arithmetic us"] == pytest.approx(2)
    assert row["memory us"] == pytest.approx(1)
    assert row["launches us"] == pytest.approx(2)
    assert worker.least(loop, {}, targets.TARGETS["h100"])["bound by"] == "launches"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["bits"], "experiments must be some that train, got bits; these do: "),
        (["typo"], "experiments must be some that train, got typo; these do: "),
        (["digits"], "compiling for v5e needs libtpu: pip install '.[accelerators]'"),
        (["digits", "--device", "h100"], "compiling for h100 needs jax-cuda12-plugin: pip install"),
    ],
)
def test_mistakes_are_one_line(args, says, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: None)
    assert command.main(["compile", *args, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {says}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "precision"), [("digits", "default"), ("slow_start", "highest")])
def test_programs_are_traced_at_the_precision_of_their_experiment(name, precision, monkeypatch):
    def traced(*args):
        raise ValueError(jax.config.jax_default_matmul_precision)

    monkeypatch.setattr(programs, "recorded", lambda name: None)
    monkeypatch.setattr(programs, "traced", traced)
    assert worker.compiled(name, "v5e", [])["error"] == precision


def test_a_program_that_does_not_fit_makes_the_exit_code_1(tmp_path, monkeypatch, capsys):
    fits = {"program": "digits", "device": "v5e", "devices": 4, "fits": True, "holds": True}
    refused = {"program": "rows", "device": "v5e", "devices": 1, "error": "RESOURCE_EXHAUSTED", "holds": False}
    monkeypatch.setattr(targets, "missing", lambda device: [])
    monkeypatch.setattr(compiling, "rows", lambda *args: [fits, refused])
    assert command.main(["compile", "digits", "rows", "--out", str(tmp_path)]) == 1
    assert "FALSE rows" in capsys.readouterr().out
    text = (tmp_path / "compile" / "report.md").read_text()
    assert "**1 of 2 programs compile and fit**" in text
    assert "## 4 x v5e" in text
    assert (tmp_path / "compile" / "report.png").exists()


def test_a_compiler_that_ends_its_process_refuses_one_program(monkeypatch):
    """The next process compiles the rest."""
    python, start = sys.executable, subprocess.Popen
    code = """import sys
for name in sys.argv[1:]:
    if name == "bad":
        sys.exit("aborted")
    print('{"program": "%s"}' % name, flush=True)
"""
    monkeypatch.setattr(subprocess, "Popen", lambda args, **options: start([python, "-c", code, *args[5:]], **options))
    found = list(compiling.rows("v5e", 1, ["good", "bad", "better"]))
    assert found[::2] == [{"program": "good"}, {"program": "better"}]
    assert found[1] == {"program": "bad", "device": "v5e", "devices": 1, "error": "aborted", "holds": False}


@pytest.mark.parametrize("device", ["h100", "a100"])
def test_a_gpu_is_described_with_its_capability(device):
    text = targets.description(targets.TARGETS[device])
    assert f"major: {9 if device == 'h100' else 8}" in text
    assert text.count("{") == text.count("}")
