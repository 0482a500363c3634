"""The command line of an experiment: flags, mistakes in one line, exit codes, and a cache of compiled programs."""

import contextlib
import dataclasses
import io
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import jax
import tyro

from experiments import docstring
from experiments.runner.experiment import Experiment, expanded, experiment_name
from experiments.runner.results import run
from experiments.runner.training import cores
from jnn import parallel

DEFECT = 3
"""The exit code after an internal error; 1, which Python would use, means that a claim is false."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, as in a shell."""

MISTAKES = (ValueError, OSError, ImportError, ArithmeticError, MemoryError, jax.errors.JaxRuntimeError)
"""The errors that wrong flags, files and devices raise, and those of a run that needs too much memory."""

C = TypeVar("C")
F = TypeVar("F")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The flags that all experiments share."""

    out: Path = Path("out")
    """Folder for the results, which go into a folder named after the experiment."""
    quick: bool = False
    """Use a small size that still exercises everything."""
    resume: bool = False
    """Continue an interrupted run of the same config. Progress is saved twice a minute, and on Ctrl-C."""

    def __post_init__(self) -> None:
        """Expands ~ in `out`."""
        object.__setattr__(self, "out", expanded("out", self.out))


@dataclasses.dataclass(frozen=True)
class Flags(Generic[C]):
    """All flags of one experiment."""

    config: Annotated[C, tyro.conf.arg(name="")]
    settings: Annotated[Settings, tyro.conf.arg(name="")] = Settings()


@dataclasses.dataclass
class _Outcome:
    """An exit code, and how to resume an interrupted run."""

    code: int = 2
    checkpoints: Path | None = None
    resume: str = ""


def main(experiment: Experiment, args: Sequence[str]) -> int:
    """Runs an experiment with the flags `args`. Returns the exit code."""
    command = ["python", "-m", "experiments", experiment_name(experiment)]
    cache_compilations()
    print_any_character()
    with report_mistakes() as outcome:
        flags = read_flags(experiment, args)
        settings = flags.settings
        open_devices(getattr(flags.config, "seeds", None))
        outcome.checkpoints = settings.out / experiment_name(experiment) / "checkpoints"
        outcome.resume = shlex.join([*command, *(arg for arg in args if arg != "--resume"), "--resume"])
        outcome.code = 0 if run(experiment, flags.config, settings.out, resume=settings.resume) else 1
    return outcome.code


def print_any_character() -> None:
    """Makes stdout replace characters that it cannot encode, such as ±."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def read_flags(experiment: Experiment, args: Sequence[str]) -> Flags[Any]:
    """The flags of an experiment; with `--quick` its small size is the default."""
    quick = experiment.Config.quick if "--quick" in args else {}
    default = Flags(config=experiment.Config(**quick))
    name = experiment_name(experiment)
    return parse(Flags[experiment.Config], name, docstring(experiment), args, default=default)


def parse(flags: type[F], name: str, description: str | None, args: Sequence[str], **options: Any) -> F:
    """The flags of `python -m experiments NAME` as an object of this class."""
    off = (tyro.conf.FlagCreatePairsOff,)
    prog = f"python -m experiments {name}"
    return tyro.cli(flags, prog=prog, description=description, args=args, config=off, **options)


@contextlib.contextmanager
def report_mistakes() -> Iterator[_Outcome]:
    """Reports a user's mistake in one line, and a defect, or any error if $JNN_TRACEBACK is set, with its traceback."""
    outcome = _Outcome()
    try:
        yield outcome
    except Exception as error:
        outcome.code = 2 if isinstance(error, MISTAKES) else DEFECT
        if outcome.code == DEFECT or os.environ.get("JNN_TRACEBACK"):
            traceback.print_exc()
        else:
            said = "; ".join([str(error) or type(error).__name__, *_notes(error)])
            print(f"error: {said} (JNN_TRACEBACK=1 shows where)", file=sys.stderr)
    except KeyboardInterrupt as error:
        kept = _notes(error)
        if outcome.checkpoints is not None and outcome.checkpoints.is_dir():
            kept.append(f"resume with {outcome.resume}")
        print(f"interrupted; {'; '.join(kept) or 'nothing was written'}", file=sys.stderr)
        outcome.code = INTERRUPTED


def _notes(error: BaseException) -> list[str]:
    """The error's notes, without the one that JAX adds on tracebacks."""
    return [note for note in getattr(error, "__notes__", []) if "JAX_TRACEBACK_FILTERING" not in note]


def open_devices(members: int | None = None) -> None:
    """Connects the processes of a launcher, or uses all cores of a CPU. Raises ValueError if JAX finds no device.

    Args:
      members: How many networks are trained side by side, if that is known.
    """
    if not parallel.start():
        _use_all_cores(members)
    _find_devices()


def _use_all_cores(members: int | None = None) -> None:
    """Makes 2 n - 1 devices of n cores, unless JAX's environment variables set the number of CPU devices.

    Up to this many ensemble members have a device each, and the operating system distributes the cores among them. With
    one device per core, two of three members on two cores would train side by side, and then the third alone; with
    three devices [784, 800, 10] takes 0.82 of that time. More devices than members only slow the others down: XLA has a
    thread for each, and a single [784, 30, 10] in mini-batches of 10 takes 1.36 times as long with three devices as
    with one.
    """
    chosen = ("JAX_NUM_CPU_DEVICES", ""), ("XLA_FLAGS", "xla_force_host_platform_device_count")
    if not any(name in os.environ and flag in os.environ[name] for name, flag in chosen):
        most = 2 * cores() - 1
        with contextlib.suppress(RuntimeError):  # JAX has found its devices already
            jax.config.update("jax_num_cpu_devices", most if members is None else max(1, min(members, most)))


def _find_devices() -> None:
    """Raises ValueError if JAX finds no device, as with JAX_PLATFORMS=cuda on a machine without a GPU."""
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        chosen, reason = os.environ.get("JAX_PLATFORMS", ""), str(error) or "no such device, or no jaxlib for it"
        raise ValueError(f"JAX_PLATFORMS must name platforms of this machine, got {chosen!r}: {reason}") from error


def cache_compilations() -> None:
    """Caches compiled programs in the user's cache folder, unless JAX's environment variables say otherwise."""
    for name, value in {
        "jax_compilation_cache_dir": _cache_folder,
        "jax_persistent_cache_min_compile_time_secs": lambda: 0.0,
        "jax_persistent_cache_min_entry_size_bytes": lambda: 0,
    }.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value())


def _cache_folder() -> str | None:
    """The cache folder, or None if it cannot be written or the user has no home."""
    import pooch  # late, as in a notebook its import warns about missing widgets

    try:
        folder = Path(pooch.os_cache("jnn")).expanduser() / "xla"
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):
        return None
    return str(folder)
