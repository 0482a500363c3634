"""The package as users get it: imports, the wheel, the README's examples."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import jnn

ROOT = Path(__file__).parent.parent
MATHS = ("activations", "costs", "mlp", "backprop")


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options).stdout


def test_every_module_comes_with_the_package():
    assert set(jnn.__all__) == {path.stem for path in (ROOT / "jnn").glob("*.py")} - {
        "__init__",
        "_checks",
        "_monitor",
        "_xla",
    }


def test_the_import_loads_no_optional_package():
    loaded = python("import sys, jnn; print(*sys.modules)").split()
    assert not {"matplotlib", "sklearn", "pooch", "requests", "tqdm", "tyro", "pytest"} & set(loaded)


@pytest.mark.parametrize("name", MATHS)
def test_maths_imports_maths_only(name):
    """No optimiser, no file, no device: the imports point one way."""
    imported = re.findall(r"^(?:from|import) ([\w.]+)(?: import (.*))?", (ROOT / f"jnn/{name}.py").read_text(), re.M)
    mine = {word for package, names in imported if package == "jnn" for word in names.split(", ")}
    mine |= {package.removeprefix("jnn.") for package, _ in imported if package.startswith("jnn.")}
    assert mine <= {*MATHS, "_checks", "_xla"}
    others = {package.split(".")[0] for package, _ in imported} - {"jnn"}
    assert others <= {"jax", "jaxtyping", "collections", "dataclasses", "functools", "typing"}


def test_the_wheel_installs_and_imports_elsewhere(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("jnn-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "elsewhere")
    assert "jnn/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"jnn"}
    code = "import jnn, sys; print(jnn.__file__, jnn.__version__)"
    found, version = python(code, cwd=tmp_path / "elsewhere").split()
    assert found.startswith(str(tmp_path))
    assert version == jnn.__version__


def test_the_readme_examples_print_what_the_readme_says():
    """Each goes on from the one before; two of the three print."""
    readme = (ROOT / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", readme, re.S)
    printed = re.findall(r"```text\n(.*?)```", readme, re.S)
    assert (len(examples), len(printed)) == (3, 2)
    assert python("".join(examples)) == "".join(printed)


def test_the_readme_names_what_exists():
    readme = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", readme):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"make ([a-z]+)", readme):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target
    for module, name in re.findall(
        r"`(activations|augment|costs|mlp|backprop|gradcheck|train|data|regularize|stopping)\.(\w+)", readme
    ):
        assert hasattr(getattr(jnn, module), name), f"{module}.{name}"
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", readme):
        assert f"def {name}" in (ROOT / path).read_text(), f"{path}::{name}"
