"""The generated parts of the documentation follow the code."""

from __future__ import annotations

import doctest

import pytest

from docs import generate


@pytest.mark.parametrize("name", sorted(generate.GENERATED))
def test_generated_documentation_is_current(name: str) -> None:
    current = (generate.DOCS / name).read_text(encoding="utf-8")
    assert current == generate.GENERATED[name](), "run: make docs"


def test_every_imported_package_is_drawn() -> None:
    graph = generate.package_imports()
    assert set().union(*graph.values()) <= set(graph)
    drawing = generate.draw_packages()
    assert all(f">{package}<" in drawing for package in graph)


def test_a_step_that_names_missing_code_is_refused() -> None:
    with pytest.raises(LookupError, match=r"Asha.nothing, which does not exist"):
        generate.docstring_of("search.loop.asha:Asha.nothing")


def test_examples_of_the_generator_hold() -> None:
    assert doctest.testmod(generate).failed == 0
