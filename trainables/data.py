"""Loads the images of a search: decoded once per node, with equal splits everywhere."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster.storage import StorageError
from spaces.errors import BadInputError
from trainables.data_checks import check_spec
from trainables.data_identity import DataIdentity, identify
from trainables.folds import Folds
from trainables.image_size import ImageSize
from trainables.images import store as image_store
from trainables.images.cache import cache_root, fetch
from trainables.images.decoding import digest, moments
from trainables.images.errors import UnusableDataError, printable
from trainables.images.layout.split_names import SPLITS
from trainables.images.opening import is_pinned, open_source
from trainables.images.sources import Origin
from trainables.images.splitting.balance import describe_balance
from trainables.images.splitting.duplicates import Copies
from trainables.images.splitting.folds import draw_folds
from trainables.images.splitting.groups import (
    check_undivided,
    describe_groups,
    groups_by_name,
)
from trainables.images.splitting.splits import Splits, draw_splits, join_groups
from trainables.images.splitting.validation_list import (
    apply_validation_list,
    with_validation_list,
)
from trainables.images.summary import summarize
from trainables.specs import DataSpec, Decoding


class NodeDataError(BadInputError):
    """A node lacks the images of its search, or has others than the driver."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled images in three disjoint splits.

    Args:
        images: uint8 [n, height, width, channels], read-only. :func:`load` maps them from the
            cache, so that a slice reads only its own pages.
        labels: class index of each image, int64 [n].
        classes: names of the classes.
        train: rows of the training split, int64, sorted.
        validation: rows of the split on which the search compares trials, int64, sorted.
        test: rows of the split that scores finalists only, int64, sorted.
        moments: sums and sums of squares of each image, int64 [n, channels, 2], see
            :func:`trainables.images.decoding.moments`; by default computed from the images.
        notes: one line each: what was found in the source, and what was assumed or left out.
        digests: digest of the content of each image, uint64 [n], see
            :func:`trainables.images.decoding.digest`; by default computed from the images.
        version: of the images in a bucket or of a user's function, see
            :meth:`trainables.images.sources.Source.version`; None for other sources.
        folds: fold of each image of the training split in each repetition, int8 [repetitions,
            train]; the validation split is empty then. None with a validation split.
        value_range: values of images with 16 or 32 bits per pixel that became 0 and 255; None if
            they are unknown.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    moments: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()
    digests: NDArray[np.uint64] | None = None
    version: str | None = None
    folds: NDArray[np.int8] | None = None
    value_range: tuple[float, float] | None = None

    def __repr__(self) -> str:
        height, width, channels = self.shape
        held_out = f"{len(self.validation)} validation"
        if self.folds is not None:
            held_out = f"validation by {self._fold_setting}"
        return (
            f"Dataset({len(self.classes)} classes of {height}x{width}x{channels}: "
            f"{len(self.train)} train, {held_out}, {len(self.test)} test)"
        )

    @cached_property
    def parts(self) -> tuple[Dataset, ...]:
        """These images with one fold as validation split each; only themselves without folds.

        The repetitions follow one another.
        """
        if self.folds is None:
            return (self,)
        held_out = [
            folds == fold for folds in self.folds for fold in range(self._fold_setting.count)
        ]
        return tuple(
            replace(self, train=self.train[~held], validation=self.train[held], folds=None)
            for held in held_out
        )

    @property
    def training_images(self) -> int:
        """The fewest images that a network is trained on."""
        return min(len(part.train) for part in self.parts)

    def finalist_part(self, seed: int) -> Dataset:
        """Return the images of a finalist's seed: without the fold of that number, modulo folds."""
        return self.parts[seed % (1 if self.folds is None else self._fold_setting.count)]

    @property
    def _fold_setting(self) -> Folds:
        assert self.folds is not None  # noqa: S101 - asked only with folds
        return Folds(int(self.folds.max()) + 1, len(self.folds))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height and width in pixels, and number of channels, of each image."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    @property
    def channels(self) -> int:
        """1 for greyscale, 3 for RGB."""
        return self.shape[2]

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over the train split, in 0..1."""
        return self._statistics[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over the train split, in units of 0..1.

        1 for a constant channel, so that dividing by it is safe.
        """
        return self._statistics[1]

    @property
    def image_digests(self) -> NDArray[np.uint64]:
        """Digest of the content of each image, [n]; pixels are read only without ``digests``."""
        if self.digests is not None:
            return self.digests
        return np.array([digest(image) for image in self.images], dtype=np.uint64)

    def identify(self, decoding: Decoding) -> DataIdentity:
        """Return the identity of these images; pixels are read only without ``digests``.

        Args:
            decoding: with which they were decoded.
        """
        return identify(
            self.classes,
            self.labels,
            self.image_digests,
            (self.train, self.validation, self.test),
            self.shape,
            decoding.identity,
            self.folds,
        )

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        height, width, _ = self.shape
        given = (
            moments(self.images[self.train]) if self.moments is None else self.moments[self.train]
        )
        sums, squares = (given.sum(axis=0)[:, order].astype(float) for order in (0, 1))
        count = len(self.train) * height * width
        mean = sums / count
        variance = np.maximum(squares / count - mean**2, 0)
        std = np.where(variance > 0, np.sqrt(variance) / 255, 1.0)
        return tuple((mean / 255).tolist()), tuple(std.tolist())


