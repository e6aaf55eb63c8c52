"""The source ``csv:PATH``: a table that names the file and the class of each image."""

import hashlib
from collections import defaultdict
from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from spaces.errors import BadInputError
from trainables.images.errors import UnusableDataError, counted, shown, some
from trainables.images.files import total_size
from trainables.images.labelling import ordered_classes
from trainables.images.sources import Item, Listing, Origin
from trainables.images.summary import check_listing
from trainables.images.tables.columns import choose_columns
from trainables.images.tables.row_files import RowFile, locate
from trainables.images.tables.rows import Row, read_rows
from trainables.images.tables.table_text import Table, parse, read_text
from trainables.table_columns import TableColumns

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
"""Usual suffixes of tables; other files are read, too."""


@dataclass(frozen=True)
class LabelTable:
    """Images that a table lists.

    Args:
        path: the table: UTF-8 text with one line of column names.
        columns: names of the columns; see
            :data:`trainables.images.tables.columns.USUAL_NAMES` for those not given.
    """

    path: Path
    columns: TableColumns

    def version(self) -> str:
        """See :class:`trainables.images.sources.Source`.

        The content of images is not read: size and modification time reveal changed files.
        """
        digest = hashlib.sha256(self._text.encode())
        digest.update(repr(self.columns).encode())
        for image in self._images:
            digest.update(f"{image.path!r} {image.size} {image.changed_ns}\n".encode())
        return f"table {self.path} {digest.hexdigest()}"

    def listing(self) -> Listing:
        """See :class:`trainables.images.sources.Source`."""
        images = self._images
        rows = [image.row for image in images]
        classes = ordered_classes({row.label for row in rows})
        label_of = {name: label for label, name in enumerate(classes)}
        labels = np.array([label_of[row.label] for row in rows], dtype=np.int64)
        splits = np.array([row.split for row in rows], dtype=np.int8)
        groups = None
        if any(row.group is not None for row in rows):
            _, groups = np.unique([str(row.group) for row in rows], return_inverse=True)
        total = total_size((image.row.file, image.size) for image in images)

        def items() -> Generator[Item, None, None]:
            for position, image in enumerate(images):
                # The decoding processes read the files in parallel.
                yield Item(position, shown(image.row.file), image.path, image.size)

        listing = Listing(
            classes=tuple(classes),
            labels=labels,
            splits=splits,
            total_size=total,
            items=items,
            names=tuple(row.file for row in rows),
            groups=groups,
            notes=self._notes,
            origin=Origin(self._places),
        )
        return check_listing(listing)

    @cached_property
    def _text(self) -> str:
        return read_text(self.path)

    @cached_property
    def _table(self) -> Table:
        return parse(self._text, self.path)

    @cached_property
    def _taken(self) -> dict[str, str]:
        """The name of each column that is used."""
        return choose_columns(self._table, self.columns)

    @cached_property
    def _rows(self) -> list[Row]:
        position = {kind: self._table.header.index(name) for kind, name in self._taken.items()}
        return list(read_rows(self._table.records, position))

    @cached_property
    def _images(self) -> list[RowFile]:
        root = Path(self.columns.root) if self.columns.root else self.path.parent
        if not root.is_dir():
            raise BadInputError("table.root", root, "there is no such folder", "check the path")
        return locate(self._rows, root)

    @property
    def _places(self) -> dict[int, str]:
        """Where the table names each split."""
        if "split" not in self._taken:
            return {}
        column = self._table.header.index(self._taken["split"])
        names: dict[int, set[str]] = defaultdict(set)
        for (_, cells), row in zip(self._table.records, self._rows, strict=True):
            names[row.split].add(shown(cells[column]))
        return {
            split: f"{shown(self._taken['split'])}={'/'.join(sorted(written))}"
            for split, written in names.items()
        }

    @property
    def _notes(self) -> tuple[str, ...]:
        taken = ", ".join(f"{kind} from {shown(name)}" for kind, name in self._taken.items())
        ignored = [name for name in self._table.header if name not in self._taken.values()]
        rest = f"; ignored: {some([name or '(no name)' for name in ignored])}" if ignored else ""
        notes = [f"{shown(self.path.name)} has {counted(len(self._rows), 'line')}: {taken}{rest}"]
        if repeated := len(self._rows) - len(self._images):
            repeat = (
                "repeats an earlier one and is" if repeated == 1 else "repeat earlier ones and are"
            )
            notes.append(f"{counted(repeated, 'line')} {repeat} ignored")
        return tuple(notes)


def open_table(path: str, columns: TableColumns) -> LabelTable:
    """Return the source for a table; ``~`` is the user's home.

    Raises:
        UnusableDataError: the path is missing, remote, or not a file.
    """
    if "://" in path:
        raise UnusableDataError(
            "only local tables are read", "copy the table and the images, then give csv:PATH"
        )
    if not path:
        raise UnusableDataError("the path is missing", "give csv:PATH")
    place = Path(path).expanduser().absolute()
    if place.is_dir():
        raise UnusableDataError(
            "it is a folder", "give the path of the table, or images:PATH for a folder of images"
        )
    return LabelTable(place, columns)
