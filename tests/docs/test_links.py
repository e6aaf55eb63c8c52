"""Links between the pages that GitHub shows, which MkDocs does not read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown.extensions.toc import slugify

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *("cluster/README.md", "mlflow/README.md"),
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
)
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page."""
    found = HEADING.findall(page.read_text(encoding="utf-8"))
    return {slugify(heading, "-") for heading in found}


def broken_links(page: Path) -> list[str]:
    """Return the links of a page that lead to no file or no heading."""
    found = []
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target or target.startswith("mailto:"):
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            found.append(f"{target}#{anchor}")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    assert broken_links(ROOT / page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](#one) [b](#two) [c](page.md#one) [d](missing.md)")
    assert broken_links(page) == ["#two", "missing.md#"]


REPOSITORY_PATH = re.compile(
    r"`((?:search|spaces|trainables|cluster|mlflow|tests|benchmarks|experiments|docs)/[\w./-]*)`"
)
TO_BE_ADDED = {
    "spaces/allconv.py",
    "tests/spaces/families/test_allconv.py",
    "tests/search/loop/test_samplers.py",
    "benchmarks/results/DEVICE.json",
}
"""Paths in the documentation that its reader creates."""


@pytest.mark.parametrize("page", PAGES)
def test_paths_named_in_the_documentation_exist(page: str) -> None:
    named = set(REPOSITORY_PATH.findall((ROOT / page).read_text(encoding="utf-8")))
    assert {path for path in named - TO_BE_ADDED if not (ROOT / path).exists()} == set()
