import os
import shutil
from pathlib import Path

import tests.environment  # noqa: F401

# isort: split

import jax
import pytest
from hypothesis import settings
from jaxtyping import config as shape_checks

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)  # only tests of several devices use more than the first
jax.devices()  # else the first test that runs an experiment would make them as many as there are cores
jax.config.update("jax_captured_constants_warn_bytes", 2**20)  # data should be arguments of a program

settings.register_profile("quick", deadline=None, derandomize=True, max_examples=5)
settings.register_profile("thorough", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("quick")  # pytest --hypothesis-profile=thorough draws more inputs


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def browser():
    """Chromium, which a process starts once."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Forgets the compiled programs after a module, if there are many.

    With jaxlib 0.12 each one has three mappings of memory, of which Linux grants a process 65,530: the next program
    ends the process with a segmentation fault.
    """
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > 10_000:
        jax.clear_caches()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Check shapes at run time, except in tests of bad input, which are about jnn's own errors."""
    shape_checks.update("jaxtyping_disable", "bad_input" in item.keywords)
    return (yield)


def pytest_collection_modifyitems(items):
    """Skip the tests on the real MNIST without its files: no test uses the network."""
    from jnn.data import mnist_files  # late: its shapes are checked if the plugin sees its first import

    folder = os.environ.get("JNN_DATA_DIR")
    if not (folder and mnist_files.paths_of(Path(folder).expanduser(), "train-images-idx3-ubyte")):
        reason = "set JNN_DATA_DIR to a folder with the four MNIST files"
        for item in items:
            if "mnist" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