def load(
    data: DataSpec,
    *,
    cache: Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Dataset:
    """Load a set of labelled images.

    The first call for a source and resolution decodes the images into the cache. Later calls, also
    from other processes and with other splits, map the cached images within milliseconds.
    Concurrent calls wait for the process that decodes.

    Args:
        data: source, resolution and splits.
        cache: folder of decoded sets; by default BORDERLINE_CACHE or the user's cache folder.
        progress: called with the bytes fetched and their total while fetching, then with the images
            decoded and their total (None while unknown); never called for cached images.

    Raises:
        NodeDataError: ``data.expected`` is given, and the images cannot be used or differ from it.
        BadInputError: an argument or the data cannot be used; the message states cause and remedy
            in one line.
    """
    report, root = progress or _silent, cache_root(cache)
    if data.expected is not None:
        return _load_expected(data, data.expected, root, report)
    return _load(data, root, report)


def _load(data: DataSpec, root: Path, report: image_store.Progress) -> Dataset:
    check_spec(data)
    source, resolution = data.source, data.resolution

    def decode_into(folder: Path) -> None:
        report(0, None)
        if opened.version() != wanted:
            raise _changed(since_start=data.version is not None)
        image_store.write(folder, opened.listing(), resolution, data.decoding, report)

    folds = data.validation if isinstance(data.validation, Folds) else None

    try:
        opened = open_source(data, root, report, wait_for_bucket=data.version is not None)
        wanted = data.version or opened.version()
        key = _key(wanted, resolution, data.decoding)
        stored = fetch(root, key, image_store.read, decode_into)
        given, groups = _fixed(data, stored)
        if folds is not None and np.any(given == SPLITS.index("validation")):
            problem = "the data has a validation split of its own"
            remedy = "leave it out, or move those images to train"
            raise BadInputError("validation", folds, problem, remedy)
        copies = Copies(stored.digests, stored.similar, stored.labels, stored.classes, stored.names)

        def draw(together: NDArray[np.int64] | None) -> Splits:
            drawn = draw_splits(
                stored.labels,
                given,
                stored.classes,
                validation=None if isinstance(data.validation, Folds) else data.validation,
                test=data.test,
                subset=data.subset,
                seed=data.split_seed,
                groups=together,
            )
            if folds is None:
                return drawn
            labels = stored.labels[drawn.train]
            kept = None if together is None else together[drawn.train]
            divided = draw_folds(labels, stored.classes, folds, seed=data.split_seed, groups=kept)
            return replace(drawn, folds=divided)

        splits, notes_on_copies = copies.draw(given, groups, draw)
    except (UnusableDataError, StorageError) as error:
        raise BadInputError("data", printable(source), error.problem, error.remedy) from error
    return Dataset(
        images=stored.images,
        labels=stored.labels,
        classes=stored.classes,
        train=splits.train,
        validation=splits.validation,
        test=splits.test,
        moments=stored.moments,
        notes=(
            summarize(
                stored.classes,
                stored.labels,
                given,
                _origin(data, stored),
                has_folds=folds is not None,
            ),
            *stored.notes,
            *([] if folds is None else [_describe_folds(folds, len(splits.train))]),
            *([] if groups is None else [describe_groups(groups)]),
            *notes_on_copies,
            *describe_balance(stored.labels[splits.train], stored.classes),
        ),
        digests=stored.digests,
        version=wanted if is_pinned(source) else None,
        folds=splits.folds,
        value_range=stored.value_range,
    )


def _describe_folds(folds: Folds, images: int) -> str:
    times = "once" if folds.repetitions == 1 else f"{folds.repetitions} times"
    return (
        f"validation by {folds}: each of the {images:,} training images is held out {times}; each "
        f"trial trains {folds.trainings} networks, so the search costs about {folds.trainings} "
        "times as much"
    )


def _load_expected(
    data: DataSpec, expected: DataIdentity, root: Path, report: image_store.Progress
) -> Dataset:
    """Load the images that another process has loaded, and name this node if it cannot."""
    try:
        dataset = _load(data, root, report)
    except BadInputError as error:
        if isinstance(error.__cause__, StorageError):
            raise  # The bucket may be available again.
        problem = f"the images on the node {platform.node()} cannot be used: {error.problem}"
        raise NodeDataError(error.field, error.value, problem, error.remedy) from error
    differences = expected.difference(dataset.identify(data.decoding))
    if differences:
        problem = (
            f"the images on the node {platform.node()} differ from those that the search started "
            f"with: {'; '.join(differences)}"
        )
        remedy = "give all nodes the same images and leave them unchanged, then resume the search"
        raise NodeDataError("data", printable(data.source), problem, remedy)
    return dataset


def _changed(*, since_start: bool) -> UnusableDataError:
    if since_start:
        problem, remedy = "since the search started", "restore the original images"
    else:
        problem = "while they were opened"
        remedy = "do not change them, or the version of the function that returns them"
    return UnusableDataError(f"the images have changed {problem}", remedy)


def _fixed(
    data: DataSpec, stored: image_store.Stored
) -> tuple[NDArray[np.int8], NDArray[np.int64] | None]:
    """Return the splits that are not drawn, and the groups that no drawn split may divide."""
    given, groups = stored.splits, stored.groups
    if data.validation_list is not None:
        given = apply_validation_list(
            data.validation_list, stored.names, stored.labels, given, stored.classes
        )
    if data.groups is not None:
        by_name = groups_by_name(data.groups, stored.names)
        groups = by_name if groups is None else join_groups(groups, by_name)
    if groups is not None:
        check_undivided(groups, given, stored.names or ())
    return given, groups


def _origin(data: DataSpec, stored: image_store.Stored) -> Origin:
    if data.validation_list is None:
        return stored.origin
    return with_validation_list(stored.origin, data.validation_list)


def _key(version: str, resolution: int | ImageSize | None, decoding: Decoding) -> str:
    # A limit decides whether an image is refused, not what its pixels are.
    pixels = f"{decoding.background_rgb} {decoding.value_range}"
    if decoding.fit != "crop" or decoding.grey:
        pixels += f" {decoding.fit} {decoding.grey}"
    decoded = f"{image_store.FORMAT} {resolution} {pixels} {version}"
    return hashlib.sha256(decoded.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _silent(_done: int, _total: int | None) -> None:
    """Ignore progress."""
