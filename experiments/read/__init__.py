"""Reads the handwritten digits in pictures: `python -m experiments read`.

`layout` finds the lines and words of a page, `specimens` draws pictures to read, `samples` collects them by kind,
`drawing` shows what was read, and `page` makes a page to draw on.
"""

from experiments.read.command import main
from experiments.read.reader import SHEET, answers, line, load_network, load_picture, probabilities, read, texts

__all__ = ["SHEET", "answers", "line", "load_network", "load_picture", "main", "probabilities", "read", "texts"]
