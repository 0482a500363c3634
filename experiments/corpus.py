"""Texts to learn from, other ways to predict their characters, and the parts of Python's source that these are in."""

import bz2
import contextlib
import io
import lzma
import platform
import sysconfig
import tokenize
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer, UInt8

MOST_BYTES = 100_000_000
"""The largest file."""

CHARACTERS = 127
"""The most characters of an alphabet, the most frequent ones; all others become OTHER."""

OTHER = "\N{REPLACEMENT CHARACTER}"

HELD_OUT = 20
"""One file in this many is held out, or the last character in this many of a single file."""

_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "lib2to3"}
_TABLES = {"encodings", "pydoc_data", "entities.py"}


class Corpus(NamedTuple):
    """A text to train on and one that is held out, as indices into the alphabet, and where they come from."""

    train: UInt8[np.ndarray, " N"]
    held_out: UInt8[np.ndarray, " M"]
    alphabet: str
    source: str

    def encode(self, text: str) -> UInt8[np.ndarray, " n"]:
        """The indices of the text's characters. Raises ValueError for one that is not in the alphabet."""
        if unknown := sorted(set(text) - set(self.alphabet)):
            raise ValueError(
                f"each character must be one of the training text, {self.alphabet!r}, "
                f"got {', '.join(map(repr, unknown))} in {text!r}: pass another --start"
            )
        return _encode(text, self.alphabet)

    def decode(self, indices: Integer[np.ndarray, " n"]) -> str:
        """The characters with these indices."""
        return "".join(self.alphabet[i] for i in indices)


