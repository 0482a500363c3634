"""The results of an experiment: compute, check the claims, draw, print, and write three files."""

import dataclasses
import importlib.metadata
import inspect
import json
import os
import platform
import shutil
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from experiments.runner import files
from experiments.runner.experiment import Arrays, Experiment, check, experiment_name, matmul_precision
from experiments.runner.training import ALONE, Training
from jnn import __version__, parallel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ERROR = "_standard_error"
"""Ends the name of the standard error of a number."""


def run(experiment: Experiment, config: Any, out: Path, *, resume: bool = False) -> bool:
    """Computes, checks the claims, draws, writes and prints. Returns whether every claim holds.

    With several processes, all compute, and the first writes and prints.

    Raises ValueError for a config out of bounds and OSError if `out` cannot be written, both before computing. A note
    on a later error names the folder of the arrays.
    """
    check(config)
    folder = out / experiment_name(experiment)
    with files.writable(folder):
        start = time.perf_counter()
        training = Training(folder / "checkpoints", _computed_from(config), resume)
        arrays = _compute(experiment, config, training)
        if jax.process_index():
            return all(_check_claims(experiment, config, arrays).values())
        with files.put(folder, arrays) as scratch:
            claims = _check_claims(experiment, config, arrays)
            result = {
                "experiment": folder.name,
                "config": dataclasses.asdict(config),
                "claims": claims,
                **_scalars(arrays),
                "arrays": describe(experiment, arrays),
                "seconds": time.perf_counter() - start,
                **machine(),
            }
            (scratch / "result.json").write_text(json.dumps(result, indent=2, default=str) + "\n")
            _drawn(experiment, config, arrays).savefig(scratch / "figure.png", metadata={"Software": None})
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for label, number in format_numbers(result["numbers"]).items():
        print(f"{label}: {number}")
    for key, text in result["texts"].items():
        print(f"{key.replace('_', ' ')}:\n{text}")
    _print_claims(claims)
    print(f"{folder.name}: {result['seconds']:.1f} s on {result['device']}; see {folder}")
    return all(claims.values())


def show(experiment: Experiment, **fields: Any) -> tuple["Figure", dict[str, np.ndarray]]:
    """Computes, checks and prints the claims, and draws, as `run` does, without writing files: for a notebook.

    Args:
      experiment: The module of the experiment.
      fields: The fields of `Config` that differ from the defaults. If $JNN_QUICK is set, `Config.quick` overrides them.

    Returns:
      The figure and the arrays.

    Raises:
      AssertionError: If a claim is false.
    """
    quick = experiment.Config.quick if os.environ.get("JNN_QUICK") else {}
    config = experiment.Config(**{**fields, **quick})
    check(config)
    arrays = _compute(experiment, config)
    claims = _check_claims(experiment, config, arrays)
    _print_claims(claims)
    if false := [claim for claim, holds in claims.items() if not holds]:
        raise AssertionError(f"{experiment_name(experiment)} with {config}: false: {'; '.join(false)}")
    return _drawn(experiment, config, arrays), arrays


def mean_and_standard_error(name: str, members: Any) -> dict[str, np.ndarray]:
    """Two entries for `compute`: the mean over the members and, for two or more, its standard error."""
    members = np.asarray(members, np.float64)
    mean = {name: members.mean()}
    return mean if len(members) < 2 else mean | {name + ERROR: members.std(ddof=1) / np.sqrt(len(members))}


def format_number(key: str, numbers: Arrays, scale: float = 1, unit: str = "") -> str:
    """A number as text, with its standard error if there is one: "94.2 ± 0.3 %"."""
    error = f" ± {scale * numbers[key + ERROR]:.2g}" if key + ERROR in numbers else ""
    return f"{scale * numbers[key]:.4g}{error} {unit}".strip()


def format_numbers(numbers: Arrays) -> dict[str, str]:
    """Each number as text, by its name in words."""
    return {key.replace("_", " "): format_number(key, numbers) for key in numbers if not key.endswith(ERROR)}


def describe(experiment: Experiment, arrays: Arrays) -> dict[str, dict[str, Any]]:
    """The shape, the names of the axes and the meaning of each array, as far as `ARRAYS` describes it."""
    described = {}
    for name, array in arrays.items():
        described[name] = {"shape": list(array.shape)}
        base = name.removesuffix(ERROR)
        if key := next((key for key in experiment.ARRAYS if key == base or fnmatchcase(base, key)), None):
            axes, meaning = experiment.ARRAYS[key]
            prefix = "the standard error of " if name != base else ""
            described[name] |= {"axes": axes.split(), "meaning": prefix + meaning}
    return described


def _compute(experiment: Experiment, config: Any, training: Training = ALONE) -> dict[str, np.ndarray]:
    handed = {"training": training} if "training" in inspect.signature(experiment.compute).parameters else {}
    with matmul_precision(experiment):
        return {key: np.asarray(parallel.local(value)) for key, value in experiment.compute(config, **handed).items()}


def _computed_from(config: Any) -> dict[str, Any]:
    """The fields on which the numbers depend: all but the names of files to write, which do not compare."""
    compared = {field.name for field in dataclasses.fields(config) if field.compare}
    return {name: value for name, value in dataclasses.asdict(config).items() if name in compared}


def _check_claims(experiment: Experiment, config: Any, arrays: Arrays) -> dict[str, bool]:
    return {claim: bool(holds) for claim, holds in experiment.claims(config, arrays).items()}


def _scalars(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    scalars = {key: value.item() for key, value in arrays.items() if value.ndim == 0}
    texts = {key: value for key, value in scalars.items() if isinstance(value, str)}
    return {"numbers": {key: value for key, value in scalars.items() if key not in texts}, "texts": texts}


def _print_claims(claims: Mapping[str, bool]) -> None:
    for claim, holds in claims.items():
        print(f"{'ok   ' if holds else 'FALSE'} {claim}")


def _drawn(experiment: Experiment, config: Any, arrays: Arrays) -> "Figure":
    from experiments.runner import figures  # late, as matplotlib takes half a second

    return figures.drawn(lambda figure: experiment.draw(figure, config, arrays))


def machine() -> dict[str, Any]:
    """The device and the versions that produce a result."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy", "optax")}
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "platform": jax.default_backend(),
        "versions": {"python": platform.python_version(), "jnn": __version__} | versions,
    }
