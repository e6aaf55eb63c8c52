"""Converts the labels and class names of the user's data set."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainables.images.errors import UnusableDataError, brief, some
from trainables.images.functions.data_sets import LABEL_COLUMNS, column_of, item_name, read_item
from trainables.images.functions.user_errors import blamed
from trainables.images.labelling import is_missing, one_form, ordered_classes


@dataclass(frozen=True)
class Labelled:
    """The data set of one split and its labels.

    Args:
        name: of the split, as the function returns it; empty without splits.
        split: index in :data:`trainables.images.layout.split_names.SPLITS`.
        data: data set of the user.
        labels: number or name of the class of each image, [n].
    """

    name: str
    split: int
    data: Any
    labels: list[int] | list[str]


def labels_of(split: str, data: Any) -> list[int] | list[str]:
    """Return all labels, without reading images if the data set has a list of them.

    Args:
        split: name of the split, for messages; empty without splits.
        data: data set of the split.

    Raises:
        UnusableDataError: a label cannot be used, or reading it failed.
    """
    count = len(data)
    known: Any = None
    if hasattr(data, "column_names"):
        with blamed("reading the labels"):
            known = data[column_of(data, LABEL_COLUMNS)]
    elif getattr(data, "target_transform", None) is None:
        known = getattr(data, "targets", None)
    if known is None or not hasattr(known, "__len__") or len(known) != count:
        known = (
            read_item(item_name(split, position), data, position)[1] for position in range(count)
        )
    labels = [label_of(item_name(split, position), raw) for position, raw in enumerate(known)]
    if len({type(label) for label in labels}) > 1:
        raise UnusableDataError(
            "some labels are numbers and some are names", "return labels of one kind"
        )
    return cast("list[int] | list[str]", labels)


def label_of(name: str, raw: Any) -> int | str:
    """Return a label as a number or a name.

    Args:
        name: of the item, for messages.
        raw: the label that the user's data set gives.

    Raises:
        UnusableDataError: it is missing, or it is neither.
    """
    value = raw
    if raw is np.ma.masked:
        raise UnusableDataError(
            f"the label of {name} is masked", "leave out images without a label"
        )
    if isinstance(raw, Image.Image) or len(getattr(raw, "shape", ())) > 1:
        shape = np.shape(raw)
        raise UnusableDataError(
            f"the label of {name} has the shape {tuple(shape)} of an image",
            "return images before labels: (images, labels), or items (image, label)",
        )
    if hasattr(raw, "item"):
        with suppress(ValueError, RuntimeError):  # An array with several elements.
            value = raw.item()
    problem = f"the label of {name} is {brief(repr(value), 60)}"
    if isinstance(value, str) and is_missing(value):
        raise UnusableDataError(
            f"{problem}, which stands for a missing label",
            "leave out images without a label, or rename the class if it is one",
        )
    if isinstance(value, str) and value:
        return one_form(value)
    if isinstance(value, int) and value >= 0:
        return int(value)
    if isinstance(value, int):
        raise UnusableDataError(problem, "leave out images without a label")
    raise UnusableDataError(problem, "return the number or the name of one class")


def _names_of(data: Any) -> list[str] | None:
    """Return the class names of a data set, or None."""
    features = getattr(data, "features", None)
    if isinstance(features, Mapping) and hasattr(data, "column_names"):
        names = getattr(features[column_of(data, LABEL_COLUMNS)], "names", None)
    else:
        while (names := getattr(data, "classes", None)) is None and hasattr(data, "dataset"):
            data = data.dataset  # A subset of torch wraps another data set.
    if names is not None and not isinstance(names, Iterable):
        raise UnusableDataError(
            f"the classes of the data set are {brief(repr(names), 60)}",
            "give the list of their names",
        )
    return None if names is None else [one_form(str(name)) for name in names]


def classes_of(parts: Sequence[Labelled]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of all classes and the class index of each image.

    Raises:
        UnusableDataError: the splits have different classes, or a label is none of them.
    """
    given = {part.name: names for part in parts if (names := _names_of(part.data)) is not None}
    raw = [label for part in parts for label in part.labels]
    if not given:
        names = ordered_classes({str(label) for label in raw})
    else:
        names = next(iter(given.values()))
        if differing := [name for name, other in given.items() if other != names]:
            raise UnusableDataError(
                f"the class names of {next(iter(given))} and {differing[0]} differ",
                "give both the same classes in the same order",
            )
        if len(set(names)) < len(names):
            raise UnusableDataError("two classes have the same name", "rename one of them")
    index: dict[int | str, int] = {name: position for position, name in enumerate(names)}
    index |= (
        {position: position for position in range(len(names))}
        if given
        else {int(name): position for name, position in index.items() if str(name).isdecimal()}
    )
    if unknown := [label for label in raw if label not in index]:
        raise UnusableDataError(
            f"the label {unknown[0]!r} is none of the {len(names)} classes ({some(names)})",
            "correct the labels or the class names",
        )
    return names, np.array([index[label] for label in raw], dtype=np.int64)
