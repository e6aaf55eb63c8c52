"""Turns the lines of a table into rows: file, class, split and group."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from trainables.images.errors import UnusableDataError, counted
from trainables.images.labelling import is_missing, one_form, split_of
from trainables.images.tables.columns import REQUIRED
from trainables.images.tables.table_text import Record

# A missing value as text cannot be told from a name only in these columns.
_NAMES = {"label": "class", "group": "group"}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table.

    Args:
        line: number of the line, from 1.
        file: path as written in the table.
        label: name of the class.
        split: index in :data:`trainables.images.layout.split_names.SPLITS`.
        group: name of the group; None without groups.
    """

    line: int
    file: str
    label: str
    split: int
    group: str | None


def read_rows(records: Sequence[Record], position: Mapping[str, int]) -> Iterator[Row]:
    """Yield the row of each record.

    Args:
        records: lines of the table.
        position: index of the column for each kind that is used.

    Raises:
        UnusableDataError: a cell is empty, stands for a missing value, or names no split.
    """
    for kind in position:
        empty = [line for line, cells in records if not cells[position[kind]]]
        if empty:
            raise UnusableDataError(
                f"line {empty[0]} has no {kind} ({counted(len(empty), 'such line')})",
                "fill it in or remove the line" + _or_ignore(kind),
            )
    for kind in sorted(_NAMES.keys() & position.keys()):
        unknown = [
            (line, cells[position[kind]])
            for line, cells in records
            if is_missing(cells[position[kind]])
        ]
        if unknown:
            line, text = unknown[0]
            raise UnusableDataError(
                f'line {line} has no {kind}: "{text}" stands for a missing cell '
                f"({counted(len(unknown), 'such line')})",
                f"fill it in, remove the line, or rename the {_NAMES[kind]} if it is one"
                + _or_ignore(kind),
            )
    for line, cells in records:
        split = 0
        if "split" in position:
            name = cells[position["split"]]
            try:
                split = split_of(name)
            except UnusableDataError as error:
                raise UnusableDataError(
                    f"in line {line} {error.problem}", error.remedy + _or_ignore("split")
                ) from None
        group = cells[position["group"]] if "group" in position else None
        yield Row(line, cells[position["file"]], one_form(cells[position["label"]]), split, group)


def _or_ignore(kind: str) -> str:
    return "" if kind in REQUIRED else f', or ignore the column (table.{kind}: "")'
