"""The package as users get it: imports, the wheel, the README's examples."""

import re
import subprocess
import sys
from pathlib import Path

import jnn

ROOT = Path(__file__).parent.parent
MATHS = (
    *("activations", "costs", "mlp", "backprop", "perceptron"),
    *("regularize", "ridge", "dropout", "augment", "stopping"),
    *("universal", "rnn", "lstm", "gradient_flow"),
)


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options).stdout


def test_every_module_comes_with_the_package():
    assert set(jnn.__all__) == {path.stem for path in (ROOT / "jnn").glob("[!_]*.py")}


def test_the_import_loads_no_optional_package():
    loaded = python("import sys, jnn; print(*sys.modules)").split()
    assert not {"matplotlib", "sklearn", "pooch", "requests", "tqdm", "tyro", "pytest"} & set(loaded)


def test_maths_imports_maths_only():
    """No optimizer, no file, no device: imports point one way."""
    for name in MATHS:
        text = (ROOT / f"jnn/{name}.py").read_text()
        imported = re.findall(r"^(?:from|import) ([\w.]+)(?: import (.*))?", text, re.M)
        own = {word for package, names in imported if package == "jnn" for word in names.split(", ")}
        own |= {package.removeprefix("jnn.") for package, _ in imported if package.startswith("jnn.")}
        assert own <= {*MATHS, "_checks", "_dtypes", "_explicit", "_masking", "_reverse_mode", "_xla", "typing"}, name
        others = {package.split(".")[0] for package, _ in imported} - {"jnn"}
        assert others <= {"jax", "jaxtyping", "numpy", *sys.stdlib_module_names}, name


def test_the_readme_examples_print_what_the_readme_says():
    """Each continues the one before; two of the three print."""
    readme = (ROOT / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", readme, re.S)
    printed = re.findall(r"```text\n(.*?)```", readme, re.S)
    assert (len(examples), len(printed)) == (3, 2)
    assert python("".join(examples)) == "".join(printed)


def test_the_readme_names_what_exists():
    readme = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", readme):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"make ([a-z-]+)", readme):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target
    for module, name in re.findall(rf"`({'|'.join(jnn.__all__)})\.(\w+)", readme):
        assert hasattr(getattr(jnn, module), name), f"{module}.{name}"
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", readme):
        assert f"def {name}" in (ROOT / path).read_text(), f"{path}::{name}"
