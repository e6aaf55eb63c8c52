"""Finds image files and reads them as inputs of an exported model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spaces.errors import BadInputError
from trainables.export.preprocessing import Preprocessing
from trainables.images.decoding import (
    Chunk,
    Decoded,
    RangeNeeded,
    TooLarge,
    Unreadable,
    process,
)
from trainables.images.errors import brief
from trainables.images.file_kinds import HEAD_BYTES, Kind, begins_like_image, kind_of, skipped_part


class UnreadablePhotoError(Exception):
    """A file is not an image that can be read; the message is the cause."""


def find_photos(paths: Iterable[Path]) -> list[Path]:
    """Return given files, and the image files below given folders, in order and once.

    Hidden and system files in folders are left out.

    Raises:
        BadInputError: a path does not exist.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise BadInputError("PATH", path, "does not exist", "name an image or a folder")
        found.update(dict.fromkeys(_below(path) if path.is_dir() else [path]))
    return list(found)


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if skipped_part(name) is None)
        for name in sorted(names):
            path = Path(parent, name)
            if skipped_part(name) is None and _is_photo(path):
                yield path


def _is_photo(path: Path) -> bool:
    kind = kind_of(path.name)
    if kind is not Kind.UNKNOWN:
        # The user sees that an image in another format is skipped.
        return kind in (Kind.IMAGE, Kind.UNREAD)
    try:
        with path.open("rb") as file:
            return begins_like_image(file.read(HEAD_BYTES))
    except OSError:
        return False


def read_photo(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return an image as the search would have read it, uint8 ``[channels, height, width]``.

    Args:
        path: of the file.
        preprocessing: of the model.

    Raises:
        UnreadablePhotoError: it cannot be read.
    """
    height, width = preprocessing.size
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadablePhotoError(error.strerror or str(error)) from None
    rules = preprocessing.rules
    outcome = process(Chunk((0,), (str(path),), (content,), (width, height), True, rules))
    match outcome:
        case Decoded():
            return _with_channels(outcome.images[0], preprocessing.channels).transpose(2, 0, 1)
        case Unreadable(_, cause):
            raise UnreadablePhotoError(brief(cause))
        case TooLarge(_, pixels):
            limit = preprocessing.max_megapixels
            raise UnreadablePhotoError(f"{pixels / 1e6:.1f} megapixels, more than {limit:g}")
        case RangeNeeded():
            raise UnreadablePhotoError(
                "16 or 32 bits per pixel, and the range of such values in the data is unknown"
            )
    raise TypeError(f"{type(outcome).__name__} is not the outcome of decoding")


def _with_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return an image [h, w, 1 or 3] with the channels of the model."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]
