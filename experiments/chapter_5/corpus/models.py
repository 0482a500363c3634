"""Other models of the held-out text, in bits per character."""

import bz2
import lzma

import numpy as np

from experiments.chapter_5.corpus.texts import Corpus


def xz(corpus: Corpus) -> float:
    """`xz -9`: how much longer its output is if the held-out text follows the last 64 MiB of the training text."""
    past, everything = (corpus.decode(part).encode() for part in (corpus.train, np.concatenate(corpus[:2])))
    return 8 * (len(lzma.compress(everything, preset=9)) - len(lzma.compress(past, preset=9))) / len(corpus.held_out)


def bzip2(corpus: Corpus) -> float:
    """`bzip2 -9`, on the held-out text alone, as it never sees more than 900 kB at once."""
    return 8 * len(bz2.compress(corpus.decode(corpus.held_out).encode())) / len(corpus.held_out)


def counts(corpus: Corpus, order: int = 5) -> float:
    """The frequencies, in the training text, of each character after the `order` characters before it, smoothed.

    Where a context occurred N times, before t different characters, the prediction from the context shorter by one
    character has the weight t / (N + t), and the frequencies the rest (Witten and Bell, 1991). The recursion ends in
    the uniform distribution.
    """
    n = len(corpus.alphabet)
    train, held_out = corpus.train.astype(np.int64), corpus.held_out.astype(np.int64)
    p = np.full(len(held_out), 1 / n)
    past, asked = np.zeros_like(train), np.zeros_like(held_out)  # k characters in a row as one number, in base n
    for k in range(min(order + 1, len(train), len(held_out))):
        if max(past.max(), asked.max()) >= np.iinfo(np.int64).max // n:  # one more character would overflow: renumber
            numbers = np.unique(np.concatenate([past, asked]), return_inverse=True)[1]
            past, asked = numbers[: len(past)], numbers[len(past) :]
        past, asked = (a[: len(text) - k] * n + text[k:] for a, text in ((past, train), (asked, held_out)))
        grams, occurrences = np.unique(past, return_counts=True)
        starts = np.flatnonzero(np.diff(grams // n, prepend=-1))
        contexts, different = grams[starts] // n, np.diff(starts, append=len(grams))
        seen = _look_up(grams, occurrences, asked)
        N, t = (
            _look_up(contexts, of_context, asked // n)
            for of_context in (np.add.reduceat(occurrences, starts), different)
        )
        p[k:] = np.where(N > 0, (seen + t * p[k:]) / np.maximum(N + t, 1), p[k:])
    return float(-np.mean(np.log2(p)))


def _look_up(keys: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The value of each key asked for, or 0 if the key is absent."""
    i = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[i] == asked, values[i], 0)
