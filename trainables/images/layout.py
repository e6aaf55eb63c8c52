"""Derives the class and split of each image from its folders."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.images.errors import UnusableDataError, printable, shown

SPLITS = ("train", "validation", "test")
"""The splits; arrays of splits hold indices of this tuple."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")

_SPLIT_OF_FOLDER = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Arrangement:
    """The images of a data set in order, with their classes and splits.

    The order depends only on names, so a folder and an archive of it agree.

    Args:
        classes: names of the classes, sorted.
        chosen: index of each row's image among the given images, [n].
        labels: class index of each row, [n].
        splits: index in :data:`SPLITS` of each row, [n]; ``train`` without split folders.
    """

    classes: tuple[str, ...]
    chosen: NDArray[np.int64]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]


def is_image(path: str) -> bool:
    """Tell whether a file is an image, by its suffix."""
    return path.lower().endswith(IMAGE_SUFFIXES)


def is_hidden(path: str) -> bool:
    """Tell whether a path is hidden or created by the operating system."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def arrange(images: Sequence[str], folders: Iterable[str]) -> Arrangement:
    """Find the class and the split of each image.

    The layout is ``train/CLASS``, optionally with ``test/CLASS`` and ``val/CLASS`` (or
    ``validation/CLASS``), or just ``CLASS``. One folder may contain everything. Images in
    subfolders of a class folder belong to it; other images and folders are ignored.

    Args:
        images: relative paths of the image files, with ``/`` between parts.
        folders: paths of all folders, including those without images.

    Raises:
        UnusableDataError: the layout is wrong, a class has no images, there are fewer than two
            classes, or the splits have different classes.
    """
    wrapper = _wrapper(images)
    paths = {
        position: parts
        for position, path in enumerate(images)
        if path.startswith(wrapper) and len(parts := path[len(wrapper) :].split("/")) > 1
    }
    inner = {tuple(path[len(wrapper) :].split("/")) for path in folders if path.startswith(wrapper)}
    tops = {parts[0] for parts in paths.values()}
    if not tops:
        raise UnusableDataError(
            f"there are no images ({', '.join(IMAGE_SUFFIXES)}) inside class folders",
            "arrange the images as CLASS/*.jpg or train/CLASS/*.jpg",
        )
    if any(len(parts) > 2 and parts[0].lower() == "train" for parts in paths.values()):
        split_folders = _split_folders({parts[0] for parts in inner} | tops)
        placed = {
            position: (SPLITS.index(split_folders[parts[0]]), parts[1])
            for position, parts in paths.items()
            if len(parts) > 2 and parts[0] in split_folders
        }
        expected = {
            (SPLITS.index(split_folders[parts[0]]), parts[1])
            for parts in inner
            if len(parts) > 1 and parts[0] in split_folders
        }
    elif all(top.lower() in _SPLIT_OF_FOLDER for top in tops):
        raise UnusableDataError(
            "there are no class folders inside train/", "arrange the images as train/CLASS/*.jpg"
        )
    else:
        placed = {position: (0, parts[0]) for position, parts in paths.items()}
        expected = {(0, parts[0]) for parts in inner if parts[0]}
    classes = _classes(set(placed.values()), expected)
    label_of = {name: label for label, name in enumerate(classes)}
    chosen = sorted(placed, key=lambda position: (placed[position], images[position]))
    return Arrangement(
        classes=tuple(printable(name) for name in classes),
        chosen=np.array(chosen, dtype=np.int64),
        labels=np.array([label_of[placed[position][1]] for position in chosen], dtype=np.int64),
        splits=np.array([placed[position][0] for position in chosen], dtype=np.int8),
    )


def _wrapper(images: Sequence[str]) -> str:
    """Return the folder that contains everything, with a slash, or ""."""
    tops = {path.partition("/")[0] for path in images if "/" in path}
    if len(tops) != 1 or not any(path.count("/") > 1 for path in images):
        return ""
    top = tops.pop()
    return "" if top.lower() == "train" else f"{top}/"


def _split_folders(tops: Collection[str]) -> dict[str, str]:
    found = {top: _SPLIT_OF_FOLDER[top.lower()] for top in tops if top.lower() in _SPLIT_OF_FOLDER}
    for split in SPLITS:
        names = sorted(top for top, of in found.items() if of == split)
        if len(names) > 1:
            raise UnusableDataError(
                f"{' and '.join(f'{name}/' for name in names)} are both the {split} split",
                "keep one of them",
            )
    return found


def _classes(placed: set[tuple[int, str]], expected: set[tuple[int, str]]) -> list[str]:
    """Return the classes after checking that each split has images of each."""
    if empty := sorted(expected - placed):
        split, name = empty[0]
        where = shown(name) if not any(s for s, _ in placed) else f"{SPLITS[split]}/{shown(name)}"
        raise UnusableDataError(
            f"the class folder {where} has no images", "remove the folder or add images to it"
        )
    classes = sorted(name for split, name in placed if split == 0)
    if len(classes) < 2:
        raise UnusableDataError(
            f"there are images of only one class, {shown(classes[0])}",
            "give at least two class folders",
        )
    for split in sorted({split for split, _ in placed} - {0}):
        present = {name for s, name in placed if s == split}
        if unknown := sorted(present - set(classes)):
            raise UnusableDataError(
                f"the class {shown(unknown[0])} is in {SPLITS[split]}/ but not in train/",
                "give both the same class folders",
            )
        if missing := sorted(set(classes) - present):
            raise UnusableDataError(
                f"the class {shown(missing[0])} is in train/ but has no images in "
                f"{SPLITS[split]}/, and each split needs one image of each class",
                "give both the same class folders",
            )
    return classes
