"""The record of the machine of a search."""

from __future__ import annotations

import sys

import pytest

from search.study.machine import this_machine


def test_stored_command_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "data=https://me:secret@host/images.zip"
    monkeypatch.setattr(sys, "argv", ["search.py", "run", "mine.yaml", "--set", source])
    command = this_machine("CPU").command
    assert command.startswith("python search.py run mine.yaml")
    assert "secret" not in command
