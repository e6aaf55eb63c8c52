"""The source ``csv:PATH``: a table that names the file and the class of each image."""

import csv
import hashlib
import os
import re
import stat
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from io import StringIO
from pathlib import Path

import numpy as np

from spaces.errors import BadInputError
from trainables.images.errors import (
    UnusableDataError,
    cause,
    counted,
    is_windows_path,
    printable,
    shown,
    some,
)
from trainables.images.files import total_size
from trainables.images.labelling import (
    check_classes,
    describe_doubtful,
    is_missing,
    one_form,
    ordered_classes,
    split_of,
)
from trainables.images.sources import Item, Listing
from trainables.images.summary import summarize
from trainables.specs import TableColumns

USUAL_NAMES = {
    "file": (
        *("file", "filename", "file_name", "filepath", "file_path", "path"),
        *("image", "image_file", "image_name", "image_path", "img", "img_path"),
    ),
    "label": ("label", "labels", "class", "class_name", "category", "target"),
    "split": ("split", "subset", "set", "partition"),
    "group": ("group", "group_id", "patient", "patient_id", "subject", "subject_id"),
}
"""Names of the columns that are found without being given, the first ones preferred."""

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
"""Usual suffixes of tables; other files are read, too."""

_REQUIRED = ("file", "label")
# A missing value as text cannot be told from a name only in these columns.
_NAMES = {"label": "class", "group": "group"}
_TAB_SUFFIXES = (".tsv", ".tab")
_DELIMITERS = ",;\t|"
_LARGEST_TABLE = 2**30
_EXCEL_DELIMITER = re.compile(r'"?sep=([^\r\n])"?[;,\t|]*(?:\r\n|\r|\n)', re.IGNORECASE)
# What .xlsx, .ods and .xls start with.
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


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


@dataclass(frozen=True, slots=True)
class _Image:
    row: Row
    path: str
    size: int
    changed_ns: int


@dataclass(frozen=True)
class LabelTable:
    """Images that a table lists.

    Args:
        path: the table: UTF-8 text with one line of column names.
        columns: names of the columns; those not given are found by :data:`USUAL_NAMES`.
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
        check_classes(classes, labels, splits)
        groups = None
        if any(row.group is not None for row in rows):
            _, groups = np.unique([str(row.group) for row in rows], return_inverse=True)
        total = total_size((image.row.file, image.size) for image in images)

        def items() -> Generator[Item, None, None]:
            for position, image in enumerate(images):
                # The decoding processes read the files in parallel.
                yield Item(position, shown(image.row.file), image.path, image.size)

        return Listing(
            classes=tuple(printable(name) for name in classes),
            labels=labels,
            splits=splits,
            total_size=total,
            items=items,
            names=tuple(row.file for row in rows),
            groups=groups,
            notes=(
                summarize(classes, labels, splits, self._places),
                *self._notes,
                *describe_doubtful(classes),
            ),
        )

    @cached_property
    def _text(self) -> str:
        return read_text(self.path)

    @cached_property
    def _taken(self) -> dict[str, str]:
        """The name of each column that is used."""
        return _choose(self._header, self.columns, self._records)

    @property
    def _header(self) -> list[str]:
        return self._parsed[0]

    @property
    def _records(self) -> list[tuple[int, list[str]]]:
        return self._parsed[1]

    @cached_property
    def _parsed(self) -> tuple[list[str], list[tuple[int, list[str]]]]:
        return _parse(self._text, self.path)

    @cached_property
    def _rows(self) -> list[Row]:
        position = {kind: self._header.index(name) for kind, name in self._taken.items()}
        return list(_rows(self._records, position))

    @cached_property
    def _images(self) -> list[_Image]:
        root = Path(self.columns.root) if self.columns.root else self.path.parent
        if not root.is_dir():
            raise BadInputError("table.root", root, "there is no such folder", "check the path")
        return _locate(self._rows, root)

    @property
    def _places(self) -> dict[int, str]:
        """Where the table names each split."""
        if "split" not in self._taken:
            return {}
        column = self._header.index(self._taken["split"])
        names: dict[int, set[str]] = defaultdict(set)
        for (_, cells), row in zip(self._records, self._rows, strict=True):
            names[row.split].add(shown(cells[column]))
        return {
            split: f"{shown(self._taken['split'])}={'/'.join(sorted(written))}"
            for split, written in names.items()
        }

    @property
    def _notes(self) -> tuple[str, ...]:
        taken = ", ".join(f"{kind} from {shown(name)}" for kind, name in self._taken.items())
        ignored = [name for name in self._header if name not in self._taken.values()]
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


def _parse(text: str, path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the column names, and the line number and the cells of each record."""
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
    records: list[tuple[int, list[str]]] = []
    try:
        for record in reader:
            if before + reader.line_num > start:
                # Earlier cells are within the first line.
                breaks = next(filter(None, map(_line_breaks, record)))
                raise _spanning(start, start + breaks, path)
            cells = [cell.strip() for cell in record]
            if any(cells):
                records.append((before + reader.line_num, cells))
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
    return header, lines


def _line_breaks(cell: str) -> int:
    return len(re.findall(r"\r\n|\r|\n", cell))


def _spanning(start: int, end: int, path: Path) -> UnusableDataError:
    """Return the error for a quoted cell of several lines, most often due to a stray quote."""
    return UnusableDataError(
        f"the quoted cell that starts in line {start} of {shown(path.name)} spans lines {start} "
        f"to {end}",
        "remove the stray quote, or the line breaks in the cell",
    )


