"""Reads the text of a table: its column names and the cells of each line."""

import csv
import re
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from trainables.images.errors import UnusableDataError, cause, counted, shown

_TAB_SUFFIXES = (".tsv", ".tab")
_DELIMITERS = ",;\t|"
_LARGEST_TABLE = 2**30
_EXCEL_DELIMITER = re.compile(r'"?sep=([^\r\n])"?[;,\t|]*(?:\r\n|\r|\n)', re.IGNORECASE)
# What .xlsx, .ods and .xls start with.
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


class Record(NamedTuple):
    """A line of a table.

    Args:
        line: number of its last line in the file, from 1.
        cells: their text, without surrounding blanks.
    """

    line: int
    cells: list[str]


class Table(NamedTuple):
    """The text of a table; each record has as many cells as the header."""

    header: list[str]
    records: list[Record]


def read_text(path: Path) -> str:
    """Return the content of a text file without its byte order mark.

    Raises:
        UnusableDataError: the file is missing, too large, or not UTF-8 text.
    """
    try:
        if path.stat().st_size > _LARGEST_TABLE:
            raise UnusableDataError(
                f"{shown(path.name)} has over {_LARGEST_TABLE} bytes", "give a smaller table"
            )
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UnusableDataError(f"there is no file {shown(str(path))}", "check the path") from error
    except OSError as error:
        raise UnusableDataError(
            f"{shown(str(path))} cannot be read ({error.strerror or cause(error)})",
            "check the path and its permissions",
        ) from error
    if content.startswith(_SPREADSHEETS):
        raise _not_text(path, " (not as a spreadsheet)")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_text(path) from error
    if "\0" in text:
        line = 1 + _line_breaks(text[: text.index("\0")])
        raise UnusableDataError(
            f"line {line} of {shown(path.name)} contains a NUL byte",
            "remove it, or export the file as CSV in UTF-8",
        )
    return text


def _not_text(path: Path, but: str = "") -> UnusableDataError:
    return UnusableDataError(
        f"{shown(path.name)} is not UTF-8 text", f"export it as CSV in UTF-8{but}"
    )


def parse(text: str, path: Path) -> Table:
    """Return the column names and the records of a table.

    Args:
        text: content of the table.
        path: of the table, for messages; some suffixes fix the delimiter.

    Raises:
        UnusableDataError: the text is not CSV, has no images, or a line has too few or many cells.
    """
    start = 1
    if given := _EXCEL_DELIMITER.match(text):
        # Excel names the delimiter in a line of its own.
        delimiter = given[1]
        text = text[given.end() :]
        start = 2
    else:
        delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
        if path.suffix.lower() in _TAB_SUFFIXES:
            delimiter = "\t"
    before = start - 1
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[Record] = []
    try:
        for record in reader:
            if before + reader.line_num > start:
                # Earlier cells are within the first line.
                breaks = next(filter(None, map(_line_breaks, record)))
                raise _spanning(start, start + breaks, path)
            cells = [cell.strip() for cell in record]
            if any(cells):
                records.append(Record(before + reader.line_num, cells))
            start = before + reader.line_num + 1
    except csv.Error as error:
        if before + reader.line_num > start:
            raise _spanning(start, before + reader.line_num, path) from error
        raise UnusableDataError(
            f"line {before + reader.line_num} of {shown(path.name)} is not CSV ({cause(error)})",
            "correct the quotes in this line",
        ) from error
    if len(records) < 2:
        raise UnusableDataError(
            f"{shown(path.name)} has no images",
            "give a line of column names, then a line per image",
        )
    (_, header), *lines = records
    if header[0].startswith("#") and any(len(cells) != len(header) for _, cells in lines):
        raise UnusableDataError(
            f"{shown(path.name)} starts with a comment ({shown(header[0], 60)})",
            "remove it: the first line must name the columns",
        )
    for line, cells in lines:
        if len(cells) != len(header):
            raise UnusableDataError(
                f"line {line} of {shown(path.name)} has {counted(len(cells), 'cell')}, and there "
                f"are {counted(len(header), 'column')}",
                "quote cells that contain the delimiter, and fill in missing cells",
            )
    return Table(header, lines)


def _line_breaks(cell: str) -> int:
    return len(re.findall(r"\r\n|\r|\n", cell))


def _spanning(start: int, end: int, path: Path) -> UnusableDataError:
    """Return the error for a quoted cell of several lines, most often due to a stray quote."""
    return UnusableDataError(
        f"the quoted cell that starts in line {start} of {shown(path.name)} spans lines {start} "
        f"to {end}",
        "remove the stray quote, or the line breaks in the cell",
    )
