"""The frame of every page, and the tables and figures in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from search.reporting.charts.plot import Plot, draw
from search.reporting.rendering import Section
from search.templates import render

Cell = str | Markup
_NUMBER = re.compile(r"[+\-=]?[\d.,]+( ?±.*| ?[%a-zA-Z]{0,3}|-[\d.]+)|-|", re.ASCII)
_HINT = "Point at the chart, or press the arrow keys in it, to read its points."


@dataclass(frozen=True)
class Part:
    """A part of a page.

    Attributes:
        heading: text.
        sentences: text, a paragraph each.
        content: tables, figures and other HTML, in order.
    """

    heading: str
    sentences: tuple[str, ...] = ()
    content: tuple[Markup, ...] = ()


def render_page(
    title: str, parts: Sequence[Part], lead: Sequence[str] = (), refresh: int | None = None
) -> str:
    """Return a page.

    Args:
        title: text.
        parts: in order.
        lead: sentences below the title, which say the most important.
        refresh: seconds after which a browser loads the page again; None for never.
    """
    return render("page.html", title=title, parts=parts, lead=lead, refresh=refresh)


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str = "") -> Markup:
    """Return a table; columns of numbers are aligned to the right.

    Args:
        header: text of each column.
        rows: cells; text is escaped, `Markup` is not.
        caption: text above it; empty for none.
    """
    numbers = {
        column
        for column in range(len(header))
        if any(row[column] for row in rows)
        and all(isinstance(row[column], Markup) or _NUMBER.fullmatch(row[column]) for row in rows)
    }
    return render("table.html", header=header, rows=rows, caption=caption, numbers=numbers)


def figure(
    drawing: Plot | Markup, caption: str, data: Markup | None = None, *, wide: bool = False
) -> Markup:
    """Return a chart with its caption.

    Args:
        drawing: the chart.
        caption: says what it shows.
        data: the same as a table, folded; None for none.
        wide: whether it takes the width of the page.
    """
    hint = ""
    if isinstance(drawing, Plot):
        if drawing.left_out:
            caption += f" {drawing.left_out:,} points behind others are not drawn."
        drawing, hint = draw(drawing), _HINT
    return render("figure.html", drawing=drawing, caption=caption, data=data, wide=wide, hint=hint)


def bar(text: str, fraction: float, colour: int = 0) -> Markup:
    """Return the cell of a table with a bar below its text.

    Args:
        text: of the cell.
        fraction: length of the bar, 0..1.
        colour: number of a colour of the page, 0..7.
    """
    width = 100 * min(max(fraction, 0.0), 1.0)
    shape = Markup('{}<span class="bar" style="width:{:.1f}%;background:var(--c{})"></span>')
    return shape.format(text, width, colour)


def facts(pairs: Mapping[str, Cell]) -> Markup:
    """Return names with their values, as a list; pairs without a value are left out."""
    rows = Markup("").join(
        Markup("<dt>{}</dt><dd>{}</dd>").format(name, value)
        for name, value in pairs.items()
        if value
    )
    return Markup("<dl>{}</dl>").format(rows)


def details(summary: str, content: Markup) -> Markup:
    """Return content that the reader unfolds."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, content)


def part_of(section: Section) -> Part:
    """Return a section of a report as a part of a page."""
    content = []
    if section.rows:
        content.append(table(section.header, section.rows))
    if section.files:
        links = [Markup('<a href="{0}">{0}</a>').format(file) for file in section.files]
        content.append(Markup("<p>{}</p>").format(Markup(", ").join(links)))
    if section.picture:
        content.append(Markup("<figure>{}</figure>").format(section.picture))
    return Part(section.heading, section.sentences, tuple(content))


def as_html(title: str, sections: Sequence[Section]) -> str:
    """Return a report of sections as a web page that needs no other file."""
    return render_page(title, [part_of(section) for section in sections])
