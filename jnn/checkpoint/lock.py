"""A folder that one training run holds at a time."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Makes the folder and holds it against other processes and threads; what was made and is empty goes at the end.

    The system lets go of the lock when a process dies, however it dies. Raises BlockingIOError if the folder is held,
    OSError if it cannot be written.
    """
    import filelock  # late: an extra

    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise BlockingIOError(
            f"{folder} must be used by one training run at a time, got another one there already: "
            "wait until that ends, or choose another folder"
        ) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / ".lock").unlink()  # while it is held, so that nobody else holds a file that is gone
        lock.release()
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()
