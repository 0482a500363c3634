"""The package as users get it: imports, the wheel, the README's examples."""

import graphlib
import inspect
import os
import pydoc
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jnn
from jnn import activations, augment, backprop, costs, data, gru, lstm, mlp, regularize, rnn, stopping, train
from tests.helpers import MODULES, import_graph, imports

ROOT = Path(__file__).parent.parent
MATHS = (
    *("activations", "costs", "mlp", "backprop", "metrics", "perceptron"),
    *("regularize", "ridge", "dropout", "augment", "receptive", "stopping"),
    *("universal", "recurrent", "cell", "rnn", "gru", "lstm", "language", "gradient_flow"),
)
BELOW = {"typing": set(), "_internal": {"typing"}}
BELOW |= {room: {"typing", "_internal", *MATHS} for room in MATHS}
BELOW |= {room: {"typing", "_internal"} for room in ("gradcheck", "data", "pictures", "parallel")}
BELOW["checkpoint"] = {"typing", "_internal", "parallel"}
BELOW["train"] = {"typing", "_internal", "parallel", "checkpoint", "stopping"}
BELOW["convert"] = {"typing", "_internal", *MATHS}
"""What each file of mathematics and each folder of machinery imports at most, beside itself."""
KEY, GRAD, SGD = jax.random.key(0), backprop.minibatch_value_and_grad, train.sgd(1.0)
NETWORK = (mlp.Layer(jnp.ones((1, 1)), jnp.ones(1)),)


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options).stdout


def test_every_module_comes_with_the_package():
    """And its import loads no optional package."""
    names, loaded = map(str.split, python("import sys, jnn; print(*vars(jnn)); print(*sys.modules)").splitlines())
    assert {name for name in names if not name.startswith("_")} == set(MODULES)
    assert not {"matplotlib", "sklearn", "pooch", "requests", "tqdm", "tyro", "pytest", "scipy.ndimage"} & set(loaded)


def rooms():
    """Each file of jnn but its front door, by the name of its room."""
    for path in (ROOT / "jnn").rglob("*.py"):
        if path != ROOT / "jnn/__init__.py":
            yield path.relative_to(ROOT / "jnn").parts[0].removesuffix(".py"), path


def test_imports_point_one_way():
    """Mathematics knows neither meshes nor optimizers nor files."""
    assert {room for room, _ in rooms()} == set(BELOW)
    files = {"io", "os", "pathlib", "pickle", "shutil", "tempfile", "zipfile"}
    known = {"jnn", "jax", "jaxtyping", "numpy", "dm_pix", *sys.stdlib_module_names} - files
    for room, path in rooms():
        names = set(imports(path))
        assert {name.split(".")[1] for name in names if name.startswith("jnn.")} <= {*BELOW[room], room}, path
        if room in MATHS:
            assert {name.split(".")[0] for name in names} <= known, path
            assert not {name for name in names if name.startswith(("jax.sharding", "jax.distributed"))}, path


def test_no_module_imports_itself_in_a_circle():
    """Within a room, too: files of mathematics, and the inner modules of a folder."""
    graph = import_graph(ROOT, "jnn")
    assert sum(map(len, graph.values())) > len(graph)
    graphlib.TopologicalSorter(graph).prepare()  # raises where there is one


def test_the_readme_examples_print_what_the_readme_says():
    """The second continues the first."""
    readme = (ROOT / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", readme, re.S)
    printed = [
        line for said in re.findall(r"^It prints (.*?)\. ", readme, re.M) for line in re.findall(r"`(.*?)`", said)
    ]
    assert (len(examples), len(printed)) == (2, 3)
    assert python("".join(examples)).splitlines() == printed
    assert len(readme.splitlines()) <= 130


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "docs/recipes").glob("*.md")), ids=lambda path: path.stem)
def test_a_recipe_prints_what_it_says(path, tmp_path):
    """By its Python, as recipe.py, or by the commands that it gives for that."""
    text = path.read_text()
    code, commands, printed = (
        "".join(re.findall(rf"```{of}\n(.*?)```", text, re.S)) for of in ("python", "sh", "text")
    )
    if "import torch" in code:
        pytest.importorskip("torch")
    (tmp_path / "recipe.py").write_text(code)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        commands = re.sub(r"(?<=localhost:)\d+", str(free.getsockname()[1]), commands or "python recipe.py")
    command = ["bash", "-ec", commands]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    said = re.sub(r"\[Gloo\].*\n", "", done.stdout)  # what the library that connects processes says
    assert (done.returncode, said) == (0, printed), done.stderr
    assert printed.strip()


