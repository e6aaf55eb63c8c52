"""The networks that an export consists of, and the images on which they are checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spaces.architecture import Architecture
from trainables.data import Dataset
from trainables.export.classifier import Classifier
from trainables.export.names import Pixels
from trainables.export.preprocessing import Preprocessing
from trainables.specs import Decoding

_BATCH_VALUES = 4_000_000
"""Values of images in a batch; bounds the memory of a check."""


@dataclass(frozen=True, eq=False)
class Member:
    """One network of an export.

    Attributes:
        module: takes normalised images and returns logits.
        dataset: with whose statistics its images are normalised.
        seed: of its training.
    """

    module: nn.Module
    dataset: Dataset
    seed: int


@dataclass(frozen=True, eq=False)
class ExportSubject:
    """Networks of one architecture that predict together.

    Attributes:
        architecture: of all networks.
        members: the networks; more than one for an ensemble.
        flip: whether predictions are averaged over each image and its mirror image.
        decoding: how files became pixels.
        images: most test images on which the export is checked.
    """

    architecture: Architecture
    members: tuple[Member, ...]
    flip: bool
    decoding: Decoding
    images: int

    @property
    def dataset(self) -> Dataset:
        """The images; test images and classes are the same for all members."""
        return self.members[0].dataset

    def preprocessing(self, pixels: Pixels) -> Preprocessing:
        """Return what a model with inputs of a type does with images."""
        datasets = [member.dataset for member in self.members]
        return Preprocessing.of(datasets, self.decoding, pixels, flip=self.flip)

    @cached_property
    def classifier(self) -> Classifier:
        """The networks with resizing and normalisation, on the CPU in evaluation mode."""
        described = self.preprocessing("uint8")
        return Classifier(
            [member.module.cpu().float() for member in self.members],
            described.size,
            [member.dataset.mean for member in self.members],
            [member.dataset.std for member in self.members],
            self.flip,
            described.fit,
            described.fill,
        ).eval()

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the test images of the check: all, or a random part that is always the same."""
        rows = self.dataset.test
        if len(rows) > self.images:
            rows = np.sort(np.random.default_rng(0).choice(rows, self.images, replace=False))
        return rows

    @property
    def labels(self) -> NDArray[np.int64]:
        """True class of each image of the check."""
        return self.dataset.labels[self.rows]

    def batches(self, rows: NDArray[np.int64] | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield images of the check, or of other rows: uint8 ``[n, channels, height, width]``."""
        chosen = self.rows if rows is None else rows
        size = max(1, min(256, _BATCH_VALUES // int(np.prod(self.dataset.shape))))
        for start in range(0, len(chosen), size):
            images = self.dataset.images[chosen[start : start + size]]
            yield np.ascontiguousarray(images.transpose(0, 3, 1, 2))

    @torch.inference_mode()
    def expected(self) -> NDArray[np.float32]:
        """Return the probabilities of the search's own networks, ``[images, classes]``.

        They are computed without `Classifier`, as the search scores networks, in float32.
        """
        return np.concatenate([self._predict(torch.from_numpy(each)) for each in self.batches()])

    def _predict(self, images: Tensor) -> NDArray[np.float32]:
        probabilities = []
        for member in self.members:
            network = member.module.cpu().float().eval()
            mean, std = (
                torch.tensor(values).view(1, -1, 1, 1)
                for values in (member.dataset.mean, member.dataset.std)
            )
            inputs = (images.float() / 255 - mean) / std
            found = network(inputs).softmax(1)
            if self.flip:
                found = (found + network(inputs.flip(3)).softmax(1)) / 2
            probabilities.append(found)
        return torch.stack(probabilities).mean(0).numpy()
