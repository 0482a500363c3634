"""What every experiment shares: flags, the run itself, its three files, its exit code.

A run writes `<out>/<name>/arrays.npz`, `figure.png` and `result.json` (config, claims, numbers, device, versions,
seconds). An entry of `compute`'s dict that is one number is printed and put into `result.json`;
`x_standard_error` is printed beside `x`. A run exits with 0, with 1 when a claim fails, with 2 for a user's mistake,
with 130 after Ctrl-C.
"""

import contextlib
import contextvars
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Protocol, TypeVar

import jax
import numpy as np
import tyro
from jax.sharding import NamedSharding
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jnn import _checks, parallel, train
from jnn.checkpoint import Checkpoints

Arrays = Mapping[str, Any]


class Config(Protocol):
    """A frozen dataclass whose fields are the flags; `quick` holds the fields that `--quick` makes small."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    quick: ClassVar[Mapping[str, Any]]


class Experiment(Protocol):
    """A module with the four names, and the docstring that `--help` and the list show."""

    __doc__: str | None
    __file__: str
    Config: Any

    def compute(self, config: Any) -> dict[str, Any]: ...
    def claims(self, config: Any, arrays: Arrays) -> dict[str, bool]: ...
    def draw(self, figure: Figure, config: Any, arrays: Arrays) -> None: ...


STYLE: Any = {
    "axes.grid": True,
    "axes.prop_cycle": "cycler(color=['0072B2', 'D55E00', '009E73', 'CC79A7', 'E69F00', '56B4E9'])",  # Okabe and Ito
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "savefig.dpi": 100,
}
"""One look for all figures, in colours that colour-blind readers can tell apart."""

C = TypeVar("C")


@dataclasses.dataclass(frozen=True)
class _Flags(Generic[C]):
    config: Annotated[C, tyro.conf.arg(name="")]
    out: Path = Path("out")
    """The folder that receives a folder of this experiment's name."""
    quick: bool = False
    """A small size that still exercises everything."""
    resume: bool = False
    """Go on where an interrupted run of the same config was; it is saved twice a minute, and by Ctrl-C."""


def main(experiment: Any, args: Sequence[str] | None = None) -> int:
    """Run one experiment with the flags in `args` (by default the command line's). Returns the exit code."""
    args = sys.argv[1:] if args is None else args
    _keep_compiled()
    with mistakes() as outcome:
        parallel.start()
        quick = experiment.Config.quick if "--quick" in args else {}
        flags = tyro.cli(
            _Flags[experiment.Config],
            prog=f"python -m experiments.{name_of(experiment)}",
            description=experiment.__doc__,
            args=args,
            default=_Flags(config=experiment.Config(**quick)),
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        outcome.checkpoints = _checkpoints(experiment, flags.out)
        outcome.code = 0 if run(experiment, flags.config, flags.out, resume=flags.resume) else 1
    return outcome.code


def run(experiment: Experiment, config: Any, out: Path, *, resume: bool = False) -> bool:
    """Compute, check the claims, draw, write and print. Returns whether every claim holds.

    Of several processes all compute, and the first writes and prints.
    """
    name = name_of(experiment)
    start = time.perf_counter()
    trainings = _Trainings(_checkpoints(experiment, out), dataclasses.asdict(config), resume)
    with trainings.current():
        arrays = _computed(experiment, config)
    seconds = time.perf_counter() - start
    claims = _checked(experiment, config, arrays)
    if jax.process_index():
        return all(claims.values())
    numbers = {key: value.item() for key, value in arrays.items() if value.ndim == 0}
    result = {
        "experiment": name,
        "config": dataclasses.asdict(config),
        "claims": claims,
        "numbers": numbers,
        "seconds": seconds,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "platform": jax.default_backend(),
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in ("jnn", "jax", "jaxlib", "numpy", "optax")},
        },
    }
    folder = out / name
    with rc_context(STYLE):
        figure = Figure()
        experiment.draw(figure, config, arrays)
        _write(folder, arrays, figure, json.dumps(result, indent=2, default=str))
    shutil.rmtree(trainings.folder, ignore_errors=True)
    for what, number in headlines(numbers).items():
        print(f"{what}: {number}")
    _say(claims)
    print(f"{name}: {seconds:.1f} s on {result['device']}; see {folder}")
    return all(claims.values())


def look(experiment: Experiment, **fields: Any) -> tuple[Figure, dict[str, np.ndarray]]:
    """Compute, check the claims, print them and draw, as `run` does, and write nothing: for a notebook.

    fields: those of `Config` that differ from their defaults; where $JNN_QUICK is set, `Config.quick` goes before them.
    Returns the figure and the arrays. Raises AssertionError when a claim fails.
    """
    quick = experiment.Config.quick if os.environ.get("JNN_QUICK") else {}
    config = experiment.Config(**{**fields, **quick})
    arrays = _computed(experiment, config)
    claims = _checked(experiment, config, arrays)
    _say(claims)
    if wrong := [claim for claim, holds in claims.items() if not holds]:
        raise AssertionError(f"{name_of(experiment)} with {config}: false is {'; '.join(wrong)}")
    with rc_context(STYLE):
        figure = Figure()
        _Styled(figure)
        experiment.draw(figure, config, arrays)
    return figure, arrays


def fit(*args: Any, **options: Any) -> tuple[train.State, train.History]:
    """`train.fit`, with checkpoints in the folder of the experiment that runs; every process gets the whole state.

    Outside of `run` there is no such folder, and no progress bar either.
    """
    trainings = _trainings.get()
    if trainings is None:
        return parallel.local(train.fit(*args, **{"progress": False, **options}))
    return parallel.local(train.fit(*args, checkpoints=trainings.next(), **options))


