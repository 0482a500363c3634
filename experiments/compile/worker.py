"""A process that compiles programs for devices that are not there, and prints a row of the report for each, in JSON.

python -m experiments.compile.worker DEVICE COUNT NAME...   of a target, one or four of them, and experiments
"""

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

from experiments import load
from experiments.compile import modules, programs, targets
from experiments.compile.targets import Target
from experiments.runner.experiment import matmul_precision

Row = dict[str, Any]


def main(args: Sequence[str]) -> None:
    """Print the rows, and nothing else, on stdout."""
    device, count, *names = args
    chosen, out = targets.devices(device)[: int(count)], sys.stdout
    for name in names:
        with contextlib.redirect_stdout(sys.stderr):
            row = compiled(name, device, chosen)
        print(json.dumps(row), file=out, flush=True)


def compiled(name: str, device: str, devices: Sequence[Any]) -> Row:
    """The row of an experiment's training run; one that is refused has an error and does not hold."""
    row: Row = {"program": name, "device": device, "devices": len(devices)}
    program = programs.recorded(name)
    try:
        with matmul_precision(load(name)):
            traced = programs.traced(program, devices)
        start = time.perf_counter()
        done = traced.traced.lower().compile()
    except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
        return row | {"error": reason(error), "holds": False}
    seconds = time.perf_counter() - start
    target = targets.TARGETS[device]
    used = memory(done.memory_analysis(), target)
    epochs, steps = program.options["epochs"], program.steps
    step = step_of(modules.Module(done.as_text()).whole, epochs, steps)
    return row | used | counts(step) | least(step, traced.operations(), target) | {"compiled in s": seconds}


def reason(error: Exception) -> str:
    """The first line of an error: of a program that does not fit, how much memory it needs and how much there is."""
    return (str(error) or type(error).__name__).splitlines()[0]


def memory(analysis: Any, target: Target) -> Row:
    """Bytes of arguments, results and temporaries, and whether they fit; arguments may be the results' memory, too."""
    arguments, temporaries = analysis.argument_size_in_bytes, analysis.temp_size_in_bytes
    total = arguments + temporaries + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    named = {"arguments MB": arguments / 1e6, "temporaries MB": temporaries / 1e6, "of memory": total / target.memory}
    return {"fits": total <= target.memory, "holds": total <= target.memory, **named}


def step_of(whole: modules.Loop, epochs: int, steps: int) -> modules.Loop:
    """The loop over the mini-batches in that over the epochs; a loop of one turn is a part of what is around it."""
    for turns in (epochs, steps):
        found = [loop for loop in whole.loops if loop.turns == turns]
        if turns > 1 and not found:
            raise ValueError(f"the module must have a loop of {turns} turns, got {[l.turns for l in whole.loops]}")
        whole = max(found, key=lambda loop: loop.total("kernels"), default=whole)
    return whole


def counts(step: modules.Loop) -> Row:
    """Kernels of a step, with those of the loops in it, and all-reduces."""
    parts = [f"{step.kernels}", *(f"{loop.turns} x {loop.total('kernels'):.0f} ({loop.name})" for loop in step.loops)]
    kernels, reduces = round(step.total("kernels")), round(step.total("all_reduces"))
    return {"kernels a step": kernels, "in loops": " + ".join(parts), "all-reduces a step": reduces}


def least(step: modules.Loop, operations: dict[str, float], target: Target) -> Row:
    """The least time of a step by its arithmetic, its memory traffic and its kernels, and which is the largest."""
    times = {
        "arithmetic": sum(number / target.rates[kind] for kind, number in operations.items()),
        "memory": step.total("moved") / target.bandwidth,
        "launches": step.total("kernels") * target.launch,
    }
    row: Row = {f"{name} us": 1e6 * seconds for name, seconds in times.items()}
    return {"Mflop a step": sum(operations.values()) / 1e6, "MB a step": step.total("moved") / 1e6, **row} | {
        "bound by": max(times, key=lambda name: times[name])
    }


if __name__ == "__main__":
    main(sys.argv[1:])
