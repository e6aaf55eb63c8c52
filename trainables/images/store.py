"""Stores decoded images on disk and maps them into memory.

All processes of a node share one copy of a mapped file in the page cache.
"""

import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spaces.errors import BadInputError
from trainables.image_size import ImageSize
from trainables.images.cache import root_of, usable
from trainables.images.decode_pool import decode_here, decode_in_parallel
from trainables.images.decoding import (
    Chunk,
    Decoded,
    Misfit,
    Outcome,
    RangeNeeded,
    Surveyed,
    TooLarge,
    Unreadable,
    process,
)
from trainables.images.errors import UnusableDataError, brief
from trainables.images.findings import Findings
from trainables.images.image_file import ImageFile
from trainables.images.layout.split_names import SPLITS
from trainables.images.pixels import RangeNeededError, Rules
from trainables.images.similarity import THUMBNAIL, Thumbnails, similar_pairs
from trainables.images.sources import Item, Listing, Origin
from trainables.images.value_range import Histogram, ValueRange
from trainables.specs import Decoding

FORMAT = 8
"""Version of the file format; a new version decodes all cached sets again."""

Progress = Callable[[int, int | None], None]

# Parallel decoding pays only above this many images or bytes.
FEW_IMAGES = 2_000
FEW_BYTES = 64 * 2**20

# A chunk is a process's unit of work and bounds its memory.
CHUNK_IMAGES = 256
CHUNK_BYTES = 16 * 2**20

# No file name contains it.
_END = "\0"

_TRAIN = SPLITS.index("train")

_IMAGES, _MOMENTS, _DIGESTS, _SIMILAR, _LABELS, _SPLITS, _NAMES, _GROUPS, _FACTS = (
    "images.npy",
    "moments.npy",
    "digests.npy",
    "similar.npy",
    "labels.npy",
    "splits.npy",
    "names.npy",
    "groups.npy",
    "facts.json",
)


@dataclass(frozen=True, eq=False)
class Stored:
    """A decoded set in the cache.

    Args:
        images: uint8 [n, height, width, channels], mapped read-only.
        moments: int64 [n, channels, 2], mapped read-only, see
            :func:`trainables.images.decoding.moments`.
        digests: uint64 [n], see :func:`trainables.images.decoding.digest`.
        similar: int64 [m, 2], see :func:`trainables.images.similarity.similar_pairs`.
        labels: int64 [n].
        splits: int8 [n], see :class:`trainables.images.sources.Listing`.
        classes: names of the classes.
        notes: see :class:`trainables.images.sources.Listing`; also what decoding assumed.
        encoded_names: UTF-8 bytes of :attr:`names`, mapped read-only.
        groups: int64 [n], see :class:`trainables.images.sources.Listing`; None without groups.
        origin: see :class:`trainables.images.sources.Listing`.
        value_range: values of deep images that became 0 and 255; None if they are unknown, as in
            sets that an earlier version decoded.
    """

    images: NDArray[np.uint8]
    moments: NDArray[np.int64]
    digests: NDArray[np.uint64]
    similar: NDArray[np.int64]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    encoded_names: NDArray[np.uint8]
    groups: NDArray[np.int64] | None
    origin: Origin
    value_range: tuple[float, float] | None = None

    @cached_property
    def names(self) -> tuple[str, ...] | None:
        """Relative path of each image, [n]; None if the images are not files."""
        text = self.encoded_names.tobytes().decode("utf-8", "surrogateescape")
        return tuple(text.split(_END)) if text else None


def read(folder: Path) -> Stored | None:
    """Open a decoded set; return None if it is missing or damaged."""
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        return Stored(
            images=np.load(folder / _IMAGES, mmap_mode="r"),
            moments=np.load(folder / _MOMENTS, mmap_mode="r"),
            digests=np.load(folder / _DIGESTS),
            similar=np.load(folder / _SIMILAR),
            labels=np.load(folder / _LABELS),
            splits=np.load(folder / _SPLITS),
            classes=tuple(facts["classes"]),
            notes=tuple(facts["notes"]),
            encoded_names=np.load(folder / _NAMES, mmap_mode="r"),
            groups=np.load(folder / _GROUPS) if facts["grouped"] else None,
            origin=Origin({SPLITS.index(n): p for n, p in facts["places"].items()}, facts["whole"]),
            value_range=_pair(facts.get("value_range")),
        )
    except (FileNotFoundError, NotADirectoryError, EOFError, ValueError, KeyError):
        return None


