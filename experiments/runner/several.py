"""Several experiments: on a CPU side by side, each in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import jax

from experiments import load
from experiments.runner.command import DEFECT, INTERRUPTED, main, open_devices
from experiments.runner.training import cores

_Done = subprocess.CompletedProcess[str]


def run_each(runs: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, int]]:
    """Makes each run, whose label stands for the name of an experiment and its flags. Yields the labels and exit codes.

    On a CPU as many run at a time as there are cores, so that one computes while another compiles or draws. The output
    of a run is shown when it ends. On an accelerator, of which one process takes all the memory, and in several
    processes of a launcher they run one after another in this process. After Ctrl-C no further run starts.
    """
    if min(len(runs), cores()) > 1 and _have_a_cpu():
        yield from _side_by_side(runs)
        return
    for label, (name, *flags) in runs.items():
        code = main(load(name), flags)
        yield label, code
        if code == INTERRUPTED:
            return


def _have_a_cpu() -> bool:
    """Whether JAX computes on a CPU, in this process alone. False if it finds no device, as each run then reports."""
    try:
        open_devices()
    except ValueError:
        return False
    return jax.default_backend() == "cpu" and jax.process_count() == 1


def _side_by_side(runs: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, int]]:
    from tqdm import tqdm  # late, as few runs need it

    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "TQDM_DISABLE": "1"}  # one bar for all

    def run(arguments: Sequence[str]) -> _Done:
        command = [sys.executable, "-m", "experiments", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    # Without a terminal, as in a log, there is no bar, only the output of each run.
    with ThreadPoolExecutor(cores()) as pool, tqdm(total=len(runs), unit="experiment", disable=None) as bar:
        left = {pool.submit(run, arguments): label for label, arguments in runs.items()}
        try:
            for label, code in _exit_codes(left, bar):
                yield label, code
                if code == INTERRUPTED:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:  # the terminal interrupts the experiments, too
            handler = signal.signal(
                signal.SIGINT, signal.SIG_IGN
            )  # a second interrupt is for them: their output is shown
            pool.shutdown(wait=False, cancel_futures=True)
            yield from _exit_codes({run: label for run, label in left.items() if not run.cancelled()}, bar)
            signal.signal(signal.SIGINT, handler)
            yield from ((label, INTERRUPTED) for label in runs)


def _exit_codes(left: dict[Future[_Done], str], bar: Any) -> Iterator[tuple[str, int]]:
    """The labels and exit codes of the runs as they end, each taken out of `left`; their output is shown."""
    for run in as_completed(list(left)):
        label, done = left.pop(run), run.result()
        bar.write(f"--- {label}\n{done.stdout}", end="")
        bar.write(done.stderr, file=sys.stderr, end="")
        if done.returncode < 0:
            bar.write(f"error: {label} was ended by signal {-done.returncode}", file=sys.stderr)
        bar.update()
        yield label, DEFECT if done.returncode < 0 else done.returncode
