"""The tutorial works as written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from search.cli import app

ROOT = Path(__file__).resolve().parents[2]
FILE = re.compile(r'```\w+ title="([^"]+)"\n(.*?)```', re.DOTALL)
COMMAND = re.compile(r"^(?:\$ |    )python (\S+\.py.*)$", re.MULTILINE)
QUICK = "--set budget.trials=2 --set epochs=2 --set finalists.seeds=1"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.timeout(600)
def test_the_tutorial_ends_in_predictions(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for name, content in FILE.findall(text):
        (tmp_path / name).write_text(content, encoding="utf-8")
    commands = COMMAND.findall(text)
    assert len(commands) == 7
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("BORDERLINE_HOME", None)
    printed = ""
    for command in commands:
        script, *arguments = shlex.split(command)
        if arguments[:1] == ["run"]:
            arguments += shlex.split(QUICK)
        place = ROOT / script if script == "search.py" else tmp_path / script
        done = subprocess.run(
            [sys.executable, str(place), *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed = done.stdout
    assert re.search(r"^photos/digit-3/3.png: digit-\d \(\d\.\d\d\)$", printed, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_documentation_exist(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for line in COMMAND.findall(page.read_text(encoding="utf-8")):
        script, *arguments = shlex.split(line.replace("[", "'[").replace("]", "]'"))
        if script == "search.py" and arguments and arguments[0] in commands:
            known = {option for each in commands[arguments[0]].params for option in each.opts}
            used = {each for each in arguments if each.startswith("--")}
            assert used <= known, line
        elif script == "search.py":
            assert arguments == [], line
