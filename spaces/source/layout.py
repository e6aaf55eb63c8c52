"""Lays out Python statements as ruff format does, at 100 columns."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap

WIDTH = 100
INDENT = 4


@dataclass(frozen=True)
class Entry:
    """An element of a sequence.

    Attributes:
        text: its expression.
        comment: behind it.
        note: a comment above it.
    """

    text: str
    comment: str = ""
    note: str = ""


def statement(text: str, indent: int, *, before: str = "", after: str = "") -> list[str]:
    """Return an expression between two texts; a long call is broken at its parentheses.

    Example:
        >>> statement("f(a, b)", 4, before="x = ")
        ['    x = f(a, b)']
    """
    line = f"{' ' * indent}{before}{text}{after}"
    if len(line) <= WIDTH or not text.endswith((")", "]")):
        return [line]
    start, end = _outermost(text)
    if start < 0:
        return [line]
    head, inner, tail = text[: start + 1], text[start + 1 : end], text[end:]
    body = f"{' ' * (indent + INDENT)}{inner}"
    if len(body) <= WIDTH and not inner.startswith(("[", "*[")):
        lines = [body]
    else:
        lines = []
        for part in _parts(inner):
            lines += statement(part, indent + INDENT, after=",")
    return [f"{' ' * indent}{before}{head}", *lines, f"{' ' * indent}{tail}{after}"]


def sequence(target: str, entries: list[Entry], indent: int) -> list[str]:
    """Return the assignment of a module, or of several modules in sequence."""
    if len(entries) == 1 and not entries[0].text.startswith("*"):
        return _commented(entries[0], indent, before=f"{target} = ")
    joined = ", ".join(entry.text for entry in entries)
    line = f"{' ' * indent}{target} = nn.Sequential({joined})"
    plain = not any(entry.comment or entry.note for entry in entries)
    if plain and len(entries) <= 2 and len(line) <= WIDTH:
        return [line]
    return [
        f"{' ' * indent}{target} = nn.Sequential(",
        *listed(entries, indent),
        f"{' ' * indent})",
    ]


def listed(entries: list[Entry], indent: int) -> list[str]:
    """Return entries, one on each line."""
    return [line for entry in entries for line in _commented(entry, indent + INDENT, after=",")]


def _commented(entry: Entry, indent: int, *, before: str = "", after: str = "") -> list[str]:
    lines = statement(entry.text, indent, before=before, after=after)
    note = comment(entry.note, indent) if entry.note else []
    if not entry.comment:
        return [*note, *lines]
    if len(lines[-1]) + len(entry.comment) + 4 <= WIDTH:
        return [*note, *lines[:-1], f"{lines[-1]}  # {entry.comment}"]
    return [*note, *comment(entry.comment, indent), *lines]


def comment(text: str, indent: int) -> list[str]:
    """Return a comment on lines of its own."""
    return [f"{' ' * indent}# {line}" for line in wrap(text, WIDTH - indent - 2)]


def _outermost(text: str) -> tuple[int, int]:
    """Return where the bracket that ends a text opens, and where it closes."""
    depth = 0
    for place in range(len(text) - 1, -1, -1):
        if text[place] in ")]":
            depth += 1
        elif text[place] in "([":
            depth -= 1
            if depth == 0:
                return place, len(text) - 1
    return -1, -1


def _parts(text: str) -> list[str]:
    """Split arguments at commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for place, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if sign == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]
