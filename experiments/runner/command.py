"""The command line of an experiment: flags, mistakes in one line, exit codes, and a cache of compiled programs."""

import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import jax
import tyro

from experiments.runner.experiment import experiment_name
from experiments.runner.results import run
from jnn import parallel

INTERRUPTED = 130
"""The exit code after Ctrl-C, as in a shell."""

C = TypeVar("C")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The flags that all experiments share."""

    out: Path = Path("out")
    """Folder for the results, which go into a folder named after the experiment."""
    quick: bool = False
    """Use a small size that still exercises everything."""
    resume: bool = False
    """Continue an interrupted run of the same config. Progress is saved twice a minute, and by Ctrl-C."""


@dataclasses.dataclass(frozen=True)
class Flags(Generic[C]):
    """All flags of one experiment."""

    config: Annotated[C, tyro.conf.arg(name="")]
    settings: Annotated[Settings, tyro.conf.arg(name="")] = Settings()


@dataclasses.dataclass
class _Outcome:
    """An exit code, and how to resume what was interrupted."""

    code: int = 2
    checkpoints: Path | None = None
    resume: str = ""


def main(experiment: Any = None, args: Sequence[str] | None = None) -> int:
    """Run an experiment with the flags `args`. Returns the exit code.

    The defaults are the module that runs as a script, and the flags of the command line.
    """
    experiment = sys.modules["__main__"] if experiment is None else experiment
    args = sys.argv[1:] if args is None else args
    command = ["python", "-m", "experiments", experiment_name(experiment)]
    _cache_compilations()
    with report_mistakes() as outcome:
        parallel.start()
        quick = experiment.Config.quick if "--quick" in args else {}
        flags = tyro.cli(
            Flags[experiment.Config],
            prog=shlex.join(command),
            description=experiment.__doc__,
            args=args,
            default=Flags(config=experiment.Config(**quick)),
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        settings = flags.settings
        outcome.checkpoints = settings.out / experiment_name(experiment) / "checkpoints"
        outcome.resume = shlex.join([*command, *(arg for arg in args if arg != "--resume"), "--resume"])
        outcome.code = 0 if run(experiment, flags.config, settings.out, resume=settings.resume) else 1
    return outcome.code


@contextlib.contextmanager
def report_mistakes() -> Iterator[_Outcome]:
    """Report a mistake of the user's in one line, without a traceback unless $JNN_TRACEBACK is set."""
    outcome = _Outcome()
    try:
        yield outcome
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        if os.environ.get("JNN_TRACEBACK"):
            raise
        print(f"error: {error} (JNN_TRACEBACK=1 shows where)", file=sys.stderr)
    except KeyboardInterrupt:
        saved = outcome.checkpoints is not None and outcome.checkpoints.is_dir()
        print(f"interrupted; {'resume with ' + outcome.resume if saved else 'nothing was written'}", file=sys.stderr)
        outcome.code = INTERRUPTED


def _cache_compilations() -> None:
    """Keep compiled programs in the user's cache folder for the next run, unless JAX's own variables say otherwise."""
    import pooch  # late, as in a notebook its import warns about missing widgets

    for name, value in {
        "jax_compilation_cache_dir": str(Path(pooch.os_cache("jnn")) / "xla"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
