"""Sections of a report, and their forms: terminal and Markdown.

`search.reporting.page.frame` makes web pages of them.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of a folder of somebody else: its report is printed, and its page is not written."""


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        heading: text.
        sentences: text, a paragraph each.
        header: text of each column; empty without a table.
        rows: text of each cell.
        picture: SVG, for the web page alone.
        files: paths relative to the page, which links to them.
    """

    heading: str
    sentences: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    picture: Markup | None = None
    files: tuple[str, ...] = ()


def as_text(sections: Sequence[Section]) -> RenderableType:
    """Return a report for the terminal, without its pictures."""
    parts: list[RenderableType] = []
    for section in sections:
        if section.picture:
            continue
        parts.append(Text(f"\n{section.heading}", style="bold"))
        parts += [Text(sentence) for sentence in section.sentences]
        if section.rows:
            table = Table(box=None, pad_edge=False, header_style="dim")
            for column in section.header:
                table.add_column(Text(column), overflow="fold")
            for row in section.rows:
                table.add_row(*map(Text, row))
            parts.append(table)
        if section.files:
            parts.append(Text(_beside(section)))
    return Group(*parts)


def print_report(console: Console, sections: Sequence[Section]) -> None:
    """Print a report."""
    console.print(as_text(sections), highlight=False)


def as_markdown(title: str, sections: Sequence[Section]) -> str:
    """Return a report as Markdown, without its pictures."""
    parts = [f"# {title}", ""]
    for section in sections:
        parts += [f"## {section.heading}", ""]
        for sentence in section.sentences:
            parts += [_plain(sentence), ""]
        if section.rows:
            lines = (section.header, ("---",) * len(section.header), *section.rows)
            parts += [f"| {' | '.join(map(_plain, line))} |" for line in lines]
            parts.append("")
        if section.files:
            parts += [_plain(_beside(section)), ""]
    return "\n".join(parts)


def _beside(section: Section) -> str:
    """Name the files of a section."""
    return f"Files in the folder of the search: {', '.join(section.files)}"


def _plain(text: str) -> str:
    """Escape what Markdown or HTML would interpret."""
    text = " ".join(escape(text, quote=False).split())
    text = "".join(f"\\{each}" if each in "\\`*_[]" else each for each in text)
    # Not every reader of tables takes a backslash before a bar.
    return text.replace("|", "&#124;")
