"""Sources with a name: scikit-learn's digits and data sets that torchvision downloads."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.images.errors import UnusableDataError, cause
from trainables.images.layout.split_names import SPLITS
from trainables.images.sources import Item, Listing, Origin, Source

TORCHVISION_CLASSES = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "svhn": "SVHN",
}
SET_NAMES = ("digits", *TORCHVISION_CLASSES)


def open_named(name: str, downloads: Path) -> Source:
    """Return the source for one of :data:`SET_NAMES`.

    Args:
        name: name of the data set.
        downloads: folder for torchvision's downloads.
    """
    return Digits() if name == "digits" else TorchvisionSet(name, downloads / name)


@dataclass(frozen=True)
class Digits:
    """The 1,797 handwritten digits (8x8 pixels) of scikit-learn."""

    def version(self) -> str:
        """See :class:`trainables.images.sources.Source`."""
        return "digits"

    def listing(self) -> Listing:
        """See :class:`trainables.images.sources.Source`."""
        from sklearn.datasets import load_digits  # noqa: PLC0415 (a second, and only if not cached)

        bunch = load_digits()
        pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
        labels = np.asarray(bunch.target, dtype=np.int64)
        names = tuple(str(name) for name in bunch.target_names)
        return _listing("digits", names, [("train", pixels, labels)])


@dataclass(frozen=True)
class TorchvisionSet:
    """A public data set with its own test split, downloaded once."""

    name: str
    folder: Path

    def version(self) -> str:
        """See :class:`trainables.images.sources.Source`."""
        return self.name

    def listing(self) -> Listing:
        """See :class:`trainables.images.sources.Source`."""
        parts = []
        classes: tuple[str, ...] = ()
        for split in ("train", "test"):
            part = self._download(split)
            labels = np.asarray(part.labels if self.name == "svhn" else part.targets)
            parts.append((split, self._pixels(part), labels.astype(np.int64)))
            classes = self._classes(part)
        return _listing(self.name, classes, parts)

    def _download(self, split: str) -> Any:
        import torchvision.datasets  # noqa: PLC0415 (takes seconds; cached sets never need it)

        kind = getattr(torchvision.datasets, TORCHVISION_CLASSES[self.name])
        which = {"split": split} if self.name == "svhn" else {"train": split == "train"}
        try:
            return kind(self.folder, download=True, **which)
        # torchvision raises errors of urllib, tarfile, zlib and hashlib, some wrapped in
        # RuntimeError.
        except Exception as error:
            raise UnusableDataError(
                f"the data set {self.name} could not be downloaded ({cause(error)})",
                "check the network, or give images you have as images:PATH",
            ) from error

    def _pixels(self, part: Any) -> NDArray[np.uint8]:
        pixels = np.asarray(part.data, dtype=np.uint8)
        # Only SVHN stores channels first.
        return pixels.transpose(0, 2, 3, 1) if self.name == "svhn" else pixels

    def _classes(self, part: Any) -> tuple[str, ...]:
        if self.name == "svhn":
            return tuple("0123456789")
        # MNIST's names read "3 - three".
        return tuple(str(name).partition(" - ")[0] for name in part.classes)


def _listing(
    name: str,
    classes: tuple[str, ...],
    parts: list[tuple[str, NDArray[np.uint8], NDArray[np.int64]]],
) -> Listing:
    def items() -> Generator[Item, None, None]:
        row = 0
        for split, pixels, _ in parts:
            for position, image in enumerate(pixels):
                yield Item(row, f"{name} {split} {position}", image, image.nbytes)
                row += 1

    together = np.concatenate([labels for _, _, labels in parts])
    splits = np.concatenate(
        [np.full(len(labels), SPLITS.index(split), np.int8) for split, _, labels in parts]
    )
    places = {SPLITS.index(split): f"{name} {split}" for split, _, _ in parts}
    return Listing(
        classes=classes,
        labels=together,
        splits=splits,
        total_size=sum(pixels.nbytes for _, pixels, _ in parts),
        items=items,
        origin=Origin(places if len(parts) > 1 else {}),
    )
