"""The folder for the temporary files of a Ray that the driver starts."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.console import warn
from search.formatting import root_cause
from spaces.errors import BadInputError

VARIABLE = "RAY_TMPDIR"
_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1"
LONGEST = (103 if sys.platform == "darwin" else 107) - len(_SOCKET)
"""Most bytes in the path of the folder, because the system limits the paths of Ray's sockets."""
_SYSTEM = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - what users share, as Ray does


@contextmanager
def temporary_folder() -> Iterator[None]:
    """Let RAY_TMPDIR name a folder inside the block in which Ray can start.

    This is the folder in RAY_TMPDIR or TMPDIR, or that of the system. A path that is too long for
    Ray's sockets, as batch systems set it, is replaced by a short link to the same folder.

    Raises:
        BadInputError: the folder in RAY_TMPDIR, or every folder, is unusable.
    """
    before = os.environ.get(VARIABLE)
    folder = _chosen()
    around: Path | None = None
    try:
        if len(os.fsencode(folder)) > LONGEST:
            around = _short_folder(folder)
            link = around / "t"
            link.symlink_to(folder)
            folder = link
        os.environ[VARIABLE] = str(folder)
        yield
    finally:
        if around is not None:
            shutil.rmtree(around, ignore_errors=True)
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def _chosen() -> Path:
    """Return the absolute folder that the user or the system names."""
    given = os.environ.get(VARIABLE)
    if given:
        folder = Path(given).absolute()
        problem = _problem(folder, create=True)
        if problem is not None:
            raise BadInputError(VARIABLE, given, problem, "name a folder that can be written")
        return folder
    named = os.environ.get("TMPDIR")
    if named:
        problem = _problem(Path(named))
        if problem is None:
            return Path(named).absolute()
    for system in map(Path, _SYSTEM):
        if _problem(system) is None:
            if named:
                warn(f"TMPDIR = {named}: {problem}; Ray uses {system}")
            return system
    problem = "no folder for temporary files can be written"
    raise BadInputError("TMPDIR", named or "", problem, "name a folder that can be written")


def _short_folder(folder: Path) -> Path:
    """Return a new folder with a short path."""
    for system in _SYSTEM:
        if _problem(Path(system)) is None:
            return Path(tempfile.mkdtemp(prefix="ray-", dir=system))
    length = len(os.fsencode(folder))
    problem = f"its path has {length} bytes, but Ray's sockets allow {LONGEST}"
    raise BadInputError(VARIABLE, folder, problem, "set RAY_TMPDIR to a folder with a short path")


def _problem(folder: Path, *, create: bool = False) -> str | None:
    """Return why a folder cannot be written; None if it can."""
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except (OSError, ValueError) as error:
        return f"cannot be written ({getattr(error, 'strerror', None) or root_cause(error)})"