def members(key: Any, seeds: int, start: Callable[[Any], train.State]) -> tuple[train.State, Any]:
    """For `fit`: the states of `seeds` networks side by side, `start(key)` for each, and the keys of their trainings.

    Raises ValueError and TypeError unless seeds is a whole number above 0.
    """
    _checks.count("seeds", seeds)
    init_keys, train_keys = jax.random.split(key, (2, seeds))
    return jax.vmap(start)(init_keys), train_keys


def sharding(batch_size: int) -> NamedSharding | None:
    """Mini-batches over as many of all devices as divide them, for `fit`; None where there is one device.

    Devices that cannot share a mini-batch repeat the work of others, which is said on stderr.
    """
    devices = jax.device_count()
    if devices == 1:
        return None
    share = math.gcd(batch_size, devices)
    if share < devices and jax.process_index() == 0:
        advice = f"a --batch-size that {devices} divides uses all"
        print(f"{share} of {devices} devices share a mini-batch of {batch_size}; {advice}", file=sys.stderr)
    return parallel.batches(parallel.mesh(model=devices // share))


def mean_and_standard_error(name: str, members: Any) -> dict[str, np.ndarray]:
    """Two entries for `compute`'s dict: the mean over the members and, of two or more, its standard error."""
    members = np.asarray(members, np.float64)
    mean = {name: members.mean()}
    return mean if len(members) < 2 else mean | {name + _ERROR: members.std(ddof=1) / np.sqrt(len(members))}


def said(key: str, numbers: Arrays, scale: float = 1, unit: str = "") -> str:
    """A number for people, with its standard error where there is one."""
    error = f" ± {scale * numbers[key + _ERROR]:.2g}" if key + _ERROR in numbers else ""
    return f"{scale * numbers[key]:.4g}{error} {unit}".strip()


def headlines(numbers: Arrays) -> dict[str, str]:
    """Every number for people, by what it is."""
    return {key.replace("_", " "): said(key, numbers) for key in numbers if not key.endswith(_ERROR)}


def name_of(experiment: Experiment) -> str:
    """`digits` for experiments/digits.py, also when that was run as a script."""
    return Path(experiment.__file__).stem


INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""

_ERROR = "_standard_error"


def _checkpoints(experiment: Experiment, out: Path) -> Path:
    return out / name_of(experiment) / "checkpoints"


def _computed(experiment: Experiment, config: Any) -> dict[str, np.ndarray]:
    with jax.default_matmul_precision("highest"):
        return {key: np.asarray(parallel.local(value)) for key, value in experiment.compute(config).items()}


def _checked(experiment: Experiment, config: Any, arrays: Arrays) -> dict[str, bool]:
    return {claim: bool(holds) for claim, holds in experiment.claims(config, arrays).items()}


def _say(claims: Mapping[str, bool]) -> None:
    for claim, holds in claims.items():
        print(f"{'ok   ' if holds else 'FALSE'} {claim}")


class _Styled(FigureCanvasAgg):
    """The canvas of a figure that is shown later: ticks and the colours C0, C1, ... are made only then."""

    def print_figure(self, *args: Any, **kwargs: Any) -> Any:
        with rc_context(STYLE):
            return super().print_figure(*args, **kwargs)


@dataclasses.dataclass
class _Trainings:
    """Where the first, the second, ... training of the experiment that runs keeps its checkpoints."""

    folder: Path
    config: Mapping[str, Any]
    resume: bool
    begun: int = 0

    def next(self) -> Checkpoints:
        self.begun += 1
        return Checkpoints(self.folder / f"training-{self.begun}", seconds=30, resume=self.resume, config=self.config)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        token = _trainings.set(self)
        try:
            yield
        finally:
            _trainings.reset(token)


_trainings: contextvars.ContextVar[_Trainings | None] = contextvars.ContextVar("_trainings", default=None)


@dataclasses.dataclass
class _Outcome:
    """An exit code, and where an experiment keeps what `--resume` goes on with."""

    code: int = 2
    checkpoints: Path | None = None


def _keep_compiled() -> None:
    """Keep compiled programs for the next run, in the user's cache folder; JAX's own variables go first."""
    import pooch  # in a notebook its import warns that there are no widgets

    for name, value in {
        "jax_compilation_cache_dir": str(Path(pooch.os_cache("jnn")) / "xla"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)


@contextlib.contextmanager
def mistakes() -> Iterator[_Outcome]:
    """Say what the user got wrong in one line, without a traceback; $JNN_TRACEBACK=1 shows it."""
    outcome = _Outcome()
    try:
        yield outcome
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        if os.environ.get("JNN_TRACEBACK"):
            raise
        print(f"error: {error} (JNN_TRACEBACK=1 shows where)", file=sys.stderr)
    except KeyboardInterrupt:
        advice = "nothing was written"
        if outcome.checkpoints and outcome.checkpoints.is_dir():
            command = f"python -m experiments.{outcome.checkpoints.parent.name}"
            advice = f"{command} with the same flags and --resume goes on after the last epoch"
        print(f"interrupted; {advice}", file=sys.stderr)
        outcome.code = INTERRUPTED


def _write(folder: Path, arrays: Arrays, figure: Figure, result: str) -> None:
    """Write the three files whole or not at all: beside their place first, result.json last."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as scratch:
        written = [Path(scratch) / file for file in ("arrays.npz", "figure.png", "result.json")]
        np.savez_compressed(written[0], **arrays)
        figure.savefig(written[1], metadata={"Software": None})
        written[2].write_text(result + "\n")
        for path in written:
            path.replace(folder / path.name)
