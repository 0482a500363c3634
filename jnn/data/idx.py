"""IDX files, the format of MNIST, and folders of four of them."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from jnn._internal import checks
from jnn.data.arrays import Dataset, Split, rows
from jnn.typing import PathLike

_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx_folder(folder: PathLike, *, prefix: str = "", transpose: bool = False) -> Dataset:
    """Loads a data set of four IDX files like MNIST's: Fashion-MNIST, KMNIST, EMNIST or your own, of any image size.

    The files are train-images-idx3-ubyte and train-labels-idx1-ubyte, and two with t10k or test in place of train. They
    may be gzipped, regardless of extension, and may be spelt with a dot before idx. Images are unsigned bytes
    [N, H, W], which become rows of H W pixels in [0, 1]; labels are integers [N] and stay as they are.

    Args:
      folder: Where the files are; "~" is your home.
      prefix: What the names begin with: EMNIST has a prefix for each of its data sets, such as "emnist-letters-".
      transpose: Whether to swap the axes of the images, as EMNIST needs. The labels of its letters are 1 ... 26, so
        their desired outputs are `one_hot(labels - 1, 26)`.

    Raises:
      ValueError: If a file is damaged or holds something else, or if there is no home folder for "~".
      OSError: If a file is missing (the message lists the prefixes in the folder) or cannot be read.
      TypeError: If `folder` is not a path, or `prefix` is not text.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     for part in ("train", "t10k"):
      ...         images = pathlib.Path(folder, f"{part}-images-idx3-ubyte")
      ...         labels = pathlib.Path(folder, f"{part}-labels-idx1-ubyte")
      ...         _ = images.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 255]))
      ...         _ = labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]))
      ...     data.idx_folder(folder).train.xs.tolist()
      [[0.0, 1.0]]
    """
    path = checks.path("folder", folder)
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be text, got {prefix!r}")
    held_out = "test" if spellings(path, f"{prefix}test-images-idx3-ubyte") else "t10k"
    train, test = (_idx_split(path, prefix + part, transpose) for part in ("train", held_out))
    if train.xs.shape[1] != test.xs.shape[1]:
        raise ValueError(
            f"the images for training and testing in {path} must have the same number of pixels, got "
            f"{train.xs.shape[1]} and {test.xs.shape[1]}"
        )
    return Dataset(train, test)


def read_idx(path: PathLike) -> np.ndarray:
    """Returns the array in an IDX file, gzipped or not, regardless of extension: [N, H, W] for N images.

    The format: two zero bytes; 0x08 for uint8, 0x09 for int8, 0x0b for int16, 0x0c for int32, 0x0d for float32 or 0x0e
    for float64; the number of axes; each axis as a 32-bit integer; the entries. All numbers are big-endian in the file,
    and in the machine's order in the array.

    Raises:
      ValueError: If the file is damaged or has another format.
      OSError: If it cannot be read.
      TypeError: If `path` is not a path.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "labels-idx1-ubyte")
      ...     _ = path.write_bytes(bytes([0, 0, 0x08, 1, 0, 0, 0, 3, 7, 0, 9]))
      ...     data.read_idx(path).tolist()
      [7, 0, 9]
    """
    return parse(content(checks.path("path", path)), path)


def spellings(folder: Path, name: str) -> list[Path]:
    """The files in the folder that are called `name`, also with a dot before idx, also with .gz."""
    names = (name, ".idx".join(name.rsplit("-idx", 1)))
    paths = [folder / f"{spelling}{suffix}" for spelling in names for suffix in (".gz", "")]
    return [path for path in paths if path.is_file()]


def prefixes(folder: Path) -> list[str]:
    """The prefixes of the data sets in the folder."""
    return sorted({path.name.rpartition("train-images")[0] for path in folder.glob("*train-images?idx*")} - {""})


def content(path: Path) -> bytes:
    raw = path.read_bytes()
    try:
        return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a truncated or damaged gzip file ({error})") from error


def parse(content: bytes, path: PathLike) -> np.ndarray:
    kind, axes = content[2:4] if len(content) >= 4 else (0, 0)
    if content[:2] != b"\0\0" or kind not in _IDX_DTYPES or not 1 <= axes <= 64:  # the most axes that NumPy has
        raise ValueError(
            f"{path} must be an IDX file, gzipped or not, and start with 0x0000, a type from 0x08 to 0x0e and the "
            f"number of axes, got 0x{content[:4].hex()}"
        )
    start, dtype = 4 + 4 * axes, np.dtype(_IDX_DTYPES[kind])
    shape = struct.unpack(f">{axes}I", content[4:start]) if len(content) >= start else ()
    if not shape or len(content) - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{path} is truncated or too long: {len(content)} bytes for {dtype.name} of shape {shape}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _idx_split(folder: Path, part: str, transpose: bool) -> Split:
    images = _read_images(_present(folder, f"{part}-images-idx3-ubyte"))
    labels = _read_labels(_present(folder, f"{part}-labels-idx1-ubyte"), len(images))
    return rows(images.swapaxes(1, 2) if transpose else images, labels, 255)


def _present(folder: Path, name: str) -> Path:
    if paths := spellings(folder, name):
        return paths[0]
    others = [repr(prefix) for prefix in prefixes(folder) if not name.startswith(prefix)]
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
