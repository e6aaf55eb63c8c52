"""Finds images in class folders that are no examples of the class: thumbnails and masks."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from trainables.images.errors import UnusableDataError, counted, shown
from trainables.images.layout.folders import Parts
from trainables.images.layout.split_names import THUMBNAILS

MANY_MASKS = 0.2
"""Fraction of the images of a class that makes names of masks an error."""

_MASK = re.compile(
    r"(.+?)[\s_.-]+(?:masks?|seg|segmentation|labels?|gt|ground_?truth|annot|annotations?)"
    r"(?:[\s_-]*\d+)?",
    re.IGNORECASE,
)

Place = tuple[int, str]
"""Split and class of an image."""


def find_thumbnails(placed: Mapping[int, Place], inside: Mapping[int, Parts]) -> set[int]:
    """Return the images in folders of thumbnails inside class folders that have other images.

    Args:
        placed: place of each image.
        inside: folders and name of each image.
    """
    found = set()
    for position, (_, name) in placed.items():
        parts = inside[position]
        # A class may be named like thumbnails.
        below = parts[parts.index(name) + 1 : -1]
        if any(part.casefold() in THUMBNAILS for part in below):
            found.add(position)
    others = {placed[position] for position in placed.keys() - found}
    return {position for position in found if placed[position] in others}


def describe_thumbnails(paths: Sequence[str]) -> list[str]:
    """Return a note on thumbnails that are left out."""
    if not paths:
        return []
    return [
        f"{counted(len(paths), 'image')} in folders of thumbnails left out (e.g. "
        f"{shown(min(paths))})"
    ]


def check_masks(placed: Mapping[int, Place], images: Sequence[str]) -> list[str]:
    """Return a note on images that are named like masks of others in the same folder.

    Raises:
        UnusableDataError: a substantial part of a class is.
    """
    masks = _masks(images[position] for position in placed)
    if not masks:
        return []
    found = Counter(place for position, place in placed.items() if images[position] in masks)
    sizes = Counter(placed.values())
    place, count = max(found.items(), key=lambda item: (item[1] / sizes[item[0]], item[0]))
    of_class = min(images[p] for p in placed if placed[p] == place and images[p] in masks)
    example = f"(e.g. {shown(of_class)} beside {shown(masks[of_class])})"
    if count >= MANY_MASKS * sizes[place]:
        raise UnusableDataError(
            f"{count} of {counted(sizes[place], 'image')} of the class {shown(place[1])} are named "
            f"like masks of others in the same folder {example}",
            "move the masks out of the class folders",
        )
    return [
        f"masks may count as images: {len(masks)} named like masks of others in the same folder "
        f"{example}; move them out of the class folders if they are masks"
    ]


def _masks(paths: Iterable[str]) -> dict[str, str]:
    """Return each path named like a mask, and the path of its image."""
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    for path in paths:
        folder, _, name = path.rpartition("/")
        by_folder[folder][name.rpartition(".")[0] or name] = path
    return {
        path: stems[match[1]]
        for stems in by_folder.values()
        for stem, path in stems.items()
        if (match := _MASK.fullmatch(stem)) and match[1] in stems
    }