def test_the_readme_names_what_exists():
    readme = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", readme):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"make ([a-z-]+)", readme):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target
    for module, name in re.findall(rf"`({'|'.join(MODULES)})\.(\w+)", readme):
        assert hasattr(getattr(jnn, module), name), f"{module}.{name}"
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", readme):
        assert f"def {name}" in (ROOT / path).read_text(), f"{path}::{name}"


LISTS = {
    "backprop.minibatch_value_and_grad": lambda: GRAD(NETWORK, [[1.0]], [[1.0]]),
    "backprop.value_and_grad": lambda: backprop.value_and_grad(NETWORK, [1.0], [1.0]),
    "mlp.logits": lambda: mlp.logits(NETWORK, [1.0]),
    "costs": lambda: costs.quadratic.value([1.0], [1.0]),
    "lstm.unroll": lambda: lstm.unroll(lstm.init(KEY, 1, 2), lstm.zero_state(2), [[1.0]]),
    "lstm.mask": lambda: lstm.mask([1], 2),
    "rnn.scan": lambda: rnn.scan(rnn.init(KEY, 1, 2), rnn.zero_state(2), [[1.0]]),
    "data.one_hot": lambda: data.one_hot([1], 2),
    "augment.shift": lambda: augment.shift(KEY, [[1.0]], pixels=1.0),
    "regularize.mixup": lambda: regularize.mixup(KEY, [[1.0]], [[1.0]], beta=0.2),
    "regularize.noise": lambda: regularize.input_noise(KEY, [[1.0]], sigma=0.1),
    "train.epoch": lambda: train.epoch(KEY, GRAD, SGD, train.init(SGD, NETWORK), ([[1.0]],), batch_size=1),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("name", LISTS)
def test_lists_are_refused_in_our_words(name):
    with pytest.raises(TypeError, match=r"must be an array, got a list: convert it with jnp.asarray"):
        LISTS[name]()


@pytest.mark.bad_input
def test_params_of_another_kind():
    with pytest.raises(TypeError, match=r"params must be a tuple of mlp.Layer\(w, b\), got \['tuple'\]"):
        mlp.sizes(((1.0, 2.0),))


@pytest.mark.parametrize("name", ["train", "lstm", "rnn", "gru", "recurrent", "mlp", "language"])
def test_help_shows_functions_first(name):
    module = getattr(jnn, name)
    assert "CLASSES" not in pydoc.plain(pydoc.render_doc(module)).splitlines()


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (costs.cross_entropy, "The cross-entropy of sigmoid outputs"),
        (costs.quadratic_with(activations.tanh), "The quadratic cost `C = 1/2 ||y - a||^2` of section 2.1, where"),
        (activations.relu, "The rectified linear unit"),
        (mlp.orthogonal, "Random orthogonal weights"),
        (stopping.error_change(window=3), "The error-change criterion"),
    ],
    ids=repr,
)
def test_help_describes_the_object_and_not_its_class(thing, said):
    shown = pydoc.plain(pydoc.render_doc(thing))
    assert f"    {said}" in shown
    assert type(thing).__doc__.splitlines()[0] not in shown


@pytest.mark.parametrize("init", [mlp.init, rnn.init, gru.init, lstm.init])
def test_defaults_of_init_print_short(init):
    assert " at 0x" not in str(inspect.signature(init))