def write(
    folder: Path,
    listing: Listing,
    resolution: int | ImageSize | None,
    decoding: Decoding,
    progress: Progress,
) -> None:
    """Decode all images of a source into an empty folder.

    Args:
        folder: folder of the files.
        listing: images to decode.
        resolution: side or size of the images in pixels; None keeps their common size.
        decoding: background, range of values and largest image.
        progress: called with the number of decoded images and their total; once more from the
            start if the range of values must be found first.

    Raises:
        UnusableDataError: an image cannot be read.
        BadInputError: an image is too large, the images differ in size without a resolution, or
            the disk is full.
    """
    rules = Rules(
        background=decoding.background_rgb,
        max_pixels=round(decoding.max_megapixels * 1e6),
        value_range=decoding.value_range,
        fit=decoding.fit,
        grey=decoding.grey,
    )
    notes = list(listing.notes)
    origin = "as set"
    try:
        done = _decode(folder, listing, resolution, rules, progress)
    except RangeNeededError as needed:
        with usable(root_of(folder)):
            for path in folder.iterdir():
                path.unlink()
        found = _find_range(listing, rules, str(needed), progress)
        rules = replace(rules, value_range=(found.low, found.high))
        done = _decode(folder, listing, resolution, rules, progress)
        only_train = not np.all(listing.splits == _TRAIN)
        origin = f"the range of {'the training images' if only_train else 'all images'}"
        notes += found.notes()
    notes += done.found.notes(decoding.background, rules.value_range, origin)
    similar = _similar(done, np.load(folder / _IMAGES, mmap_mode="r"))
    with usable(root_of(folder)):
        np.save(folder / _MOMENTS, done.moments)
        np.save(folder / _DIGESTS, done.digests)
        np.save(folder / _SIMILAR, similar)
        np.save(folder / _LABELS, listing.labels)
        np.save(folder / _SPLITS, listing.splits)
        np.save(folder / _NAMES, _encode(listing.names or ()))
        if listing.groups is not None:
            np.save(folder / _GROUPS, listing.groups)
        facts = {
            "classes": listing.classes,
            "notes": notes,
            "grouped": listing.groups is not None,
            "places": {SPLITS[split]: place for split, place in listing.origin.places.items()},
            "whole": listing.origin.whole,
            "value_range": rules.value_range,
        }
        (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
        # Sync before the folder is renamed: a power cut must not keep only the name.
        for path in folder.iterdir():
            _flush(path)


def _pair(values: Sequence[float] | None) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])


