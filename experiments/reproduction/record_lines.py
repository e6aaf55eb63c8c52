"""Files with one JSON record per line, which processes append to and never rewrite."""

from __future__ import annotations

import os
from typing import BinaryIO

from pydantic import BaseModel


def complete_lines(content: bytes) -> bytes:
    """Return the content without a last line that a killed process left incomplete."""
    return content[: content.rfind(b"\n") + 1]


def drop_incomplete_line(file: BinaryIO) -> bytes:
    """Remove an incomplete last line from a file, and return the rest.

    Args:
        file: open for reading and appending, and locked by this process.
    """
    file.seek(0)
    content = complete_lines(file.read())
    file.truncate(len(content))
    return content


def append_line(file: BinaryIO, record: BaseModel) -> None:
    """Append a record to a file and sync it to disk."""
    file.write(record.model_dump_json().encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
