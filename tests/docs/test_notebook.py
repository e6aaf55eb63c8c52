"""The notebook of the documentation runs from the top."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
SHOW = """
import ast, sys
scope = {"__name__": "__main__"}
for source in sys.argv[1:]:
    *body, last = ast.parse(source).body
    exec(compile(ast.Module(body, []), "cell", "exec"), scope)
    if isinstance(last, ast.Expr):
        shown = eval(compile(ast.Expression(last.value), "cell", "eval"), scope)
        print("->", *repr(shown).split())
    else:
        exec(compile(ast.Module([last], []), "cell", "exec"), scope)
"""
"""Runs cells in one scope, and prints the value of the last line of each, as a notebook does."""


def test_notebook_runs_and_shows_its_results(tmp_path: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    result = subprocess.run(
        [sys.executable, "-c", SHOW, *sources],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "BORDERLINE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    ran, table, followed, explained, graph, shape = [
        line.removeprefix("-> ") for line in result.stdout.splitlines() if line.startswith("-> ")
    ]
    assert ran == "Search(notebook: finished, 2 trained)"
    assert "accuracy" in table
    assert followed == "['finished']"
    assert explained.startswith("'notebook:0: ")
    assert graph.startswith("((10, 1, 1), ")
    assert shape == "torch.Size([4, 10])"


def test_notebook_is_stored_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
