"""Data sets: 1,797 small digits that come with the package, and MNIST (from local files, or downloaded once).

Images are float32 in [0, 1], one row of pixels for each example; labels are int32.
"""

import gzip
import hashlib
import importlib.util
import math
import os
import struct
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from jnn import _checks
from jnn.typing import PathLike


class Split(NamedTuple):
    """Images xs, one row of pixels for each example, and the digit that each one shows."""

    xs: Float[Array, "N pixels"]
    labels: Int[Array, " N"]


class Dataset(NamedTuple):
    """A training set and a test set."""

    train: Split
    test: Split


MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
"""Where `mnist` downloads from, in order of preference. The original host refuses automated downloads."""

_SHA256_OF_CONTENT = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def digits() -> Dataset:
    """1,797 handwritten digits of 8x8 pixels, offline: 1,437 for training, 360 for testing.

    The split is fixed, and balanced over the digits. They are the test set of the Optical Recognition of Handwritten
    Digits (Alpaydin and Kaynak, 1998; UCI Machine Learning Repository, CC BY 4.0), which scikit-learn has, too.
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    xs = images.reshape(-1, 64) / np.float32(16)
    return Dataset(_split(xs[:1437], labels[:1437]), _split(xs[1437:], labels[1437:]))


def mnist(mirrors: Sequence[str] = MIRRORS) -> Dataset:
    """MNIST: 60,000 images of 28x28 pixels to train on, 10,000 to test on (LeCun, Cortes and Burges, CC BY-SA 3.0).

    The four IDX files, gzipped or not, are read from the folder $JNN_DATA_DIR, or from the user's cache folder if that
    is not set. A missing file is downloaded into that folder from the first of `mirrors` that serves it completely, and
    gets its name there only after its content has been verified.

    Raises ValueError for a damaged file; OSError if a file cannot be read, downloaded from any mirror, or written, or
    if the user has no home folder and $JNN_DATA_DIR is not set or starts with ~; ImportError if pooch is missing and
    $JNN_DATA_DIR is not set or a file must be downloaded.
    """
    folder = _folder()
    train_xs, train_labels, test_xs, test_labels = (_mnist_file(folder, name, mirrors) for name in _SHA256_OF_CONTENT)
    return Dataset(
        _split(train_xs.reshape(-1, 784) / np.float32(255), train_labels),
        _split(test_xs.reshape(-1, 784) / np.float32(255), test_labels),
    )


def one_hot(labels: Int[Array, "*N"], classes: int) -> Float[Array, "*N classes"]:
    """The desired output y of each label: 1 at the label, 0 elsewhere, float32.

    Raises TypeError for labels that are not integers, ValueError for a label outside 0 ... classes-1; traced labels are
    not checked, and one outside gives a row of zeros.
    """
    _checks.count("classes", classes)
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise TypeError(f"labels must be integers, got {jnp.result_type(labels)}")
    if not isinstance(labels, Tracer):
        _check_labels("labels", np.asarray(labels), classes)
    return jax.nn.one_hot(labels, classes, dtype=jnp.float32)


def read_idx(path: PathLike) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, gzipped if its name ends in .gz; [N, H, W] for N images.

    The format: two zero bytes, 0x08 for unsigned bytes, the number of axes, each axis as a big-endian 32-bit integer,
    then the entries. Raises ValueError for a file that is damaged or has another format.
    """
    return _parse_idx(_content(Path(path)), path)


def _split(xs: np.ndarray, labels: np.ndarray) -> Split:
    return Split(jnp.asarray(xs, jnp.float32), jnp.asarray(labels, jnp.int32))


def _expanded(name: str, folder: PathLike) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise OSError(f"{name} must be a full path, as ~ stands for no home folder here, got {folder}") from error


def _folder() -> Path:
    if chosen := os.environ.get("JNN_DATA_DIR"):
        return _expanded("JNN_DATA_DIR", chosen)
    try:
        return Path(_pooch().os_cache("jnn")).expanduser() / "mnist"
    except RuntimeError as error:
        raise OSError("there is no home folder to cache MNIST in: set JNN_DATA_DIR to a folder for it") from error


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            "data.mnist needs pooch: pip install pooch requests, or set JNN_DATA_DIR to a folder with the four files"
        ) from error
    pooch.get_logger().setLevel("WARNING")
    return pooch


def _mnist_file(folder: Path, name: str, mirrors: Sequence[str]) -> np.ndarray:
    found = [path for path in (folder / f"{name}.gz", folder / name) if path.exists()]
    path = found[0] if found else _download(folder, f"{name}.gz", mirrors)
    try:
        return _check_mnist(path, name)
    except ValueError as error:
        raise ValueError(f"{error}: delete it, and it will be downloaded again") from error


def _check_mnist(path: Path, name: str) -> np.ndarray:
    """The array in the file at `path`, which must have the content of MNIST's file `name`."""
    content = _content(path)
    array = _parse_idx(content, path)
    expected = (60_000 if name.startswith("train") else 10_000, *((28, 28) if "images" in name else ()))
    if array.shape != expected:
        raise ValueError(f"{path} must hold an array of shape {expected}, got {array.shape}")
    if array.ndim == 1:
        _check_labels(str(path), array, 10)
    if hashlib.sha256(content).hexdigest() != _SHA256_OF_CONTENT[name]:
        raise ValueError(f"{path} must be MNIST's {name}, but its content has another SHA-256")
    return array


def _content(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or not a gzip file ({error})") from error


def _parse_idx(content: bytes, path: PathLike) -> np.ndarray:
    axes = content[3] if len(content) > 3 else 0
    if content[:3] != b"\0\0\x08" or not 1 <= axes <= 8:
        raise ValueError(f"{path} must be an IDX file of bytes and start with 0x000008, got 0x{content[:4].hex()}")
    start = 4 + 4 * axes
    shape = struct.unpack(f">{axes}I", content[4:start]) if len(content) >= start else ()
    if not shape or len(content) - start != math.prod(shape):
        raise ValueError(f"{path} is truncated or too long: it has {len(content)} bytes for an array of shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _check_labels(name: str, labels: np.ndarray, classes: int) -> None:
    wrong = np.argwhere((labels < 0) | (labels >= classes))
    if len(wrong):
        at = tuple(wrong[0].tolist())
        raise ValueError(f"{name} must be in 0 ... {classes - 1}, got {labels[at]} at {at}")


def _download(folder: Path, filename: str, mirrors: Sequence[str]) -> Path:
    """Download into a temporary folder beside the target, verify the content there, and only then rename it."""
    pooch = _pooch()
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
                pooch.retrieve(mirror + filename, None, filename, fetched.parent, downloader=downloader)
                _check_mnist(fetched, filename.removesuffix(".gz"))
                return fetched.replace(folder / filename)
            except (OSError, ValueError) as error:
                failures.append(f"{mirror}: {_root(error)}".replace(f"{fetched.parent}{os.sep}", ""))
    reasons = "; ".join(failures)
    raise OSError(
        f"cannot download {filename} to {folder} ({reasons}): put the four MNIST files into a folder and set "
        "JNN_DATA_DIR to it"
    )


def _root(error: BaseException) -> BaseException:
    """The innermost cause of a network library's error; ValueErrors are our own and complete."""
    while not isinstance(error, ValueError) and error.__context__ is not None:
        error = error.__context__
    return error
