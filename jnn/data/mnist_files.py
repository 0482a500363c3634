"""MNIST, from a folder or downloaded once."""

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from jnn._internal import checks
from jnn.data import idx
from jnn.data.arrays import Dataset, rows

MIRRORS = ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/")
"""Where `mnist` downloads from, in order of preference. The original host refuses automated downloads."""

_SHA256_OF_CONTENT = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def mnist(mirrors: Sequence[str] = MIRRORS) -> Dataset:
    """Loads MNIST, 60,000 images of 28x28 pixels to train on and 10,000 to test on, and downloads it once if needed.

    The data set is by LeCun, Cortes and Burges (CC BY-SA 3.0). Its four IDX files are read from the folder
    $JNN_DATA_DIR, by default the user's cache folder, or from raw/ or MNIST/raw/ below it, where torchvision keeps
    them. They may be gzipped, regardless of extension, and be called train-images-idx3-ubyte or
    train-images.idx3-ubyte. Files that are there are verified and never changed. A missing one is downloaded into the
    folder, and gets its name only once its content has been verified.

    Args:
      mirrors: The URLs of folders to download from: the first that serves a file completely is used.

    Raises:
      ValueError: If a file is damaged or belongs to another data set, or if there is no home folder for "~".
      OSError: If a file cannot be read, downloaded from any mirror, or written, or if there is no home folder and
        $JNN_DATA_DIR is not set.
      TypeError: If `mirrors` is not a list of URLs.
      ImportError: If pooch is needed, for the cache folder or a download, and missing: pip install pooch requests.

    Example, which may download the files::

        train, test = data.mnist()
    """
    listed = isinstance(mirrors, Sequence) and not isinstance(mirrors, str)
    if not listed or not all(isinstance(mirror, str) for mirror in mirrors):
        raise TypeError(f"mirrors must be a list of URLs, got {mirrors!r}")
    folder = _folder()
    there = {name: paths[0] for name in _SHA256_OF_CONTENT if (paths := paths_of(folder, name))}
    try:
        arrays = {name: _read(path, name) for name, path in there.items()}
    except ValueError as error:
        advice = "to have MNIST downloaded, move the file away, or set JNN_DATA_DIR to another folder"
        raise ValueError(f"{error}: {advice}") from error
    if not arrays and (others := idx.prefixes(folder)):
        raise ValueError(
            f"{folder} must hold MNIST's files, got those with prefix {', '.join(others)}: data.idx_folder(folder, "
            "prefix=...) reads them; for MNIST, set JNN_DATA_DIR to another folder"
        )
    train_images, train_labels, test_images, test_labels = (
        arrays[name] if name in arrays else _download(folder, name, mirrors) for name in _SHA256_OF_CONTENT
    )
    return Dataset(rows(train_images, train_labels, 255), rows(test_images, test_labels, 255))


def paths_of(folder: Path, name: str) -> list[Path]:
    return [path for below in ("", "raw", "MNIST/raw") for path in idx.spellings(folder / below, name)]


def _folder() -> Path:
    if chosen := os.environ.get("JNN_DATA_DIR"):
        return checks.path("JNN_DATA_DIR", chosen)
    try:
        return Path(_pooch().os_cache("jnn")).expanduser() / "mnist"
    except RuntimeError as error:
        raise OSError("there is no home folder to cache MNIST in: set JNN_DATA_DIR to a folder for it") from error


def _pooch() -> ModuleType:
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            "data.mnist needs pooch: pip install pooch requests, or set JNN_DATA_DIR to a folder with the four files"
        ) from error
    pooch.get_logger().setLevel("WARNING")
    return pooch


def _read(path: Path, name: str) -> np.ndarray:
    """The array in the file at `path`, which must have the content of MNIST's file `name`."""
    found = idx.content(path)
    array = idx.parse(found, path)
    if hashlib.sha256(found).hexdigest() != _SHA256_OF_CONTENT[name]:
        raise ValueError(
            f"{path} must have the content of MNIST's {name}, got {array.dtype} of shape {array.shape} with another "
            "SHA-256; data.idx_folder reads other data sets, such as Fashion-MNIST"
        )
    return array


def _download(folder: Path, name: str, mirrors: Sequence[str]) -> np.ndarray:
    """Download into a temporary folder beside the target, verify the content there, and only then rename it."""
    pooch = _pooch()
    filename = f"{name}.gz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder, prefix=".download-")
    except OSError as error:
        raise OSError(
            f"{filename} is missing and cannot be written to {folder} ({error}): set JNN_DATA_DIR to a folder that has "
            "it, or that is writable"
        ) from error
    failures = []
    with scratch as workplace:
        downloader = pooch.HTTPDownloader(progressbar=importlib.util.find_spec("tqdm") is not None, timeout=60)
        for i, mirror in enumerate(mirrors):
            fetched = Path(workplace) / str(i) / filename
            try:
                pooch.retrieve(
                    f"{mirror.rstrip('/')}/{filename}", None, filename, fetched.parent, downloader=downloader
                )
                array = _read(fetched, name)
                fetched.replace(folder / filename)
                return array
            except (OSError, ValueError) as error:
                failures.append(f"{mirror}: {_root(error)}".replace(f"{fetched.parent}{os.sep}", ""))
    reasons = "; ".join(failures) or "no mirrors were given"
    raise OSError(
        f"cannot download {filename} to {folder} ({reasons}): put the four MNIST files into a folder and set "
        "JNN_DATA_DIR to it"
    )


def _root(error: BaseException) -> BaseException:
    """The innermost cause of a network library's error; ValueErrors are our own and complete."""
    while not isinstance(error, ValueError) and error.__context__ is not None:
        error = error.__context__
    return error
