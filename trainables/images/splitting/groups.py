"""Groups of images by their names, which no split divides."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spaces.errors import BadInputError
from trainables.images.errors import UnusableDataError, counted, shown
from trainables.images.layout.split_names import SPLITS

NAMELESS = "the images of this data set are not files"
"""Why a setting cannot be applied to images without names."""


def check_pattern(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of the field ``groups``.

    Raises:
        BadInputError: it is not valid, or captures no group.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        problem = f"is not a regular expression ({error})"
        raise BadInputError("groups", pattern, problem, r"write e.g. 'patient-(\d+)'") from None
    if not compiled.groups:
        problem = "marks no part of the path as the group"
        raise BadInputError(
            "groups", pattern, problem, r"put it in parentheses, e.g. 'patient-(\d+)'"
        )
    return compiled


def groups_by_name(pattern: str, names: Sequence[str] | None) -> NDArray[np.int64]:
    """Return the index of the group of each image, [n].

    Args:
        pattern: regular expression that is searched in each name; the group is its first part in
            parentheses that matches.
        names: relative paths of the images, [n].

    Raises:
        BadInputError: the pattern is not valid, or an image does not match.
    """
    compiled = check_pattern(pattern)
    if names is None:
        raise BadInputError("groups", pattern, NAMELESS, "leave it out")
    found: list[str] = []
    unmatched: list[str] = []
    for name in names:
        match = compiled.search(name)
        part = None if match is None else next((p for p in match.groups() if p is not None), None)
        if part is None:
            unmatched.append(name)
        else:
            found.append(part)
    if unmatched:
        problem = (
            f"does not match {counted(len(unmatched), 'image')}, such as {shown(unmatched[0])}"
        )
        remedy = (
            f"correct it; to let each of them be a group of its own, append '|(.*)': {pattern}|(.*)"
        )
        raise BadInputError("groups", pattern, problem, remedy)
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def check_undivided(
    groups: NDArray[np.int64], splits: NDArray[np.int8], names: Sequence[str]
) -> None:
    """Check that the splits of the user divide no group.

    Args:
        groups: index of the group of each image, [n].
        splits: index in :data:`trainables.images.layout.split_names.SPLITS` of each image, [n].
        names: relative paths of the images, [n].

    Raises:
        UnusableDataError: they divide a group.
    """
    order = np.lexsort((splits, groups))
    divided = np.flatnonzero(np.diff(splits[order]) * (np.diff(groups[order]) == 0))
    if len(divided):
        one, other = order[divided[0]], order[divided[0] + 1]
        count = len(np.unique(groups[order[divided]]))
        raise UnusableDataError(
            f"the splits divide {counted(count, 'group')}: {shown(names[one])} is in "
            f"{SPLITS[splits[one]]}, and {shown(names[other])} of the same group in "
            f"{SPLITS[splits[other]]}",
            'correct the splits, or name no groups (for a table, table.group: "")',
        )


def describe_groups(groups: NDArray[np.int64]) -> str:
    """Return a note on the number of groups."""
    count = len(np.unique(groups))
    return f"{counted(len(groups), 'image')} in {counted(count, 'group')} that no split divides"
