"""The images that probes use: a bounded number of each split, normalised as for training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data import Dataset

Normalisation = Literal["data", "imagenet", "none"]
"""Mean and deviation by which images are normalised: those of the training images, of ImageNet, or
0 and 1 for values in 0..1."""
NORMALISATIONS: tuple[Normalisation, ...] = ("data", "imagenet", "none")
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BATCH_VALUES = 1 << 22
"""Values of the images of a batch: 1365 images of 32 pixels, 27 of 224."""
_LARGEST_BATCH = 256


@dataclass(frozen=True, eq=False)
class ProbeImages:
    """Images on the device, batch by batch.

    Args:
        dataset: the images.
        rows: of the images in the data set, int64 ``[n]``.
        device: of the batches.
        normalisation: of the values.
    """

    dataset: Dataset
    rows: NDArray[np.int64]
    device: torch.device
    normalisation: Normalisation = "data"

    @classmethod
    def draw(
        cls,
        dataset: Dataset,
        split: str,
        most: int,
        device: torch.device,
        normalisation: Normalisation = "data",
    ) -> ProbeImages:
        """Return the images of a split, or a random part of more than ``most``, always the same."""
        rows: NDArray[np.int64] = getattr(dataset, split)
        if len(rows) > most:
            rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
        return cls(dataset, rows, device, normalisation)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Tensor:
        """Class of each image, int64 ``[n]`` on the CPU."""
        return torch.from_numpy(self.dataset.labels[self.rows])

    def batches(self, size: int | None = None) -> Iterator[Tensor]:
        """Yield all images, float32 ``[n, c, h, w]``."""
        height, width, channels = self.dataset.shape
        fitting = max(1, min(_LARGEST_BATCH, _BATCH_VALUES // (height * width * channels)))
        mean, deviation = (
            torch.tensor(values, device=self.device).view(1, -1, 1, 1) for values in self._scale()
        )
        for start in range(0, len(self.rows), size or fitting):
            taken = self.dataset.images[self.rows[start : start + (size or fitting)]]
            images = torch.from_numpy(taken).to(self.device).permute(0, 3, 1, 2)
            yield (images.float() / 255 - mean) / deviation

    def _scale(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        channels = self.dataset.channels
        if self.normalisation == "data":
            return self.dataset.mean, self.dataset.std
        if self.normalisation == "imagenet" and channels == len(_IMAGENET[0]):
            return _IMAGENET
        return (0.0,) * channels, (1.0,) * channels
