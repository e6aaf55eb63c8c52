"""Loads the fixed images of cases, and draws balanced splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.reproduction.records import Case, Images
from spaces.errors import BadInputError
from spaces.task import Task
from trainables.data import Dataset, load
from trainables.images.named_sets import SET_NAMES
from trainables.specs import DataSpec, Decoding

SPLIT_SEED = 0
"""Draws the images of each split. They are the same for all networks and seeds."""

Places = Mapping[str, str]
"""Data sources such as ``images:PATH`` by the names of image sets; see `DataSpec.source`."""


@dataclass(frozen=True)
class LoadedImages:
    """Images with their splits.

    Attributes:
        dataset: the images.
        digest: hash of their content and splits.
        description: name and kind of source, in words.
    """

    dataset: Dataset
    digest: str
    description: str


def read_places(options: Iterable[str], cases: Iterable[Case]) -> Places:
    """Return the data source of each image set that the cases use.

    Args:
        options: values of ``--data``: ``SOURCE``, or ``NAME=SOURCE`` for one of several sets.
        cases: of the protocol.

    Raises:
        BadInputError: a name is not used, or lacks where there are several sets.
    """
    names = list(dict.fromkeys(case.images.source for case in cases))
    places = {name: name for name in names}
    for option in options:
        name, separator, source = option.partition("=")
        if not separator or ":" in name:
            name, source = names[0], option
            if len(names) > 1:
                problem = f"the experiment uses {', '.join(names)}"
                raise BadInputError("--data", option, problem, f"write {names[0]}={option}")
        if name not in names:
            problem = "the experiment does not use images of that name"
            raise BadInputError("--data", option, problem, f"use {' or '.join(names)}")
        if not source:
            raise BadInputError("--data", option, "names no source", f"write {name}=images:PATH")
        places[name] = source
    return places


def load_images(images: Images, place: str) -> LoadedImages:
    """Load images and draw their splits.

    Args:
        images: which images.
        place: their data source.

    Raises:
        BadInputError: the source cannot be used or does not fit.
    """
    dataset = load(DataSpec(place, resolution=images.task.height))
    check_task(dataset, images.task, images.source, place)
    dataset = balanced_splits(
        dataset,
        np.concatenate([dataset.train, dataset.validation]),
        dataset.test,
        (images.train, images.validation, images.test),
        place,
    )
    digest = dataset.identify(Decoding()).digest
    return LoadedImages(dataset, digest, _describe(images.source, place, digest))


def check_task(dataset: Dataset, task: Task, name: str, source: str) -> None:
    """Check that images have the shape and number of classes of a task.

    Args:
        dataset: the images.
        task: that they need to fit.
        name: of the set or table, for the message.
        source: value of ``--data``, for the message.

    Raises:
        BadInputError: they do not fit.
    """
    height, width, channels = dataset.shape
    found = Task(channels, height, width, len(dataset.classes))
    if found != task:
        problem = f"its images make {found}, but {name} needs {task}"
        raise BadInputError("--data", source, problem, "give the images of that name")


def balanced_splits(
    dataset: Dataset,
    pool: NDArray[np.int64],
    held: NDArray[np.int64],
    sizes: tuple[int | None, int, int | None],
    source: str,
) -> Dataset:
    """Draw a training set that is balanced over the classes, and other images to score.

    Args:
        dataset: the images.
        pool: rows to train on.
        held: rows to score; those that are trained on are left out.
        sizes: number of images for training, validation and test; None for all. Without validation
            images, the test images take their place.
        source: value of ``--data``, for messages.

    Raises:
        BadInputError: there are too few images.
    """
    train_size, validation_size, test_size = sizes
    generator = np.random.default_rng(SPLIT_SEED)
    train = generator.permutation(pool)
    if train_size is not None:
        train = _balanced(train, dataset.labels, train_size)
    scored = generator.permutation(np.setdiff1d(held, train))
    most = None if test_size is None else validation_size + test_size
    validation, test = np.split(scored[:most], [validation_size])
    if (
        len(train) != (train_size or len(train))
        or len(test) != (test_size or len(test))
        or not len(test)
    ):
        wanted = validation_size + (test_size or 1)
        problem = f"it has too few images for {train_size or 1:,} to train and {wanted:,} to score"
        raise BadInputError("--data", source, problem, "give the complete set")
    if not validation_size:
        validation = test
    return replace(
        dataset, train=np.sort(train), validation=np.sort(validation), test=np.sort(test)
    )


def _balanced(rows: NDArray[np.int64], labels: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return the first rows of each class, equally many of each."""
    classes = np.unique(labels)
    each = number // len(classes)
    return np.concatenate([rows[labels[rows] == label][:each] for label in classes])


def _describe(name: str, place: str, digest: str) -> str:
    kind, _, path = place.partition(":")
    if place in SET_NAMES:
        origin = "the published set"
    elif kind == "images" and Path(path).is_dir():
        suffixes = (file.suffix for file in Path(path).rglob("*.*") if file.is_file())
        origin = f"a copy as {next(suffixes, '').lstrip('.').upper() or 'image'} files"
    else:
        origin = f"a copy ({kind})"
    return f"{name}, {origin} (digest {digest[:12]})"
