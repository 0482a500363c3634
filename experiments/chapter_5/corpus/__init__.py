"""Texts to learn from, other models that predict their characters, and the parts of Python's source they are in."""

from experiments.chapter_5.corpus.models import bzip2, counts, xz
from experiments.chapter_5.corpus.source import labels
from experiments.chapter_5.corpus.texts import OTHER, Corpus, from_file, standard_library, windows

__all__ = ["OTHER", "Corpus", "bzip2", "counts", "from_file", "labels", "standard_library", "windows", "xz"]