def standard_library(most: int) -> Corpus:
    """The source of Python's standard library, without tests and tables; a twentieth of the files is held out.

    Which files is decided by their names, so it is the same in every version. Each part ends after `most` characters.

    Raises ValueError where the library is not installed as text.
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

    Raises FileNotFoundError; ValueError for a folder or a device, a file of more than `MOST_BYTES`, and one that is not
    UTF-8 text.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"file must be a text file, got {path}, which is {'a folder' if path.is_dir() else 'no file'}")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"file must have at most {MOST_BYTES:,} bytes, got {size:,} in {path}: pass a part of it")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"file must be UTF-8 text, got {path}: {error}") from error
    if "\0" in text:
        raise ValueError(f"file must be text, got {path}, which contains zero bytes as binary files do")
    cut = len(text) * (HELD_OUT - 1) // HELD_OUT
    return _corpus(text[:cut][:most], text[cut:][:most], path.name)


def windows(text: UInt8[np.ndarray, " N"], rows: int, window: int) -> UInt8[np.ndarray, "steps rows T_plus_1"]:
    """The text in this many rows, or as many as have a window; consecutive windows of a row share one character.

    Raises ValueError for a text that is no longer than one window.
    """
    if len(text) <= window:
        raise ValueError(f"each part of the text must have more than {window} characters, a window, got {len(text)}")
    rows = min(rows, (len(text) - 1) // window)
    steps = (len(text) - 1) // (rows * window)
    starts = np.arange(steps)[:, None] * window + np.arange(rows) * steps * window
    return text[starts[..., None] + np.arange(window + 1)]


# Other ways to predict the held-out text, in bits per character


def xz(corpus: Corpus) -> float:
    """`xz -9`, by how much longer its output is with the held-out text after the last 64 MiB of the training text."""
    past, everything = (corpus.decode(part).encode() for part in (corpus.train, np.concatenate(corpus[:2])))
    return 8 * (len(lzma.compress(everything, preset=9)) - len(lzma.compress(past, preset=9))) / len(corpus.held_out)


def bzip2(corpus: Corpus) -> float:
    """`bzip2 -9`, on the held-out text alone, as it never sees more than 900 kB at once."""
    return 8 * len(bz2.compress(corpus.decode(corpus.held_out).encode())) / len(corpus.held_out)


def counts(corpus: Corpus, order: int = 5) -> float:
    """The frequencies, in the training text, of each character after the `order` characters before it, smoothed.

    Where a context occurred N times, before t different characters, the prediction from the context shorter by one
    character has the weight t / (N + t), and the frequencies the rest (Witten and Bell, 1991). The shortest prediction
    is the uniform one.
    """
    n = len(corpus.alphabet)
    train, held_out = corpus.train.astype(np.int64), corpus.held_out.astype(np.int64)
    p = np.full(len(held_out), 1 / n)
    for k in range(order + 1):
        grams, occurrences = np.unique(_grams(train, k + 1, n), return_counts=True)
        starts = np.flatnonzero(np.diff(grams // n, prepend=-1))
        contexts, different = grams[starts] // n, np.diff(starts, append=len(grams))
        asked = _grams(held_out, k + 1, n)
        seen = _look_up(grams, occurrences, asked)
        N, t = (
            _look_up(contexts, of_context, asked // n)
            for of_context in (np.add.reduceat(occurrences, starts), different)
        )
        p[k:] = np.where(N > 0, (seen + t * p[k:]) / np.maximum(N + t, 1), p[k:])
    return float(-np.mean(np.log2(p)))


# What the characters are part of


def labels(text: str) -> dict[str, Float[np.ndarray, " n"]]:
    """Whether each character is in a string or a comment of Python's source, in how many brackets, how far indented.

    Strings, comments and brackets are found by Python's tokenizer, up to its first error. The indentation is that of
    the line so far, in characters.
    """
    starts = np.cumsum([0, *(len(line) + 1 for line in text.split("\n"))])
    changes = {name: np.zeros(len(text) + 1) for name in ("string", "comment", "brackets")}

    def at(position: tuple[int, int]) -> int:
        return min(starts[position[0] - 1] + position[1], len(text))

    with contextlib.suppress(tokenize.TokenError, SyntaxError):
        for kind, word, begin, end, _ in tokenize.generate_tokens(io.StringIO(text).readline):
            name = tokenize.tok_name[kind]
            if name == "COMMENT":
                changes["comment"][at(begin)] += 1
                changes["comment"][at(end)] -= 1
            if name in {"STRING", "FSTRING_START", "TSTRING_START"}:
                changes["string"][at(begin)] += 1
            if name in {"STRING", "FSTRING_END", "TSTRING_END"}:
                changes["string"][at(end) - 1] -= 1
            if name == "OP":
                changes["brackets"][at(begin)] += (word in "([{") - (word in ")]}")
    lengths = np.diff(starts)
    indentations = np.array([len(line) - len(line.lstrip(" ")) for line in text.split("\n")])
    columns = np.arange(len(text) + 1) - np.repeat(starts[:-1], lengths)
    found = {name: np.cumsum(change)[:-1] for name, change in changes.items()}
    return found | {"indentation": np.minimum(columns + 1.0, np.repeat(indentations, lengths))[:-1]}


def _corpus(train: str, held_out: str, source: str) -> Corpus:
    frequent = sorted(character for character, _ in Counter(train).most_common(CHARACTERS))
    alphabet = "".join(dict.fromkeys([*frequent, OTHER]))
    return Corpus(_encode(train, alphabet), _encode(held_out, alphabet), alphabet, source)


def _encode(text: str, alphabet: str) -> UInt8[np.ndarray, " n"]:
    code_points = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
    table = np.full(0x110000, alphabet.find(OTHER), np.int16)
    table[[ord(character) for character in alphabet]] = np.arange(len(alphabet))
    return table[code_points].astype(np.uint8)


def _text_or_empty(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _grams(text: Integer[np.ndarray, " N"], width: int, n: int) -> Integer[np.ndarray, " windows"]:
    """Each `width` characters in a row as one number in base n, whose last digit is the last character."""
    found = np.zeros(len(text) - width + 1, np.int64)
    for i in range(width):
        found = found * n + text[i : len(text) - width + 1 + i]
    return found


def _look_up(keys: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The value of each key asked for, or 0 for one that is not there."""
    i = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[i] == asked, values[i], 0)
