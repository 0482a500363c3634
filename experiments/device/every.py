"""Each experiment runs as `python -m experiments NAME --quick`: how many of its claims hold."""

import contextlib
import io
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from experiments import load, names, runner
from experiments.device.rows import Config, Row

QUICK = ("bits", "steepest_descent")


def rows(config: Config) -> Iterator[Row]:
    """Yield how each experiment ended."""
    with tempfile.TemporaryDirectory() as out:
        for name in QUICK if config.quick else names():
            yield one(name, Path(out))


def one(name: str, out: Path) -> Row:
    """Runs an experiment; if it fails, the row shows the last line that it printed."""
    module, said, start = load(name), io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = runner.main(module, ["--quick", "--out", str(out)])
    if code == runner.INTERRUPTED:
        raise KeyboardInterrupt
    row: Row = {"experiment": name, "claims": "", "seconds": time.perf_counter() - start, "": "", "holds": code == 0}
    result = out / name / "result.json"
    if result.exists():
        claims = json.loads(result.read_text())["claims"]
        false = [claim for claim, holds in claims.items() if not holds]
        row |= {"claims": f"{len(claims) - len(false)} of {len(claims)}", "": "; ".join(f"false: {c}" for c in false)}
    elif code:
        row[""] = (said.getvalue().strip().splitlines() or [f"exit code {code}"])[-1]
    return row
