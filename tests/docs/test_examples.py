"""The Python examples of the guides and of the docstrings of spaces run as written."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

import spaces
from search.loop import simulation

DOCS = Path(__file__).resolve().parents[2] / "docs"
MODULES = sorted(path.stem for path in Path(spaces.__file__).parent.glob("[a-z]*.py"))
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", ["analyze.md", "spaces.md"])
def test_python_examples_run(page: str) -> None:
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {"__name__": "example"})  # noqa: S102


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples_of_spaces_run(module: str) -> None:
    assert doctest.testmod(import_module(f"spaces.{module}")).failed == 0


def test_public_analyses_have_examples() -> None:
    for function in (spaces.costs, spaces.find_border, spaces.receptive_fields):
        assert doctest.DocTestFinder().find(function)[0].examples


def test_examples_of_the_simulation_run() -> None:
    tested = doctest.testmod(simulation)
    assert (tested.attempted > 0, tested.failed) == (True, 0)
    page = (DOCS / "add-sampler.md").read_text(encoding="utf-8")
    (block,) = (each for each in BLOCK.findall(page) if "import simulate" in each)
    scope: dict[str, object] = {"__name__": "example"}
    exec(compile(block, "add-sampler.md", "exec"), scope)  # noqa: S102
    assert scope["best"] in scope["results"]
