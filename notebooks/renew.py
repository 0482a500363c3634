"""Execute notebooks and write them with their outputs: `python -m notebooks.renew [NAME ...]`.

The source of `<name>.ipynb` is the percent script `<name>.py` beside it; edit that one, then renew.
"""

import base64
import copy
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import jupytext
import matplotlib
import nbformat
import tyro
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from PIL import Image
from traitlets import default
from traitlets.config import Config

FOLDER = Path(__file__).parent
MACHINERY = {"__init__", "renew"}

_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_SETTINGS = ("MPLBACKEND", "PYTHONSTARTUP")


class _Kernel(AsyncKernelManager):
    """A kernel of this Python; the user's kernel named `python3` may be of another one."""

    @default("kernel_spec_manager")
    def _of_this_python(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def names() -> list[str]:
    """Every notebook, in alphabetical order."""
    return sorted({path.stem for path in FOLDER.glob("*.py")} - MACHINERY)


def source(name: str) -> NotebookNode:
    """The notebook of that name, from its script and without outputs; its cells are numbered and keep their tags."""
    notebook = jupytext.read(FOLDER / f"{name}.py")
    notebook.metadata = NotebookNode(_METADATA)
    for i, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{i}"
        cell.metadata = NotebookNode({key: value for key, value in cell.metadata.items() if key == "tags"})
    return notebook


def execute(notebook: NotebookNode, *, quick: bool = False) -> NotebookNode:
    """The notebook with outputs, from a new kernel of this Python that starts in the notebooks' folder.

    quick: run the experiments at the sizes of their `--quick`.
    Raises nbclient's CellExecutionError if a cell raises, TimeoutError if it takes more than ten minutes, and
    DeadKernelError if the kernel dies.
    """
    notebook = copy.deepcopy(notebook)
    with tempfile.TemporaryDirectory() as scratch:
        # Outputs do not depend on the user's settings of Python, IPython and matplotlib.
        env = {name: value for name, value in os.environ.items() if name not in ("JNN_QUICK", *_SETTINGS)}
        env |= {"IPYTHONDIR": scratch, "MATPLOTLIBRC": matplotlib.get_data_path()}
        if quick:
            env["JNN_QUICK"] = "1"
        # Sockets are files where the system has them: no other user can listen to those.
        transport = "tcp" if os.name == "nt" else "ipc"
        sockets = {"transport": transport, "connection_file": str(Path(scratch) / "kernel.json")}
        NotebookClient(
            notebook,
            kernel_manager_class=_Kernel,
            config=Config(AsyncKernelManager=sockets),
            timeout=600,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(FOLDER)}},
        ).execute(env=env)
    notebook.metadata = NotebookNode(_METADATA)
    return notebook


def renew(name: str) -> Path:
    """Execute the notebook of that name and write it, or leave it unchanged. Returns its path.

    Raises OSError, before it executes, where it cannot be written, and what `execute` raises.
    """
    try:
        scratch = tempfile.TemporaryDirectory(dir=FOLDER, prefix=".writing-")
    except OSError as error:
        raise OSError(f"cannot write to {FOLDER} ({error})") from error
    path = FOLDER / f"{name}.ipynb"
    with scratch as folder:
        notebook = execute(source(name))
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = _smaller(output.data["image/png"])
        nbformat.validate(notebook)
        written = Path(folder) / path.name
        nbformat.write(notebook, written)
        written.replace(path)
    return path


def _smaller(png: str) -> str:
    """The picture, in base64, with 256 colours: a third of the size and no visible difference."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    written = io.BytesIO()
    few = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def main(
    names_to_renew: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(name="names", metavar="NAME")] = (),
) -> int:
    """Execute the named notebooks, or all, and write them.

    Exits with 1 when a cell fails, 2 when a notebook is not known, cannot be written or does not end.

    Args:
        names_to_renew: notebooks to renew, by default all.
    """
    if unknown := sorted(set(names_to_renew) - set(names())):
        print(f"error: no notebook {', '.join(unknown)}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    for name in names_to_renew or names():
        try:
            print(f"renewed {renew(name)}")
        except CellExecutionError as error:
            print(f"error: {name} is as it was; a cell of its source fails:\n{error}", file=sys.stderr)
            return 1
        except (DeadKernelError, OSError) as error:
            print(f"error: {name} is as it was; {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"interrupted; {name} is as it was", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main, prog="python -m notebooks.renew", config=(tyro.conf.FlagCreatePairsOff,)))
