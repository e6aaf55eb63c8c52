"""Derives the class and split of each image from its folders."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.images.errors import UnusableDataError, counted, printable, shown, some
from trainables.images.labelling import by_likeness, describe_doubtful, one_form
from trainables.images.layout.extras import check_masks, describe_thumbnails, find_thumbnails
from trainables.images.layout.folders import (
    REGIONS,
    Layout,
    Parts,
    find_layout,
    find_wrapper,
    shown_folder,
)
from trainables.images.layout.split_names import SPLITS
from trainables.images.sources import Origin

_IMAGES = frozenset(
    ("frames", "image", "images", "img", "imgs", "input", "inputs", "jpegimages", "photos")
)


@dataclass(frozen=True)
class Arrangement:
    """The images of a data set in order, with their classes and splits.

    The order depends only on names, so a folder and an archive of it agree.

    Args:
        classes: names of the classes, sorted.
        chosen: index of each row's image among the given images, [n].
        labels: class index of each row, [n].
        splits: index in :data:`SPLITS` of each row, [n]; ``train`` without split folders.
        notes: one line each: what is left out or assumed.
        origin: of the splits.
    """

    classes: tuple[str, ...]
    chosen: NDArray[np.int64]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    notes: tuple[str, ...]
    origin: Origin


def arrange(images: Sequence[str], folders: Iterable[str]) -> Arrangement:
    """Find the class and the split of each image.

    The layouts are:

    - ``SPLIT/CLASS/*.jpg``, with any usual name of a split, see
      :func:`trainables.images.layout.split_names.split_of_name`;
    - ``CLASS/*.jpg``, without splits;
    - ``CLASS/SPLIT/*.jpg``.

    Folders that contain everything else are seen through. Images in subfolders of a class folder
    belong to it. Names that differ only in their Unicode form are one class. Names that differ in
    case, blanks, hyphens or underscores are one class if no split has both.

    Args:
        images: relative paths of the image files, with ``/`` between parts.
        folders: paths of all folders, including those without images.

    Raises:
        UnusableDataError: the layout is wrong or has two readings, a class has no images, there are
            fewer than two classes, or the splits have different classes.
    """
    paths = {position: tuple(path.split("/")) for position, path in enumerate(images)}
    wrapper = find_wrapper(paths.values())
    inside = {
        position: parts[len(wrapper) :]
        for position, parts in paths.items()
        if parts[: len(wrapper)] == wrapper
    }
    below = [
        parts[len(wrapper) :]
        for path in sorted(folders)
        if (parts := tuple(path.split("/")))[: len(wrapper)] == wrapper
    ]
    layout = find_layout(wrapper, list(inside.values()), {parts[0] for parts in below if parts})
    placed = {
        position: place
        for position, parts in inside.items()
        if (place := layout.place(parts, is_file=True)) is not None
    }
    thumbnails = find_thumbnails(placed, inside)
    placed = {position: placed[position] for position in placed.keys() - thumbnails}
    expected = {
        place: parts
        for parts in reversed(below)
        if (place := layout.place(parts, is_file=False)) is not None
    }
    _check_regions({name for _, name in placed.values()}, {name for _, name in expected})
    if empty := sorted(expected.keys() - set(placed.values())):
        path = "/".join(expected[empty[0]])
        raise UnusableDataError(
            f"the class folder {shown(path)} has no images", "remove the folder or add images to it"
        )
    names = _class_names(set(placed.values()))
    placed = {
        position: (split, names.of[split, name]) for position, (split, name) in placed.items()
    }
    classes = _classes(set(placed.values()))
    label_of = {name: label for label, name in enumerate(classes)}
    chosen = sorted(placed, key=lambda position: (placed[position], images[position]))
    labels = np.array([label_of[placed[position][1]] for position in chosen], dtype=np.int64)
    splits = np.array([placed[position][0] for position in chosen], dtype=np.int8)
    notes = [
        *layout.notes,
        *names.notes,
        *_describe_encoding(classes),
        *_left_out(
            [paths[position] for position in paths.keys() - placed.keys() - thumbnails],
            len(wrapper),
        ),
        *describe_thumbnails([images[position] for position in thumbnails]),
        *check_masks(placed, images),
        *_deeper([inside[position] for position in chosen], layout),
    ]
    return Arrangement(
        classes=tuple(printable(name) for name in classes),
        chosen=np.array(chosen, dtype=np.int64),
        labels=labels,
        splits=splits,
        notes=tuple(notes),
        origin=_origin(splits, layout),
    )


@dataclass(frozen=True)
class _Names:
    """The class of each split and class folder."""

    of: Mapping[tuple[int, str], str]
    notes: tuple[str, ...]


def _class_names(placed: Iterable[tuple[int, str]]) -> _Names:
    of = {(split, folder): one_form(folder) for split, folder in placed}
    notes = []
    forms: dict[str, set[str]] = defaultdict(set)
    present: dict[int, set[str]] = defaultdict(set)
    for (split, folder), name in of.items():
        forms[name].add(folder)
        present[split].add(name)
    if several := sorted(name for name, folders in forms.items() if len(folders) > 1):
        notes.append(
            f"folders of {some(several, 4)} differ in their Unicode form and are taken as one class"
        )
    for split in sorted(present.keys() - {0}):
        candidates = by_likeness(present[0] - present[split])
        for likeness, unknown in sorted(by_likeness(present[split] - present[0]).items()):
            known = candidates.get(likeness, [])
            if len(known) == len(unknown) == 1:
                of |= {
                    key: known[0]
                    for key, name in of.items()
                    if name == unknown[0] and key[0] == split
                }
                notes.append(
                    f"{shown(unknown[0])} of the {SPLITS[split]} split is taken as the class "
                    f"{shown(known[0])}"
                )
    return _Names(of, (*notes, *describe_doubtful(present[0])))


def _classes(placed: set[tuple[int, str]]) -> list[str]:
    """Return the classes after checking that each split has images of each."""
    classes = sorted(name for split, name in placed if split == 0)
    if len(classes) < 2:
        if others := sorted((name, split) for split, name in placed if name not in classes):
            name, split = others[0]
            raise UnusableDataError(
                f"the class {shown(name)} is in {SPLITS[split]}/ but has no training images: "
                f"{shown(classes[0])} is the only class in train/",
                "give both the same class folders",
            )
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


def _check_regions(names: set[str], empty: set[str]) -> None:
    """Reject folders of images beside folders that mark regions in them.

    Args:
        names: class folders with images.
        empty: class folders; those of marks may have no images.
    """
    kinds = {name.casefold() for name in names}
    marks = {name for name in names | empty if name.casefold() in REGIONS}
    if kinds & _IMAGES and marks and kinds <= REGIONS | _IMAGES:
        listed = sorted(names | marks)
        raise UnusableDataError(
            f"the folders {some(listed, 4)} look like images and marked regions in them, not like "
            "classes",
            "arrange the images as CLASS/*.jpg",
        )


def _describe_encoding(classes: Iterable[str]) -> list[str]:
    """Return a note on names of folders that are not UTF-8."""
    odd = [name for name in classes if any("\ud800" <= c <= "\udfff" for c in name)]
    if not odd:
        return []
    verb = "is" if len(odd) == 1 else "are"
    noun = "name of the class folder" if len(odd) == 1 else "names of the class folders"
    return [f"the {noun} {some(odd, 4)} {verb} not UTF-8, and escapes stand for some bytes"]


def _origin(splits: NDArray[np.int8], layout: Layout) -> Origin:
    """Return the folders of the splits, or of the classes."""
    found = sorted(set(splits.tolist()))
    if found == [0] and () in layout.roots:
        return Origin(
            whole=f"class folders in {shown_folder(*layout.wrapper)}" if layout.wrapper else ""
        )
    return Origin({split: layout.folder(split) for split in found})


def _left_out(paths: Sequence[Parts], depth: int) -> list[str]:
    """Return a note on images outside the class folders, of which ``depth`` contain everything."""
    if not paths:
        return []
    places = Counter(
        shown_folder(*parts[: depth + 1]) if len(parts) > depth + 1 else "" for parts in paths
    )
    parts = [
        f"{count} {f'in {place}' if place else 'beside the folders'}"
        for place, count in sorted(places.items(), key=lambda item: (-item[1], item[0]))[:5]
    ]
    rest = "" if len(places) <= 5 else f" and in {len(places) - 5} other folders"
    return [
        f"{counted(len(paths), 'image')} outside the class folders left out: "
        f"{', '.join(parts)}{rest} (e.g. {shown('/'.join(min(paths)))})"
    ]


def _deeper(paths: Sequence[Parts], layout: Layout) -> list[str]:
    """Return a note on images in subfolders of class folders."""
    depths = {root[0] if root else "": len(root) + 2 for root in layout.roots}
    deeper = [
        parts for parts in paths if len(parts) > depths.get(parts[0], depths.get("", len(parts)))
    ]
    if not deeper:
        return []
    return [
        f"{counted(len(deeper), 'image')} in subfolders counted for the class folder above "
        f"(e.g. {shown('/'.join(deeper[0]))})"
    ]
