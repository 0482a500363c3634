"""Reads the handwritten digits in pictures: `python -m experiments read`.

`specimens` draws pictures to read, `samples` collects them by kind, `drawing` shows what was read, and `page` makes a
page to draw on.
"""

from experiments.read.command import main
from experiments.read.reader import SHEET, answers, line, load_network, load_picture, probabilities, read

__all__ = ["SHEET", "answers", "line", "load_network", "load_picture", "main", "probabilities", "read"]
