"""The parts of Python's source that characters are in."""

import contextlib
import io
import tokenize

import numpy as np
from jaxtyping import Float


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
