"""Chooses the columns of a table that name files, classes, splits and groups."""

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np

from spaces.errors import BadInputError
from trainables.images.errors import shown, some
from trainables.images.tables.table_text import Table
from trainables.table_columns import TableColumns

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

REQUIRED = ("file", "label")
"""Kinds of columns that each table needs."""


def choose_columns(table: Table, columns: TableColumns) -> dict[str, str]:
    """Return the name of the column for each kind that is used, as in :data:`USUAL_NAMES`.

    Args:
        table: the text of the table.
        columns: names that the user gives.

    Raises:
        BadInputError: a column is missing, stands twice, or is given for two kinds.
    """
    header = table.header
    taken: dict[str, str] = {}
    for kind, usual in USUAL_NAMES.items():
        wanted: str | None = getattr(columns, kind)
        if wanted == "" and kind not in REQUIRED:
            continue
        name = _find(header, [wanted] if wanted else usual)
        if name is None and (wanted or kind in REQUIRED):
            raise _no_column(kind, wanted, table)
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


def _no_column(kind: str, wanted: str | None, table: Table) -> BadInputError:
    known = [name for name in table.header if name]
    if wanted:
        close = get_close_matches(wanted, known, n=1)
        remedy = f"did you mean {shown(close[0])}?" if close else f"name one of {some(known)}"
        return BadInputError(f"table.{kind}", wanted, "there is no such column", remedy)
    if kind == "label" and (one_hot := _one_hot(table)):
        problem = f"the classes are columns of 0 and 1 ({some(one_hot)})"
        return BadInputError(
            "table.label", "", problem, "write the name of the class in one column instead"
        )
    problem = f"no column has a usual name ({', '.join(USUAL_NAMES[kind])})"
    remedy = f"name one of {some(known)}; the first line of the table must name the columns"
    return BadInputError(f"table.{kind}", "", problem, remedy)


def _one_hot(table: Table) -> list[str]:
    """Return the columns of a one-hot table: those with only 0 and 1, one 1 in each line."""
    names = []
    sums = np.zeros(len(table.records))
    for column, name in enumerate(table.header):
        cells = [record.cells[column] for record in table.records]
        if set(cells) <= {"0", "1", "0.0", "1.0"}:
            names.append(name)
            sums += np.array(cells, dtype=float)
    return names if len(names) > 1 and np.all(sums == 1) else []
