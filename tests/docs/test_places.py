"""The page of environment variables names all that the project reads."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("search", "spaces", "trainables", "cluster", "mlflow")
SUFFIXES = {".py", ".sh", ".yaml"}


def test_every_variable_of_the_project_is_listed() -> None:
    page = (ROOT / "docs" / "places.md").read_text(encoding="utf-8")
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    used = {
        name
        for path in files
        if path.suffix in SUFFIXES
        for name in re.findall(r"\bBORDERLINE_[A-Z_]+\b", path.read_text(encoding="utf-8"))
    }
    assert "BORDERLINE_HOME" in used
    assert {name for name in used if f"`{name}`" not in page} == set()
