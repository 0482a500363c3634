"""Interrupt training runs in every way, let them resume, and compare: `python -m tests.soak --minutes 20 --seed 0`.

A process that trains with a checkpoint after every epoch is killed, ended by SIGTERM, or left with a disk on which no
file can grow, each at a random moment; sometimes the folder moves before the next process resumes. When the training
run has ended, its parameters must be bitwise those of a training run that was left alone.
"""

import argparse
import collections
import contextlib
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tests.killed import process_in

# The exit codes with which a process may end: a signal can come before the training run begins and after it has ended.
CODES = {"SIGKILL": {-9, 0}, "SIGTERM": {-15, 143, 0}, "full disk": {3, 0}, "none": {0}}


def soak(folder, minutes, seed):
    """Returns what went wrong, a line each."""
    draw, counts, wrong = np.random.default_rng(seed), collections.Counter(), []
    process_in(folder / "compiled").wait()  # the time below is that of a process with its programs in the cache
    start = time.monotonic()
    process_in(folder / "alone").wait()
    seconds, wanted = time.monotonic() - start, load_file(folder / "alone" / "trained")
    there, names = folder / "0", itertools.count(1)
    while time.monotonic() < start + 60 * minutes:
        how, after = draw.choice(list(CODES)), draw.uniform(0.3, 1.0) * seconds
        counts[how] += 1
        code, said = run(there, how, after, limit=int(draw.integers(2000)))
        print(f"{there.name}: {how} after {after:.1f} s, exit code {code}", flush=True)
        if code not in CODES[how]:
            return [*wrong, f"{there.name}: {how} ended with exit code {code}\n{said}"]
        if code == 0:
            got = load_file(there / "trained")
            wrong += [f"{there.name}: {name} differs" for name in wanted if not np.array_equal(got[name], wanted[name])]
            there, counts["ended"] = folder / str(next(names)), counts["ended"] + 1
        elif draw.random() < 0.3:
            there = there.rename(folder / str(next(names)))
            counts["moved"] += 1
    print(dict(counts), len(wrong), "differences")
    return wrong if counts["ended"] else ["no training run has ended: give it more minutes"]


def run(there, how, after, limit):
    """Run a training process, and interrupt it after some seconds. Returns its exit code, and what it said.

    To a pipe: a file, such as a log of this program, might not grow either.
    """
    process = process_in(there, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        said = process.communicate(timeout=None if how == "none" else after)[0]
        return process.returncode, said
    if how == "full disk":  # no file may grow beyond a few bytes from here on
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    elif how == "SIGKILL":
        process.kill()
    else:
        process.terminate()
    said = process.communicate()[0]
    return process.returncode, said


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit("\n".join(soak(Path(scratch), options.minutes, options.seed)) or 0)
