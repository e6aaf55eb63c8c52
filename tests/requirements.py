"""Requirements that a machine may lack."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lack(what: str) -> NoReturn:
    """Skip a test and name the missing requirement; in CI, fail instead."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"this machine lacks {what}")
    pytest.skip(f"needs {what}")
