"""Reads what the user's function returns: splits, data sets, and their items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.images.errors import UnusableDataError, counted, shown, some
from trainables.images.functions.user_errors import blamed
from trainables.images.labelling import split_of
from trainables.images.layout.split_names import SPLITS

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels")


@dataclass(frozen=True)
class _Arrays:
    """The data set of ``(images, labels)``."""

    images: Any
    targets: Any

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> tuple[Any, Any]:
        return self.images[position], self.targets[position]


def is_masked(data: Any) -> bool:
    """Tell whether images are masked arrays; only those that need not be read one by one."""
    images = data.images if isinstance(data, _Arrays) else ()
    parts = images if isinstance(images, list | tuple) else (images,)
    return any(isinstance(part, np.ma.MaskedArray) for part in parts)


def by_split(returned: Any) -> list[tuple[str, int, Any]]:
    """Return the name and the index of each split, and its data set, in the order of the splits.

    Args:
        returned: by the user's function.

    Raises:
        UnusableDataError: it is no data set and no mapping of splits to data sets.
    """
    if not isinstance(returned, Mapping):
        return [("", 0, _as_dataset("the result", returned))]
    if not returned:
        raise UnusableDataError("the function returned no splits", "return at least train")
    parts = [
        (str(name), split_of(str(name)), _as_dataset(str(name), data))
        for name, data in returned.items()
    ]
    splits = [split for _, split, _ in parts]
    for split in set(splits):
        if splits.count(split) > 1:
            names = [name for name, other, _ in parts if other == split]
            raise UnusableDataError(
                f"{' and '.join(names)} are both the {SPLITS[split]} split", "return one of them"
            )
    return sorted(parts, key=lambda part: part[1])


def _as_dataset(what: str, data: Any) -> Any:
    if isinstance(data, tuple) and len(data) == 2:
        images, labels = data
        if all(isinstance(each, tuple) and len(each) == 2 for each in data) and not isinstance(
            labels[1], str | int
        ):
            raise UnusableDataError(
                f"{what} is two pairs ((images, labels), (images, labels))",
                'name the splits: return {"train": (images, labels), "test": (images, labels)}',
            )
        if not (hasattr(images, "__len__") and hasattr(labels, "__len__")):
            raise UnusableDataError(
                f"{what} has a pair without lengths", "return (images, labels) as arrays or lists"
            )
        if len(images) != len(labels):
            raise UnusableDataError(
                f"{what} has {counted(len(images), 'image')} and {counted(len(labels), 'label')}",
                "return one label per image",
            )
        data = _Arrays(images, labels)
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise UnusableDataError(
            f"{what} is {type(data).__name__}, which has no length or no items",
            "return (images, labels), or a data set with len(data) and data[i]",
        )
    if not len(data):
        raise UnusableDataError(f"{what} has no images", "return at least one of each class")
    return data


def column_of(data: Any, usual: Sequence[str]) -> str:
    """Return the column of a table-like data set or item with one of the usual names.

    Raises:
        UnusableDataError: there is none.
    """
    columns = getattr(data, "column_names", None) or data
    found = next((name for name in usual if name in columns), None)
    if found is None:
        known = some([str(each) for each in columns])
        raise UnusableDataError(
            f"there is no column {' or '.join(usual)}, only {known}",
            f"rename the column to {usual[0]}",
        )
    return found


def read_item(name: str, data: Any, position: int) -> tuple[Any, Any]:
    """Return the image and the label of an item.

    Args:
        name: of the item, for messages.
        data: data set.
        position: of the item.

    Raises:
        UnusableDataError: reading it failed, or it is no image with a label.
    """
    with blamed(f"reading {name}"):
        item = data[position]
    if isinstance(item, Mapping):
        return item[column_of(item, IMAGE_COLUMNS)], item[column_of(item, LABEL_COLUMNS)]
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    raise UnusableDataError(
        f"{name} is {type(item).__name__}, not an image and its label",
        "return items (image, label), or mappings with image and label",
    )


def item_name(split: str, position: int) -> str:
    """Return the name of an item for messages."""
    return f"item {position} of {shown(split)}" if split else f"item {position}"
