"""Programs of Debian packages that tests use: skipped without them, and never where all are due."""

from __future__ import annotations

import os

import pytest


def needs(package: str, found: object) -> None:
    """Skip a test that lacks a Debian package; under continuous integration, fail it."""
    if found:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"the Debian package {package} is not installed")
    pytest.skip(f"needs the Debian package {package}")
