"""The examples in docstrings print what they say."""

import doctest
import functools
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnn
from tests.helpers import MODULES as ROOMS

NAMES = {name: getattr(jnn, name) for name in ROOMS}
NAMES |= {"jax": jax, "jnp": jnp, "np": np, "functools": functools, "optax": optax}
MODULES = [module.name for module in pkgutil.walk_packages(jnn.__path__, "jnn.")]
EXAMPLES = [
    pytest.param(example, id=example.name)
    for module in MODULES
    for example in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module), globs=NAMES)
    if example.examples
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_of_a_docstring_prints_what_it_says(example):
    said = []
    failed, tried = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=said.append)
    assert tried
    assert not failed, "".join(said)
