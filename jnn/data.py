"""Data sets: 1,797 small digits that come with the package, MNIST (local or downloaded once), and folders like MNIST's.

Images are float32 in [0, 1], one row of pixels for each example; labels are int32. Of grey pictures [N, H, W] of your
own, with bytes as pixels, `pictures.reshape(len(pictures), -1).astype(np.float32) / 255` makes such rows.
"""

import functools
import gzip
import hashlib
import importlib.util
import math
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Integer

from jnn import _checks, _files
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

READER = Path(__file__).with_name("reader.safetensors")
"""A network that reads the images of `pictures`, trained on MNIST: relu neurons and softmax outputs, in float16.

`jnn.convert.load(READER)` are its parameters, and `jnn.convert.metadata(READER)` is what it was trained by, with the
probability `sure` below which an answer is doubtful.
"""

_SHA256_OF_CONTENT = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def digits() -> Dataset:
    """1,797 handwritten digits of 8x8 pixels, offline: 1,437 for training, 360 for testing.

    The split is fixed, and balanced over the digits, which are in mixed order: rows taken off the end can validate.
    They are the test set of the Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998; UCI Machine
    Learning Repository, CC BY 4.0), which scikit-learn has, too.
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    return Dataset(_split(images[:1437], labels[:1437], 16), _split(images[1437:], labels[1437:], 16))


def mnist(mirrors: Sequence[str] = MIRRORS) -> Dataset:
    """MNIST: 60,000 images of 28x28 pixels to train on, 10,000 to test on (LeCun, Cortes and Burges, CC BY-SA 3.0).

    The four IDX files are read from the folder $JNN_DATA_DIR, or from the user's cache folder if that is not set, or
    from raw/ or MNIST/raw/ below it, where torchvision keeps them. They may be gzipped or not, whatever their names
    end in, and be called train-images-idx3-ubyte or train-images.idx3-ubyte. A missing file is downloaded into the
    folder from the first of `mirrors` that serves it completely, and gets its name only after its content has been
    verified. The files that are there are verified first, and none of them is changed.

    Raises ValueError for a file that is damaged or of another data set, and for a $JNN_DATA_DIR that starts with ~ if
    the user has no home folder; OSError if a file cannot be read, downloaded from any mirror, or written, or if there
    is no home folder and $JNN_DATA_DIR is not set; ImportError if pooch is missing and $JNN_DATA_DIR is not set or a
    file must be downloaded.
    """
    folder = _folder()
    arrays = {name: _mnist_file(paths, name) for name in _SHA256_OF_CONTENT if (paths := _mnist_paths(folder, name))}
    if not arrays and (others := _prefixes(folder)):
        raise ValueError(
            f"{folder} must hold MNIST's files, got those with prefix {', '.join(others)}: data.idx_folder(folder, "
            "prefix=...) reads them; for MNIST, set JNN_DATA_DIR to another folder"
        )
    train_images, train_labels, test_images, test_labels = (
        arrays[name] if name in arrays else _download(folder, name, mirrors) for name in _SHA256_OF_CONTENT
    )
    return Dataset(_split(train_images, train_labels, 255), _split(test_images, test_labels, 255))


def idx_folder(folder: PathLike, *, prefix: str = "", transpose: bool = False) -> Dataset:
    """A data set in four IDX files like MNIST's: Fashion-MNIST, KMNIST, EMNIST or your own, in any image size.

    In the folder are train-images-idx3-ubyte and train-labels-idx1-ubyte, and two files with t10k or test in place of
    train, after the prefix. They may be gzipped or not, whatever their names end in, and have a dot before idx. Images
    are unsigned bytes [N, H, W], which become rows of H W pixels in [0, 1]; labels are integers [N], left as they are.

    EMNIST has a prefix for each of its data sets, and images whose rows are the columns of the letter, which
    `transpose` turns upright: `idx_folder(folder, prefix="emnist-letters-", transpose=True)`. The labels of its letters
    are 1 ... 26, so that the desired outputs are `one_hot(labels - 1, 26)`.

    Raises ValueError for a file that is damaged or holds something else, and for a folder that starts with ~ where the
    user has no home folder; OSError if a file is missing (the message lists the prefixes in the folder) or cannot be
    read.
    """
    path = _files.expanded("folder", folder)
    held_out = "test" if _spellings(path, f"{prefix}test-images-idx3-ubyte") else "t10k"
    train, test = (_idx_split(path, prefix + part, transpose) for part in ("train", held_out))
    if train.xs.shape[1] != test.xs.shape[1]:
        raise ValueError(
            f"the images for training and testing in {path} must have the same number of pixels, got "
            f"{train.xs.shape[1]} and {test.xs.shape[1]}"
        )
    return Dataset(train, test)


def one_hot(labels: Integer[Array, "*N"], classes: int) -> Float[Array, "*N classes"]:
    """The desired output y of each label: 1 at the label, 0 elsewhere, float32.

    Raises TypeError for labels that are not integers, ValueError for a label outside 0 ... classes-1; a traced label
    outside gives a row of NaN.
    """
    _checks.count("classes", classes)
    _checks.array("labels", labels)
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise TypeError(f"labels must be integers, got {jnp.result_type(labels)}: convert them with labels.astype(int)")
    if not isinstance(labels, Tracer):
        _check_labels("labels", np.asarray(labels), classes)
    return _one_hot(labels, int(classes))


@functools.partial(jax.jit, static_argnames="classes")
def _one_hot(labels: Integer[Array, "*N"], classes: int) -> Float[Array, "*N classes"]:
    inside = (labels >= 0) & (labels < classes)
    return jnp.where(inside[..., None], jax.nn.one_hot(labels, classes, dtype=jnp.float32), jnp.nan)


def read_idx(path: PathLike) -> np.ndarray:
    """The array in an IDX file, gzipped or not, whatever its name ends in; [N, H, W] for N images.

    The format: two zero bytes; 0x08 for uint8, 0x09 for int8, 0x0b for int16, 0x0c for int32, 0x0d for float32 or 0x0e
    for float64; the number of axes; each axis as a 32-bit integer; the entries. All numbers are big-endian in the file,
    and in the machine's order in the array.

    Raises ValueError for a file that is damaged or has another format; OSError if it cannot be read.
    """
    return _parse_idx(_content(Path(path)), path)


def _split(images: np.ndarray, labels: np.ndarray, white: int) -> Split:
    xs = images.reshape(len(images), -1) / np.float32(white)
    return Split(jnp.asarray(xs, jnp.float32), jnp.asarray(labels.astype(np.int32)))


def _folder() -> Path:
    if chosen := os.environ.get("JNN_DATA_DIR"):
        return _files.expanded("JNN_DATA_DIR", chosen)
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


def _spellings(folder: Path, name: str) -> list[Path]:
    """The files in the folder that are called `name`, also with a dot before idx, also with .gz."""
    names = (name, ".idx".join(name.rsplit("-idx", 1)))
    paths = [folder / f"{spelling}{suffix}" for spelling in names for suffix in (".gz", "")]
    return [path for path in paths if path.is_file()]


def _prefixes(folder: Path) -> list[str]:
    """The prefixes of the data sets in the folder."""
    return sorted({path.name.rpartition("train-images")[0] for path in folder.glob("*train-images?idx*")} - {""})


def _first_good(paths: Sequence[Path], read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """What `read` reads from the first path that it accepts: a file may be there twice, gzipped and not."""
    refused = []
    for path in paths:
        try:
            return read(path)
        except ValueError as error:
            refused.append(str(error))
    raise ValueError("; ".join(refused))


def _mnist_paths(folder: Path, name: str) -> list[Path]:
    return [path for below in ("", "raw", "MNIST/raw") for path in _spellings(folder / below, name)]


def _mnist_file(paths: Sequence[Path], name: str) -> np.ndarray:
    try:
        return _first_good(paths, functools.partial(_check_mnist, name=name))
    except ValueError as error:
        raise ValueError(
            f"{error}: to have MNIST downloaded, move the file away, or set JNN_DATA_DIR to another folder"
        ) from error


def _check_mnist(path: Path, name: str) -> np.ndarray:
    """The array in the file at `path`, which must have the content of MNIST's file `name`."""
    content = _content(path)
    array = _parse_idx(content, path)
    if hashlib.sha256(content).hexdigest() != _SHA256_OF_CONTENT[name]:
        raise ValueError(
            f"{path} must have the content of MNIST's {name}, got {array.dtype} of shape {array.shape} with another "
            "SHA-256; data.idx_folder reads other data sets, such as Fashion-MNIST"
        )
    return array


