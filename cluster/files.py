"""Writes files atomically."""

from __future__ import annotations

import uuid
from pathlib import Path

PARTIAL_SUFFIX = ".part"
"""Ends the hidden name of a file while it is being written."""


def write_atomically(path: Path, content: bytes | memoryview | str) -> None:
    """Replace a file so that readers see either the old content or the new.

    The content is not synced to disk: a power cut may lose or truncate it.

    Args:
        path: of the file; its folder must exist.
        content: bytes, or text to encode as UTF-8.

    Raises:
        OSError: the file cannot be written; the old file is unchanged.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
