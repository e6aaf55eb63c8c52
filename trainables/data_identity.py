"""The identity of labelled images: tells whether two searches, or two nodes, use the same data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from trainables import colours
from trainables.folds import Folds
from trainables.images.errors import counted
from trainables.images.layout.split_names import SPLITS

_SHOWN = 3
"""Number of classes that a phrase names."""


@dataclass(frozen=True)
class ClassIdentity:
    """The images of one class.

    Attributes:
        name: of the class.
        images: number of images in train, validation and test.
        digest: of the content of all its images, whatever their order, names and splits.
    """

    name: str
    images: tuple[int, int, int]
    digest: str

    @property
    def total(self) -> int:
        """Number of images in all splits."""
        return sum(self.images)


@dataclass(frozen=True)
class FoldIdentity:
    """The folds of the training images.

    Attributes:
        setting: their number and repetitions.
        training_images: the fewest images that a network is trained on.
        digest: of the set of images in each fold, with their classes.
    """

    setting: Folds
    training_images: int
    digest: str


@dataclass(frozen=True)
class DataIdentity:
    """The identity of the data of a search.

    It depends on the content of the images, not on where they are stored, on the names of files,
    or on their times.

    Attributes:
        classes: in the order of the labels.
        splits: for train, validation and test, a digest of the set of images with their classes.
        shape: height and width in pixels, and number of channels, of the decoded images.
        decoding: the settings that decide how files become pixels.
        folds: how validation holds training images out; None with a validation split.
    """

    classes: tuple[ClassIdentity, ...]
    splits: tuple[str, str, str]
    shape: tuple[int, int, int]
    decoding: str
    folds: FoldIdentity | None = None

    @property
    def images(self) -> int:
        """Number of images in all splits."""
        return sum(each.total for each in self.classes)

    def split_images(self, split: int) -> int:
        """Return the number of images of a split: 0 is train, 1 validation, 2 test."""
        return sum(each.images[split] for each in self.classes)

    @property
    def training_images(self) -> int:
        """The fewest images that a network is trained on."""
        return self.folds.training_images if self.folds else self.split_images(0)

    @property
    def validation_images(self) -> int:
        """Number of images that score a trial; repetitions of folds add none."""
        return self.split_images(0 if self.folds else 1)

    def finalist_validation_images(self, seeds: Iterable[int]) -> int:
        """Return the number of images that the given seeds of a finalist hold out together."""
        if self.folds is None:
            return self.validation_images
        count = self.folds.setting.count
        return max(1, self.validation_images * len({seed % count for seed in seeds}) // count)

    def to_json(self) -> str:
        """Return the identity as JSON."""
        content = asdict(self)
        if self.folds is None:
            # Digests of data without folds stay those of earlier versions.
            del content["folds"]
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> DataIdentity:
        """Return the identity that `to_json` wrote.

        Raises:
            ValueError: the text is something else.
        """
        try:
            found = TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise ValueError(str(error)) from None
        return replace(found, decoding=_canonical_background(found.decoding))

    def describe(self) -> str:
        """Return the identity in one line for people."""
        counts = [f"{self.split_images(index)} {split}" for index, split in enumerate(SPLITS)]
        if self.folds is not None:
            counts[1] = f"validation by {self.folds.setting}"
        return (
            f"{len(self.classes)} classes, {counted(self.images, 'image')} of {_shape(self)} "
            f"({', '.join(counts)}), digest {self.digest}"
        )

    def difference(self, other: DataIdentity) -> list[str]:
        """Return how other data differ from these, a phrase each; empty if they are the same.

        Example:
            >>> cat = ClassIdentity("cat", (8, 1, 1), "a")
            >>> dog = ClassIdentity("dog", (8, 1, 1), "b")
            >>> bird = ClassIdentity("bird", (9, 2, 1), "c")
            >>> before = DataIdentity((cat, dog), ("1", "2", "3"), (8, 8, 1), "")
            >>> before.difference(DataIdentity((bird, cat), ("4", "5", "6"), (8, 8, 1), ""))
            ['new class bird', 'dog is gone', '2 images more']
        """
        phrases = [*_other_classes(self, other), *_other_images(self, other)]
        if not phrases and self.splits != other.splits:
            phrases = _other_splits(self, other)
        phrases += _other_folds(self, other, is_only=not phrases)
        if self.shape != other.shape:
            phrases.append(f"images of {_shape(other)} instead of {_shape(self)}")
        if self.decoding != other.decoding:
            phrases.append(f"decoded with {other.decoding} instead of {self.decoding}")
        return phrases

    @property
    def digest(self) -> str:
        """Short digest: searches with the same one have the same data."""
        return hashlib.blake2b(self.to_json().encode("utf-8"), digest_size=4).hexdigest()


def identify(
    classes: Sequence[str],
    labels: NDArray[np.int64],
    digests: NDArray[np.uint64],
    splits: Sequence[NDArray[np.int64]],
    shape: tuple[int, int, int],
    decoding: str,
    folds: NDArray[np.int8] | None = None,
) -> DataIdentity:
    """Return the identity of labelled images.

    Args:
        classes: names of the classes.
        labels: class index of each image, [n].
        digests: digest of the content of each image, [n].
        splits: rows of train, validation and test.
        shape: see `DataIdentity`.
        decoding: see `DataIdentity`.
        folds: fold of each training image in each repetition, [repetitions, train]; None for none.
    """

    def by_class(rows: NDArray[np.int64]) -> list[NDArray[np.uint64]]:
        """Return the digests of some images by class, sorted."""
        ordered = digests[rows][np.lexsort((digests[rows], labels[rows]))]
        counts = np.bincount(labels[rows], minlength=len(classes))
        return np.split(ordered, np.cumsum(counts)[:-1])

    train, validation, test = map(by_class, splits)
    whole = by_class(np.concatenate(splits))
    return DataIdentity(
        tuple(
            ClassIdentity(
                name,
                (len(train[label]), len(validation[label]), len(test[label])),
                _hashed([whole[label]]),
            )
            for label, name in enumerate(classes)
        ),
        (_hashed(train), _hashed(validation), _hashed(test)),
        shape,
        decoding,
        None if folds is None else _identify_folds(folds, splits[0], by_class),
    )


def _identify_folds(
    folds: NDArray[np.int8],
    train: NDArray[np.int64],
    by_class: Callable[[NDArray[np.int64]], list[NDArray[np.uint64]]],
) -> FoldIdentity:
    setting = Folds(int(folds.max()) + 1, len(folds))
    held = [folds[at] == fold for at in range(len(folds)) for fold in range(setting.count)]
    parts = [part for each in held for part in by_class(train[each])]
    return FoldIdentity(setting, min(int((~each).sum()) for each in held), _hashed(parts))


def _canonical_background(decoding: str) -> str:
    """Return settings with the canonical name of the background; earlier versions kept its text."""
    match = re.fullmatch(r"background (.*), (value_range .*)", decoding)
    if match is None:
        return decoding
    try:
        return f"background {colours.canonical(match[1])}, {match[2]}"
    except ValueError:
        return decoding


def _hashed(parts: Sequence[NDArray[np.uint64]]) -> str:
    hashed = hashlib.blake2b(digest_size=8)
    for part in parts:
        hashed.update(f"{len(part)} ".encode("ascii"))
        hashed.update(part.astype("<u8").tobytes())
    return hashed.hexdigest()


def _other_classes(before: DataIdentity, after: DataIdentity) -> list[str]:
    """Return phrases about classes that exist on one side only."""
    old, new = ({each.name: each for each in data.classes} for data in (before, after))
    added = [name for name in new if name not in old]
    gone = [name for name in old if name not in new]
    phrases = []
    if not added and not gone and [*old] != [*new]:
        phrases.append("the classes are in another order")
    for name in list(gone):
        to = next((each for each in added if new[each].digest == old[name].digest), None)
        if to is not None:
            phrases.append(f"class {name} is now {to}")
            gone.remove(name)
            added.remove(to)
    if added:
        phrases.append(f"new {'class' if len(added) == 1 else 'classes'} {_listed(added)}")
    if gone:
        phrases.append(f"{_listed(gone)} {'is' if len(gone) == 1 else 'are'} gone")
    return phrases


def _other_images(before: DataIdentity, after: DataIdentity) -> list[str]:
    """Return phrases about the number and content of the images."""
    old, new = ({each.name: each for each in data.classes} for data in (before, after))
    changed = [name for name in old if name in new and old[name].digest != new[name].digest]
    phrases = []
    for one in list(changed):
        for two in changed[changed.index(one) + 1 :] if one in changed else ():
            if (old[one].digest, old[two].digest) == (new[two].digest, new[one].digest):
                phrases.append(f"{one} and {two} are swapped")
                changed.remove(one)
                changed.remove(two)
                break
    sizes = {name: new[name].total - old[name].total for name in changed}
    resized = [name for name in changed if sizes[name]]
    total = after.images - before.images
    phrase = (
        f"{counted(abs(total), 'image')} {_more(total)}" if total else "other numbers of images"
    )
    if len(resized) == 1 and sizes[resized[0]] == total:
        phrases.append(f"{phrase} in {resized[0]}")
    elif resized:
        counts = [f"{name} {abs(sizes[name])} {_more(sizes[name])}" for name in resized]
        phrases.append(f"{phrase} ({_listed(counts)})")
    elif total:
        phrases.append(phrase)
    replaced = [name for name in changed if not sizes[name]]
    if replaced:
        phrases.append(f"other images in {_listed(replaced)}")
    return phrases


def _other_splits(before: DataIdentity, after: DataIdentity) -> list[str]:
    """Return phrases about equal images in other splits."""
    phrases = []
    for index, split in enumerate(SPLITS):
        old, new = before.split_images(index), after.split_images(index)
        if old != new:
            phrases.append(f"{counted(new, f'{split} image')} instead of {old}")
    return phrases or ["the same images in other splits"]


def _other_folds(before: DataIdentity, after: DataIdentity, *, is_only: bool) -> list[str]:
    """Return a phrase about other folds; about their images only if nothing else differs."""
    old, new = (each.folds and each.folds.setting for each in (before, after))
    if old != new:
        return [f"validation by {new or 'a split'} instead of {old or 'a split'}"]
    return ["the same images in other folds"] if is_only and before.folds != after.folds else []


def _listed(names: Sequence[str]) -> str:
    """Return names for a sentence, the first of many."""
    more = len(names) - _SHOWN
    shown = [*names[:_SHOWN], f"{more} more"] if more > 0 else [*names]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _more(count: int) -> str:
    return "more" if count > 0 else "fewer"


def _shape(data: DataIdentity) -> str:
    height, width, channels = data.shape
    return f"{height}x{width} pixels in {'grey' if channels == 1 else 'colour'}"