def _idx_split(folder: Path, part: str, transpose: bool) -> Split:
    images = _first_good(_present(folder, f"{part}-images-idx3-ubyte"), _read_images)
    read_labels = functools.partial(_read_labels, n=len(images))
    labels = _first_good(_present(folder, f"{part}-labels-idx1-ubyte"), read_labels)
    return _split(images.swapaxes(1, 2) if transpose else images, labels, 255)


def _present(folder: Path, name: str) -> list[Path]:
    if paths := _spellings(folder, name):
        return paths
    others = [repr(prefix) for prefix in _prefixes(folder) if not name.startswith(prefix)]
    advice = f": for what is there, pass prefix={' or '.join(others)}" if others else ""
    name = name.replace("t10k-", "t10k- or test-")
    raise FileNotFoundError(f"{folder} must hold {name}, gzipped or not{advice}")


def _read_images(path: Path) -> np.ndarray:
    images = read_idx(path)
    if images.dtype != np.uint8 or images.ndim != 3 or images.size == 0:
        given = f"{images.dtype} of shape {images.shape}"
        raise ValueError(f"{path} must hold uint8 of shape [N, H, W], each at least 1, got {given}")
    return images


def _read_labels(path: Path, n: int) -> np.ndarray:
    labels = read_idx(path)
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (n,):
        given = f"{labels.dtype} of shape {labels.shape}"
        raise ValueError(f"{path} must hold integers of shape ({n},), one for each image, got {given}")
    return labels


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    try:
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a truncated or damaged gzip file ({error})") from error


def _parse_idx(content: bytes, path: PathLike) -> np.ndarray:
    kind, axes = content[2:4] if len(content) >= 4 else (0, 0)
    if content[:2] != b"\0\0" or kind not in _IDX_DTYPES or not 1 <= axes <= 64:  # the most axes that NumPy has
        raise ValueError(
            f"{path} must be an IDX file, gzipped or not, and start with 0x0000, a type from 0x08 to 0x0e and the "
            f"number of axes, got 0x{content[:4].hex()}"
        )
    start, dtype = 4 + 4 * axes, np.dtype(_IDX_DTYPES[kind])
    shape = struct.unpack(f">{axes}I", content[4:start]) if len(content) >= start else ()
    if not shape or len(content) - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(
            f"{path} is truncated or too long: it has {len(content)} bytes for {dtype.name} of shape {shape}"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _check_labels(name: str, labels: np.ndarray, classes: int) -> None:
    wrong = np.argwhere((labels < 0) | (labels >= classes))
    if len(wrong):
        at = tuple(wrong[0].tolist())
        raise ValueError(f"{name} must be in 0 ... {classes - 1}, got {labels[at]} at {at}")


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
                pooch.retrieve(mirror + filename, None, filename, fetched.parent, downloader=downloader)
                array = _check_mnist(fetched, name)
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
