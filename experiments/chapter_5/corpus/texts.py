"""Texts to learn from."""

import os
import platform
import sysconfig
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt

MOST_BYTES = 100_000_000
"""The largest file."""

CHARACTERS = (127, 4096)
"""The sizes of the smallest and the largest alphabet, of the most frequent characters; all others become OTHER."""

RARE = 0.001
"""The fraction of the training text that may become OTHER, if it has more characters than the smallest alphabet."""

OTHER = "\N{REPLACEMENT CHARACTER}"

HELD_OUT = 20
"""One file in this many is held out, or the last character in this many of a single file."""

_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "lib2to3"}
_TABLES = {"encodings", "pydoc_data", "entities.py"}


class Corpus(NamedTuple):
    """A training text and a held-out text as indices into the alphabet, and where they come from."""

    train: UInt[np.ndarray, " N"]
    held_out: UInt[np.ndarray, " M"]
    alphabet: str
    source: str

    @property
    def replaced(self) -> float:
        """The fraction of both texts that is OTHER."""
        return float(np.mean(np.concatenate(self[:2]) == self.alphabet.index(OTHER)))

    def encode(self, text: str) -> UInt[np.ndarray, " n"]:
        """The indices of the text's characters. Raises ValueError for a character outside of the alphabet."""
        if unknown := sorted(set(text) - set(self.alphabet)):
            raise ValueError(
                f"each character must be in the training text's alphabet, {self.alphabet!r}, "
                f"got {', '.join(map(repr, unknown))} in {text!r}: pass another --start"
            )
        return _encode(text, self.alphabet)

    def decode(self, indices: Integer[np.ndarray, " n"]) -> str:
        """The characters with these indices."""
        return "".join(self.alphabet[i] for i in indices)


def standard_library(most: int) -> Corpus:
    """The source of Python's standard library, without tests and tables; a twentieth of the files is held out.

    The names of the files decide, so every version holds out the same. Each part ends after `most` characters.

    Raises ValueError if the library is not installed as text.
    """
    root = Path(sysconfig.get_path("stdlib"))
    train, held_out = [], []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if not (_LEFT_OUT | _TABLES) & set(name.parts) and not path.name.startswith("_sysconfigdata"):
            part = train if zlib.crc32(name.as_posix().encode()) % HELD_OUT else held_out
            part.append(_text_or_empty(path))
    if not any(train) or not any(held_out):
        raise ValueError(f"the source of Python's standard library must be in {root}: name another text with --file")
    source = f"the standard library of Python {platform.python_version()}"
    return _corpus("".join(train)[:most], "".join(held_out)[:most], source)


def from_file(path: Path, most: int) -> Corpus:
    """The text of a file, whose last twentieth is held out; the first `most` characters of each part.

    Raises FileNotFoundError; ValueError for a folder or a device, and for a file that is larger than `MOST_BYTES` or
    not UTF-8 text.
    """
    if path.exists() and not path.is_file():
        raise ValueError(
            f"file must be a text file, got {path}, which is {'a folder' if path.is_dir() else 'not a regular file'}"
        )
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"file must have at most {MOST_BYTES:,} bytes, got {size:,} in {path}: pass a part of it")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"file must be UTF-8 text, got {path}: {error}") from error
    if "\0" in text:
        raise ValueError(f"file must be text, got {path}, which contains zero bytes as binary files do")
    cut = len(text) * (HELD_OUT - 1) // HELD_OUT
    source = os.fsencode(path.name).decode(errors="replace")  # a name need not be UTF-8
    return _corpus(text[:cut][:most], text[cut:][:most], source)


def windows(text: UInt[np.ndarray, " N"], rows: int, window: int) -> UInt[np.ndarray, "steps rows T_plus_1"]:
    """The text in this many rows, or as many as have a window; consecutive windows of a row share one character.

    Raises ValueError if the text is not longer than one window.
    """
    if len(text) <= window:
        raise ValueError(f"each part of the text must have more than {window} characters, a window, got {len(text)}")
    rows = min(rows, (len(text) - 1) // window)
    steps = (len(text) - 1) // (rows * window)
    starts = np.arange(steps)[:, None] * window + np.arange(rows) * steps * window
    return text[starts[..., None] + np.arange(window + 1)]


def _corpus(train: str, held_out: str, source: str) -> Corpus:
    least, most = CHARACTERS
    frequent = Counter(train).most_common(most)
    seen = np.cumsum([count for _, count in frequent])
    needed = max(least, int(np.searchsorted(seen, (1 - RARE) * len(train))) + 1)
    alphabet = "".join(dict.fromkeys([*sorted(character for character, _ in frequent[:needed]), OTHER]))
    return Corpus(_encode(train, alphabet), _encode(held_out, alphabet), alphabet, source)


def _encode(text: str, alphabet: str) -> UInt[np.ndarray, " n"]:
    code_points = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
    table = np.full(0x110000, alphabet.find(OTHER), np.int16)
    table[[ord(character) for character in alphabet]] = np.arange(len(alphabet))
    return table[code_points].astype(np.min_scalar_type(len(alphabet) - 1))


def _text_or_empty(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
