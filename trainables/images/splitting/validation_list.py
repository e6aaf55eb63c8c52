"""The list of validation images that a user fixes."""

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from posixpath import normpath

import numpy as np
from numpy.typing import NDArray

from spaces.errors import BadInputError
from trainables.images.errors import UnusableDataError, counted, shown
from trainables.images.labelling import check_classes
from trainables.images.layout.split_names import SPLITS
from trainables.images.sources import Origin
from trainables.images.splitting.groups import NAMELESS
from trainables.images.tables.table_text import read_text

_, _VALIDATION, _TEST = range(len(SPLITS))


def apply_validation_list(
    path: str,
    names: Sequence[str] | None,
    labels: NDArray[np.int64],
    splits: NDArray[np.int8],
    classes: Sequence[str],
) -> NDArray[np.int8]:
    """Return the splits with the listed images moved from train to validation.

    Args:
        path: a text file with one relative path per line.
        names: relative paths of the images, [n].
        labels: class index of each image, [n].
        splits: index in :data:`trainables.images.layout.split_names.SPLITS` of each image, [n].
        classes: names of the classes.

    Raises:
        BadInputError: the file cannot be read, or it does not fit the images.
    """
    if names is None:
        raise BadInputError("validation_list", path, NAMELESS, "leave it out")
    if np.any(splits == _VALIDATION):
        raise BadInputError(
            "validation_list", path, "the data has a validation split already", "leave it out"
        )
    try:
        lines = [line.strip() for line in read_text(Path(path)).splitlines()]
        listed = [_plain(line) for line in lines if line]
        rows = _rows(listed, [_plain(name) for name in names])
        if not rows:
            raise UnusableDataError("it lists no images", "write one relative path per line")
        if in_test := [row for row in rows if splits[row] == _TEST]:
            raise UnusableDataError(
                f"it lists {counted(len(in_test), 'image')} of the test split, such as "
                f"{shown(names[in_test[0]])}",
                "list images of the train split only",
            )
        changed = splits.copy()
        changed[rows] = _VALIDATION
        check_classes(classes, labels, changed)
    except UnusableDataError as error:
        raise BadInputError("validation_list", path, error.problem, error.remedy) from error
    return changed


def with_validation_list(origin: Origin, path: str) -> Origin:
    """Return the origin of splits whose validation split is a list."""
    return replace(
        origin, places={**origin.places, _VALIDATION: f"the list {shown(Path(path).name)}"}
    )


def _plain(name: str) -> str:
    return normpath(name.replace("\\", "/"))


def _rows(listed: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the rows of the listed names."""
    row_of = {name: row for row, name in enumerate(names)}
    tops = {name.partition("/")[0] for name in names if "/" in name}
    if len(tops) == 1:
        # A list made for a folder suits an archive that contains the folder.
        top = f"{tops.pop()}/"
        row_of = {name.removeprefix(top): row for name, row in row_of.items()} | row_of
    unknown = [name for name in listed if name not in row_of]
    if unknown:
        close = get_close_matches(unknown[0], row_of, n=1)
        hint = f"did you mean {shown(close[0])}? " if close else ""
        raise UnusableDataError(
            f"{len(unknown)} of its {counted(len(listed), 'line')} name no image, the first is "
            f"{shown(unknown[0])}",
            f"{hint}write paths relative to the images, such as {shown(names[0])}",
        )
    return sorted({row_of[name] for name in listed})
