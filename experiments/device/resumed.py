"""Separate processes train [64, 30, 10] with Adam on the embedded digits, with a checkpoint after each epoch: one is
left alone, one is killed, one resumes what was killed. Parameters, optimizer's state and costs must have the same bits.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from experiments import runner
from experiments.device.rows import Config, Row

EPOCHS = 40
KILLED = 10
"""The epoch after which it is killed."""


def rows(_: Config) -> Iterator[Row]:
    """Yields how each process ended. Raises ValueError with the output of a process that failed."""
    with tempfile.TemporaryDirectory() as scratch:
        alone, killed = Path(scratch) / "alone", Path(scratch) / "killed"
        yield {"process": "left alone", "": f"epochs 1 to {trained(alone)[-1]}"}
        yield {"process": "killed", "": f"after epoch {trained(killed, kill=True)[-1]} of {EPOCHS}"}
        first, *others = trained(killed)
        yield {"process": "resumed", "": f"epochs {first} to {others[-1]}", "holds": first > 1}
        same = (alone / "trained").read_bytes() == (killed / "trained").read_bytes()
        yield {"process": "resumed", "": "the same bits" if same else "other bits", "holds": same}


def trained(folder: Path, *, kill: bool = False) -> list[int]:
    """The epochs trained by a process that resumes from the folder, and is killed if `kill`."""
    # Processes share a GPU's memory, of which JAX otherwise takes most at its start.
    env = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, "-m", "experiments.device.resumed", str(folder)]
    epochs = [0]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        for text in process.stdout or ():
            epochs.append(int(text))
            if kill and epochs[-1] == KILLED:
                process.kill()
        code = process.wait()
        errors.seek(0)
        said = errors.read().strip().splitlines()
    if kill and code == 0:
        raise ValueError(f"a training run of {EPOCHS} epochs must be killed after epoch {KILLED}, but it ended")
    if code and not (kill and epochs[-1] >= KILLED):
        reason = said[-1].removeprefix("error: ").partition(" (JNN_TRACEBACK")[0] if said else f"exit code {code}"
        raise ValueError(reason)
    return epochs[1:]


def child(folder: Path) -> int:
    """Train in the folder, printing each epoch's number; write the last state and the costs there."""
    import jax
    import numpy as np
    import optax
    from jax.tree_util import Partial

    from jnn import backprop, checkpoint, costs, data, mlp, train

    with runner.report_mistakes() as outcome:
        runner.open_devices()
        split, optimizer = data.digits().train, optax.adam(0.01)
        state, history = train.fit(
            jax.random.key(0),
            Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy),
            optimizer,
            train.init(optimizer, mlp.init(jax.random.key(1), (64, 30, 10))),
            (split.xs, data.one_hot(split.labels, 10)),
            epochs=EPOCHS,
            batch_size=10,
            checkpoints=checkpoint.Checkpoints(folder / "checkpoints", resume=True),
            callbacks=[lambda report: print(report.epoch, flush=True)],
            progress=False,
        )
        leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((state, history))]
        (folder / "trained").write_bytes(b"".join(leaves))
        outcome.code = 0
    return outcome.code


if __name__ == "__main__":
    raise SystemExit(child(Path(sys.argv[1])))
