"""Paths as users write them, and folders that one training run holds at a time."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has no flock: a folder is not locked there
    fcntl = None


def expanded(name: str, path: Any) -> Path:
    """The absolute path, "~" being the user's home. Raises TypeError unless it is a path, ValueError without a home."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {path!r}")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{name} must start with a home folder that exists, got {path}: write it without ~") from None


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder and hold it against other processes and threads; what was made and is empty goes at the end.

    The kernel lets go of the lock when a process dies, however it dies. On file systems that cannot lock, nothing is
    held. Raises BlockingIOError, which names the holder, if the folder is held, and OSError if it cannot be written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    file = _locked(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if _is_at(file, path):
                path.unlink()
        os.close(file)
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()


def _locked(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(file)
        except BlockingIOError:
            holder = os.pread(file, 200, 0).decode(errors="replace") or "another process"
            os.close(file)
            raise BlockingIOError(
                f"{path.parent} must be used by one training run at a time, got {holder} there already: "
                "wait until that ends, or choose another folder"
            ) from None
        if _is_at(file, path):  # else the last holder has deleted it, between our two calls
            break
        os.close(file)
    with contextlib.suppress(OSError):  # a lock without a name, as on a full disk, is one nevertheless
        os.truncate(file, 0)
        os.write(file, f"process {os.getpid()} on {platform.node()}".encode())
    return file


def _lock(file: int) -> None:
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # as some network file systems answer
            return


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
