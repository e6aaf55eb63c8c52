"""The working file: one line per finished training, appended and never rewritten."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ValidationError

from experiments.plain_networks.records import Measurement
from experiments.reproduction.record_lines import append_line, complete_lines, drop_incomplete_line
from spaces.errors import BadInputError


class Header(BaseModel):
    """First line: what the trainings share.

    Attributes:
        protocol: digest of the protocol.
        data: digest of the images and their splits.
    """

    protocol: str
    data: str


class WorkingFile:
    """An open working file; see `open_working_file`.

    Attributes:
        measurements: the finished trainings, in the order in which they finished.
    """

    def __init__(self, file: BinaryIO, measurements: list[Measurement]) -> None:
        self._file = file
        self.measurements = measurements

    def append(self, measurement: Measurement) -> None:
        """Write a finished training to disk."""
        append_line(self._file, measurement)
        self.measurements.append(measurement)


@contextmanager
def open_working_file(path: Path, header: Header) -> Iterator[WorkingFile]:
    """Open a working file, or create it. One process may have it open.

    A line that a killed process left incomplete is removed.

    Raises:
        BadInputError: another process has the file open, or it belongs to another protocol or other
            images.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            problem = "another process writes to it"
            raise BadInputError("--work", path, problem, "wait, or stop that process") from None
        complete = drop_incomplete_line(file)
        if complete:
            found, measurements = _parsed(path, complete)
            _check(path, found, header)
        else:
            measurements = []
            append_line(file, header)
        yield WorkingFile(file, measurements)


def read_working_file(path: Path, protocol: str) -> list[Measurement]:
    """Return the finished trainings; the process that writes the file may go on.

    Args:
        path: of the file.
        protocol: digest of the protocol.

    Raises:
        BadInputError: the file is missing or damaged, or it belongs to another protocol.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        problem = "it does not exist"
        raise BadInputError("--work", path, problem, "run the command without --write") from None
    header, measurements = _parsed(path, complete_lines(content))
    _check(path, header, Header(protocol=protocol, data=header.data))
    return measurements


def _parsed(path: Path, content: bytes) -> tuple[Header, list[Measurement]]:
    lines = content.splitlines()
    try:
        header = Header.model_validate_json(lines[0])
        return header, [Measurement.model_validate_json(line) for line in lines[1:]]
    except (IndexError, ValidationError):
        problem = "it is no working file of this command, or it is damaged"
        raise BadInputError("--work", path, problem, "give another folder") from None


def _check(path: Path, found: Header, header: Header) -> None:
    for what, old, new in (
        ("with another protocol", found.protocol, header.protocol),
        ("on other images", found.data, header.data),
    ):
        if old != new:
            problem = f"it holds trainings {what}"
            raise BadInputError("--work", path, problem, "give another folder, or restore that one")
