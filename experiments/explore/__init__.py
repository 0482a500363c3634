"""Writes a page in which the figures of the notes move: `python -m experiments explore`.

`page` joins its parts to one file. A panel is a text and its controls in `panels/NAME.html`, what shows it in
`panels/NAME.js`, and its mathematics in `maths/NAME.js`, which a browser test compares with jnn.
"""

from experiments.explore.command import html, main

__all__ = ["html", "main"]
