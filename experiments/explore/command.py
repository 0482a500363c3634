"""Write a page in which the figures of the notes move: <out>/explore/explore.html.

It is one file that works offline, on phones too. An LSTM learns to continue a^n X b^n first, which takes most of the
time, so that the page can show its memory; with --quick it learns for a moment only.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import docstring, runner
from experiments.chapter_5 import counting
from experiments.read import load_network
from experiments.runner import files

COUNTING = {"seeds": 1, "epochs": 8}
"""What `counting` trains: one net, which has learnt to count to 40 by then."""


@dataclasses.dataclass(frozen=True)
class Config:
    quick: bool = False
    """Let the LSTM learn for a moment only."""
    out: Path = Path("out")
    """Folder for the results, which go into its subfolder explore."""


def main(args: Sequence[str]) -> int:
    """Write the page, with the flags `args`. Returns the exit code."""
    runner.cache_compilations()
    with runner.report_mistakes() as outcome:
        config = runner.parse(Config, "explore", docstring(sys.modules[__name__]), args)
        outcome.code = run(config)
    return outcome.code


def run(config: Config) -> int:
    """Write the page. Returns the exit code."""
    folder = runner.Settings(config.out).out / "explore"
    with files.writable(folder):
        files.write(folder / "explore.html", html(quick=config.quick))
    print(f"open {folder / 'explore.html'} in a browser, on a phone too")
    return 0


def html(*, quick: bool = False) -> str:
    """Train the LSTM, for a moment only if `quick`, and return the page."""
    from experiments.explore import page  # late, as it loads what --help does not need

    runner.open_devices()
    _, _, counter = counting.learn(counting.Config(**counting.Config.quick if quick else COUNTING))
    return page.html(counter, *load_network())
