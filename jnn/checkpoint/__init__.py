"""Checkpoints of a training run, written and read by orbax. Nothing is pickled.

`train.fit(..., checkpoints=Checkpoints(folder))` saves what it needs to resume: parameters, optimizer state, stopping
state, history, key and configuration. A checkpoint is written to a temporary folder that is renamed once it is
complete, so a numbered folder is always a complete checkpoint, whenever the process is killed.

Beside the arrays a checkpoint describes the training run: configuration, key, hashes of data and first state, stopping
criterion, and a hash of the traced program of an epoch. One that differs in any of them is not resumed.

Checkpoints hold whole arrays, however they were sharded, so a training run can resume on other devices. Of several
processes the first writes and all read, so they must share the folder. While a training run uses a folder, a lock file
keeps others out.
"""

from jnn.checkpoint.options import Checkpoints

__all__ = ["Checkpoints"]
