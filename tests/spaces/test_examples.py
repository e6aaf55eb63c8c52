"""The examples in docstrings of spaces run as written."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import spaces

MODULES = sorted(path.stem for path in Path(spaces.__file__).parent.glob("[a-z]*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples_run(module):
    assert doctest.testmod(import_module(f"spaces.{module}")).failed == 0


def test_public_analyses_have_examples():
    for function in (spaces.costs, spaces.find_border, spaces.receptive_fields):
        assert doctest.DocTestFinder().find(function)[0].examples