def _choose(
    header: Sequence[str], columns: TableColumns, records: Sequence[tuple[int, list[str]]]
) -> dict[str, str]:
    """Return the name of the column for each kind that is used."""
    taken: dict[str, str] = {}
    for kind, usual in USUAL_NAMES.items():
        wanted: str | None = getattr(columns, kind)
        if wanted == "" and kind not in _REQUIRED:
            continue
        name = _find(header, [wanted] if wanted else usual)
        if name is None and (wanted or kind in _REQUIRED):
            raise _no_column(kind, wanted, header, records)
        if name is None:
            continue
        if header.count(name) > 1:
            raise BadInputError(
                f"table.{kind}", name, "two columns have this name", "rename one of them"
            )
        if other := next((each for each, used in taken.items() if used == name), None):
            raise BadInputError(
                f"table.{kind}", name, f"it is also the column of table.{other}", "name another"
            )
        taken[kind] = name
    return taken


def _find(header: Sequence[str], wanted: Sequence[str]) -> str | None:
    """Return the first column with one of these names; upper and lower case are equal."""
    for name in wanted:
        if name in header:
            return name
    folded = {name.casefold(): name for name in reversed(header)}
    return next((folded[name.casefold()] for name in wanted if name.casefold() in folded), None)


def _no_column(
    kind: str, wanted: str | None, header: Sequence[str], records: Sequence[tuple[int, list[str]]]
) -> BadInputError:
    known = [name for name in header if name]
    if wanted:
        close = get_close_matches(wanted, known, n=1)
        remedy = f"did you mean {shown(close[0])}?" if close else f"name one of {some(known)}"
        return BadInputError(f"table.{kind}", wanted, "there is no such column", remedy)
    if kind == "label" and (one_hot := _one_hot(header, records)):
        problem = f"the classes are columns of 0 and 1 ({some(one_hot)})"
        return BadInputError(
            "table.label", "", problem, "write the name of the class in one column instead"
        )
    problem = f"no column has a usual name ({', '.join(USUAL_NAMES[kind])})"
    remedy = f"name one of {some(known)}; the first line of the table must name the columns"
    return BadInputError(f"table.{kind}", "", problem, remedy)


def _one_hot(header: Sequence[str], records: Sequence[tuple[int, list[str]]]) -> list[str]:
    """Return the columns of a one-hot table: those with only 0 and 1, one 1 in each line."""
    names = []
    sums = np.zeros(len(records))
    for column, name in enumerate(header):
        cells = [record[column] for _, record in records]
        if set(cells) <= {"0", "1", "0.0", "1.0"}:
            names.append(name)
            sums += np.array(cells, dtype=float)
    return names if len(names) > 1 and np.all(sums == 1) else []


def _rows(records: Sequence[tuple[int, list[str]]], position: dict[str, int]) -> Iterator[Row]:
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
    return "" if kind in _REQUIRED else f', or ignore the column (table.{kind}: "")'


def _locate(rows: Sequence[Row], root: Path) -> list[_Image]:
    """Return the image of each row, and only the first of equal rows."""
    images: dict[str, _Image] = {}
    missing: list[Row] = []
    folder = str(root)
    for row in rows:
        if "://" in row.file:
            raise UnusableDataError(
                f"line {row.line} names a URL ({shown(row.file)})",
                "download the images and name their files",
            )
        found = _stat(folder, row.file)
        if found is None:
            missing.append(row)
            continue
        path, status = found
        if not stat.S_ISREG(status.st_mode):
            raise UnusableDataError(
                f"line {row.line} names {shown(row.file)}, which is not a file", "name an image"
            )
        if (earlier := images.get(path)) is None:
            images[path] = _Image(row, path, status.st_size, status.st_mtime_ns)
        else:
            _refuse_contradiction(earlier.row, row)
    if missing:
        raise _missing(missing, root)
    # The order of an equal folder, so that lines may be moved and drawn splits stay.
    return sorted(
        images.values(), key=lambda image: (image.row.split, image.row.label, image.row.file)
    )


def _stat(root: str, file: str) -> tuple[str, os.stat_result] | None:
    # Tables made on Windows contain backslashes.
    for name in (file, file.replace("\\", "/")) if "\\" in file else (file,):
        path = os.path.normpath(os.path.join(root, name))
        try:
            return path, os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise UnusableDataError(
                f"{shown(file)} cannot be read ({cause(error)})",
                "remove it or correct its permissions",
            ) from error
    return None


def _refuse_contradiction(earlier: Row, row: Row) -> None:
    for kind in ("label", "split", "group"):
        if getattr(earlier, kind) != getattr(row, kind):
            raise UnusableDataError(
                f"lines {earlier.line} and {row.line} name {shown(row.file)} with a different "
                f"{kind}",
                "keep one of them",
            )


def _missing(rows: Sequence[Row], root: Path) -> UnusableDataError:
    first = rows[0]
    if is_windows_path(first.file):
        return UnusableDataError(
            f"line {first.line} names a path of Windows, which this system does not have "
            f"({shown(first.file)})",
            "write paths below the folder of the table, or below table.root",
        )
    problem = (
        f"{counted(len(rows), 'file')} of the table cannot be found, the first in line "
        f"{first.line}: {shown(first.file)} in {shown(str(root))}"
    )
    remedy = "correct the table, or set table.root to the folder of the images"
    place = root / first.file
    if place.name and (similar := next(iter(_with_suffix(place)), None)):
        remedy = f"write names with their suffix, such as {shown(similar)}"
    return UnusableDataError(problem, remedy)


def _with_suffix(place: Path) -> list[str]:
    try:
        names = sorted(os.listdir(place.parent))
    except OSError:
        return []
    return [name for name in names if name.startswith(f"{place.name}.")]
