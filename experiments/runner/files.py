"""The files of a run: the folder is checked before computing, and the arrays are kept if anything fails afterwards."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from experiments.runner.experiment import Arrays

FILES = ("figure.png", "arrays.npz", "result.json")
"""In the order in which they are put in place."""


@contextlib.contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Makes the folder, and removes the folders that it made, if they are empty, when the block fails.

    With several processes, only the first does this.

    Raises:
      OSError: If a file cannot be written in the folder.
    """
    made = [] if jax.process_index() else [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        if jax.process_index() == 0:
            make(folder)
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()
        raise


def make(folder: Path) -> None:
    """Makes the folder, and writes and removes a file in it. Raises OSError if this fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if blocked := [file for file in FILES if (folder / file).is_dir()]:
            raise IsADirectoryError(f"{blocked[0]} is a folder")
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"0")  # a full disk takes an empty file
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error}); choose another --out") from error


def write(path: Path, text: str) -> None:
    """Writes a whole text file, or leaves an older one unchanged. Raises OSError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as scratch:
            written = Path(scratch) / path.name
            written.write_text(text, encoding="utf-8")
            written.replace(path)
    except OSError as error:
        raise OSError(f"cannot write {path} ({error}); an older file is unchanged") from error


@contextlib.contextmanager
def put(folder: Path, arrays: Arrays) -> Iterator[Path]:
    """Writes arrays.npz into a new folder, in which the block writes the other files; then moves all three to `folder`.

    result.json is moved last. If anything fails, older files are unchanged, and a note on the error names the new
    folder, which is in `folder` or, if that cannot be written, in the folder for temporary files.
    """
    problem = None
    try:
        kept = _save(arrays, folder, "unfinished-")
    except OSError as error:
        problem = OSError(f"cannot write to {folder} ({error})")
        kept = _save_elsewhere(arrays, folder, problem)
    try:
        yield kept
        if problem:
            raise problem
        for file in FILES:
            (kept / file).replace(folder / file)
        kept.rmdir()
    except BaseException as error:
        error.add_note(f"the computed arrays are in {kept}")
        raise


def _save(arrays: Arrays, parent: Path | None, prefix: str) -> Path:
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    try:
        np.savez_compressed(folder / "arrays.npz", **arrays)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _save_elsewhere(arrays: Arrays, folder: Path, problem: OSError) -> Path:
    try:
        return _save(arrays, None, f"jnn-{folder.name}-")
    except OSError as error:
        problem.add_note(f"nor to the folder for temporary files ({error})")
        if (folder / "checkpoints").is_dir():
            problem.add_note("--resume continues from the last checkpoint")
        raise problem from error
