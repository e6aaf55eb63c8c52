"""Errors of image sources, and helpers that format their messages."""

import os
import re
from collections.abc import Sequence


class UnusableDataError(Exception):
    """An image source cannot be used.

    Readers do not know the user's input. :func:`trainables.data.load` does, and converts this error
    to a :class:`spaces.errors.BadInputError`.

    Args:
        problem: why the data cannot be used.
        remedy: what to do instead.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(problem, remedy)


def printable(text: str) -> str:
    """Escape unprintable characters.

    File names from an archive may contain terminal escapes, line breaks or undecodable bytes.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def shown(name: str, longest: int = 120) -> str:
    """Return a file name for a message: printable, and only the end of a long name."""
    text = printable(name)
    return text if len(text) <= longest else "..." + text[3 - longest :]


def brief(text: str, longest: int = 200) -> str:
    """Return a library's message for ours: printable, and only the start of a long one."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= longest else line[: longest - 3] + "..."


def cause(error: BaseException) -> str:
    """Return an error's message as one short line, or its type if it has none."""
    return brief(str(error)) or type(error).__name__


def is_windows_path(path: str) -> bool:
    """Tell whether this system cannot have an absolute path, because it is one of Windows."""
    return os.name != "nt" and re.match(r"[A-Za-z]:[\\/]|\\\\", path) is not None


def counted(count: int, noun: str) -> str:
    """Return a number of things: ``1 image``, ``1,200 images``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def some(names: Sequence[str], most: int = 8) -> str:
    """Return the first names for a message, and the number of the others."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + rest
