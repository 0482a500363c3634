"""Read the handwritten digits in pictures, such as photos from a phone.

Prints one line for each file: the lines of writing, separated by slashes, and the network's probability for each digit;
an uncertain digit, below the confidence that was chosen on validation data, has a question mark. A folder stands for
all pictures in it. The figure shows each picture with what was found in it, and for each digit the 28x28 pixels that
the network saw beside its ten outputs, so that you see whether the picture or the network is to blame; digits.csv is a
table of all digits. The network was trained on MNIST (`python -m experiments handwriting` trains it).
"""

import csv
import dataclasses
import glob
import io
import json
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

from experiments import docstring, runner
from experiments.read.reader import (
    SHEET,
    Network,
    Reading,
    answers,
    line,
    load_network,
    load_picture,
    printable,
    read,
    texts,
)
from experiments.runner import files
from jnn import data

PICTURES = 12
"""The pictures that the figure shows."""


@dataclasses.dataclass(frozen=True)
class Config:
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Pictures, and folders of them: PNG, JPEG, and what else Pillow reads. Without any, a sheet that jnn draws."""
    turn: Literal[0, 90, 180, 270] | None = None
    """Turn every picture to the right by this many degrees; by default as makes the digits certain."""
    weights: Path = data.READER
    """The network, in a safetensors file that `python -m experiments handwriting --weights` wrote."""
    page: bool = False
    """Write <out>/read/page.html instead, on which you draw digits and watch the network read them."""
    out: Path = Path("out")
    """Folder for the results, which go into its folder read."""


def main(args: Sequence[str]) -> int:
    """Read pictures, with the flags `args`. Returns the exit code."""
    start = time.perf_counter()
    runner.cache_compilations()
    with runner.report_mistakes() as outcome:
        config = runner.parse(Config, "read", docstring(sys.modules[__name__]), args)
        outcome.code = run(config, start)
    return outcome.code


def run(config: Config, start: float) -> int:
    """Read the pictures, or write the page; `start` is when the command began. Returns the exit code."""
    if config.page and config.files:
        raise ValueError("the page reads what is drawn on it: name no pictures with --page")
    network = load_network(config.weights)
    folder = runner.Settings(config.out).out / "read"
    if config.page:
        from experiments.read import page  # late, as it loads what reading does not need

        files.write(folder / "page.html", page.html(*network))
        print(f"open {folder / 'page.html'} in a browser, on a phone too")
        return 0
    paths = list(expanded(config.files))
    readings = list(read_each(network, paths or [None], config.turn))
    if not readings:
        return 2
    if any("?" in answer for reading in readings for answer in answers(reading, network.sure)):
        say(f"?: uncertain, below {100 * network.sure:.0f} %, changed by a small shift, or maybe no digit or a part")
    write(folder, readings, network.sure, start)
    say(f"see {folder / 'figure.png'}")
    return 2 if len(readings) < len(paths) else 0


def say(text: str, *, error: bool = False) -> None:
    """Print a line in the characters that the terminal has, and others as escapes."""
    stream = sys.stderr if error else sys.stdout
    encoding = stream.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)
    stream.flush()


def expanded(paths: Sequence[Path]) -> Iterator[Path]:
    """The files: of a folder all pictures, and where the shell left a pattern, what it stands for, in natural order."""
    for path in paths:
        found = []
        if path.is_dir():
            suffixes = Image.registered_extensions()
            found = [each for each in path.iterdir() if each.suffix.lower() in suffixes and each.name[0] != "."]
        elif not path.exists() and glob.has_magic(str(path)):
            found = list(map(Path, glob.glob(str(path))))  # noqa: PTH207
        yield from sorted(filter(Path.is_file, found), key=natural) or [path]


def natural(path: Path) -> list[tuple[int, str]]:
    """A key that sorts "2.png" before "10.png"."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path)) if part]


def read_each(network: Network, paths: Sequence[Path | None], turn: int | None) -> Iterator[Reading]:
    """Read each picture, or the project's sheet, and print a line for it. Yields what could be read."""
    turns = None if turn is None else -turn // 90 % 4
    count = 0
    for path in tqdm(paths, unit="picture", leave=False, disable=len(paths) == 1 or None):
        try:
            if path is None:
                from experiments.read import specimens  # late, as only the sheet needs matplotlib

                reading = read(network, SHEET, specimens.sheet(), turns)
            else:
                reading = read(network, printable(str(path)), load_picture(path), turns)
        except (ValueError, OSError) as error:
            say(f"error: {printable(str(path))}: {error}", error=True)
        else:
            say(line(reading, network.sure))
            count += 1
            yield reading if count <= PICTURES else reading._replace(picture=reading.picture[:0])  # not shown


def write(folder: Path, readings: Sequence[Reading], sure: float, start: float) -> None:
    """Write arrays.npz, figure.png, result.json and digits.csv."""
    arrays = {
        "picture": np.repeat(np.arange(len(readings)), [len(reading.xs) for reading in readings]),
        **{name: np.concatenate([getattr(r, name) for r in readings]) for name in ("boxes", "xs", "outputs")},
    }
    with files.writable(folder), files.put(folder, arrays) as scratch:
        from experiments.read import drawing  # late: the answers need no matplotlib

        found = {"files": [describe(reading, sure) for reading in readings]}
        result = {**found, "seconds": time.perf_counter() - start, **runner.machine()}
        (scratch / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a file's name
            drawing.figure(readings[:PICTURES], sure).savefig(scratch / "figure.png", metadata={"Software": None})
    files.write(folder / "digits.csv", table(readings, sure))


def describe(reading: Reading, sure: float) -> dict[str, Any]:
    """For `result.json`."""
    return {
        "name": reading.name,
        "lines": texts(reading, sure),
        "answers": answers(reading, sure),
        "confidence": reading.outputs.max(axis=1).tolist(),
        "boxes": reading.boxes.tolist(),
        "turned": -90 * reading.turns % 360,
        "remarks": reading.remarks,
    }


def table(readings: Sequence[Reading], sure: float) -> str:
    """A row for each digit, as CSV."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["name", "line", "word", "digit", "probability", "uncertain", "top", "left", "bottom", "right"])
    for reading in readings:
        found = answers(reading, sure)
        places = [(i, j, e) for i, row in enumerate(reading.lines) for j, word in enumerate(row) for e in word]
        for i, j, e in places:
            if isinstance(e, int):
                probability = f"{reading.outputs[e].max():.4f}"
                rows.writerow(
                    [reading.name, i, j, found[e][0], probability, int("?" in found[e]), *reading.boxes[e].tolist()]
                )
    return text.getvalue()
