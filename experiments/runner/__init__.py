"""The runner of every experiment: its command line, its results and its training runs.

A run writes `<out>/<name>/arrays.npz`, `figure.png` and `result.json` (config, claims, numbers, device, versions,
seconds). Each scalar and text that `compute` returns is printed and stored in `result.json`; `x_standard_error` is
printed beside `x`. If a run fails after computing, its arrays are kept, and the message names their folder. The exit
code is 0, or 1 if a claim is false, 2 for a user's mistake or results that cannot be written, 3 for a defect, 130 after
Ctrl-C.
"""

from typing import TYPE_CHECKING, Any

from experiments.runner.command import (
    INTERRUPTED,
    MISTAKES,
    Settings,
    cache_compilations,
    main,
    open_devices,
    parse,
    report_mistakes,
)
from experiments.runner.experiment import Arrays, AtLeast, Claims, NotNegative, expanded, experiment_name
from experiments.runner.results import format_number, machine, mean_and_standard_error, show
from experiments.runner.several import run_each
from experiments.runner.training import ALONE, Training, init_members

if TYPE_CHECKING:
    from experiments.runner.figures import STYLE, Figure

__all__ = [
    "ALONE",
    "INTERRUPTED",
    "MISTAKES",
    "STYLE",
    "Arrays",
    "AtLeast",
    "Claims",
    "Figure",
    "NotNegative",
    "Settings",
    "Training",
    "cache_compilations",
    "expanded",
    "experiment_name",
    "format_number",
    "init_members",
    "machine",
    "main",
    "mean_and_standard_error",
    "open_devices",
    "parse",
    "report_mistakes",
    "run_each",
    "show",
]


def __getattr__(name: str) -> Any:
    if name not in ("STYLE", "Figure"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from experiments.runner import figures  # late, as matplotlib takes half a second

    return getattr(figures, name)
