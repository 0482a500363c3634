"""Read the handwritten digits in pictures, such as photos from a phone.

Prints one line for each file: the digits line by line, each with the network's probability; a digit below the
confidence that was chosen on validation data has a question mark. The figure shows each picture with what was found in
it, and for each digit the 28x28 pixels that the network saw beside its ten outputs, so that you see whether the picture
or the network is to blame. The network was trained on MNIST (`python -m experiments handwriting` trains it).
"""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments import docstring, runner
from experiments.read.reader import SHEET, Network, Reading, answers, line, load_network, load_picture, read
from experiments.runner import files
from jnn import data

PICTURES = 12
"""The pictures that the figure shows."""


@dataclasses.dataclass(frozen=True)
class Config:
    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Pictures: PNG, JPEG, and what else Pillow reads. Without any, a sheet that jnn draws."""
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
    readings = list(read_each(network, config.files))
    if not readings:
        return 2
    if any(np.any(reading.outputs.max(axis=1) < network.sure) for reading in readings):
        print(f"?: not sure, the largest output is below {100 * network.sure:.0f} %")
    write(folder, readings, network.sure, start)
    print(f"see {folder / 'figure.png'}")
    return 2 if len(readings) < len(config.files) else 0


def read_each(network: Network, paths: Sequence[Path]) -> Iterator[Reading]:
    """Read each picture, or the project's sheet, and print a line for it. Yields what could be read."""
    for path in paths or (None,):
        try:
            if path is None:
                from experiments.read import specimens  # late, as only the sheet needs matplotlib

                reading = read(network, SHEET, specimens.sheet())
            else:
                reading = read(network, str(path), load_picture(path))
        except (ValueError, OSError) as error:
            print(f"error: {path}: {error}", file=sys.stderr)
        else:
            print(line(reading, network.sure), flush=True)
            yield reading


def write(folder: Path, readings: Sequence[Reading], sure: float, start: float) -> None:
    """Write arrays.npz, figure.png and result.json."""
    arrays = {
        "picture": np.repeat(np.arange(len(readings)), [len(reading.xs) for reading in readings]),
        **{name: np.concatenate([getattr(r, name) for r in readings]) for name in ("boxes", "xs", "outputs")},
    }
    with files.writable(folder), files.put(folder, arrays) as scratch:
        from experiments.read import drawing  # late: the answers need no matplotlib

        found = {"files": [describe(reading, sure) for reading in readings]}
        result = {**found, "seconds": time.perf_counter() - start, **runner.machine()}
        (scratch / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        drawing.figure(readings[:PICTURES], sure).savefig(scratch / "figure.png", metadata={"Software": None})


def describe(reading: Reading, sure: float) -> dict[str, Any]:
    """For `result.json`."""
    return {
        "name": reading.name,
        "answers": answers(reading, sure),
        "confidence": reading.outputs.max(axis=1).tolist(),
        "boxes": reading.boxes.tolist(),
    }
