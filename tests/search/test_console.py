"""Lines for people: printed unchanged, and without raising errors."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from search.console import note, output, say, warn

ROOT = Path(__file__).resolve().parents[2]


def test_say_prints_long_lines_with_brackets_as_they_are() -> None:
    file = io.StringIO()
    line = f"resume with: [bold]python search.py[/bold] resume {'x' * 200} 12"
    say(Console(file=file, width=40, force_terminal=True), line)
    assert file.getvalue() == f"{line}\n"


def test_notes_and_warnings_name_their_source(capsys: pytest.CaptureFixture[str]) -> None:
    note("plain")
    note("away", "storage")
    warn("unusable")
    output("{}")
    captured = capsys.readouterr()
    assert captured.err == "plain\nstorage: away\nsearch.py: unusable\n"
    assert captured.out == "{}\n"


@pytest.mark.parametrize("broken", ["os.close(2)", "sys.stderr.close()"])
def test_note_without_standard_error_raises_nothing(broken: str) -> None:
    program = (
        f"import os, sys\nfrom search.console import note\n{broken}\nnote('lost')\nprint('on')"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "on\n" in result.stdout


def test_note_into_closed_pipe_keeps_exit_code() -> None:
    program = "from search.console import note\ninput()\nnote('lost')\nnote('lost')"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stderr.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(60) == 0
