"""Names of splits and classes, for sources that name them instead of using folders."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from trainables.images.errors import UnusableDataError, shown, some
from trainables.images.layout.split_names import SPLITS, split_of_name

# What pandas, R, Excel, databases and JSON write for a missing value. In lower case, "none" is a
# likely class.
_MISSING = frozenset(
    ("nan", "NaN", "NAN", "-nan", "None", "null", "NULL", "Null", "#N/A", "#NA", "<NA>", "NaT")
)
_PERHAPS_MISSING = frozenset(
    ("na", "n/a", "nil", "none", "null", "nan", "#n/a", "#na", "<na>", "nat")
)
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")


def split_of(name: str) -> int:
    """Return the index of the split with a usual name.

    It is an index in :data:`trainables.images.layout.split_names.SPLITS`.

    Raises:
        UnusableDataError: no split has this name.
    """
    if split := split_of_name(name):
        return SPLITS.index(split)
    close = get_close_matches(name.strip().casefold(), SPLITS, n=1)
    hint = f"did you mean {close[0]}? Otherwise " if close else ""
    raise UnusableDataError(
        f'there is no split "{shown(name)}"', f"{hint}use train, validation (or val) and test"
    )


def one_form(name: str) -> str:
    """Return the composed Unicode form of a name; macOS writes the decomposed one."""
    return unicodedata.normalize("NFC", name)


def is_missing(text: str) -> bool:
    """Tell whether a cell is text that programs write for a missing value, such as ``nan``."""
    return text in _MISSING


def by_likeness(names: Iterable[str]) -> dict[str, list[str]]:
    """Group names that are equal as numbers, or differ only in case, blanks, hyphens, underscores.

    Numbers have digits and at most a sign and a decimal point.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[_likeness(name)].append(name)
    return groups


def _likeness(name: str) -> str:
    if _NUMBER.fullmatch(name.strip()):
        return str(Decimal(name.strip()).normalize() + 0)
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def describe_doubtful(classes: Iterable[str]) -> list[str]:
    """Return notes on classes whose names look alike, or like a missing label."""
    known = sorted(classes)
    notes = []
    if unsure := [name for name in known if name.casefold() in _PERHAPS_MISSING]:
        subject = "class" if len(unsure) == 1 else "classes"
        notes.append(f"the {subject} {some(unsure, 4)} may stand for missing labels")
    alike = [names for names in by_likeness(known).values() if len(names) > 1]
    numbers = [names for names in alike if _NUMBER.fullmatch(names[0].strip())]
    words = [names for names in alike if names not in numbers]
    for groups, likeness in (
        (numbers, "are the same number"),
        (words, "differ only in case, blanks, hyphens or underscores"),
    ):
        if groups:
            more = f" ({len(groups)} such cases)" if len(groups) > 1 else ""
            listed = some(min(groups), 4)
            notes.append(f"the classes {listed} {likeness} and stay separate{more}")
    return notes


def ordered_classes(names: Iterable[str]) -> list[str]:
    """Return the names in order: whole numbers by value, other names alphabetically."""
    distinct = sorted(set(names))
    if all(name.isdecimal() for name in distinct):
        return sorted(distinct, key=int)
    return distinct


def check_classes(
    classes: Sequence[str], labels: NDArray[np.int64], splits: NDArray[np.int8]
) -> None:
    """Check that there are two classes, and that each split has images of each class.

    Args:
        classes: names of the classes.
        labels: class index of each image, [n].
        splits: index in :data:`trainables.images.layout.split_names.SPLITS` of each image, [n].

    Raises:
        UnusableDataError: otherwise.
    """
    if len(classes) < 2:
        only = f"only one class, {shown(classes[0])}" if classes else "no class"
        raise UnusableDataError(f"there are images of {only}", "give at least two classes")
    for split in sorted({0, *splits.tolist()}):
        present = set(labels[splits == split].tolist())
        missing = [name for label, name in enumerate(classes) if label not in present]
        if missing:
            raise UnusableDataError(
                f"the {SPLITS[split]} split has no image of {some(missing, 3)}, and each split "
                "needs one of each class",
                "add images to it or remove the class",
            )
