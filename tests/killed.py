"""Kill a training run at random moments, let it go on, and compare: `python -m tests.killed --kills 100`.

Every round starts a process that trains with a checkpoint after every epoch, and kills it with SIGKILL after a random
time, until the training has ended; then its parameters must be those of a training run that was left alone, bit by bit.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EPOCHS = 40


def child(folder):
    """Train with checkpoints; write the last parameters."""
    import jax
    import optax

    from jnn import backprop, checkpoint, convert, mlp, train
    from tests.helpers import examples

    key, optimizer, data = jax.random.key(0), optax.adam(0.01), examples(2, 12, (4, 5, 3))
    state = train.init(optimizer, mlp.init(jax.random.key(1), (4, 5, 3)))
    options = {"epochs": EPOCHS, "batch_size": 5, "progress": False}
    options["checkpoints"] = checkpoint.Checkpoints(folder / "checkpoints")
    state, _ = train.fit(key, backprop.minibatch_value_and_grad, optimizer, state, data, **options)
    convert.export(folder / "trained", state.params)


def troubled(folder):
    """Resume a run of `test_checkpoint`; train until a file replaces the folder, and until the disk is full."""
    import resource
    import signal

    from jnn.checkpoint import Checkpoints
    from tests import test_checkpoint as tests

    def replace(report):
        if report.epoch == 2:
            (folder / "run").rename(folder / "moved")
            (folder / "run").write_text("not a folder")

    tests.fit(epochs=1)
    tests.fit(Checkpoints(folder / "resumed"), epochs=2, evaluate=tests.vjp_error_of)
    reported(lambda: tests.fit(Checkpoints(folder / "run"), epochs=4, callbacks=[replace]))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, resource.RLIM_INFINITY))  # in bytes, of a file that grows
    reported(lambda: tests.fit(Checkpoints(folder / "full"), epochs=4))


def reported(call):
    """Call a function that may raise OSError, and print the error with its notes."""
    try:
        call()
    except OSError as error:
        print(error, *getattr(error, "__notes__", []), sep="; ")
        return 3
    return 0


def kill(folder, kills, seed):
    """Kill `kills` times, starting a new training when one has ended. Returns what went wrong, a line each."""
    from safetensors.numpy import load_file

    draw, wrong, killed, runs = np.random.default_rng(seed), [], 0, 0
    process_in(folder / "compiled").wait()  # the time below is that of a process with its programs in the cache
    start = time.monotonic()
    process_in(folder / "alone").wait()
    seconds = time.monotonic() - start
    wanted = load_file(folder / "alone" / "trained")
    while killed < kills or runs == 0:
        there = folder / f"training {runs}"
        process = process_in(there)
        try:
            # Half of them while it trains, so while it saves, too: the first checkpoint says that it has begun.
            process.wait(draw.uniform(0.3, 1.0) * seconds if killed < kills else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
            continue
        if process.returncode:
            wrong.append(f"after {killed} kills: exit code {process.returncode}")
            return wrong
        got = load_file(there / "trained")
        wrong += [
            f"after {killed} kills: {name} differs" for name in wanted if not np.array_equal(got[name], wanted[name])
        ]
        runs += 1
    print(f"{killed} kills, {runs} training runs ended, {len(wrong)} differences")
    return wrong


def process_in(folder, **options):
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", "tests.killed", "train", str(folder)], **options
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["train", folder]:
            sys.exit(reported(lambda: child(Path(folder))))
        case ["troubled", folder]:
            troubled(Path(folder))
        case ["--kills", number]:
            with tempfile.TemporaryDirectory() as scratch:
                sys.exit("\n".join(kill(Path(scratch), int(number), seed=0)) or 0)
        case _:
            sys.exit(__doc__)