def _encode(names: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(_END.join(names).encode("utf-8", "surrogateescape"), dtype=np.uint8)


def _similar(done: "_Done", images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the pairs of similar images, with the first row of exact copies."""
    _, first = np.unique(done.digests, return_index=True)
    first.sort()
    different = images if len(first) == len(images) else images[first]
    return first[similar_pairs(done.thumbnails[first], different)]


@dataclass(frozen=True, eq=False)
class _Done:
    """What is known of all images after decoding them."""

    moments: NDArray[np.int64]
    digests: NDArray[np.uint64]
    thumbnails: Thumbnails
    found: Findings


def _decode(
    folder: Path,
    listing: Listing,
    resolution: int | ImageSize | None,
    rules: Rules,
    progress: Progress,
) -> _Done:
    """Write the pixels of all images.

    Raises:
        RangeNeededError: with the name of a deep image, if the rules have no range of values.
    """
    count = len(listing.labels)
    moments = np.zeros((count, 3, 2), dtype=np.int64)
    digests = np.zeros(count, dtype=np.uint64)
    thumbs = np.zeros((count, *THUMBNAIL), dtype=np.uint8)
    found = Findings()
    # On failure close the archive and end decoding processes.
    with closing(listing.items()) as items:
        first = next(items, None)
        if first is None:
            raise _gone(count, count)
        wanted = None if resolution is None else ImageSize.of(resolution)
        size = _size_of(first, rules) if wanted is None else (wanted.width, wanted.height)
        shape = Chunk((), (), (), size, resolution is not None, rules)
        chunks = _chunks(chain([first], items), shape)
        with (
            ImageFile(folder / _IMAGES, count, size) as file,
            closing(_process_all(listing)(chunks)) as outcomes,
        ):
            for outcome in outcomes:
                decoded = _accept(outcome, first.name, shape)
                with usable(root_of(folder)):
                    file.put(decoded.rows, decoded.images)
                moments[decoded.rows] = decoded.moments
                digests[decoded.rows] = decoded.digests
                thumbs[decoded.rows] = decoded.thumbnails
                found += decoded.found
                progress(found.images, count)
            channels = file.channels
    if found.images != count:
        raise _gone(count - found.images, count)
    return _Done(moments[:, :channels], digests, thumbs, found)


def _find_range(listing: Listing, rules: Rules, deep: str, progress: Progress) -> ValueRange:
    """Return the range of the values of the deep training images.

    If the source has no splits, all images count as training images: the splits are drawn later.

    Args:
        listing: all images.
        rules: without a range.
        deep: name of a deep image.
        progress: called with the number of examined images and their total.
    """
    train = listing.splits == _TRAIN
    histogram = Histogram()
    done = 0
    with closing(listing.items()) as items:
        shape = Chunk((), (), (), None, fit=False, rules=rules, survey=True)
        chunks = _chunks((item for item in items if train[item.row]), shape)
        with closing(_process_all(listing)(chunks)) as outcomes:
            for outcome in outcomes:
                surveyed = _usable(outcome, rules)
                if isinstance(surveyed, Surveyed):
                    histogram.add(surveyed.values)
                    done += surveyed.images
                progress(done, int(train.sum()))
    if histogram.total == 0:
        raise BadInputError(
            "decoding.value_range",
            None,
            f"the image {deep} has 16 or 32 bits per pixel, and no training image has such pixels, "
            "so their range is unknown",
            "set the values that become black and white, such as [0, 65535]",
        )
    return histogram.value_range()


def _process_all(listing: Listing) -> Callable[[Iterable[Chunk]], Generator[Outcome, None, None]]:
    few = len(listing.labels) <= FEW_IMAGES and listing.total_size <= FEW_BYTES
    return decode_here if few else decode_in_parallel


def _gone(missing: int, count: int) -> UnusableDataError:
    return UnusableDataError(
        f"{missing:,} of its {count:,} images disappeared before they were decoded",
        "do not change the files while they are read",
    )


def _size_of(item: Item, rules: Rules) -> tuple[int, int]:
    shape = Chunk((), (), (), None, fit=False, rules=rules)
    outcome = process(_chunk([item], shape))
    _, height, width, _ = _accept(outcome, item.name, shape).images.shape
    return width, height


def _chunks(items: Iterator[Item], shape: Chunk) -> Iterator[Chunk]:
    """Group items into chunks with bounded numbers of images, encoded and decoded bytes."""
    width, height = shape.size or (1, 1)
    most = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // (3 * width * height)))
    gathered: list[Item] = []
    encoded = 0
    for item in items:
        gathered.append(item)
        encoded += item.size
        if len(gathered) >= most or encoded >= CHUNK_BYTES:
            yield _chunk(gathered, shape)
            gathered, encoded = [], 0
    if gathered:
        yield _chunk(gathered, shape)


def _chunk(items: list[Item], shape: Chunk) -> Chunk:
    return replace(
        shape,
        rows=tuple(item.row for item in items),
        names=tuple(item.name for item in items),
        contents=tuple(item.content for item in items),
    )


def _accept(outcome: Outcome, first: str, shape: Chunk) -> Decoded:
    usable_outcome = _usable(outcome, shape.rules)
    match usable_outcome:
        case Decoded():
            return usable_outcome
        case Misfit(name, (width, height)) if shape.size is not None:
            raise BadInputError(
                "resolution",
                None,
                f"the images differ in size ({first} has {shape.size[0]}x{shape.size[1]} pixels, "
                f"{name} has {width}x{height})",
                "set resolution to the common side in pixels",
            )
    raise TypeError(f"{type(usable_outcome).__name__} is not the outcome of decoding")


def _usable(outcome: Outcome, rules: Rules) -> Decoded | Surveyed | Misfit:
    match outcome:
        case Unreadable(name, cause):
            raise UnusableDataError(
                f"the image {name} cannot be read ({brief(cause)})",
                "remove, repair or convert it",
            )
        case TooLarge(name, pixels):
            megapixels = f"{pixels / 1e6:f}".rstrip("0").rstrip(".")
            raise BadInputError(
                "decoding.max_megapixels",
                rules.max_pixels / 1e6,
                f"the image {name} has {megapixels} megapixels",
                f"if you trust it, set decoding.max_megapixels to {ceil(pixels / 1e6)}; otherwise "
                "remove it",
            )
        case RangeNeeded(name):
            raise RangeNeededError(name)
    return outcome


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
