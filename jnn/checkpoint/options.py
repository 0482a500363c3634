"""What a user chooses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jnn._internal import checks, files
from jnn.typing import PathLike, Scalar


@dataclass(frozen=True)
class Checkpoints:
    """Where and how often `train.fit` saves what it needs to resume.

    `train.fit` raises ValueError if the newest checkpoint is damaged or of another training run: another config or key,
    other data, another start, another program (gradient, optimizer, batch size, transform, evaluate, stopping), or one
    that another version of jax traced differently. Data split between processes are not compared. It raises
    BlockingIOError if another training run holds the folder, OSError if the folder cannot be written or the disk is
    full. Older checkpoints are never changed.

    Attributes:
      folder: Contains a folder for each checkpoint, named by its epoch, or by how many chunks were trained on if the
        data come in chunks; "~" is your home.
      keep: How many of the newest to keep, besides the one with the lowest metric "error" (or highest "accuracy").
      seconds: The least time between checkpoints, and before the first; 0 saves after every epoch or chunk.
      resume: Start from the newest checkpoint in the folder, which a line of `logging` names. False deletes those there
        when the first new one is saved.
      config: The configuration of the run, in types that JSON has. Resuming with another config raises ValueError.

    Raises:
      ValueError: If `keep` is below 1 or `seconds` negative.
      TypeError: If they are not such numbers, or the folder is not a path.
      ImportError: By `train.fit`, without orbax: pip install "jnn[checkpoints]".
    """

    folder: PathLike
    keep: int = 2
    seconds: Scalar = 0.0
    resume: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        files.expanded("folder", self.folder)
        checks.count("keep", self.keep)
        checks.in_range("seconds", self.seconds)
