"""Finds the image file of each row of a table."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.images.errors import UnusableDataError, cause, counted, is_windows_path, shown
from trainables.images.tables.rows import Row


@dataclass(frozen=True, slots=True)
class RowFile:
    """The image file of a row.

    Args:
        row: that names the file.
        path: of the file.
        size: in bytes.
        changed_ns: time of its last change.
    """

    row: Row
    path: str
    size: int
    changed_ns: int


def locate(rows: Sequence[Row], root: Path) -> list[RowFile]:
    """Return the file of each row, and only the first of equal rows, in the order of a folder.

    Args:
        rows: of the table.
        root: folder of relative paths.

    Raises:
        UnusableDataError: a file is missing or unreadable, or two rows contradict each other.
    """
    images: dict[str, RowFile] = {}
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
            images[path] = RowFile(row, path, status.st_size, status.st_mtime_ns)
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
