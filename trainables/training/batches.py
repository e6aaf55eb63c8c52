"""Augments and normalises batches of images on the training device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trainables.data import Dataset
from trainables.specs import Augmentation
from trainables.training.augmentation import Augment, Variation, change, erase, mix
from trainables.training.feeds import as_tensor, open_feed
from trainables.training.small_images import resize


class Batches:
    """The images of a data set as inputs of a network.

    Args:
        dataset: the images.
        augmentation: random changes to training images.
        size: training batch size.
        device: device of the batches.
        augment: changes training images, too; see `user_augmentation`.
    """

    def __init__(
        self,
        dataset: Dataset,
        augmentation: Augmentation,
        size: int,
        device: torch.device,
        augment: Augment | None = None,
    ) -> None:
        height, width, _ = dataset.shape
        self._padding = augmentation.padding(height, width)
        self._augment = augment
        self._feed = open_feed(dataset, device, size)
        self._labels = as_tensor(dataset.labels).to(device)
        # One multiply-add per value: (x / 255 - mean) / std, for a row of pixels at a time.
        # Vectors of three values would leave vector registers almost empty.
        std = torch.tensor(dataset.std, dtype=torch.float32).repeat(width)
        mean = torch.tensor(dataset.mean, dtype=torch.float32).repeat(width)
        self._scale = (1 / (255 * std)).to(device)
        self._offset = (-mean / std).to(device)

    def feed(self, batches: Sequence[Tensor]) -> Iterator[None]:
        """Make each batch, given as rows ``[n]`` on the CPU, the current one in turn."""
        return self._feed.feed(batches)

    def current(
        self, rows: Tensor, variation: Variation, size: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the current training batch; reads only fixed memory.

        Args:
            rows: rows of the batch, on the device.
            variation: changes of its images.
            size: height and width of the returned images; None for those of the data set.

        Returns:
            Images, float32 ``[n, c, h, w]`` (channels last in memory), and labels ``[n]``.
        """
        taken = self._feed.current(rows)
        changed = change(taken, variation, self._padding)
        if self._augment is not None:
            changed = self._augment(changed)
        images = self._normalised(changed)
        if variation.boxes is not None:
            images = erase(images, variation.boxes)
        if variation.mixup_lambda is not None:
            images = mix(images, variation.mixup_lambda)
        if size is not None and size != images.shape[2:]:
            images = resize(images, size)
        return images, self._labels.index_select(0, rows)

    def sweep(self, batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of these batches without augmentation."""
        for rows, images in zip(batches, self._feed.sweep(batches), strict=True):
            yield (
                self._normalised(images),
                self._labels.index_select(0, rows.to(self._labels.device)),
            )

    def _normalised(self, images: Tensor) -> Tensor:
        count, height, width, channels = images.shape
        lines = images.reshape(count, height, width * channels).float()
        normalised = torch.addcmul(self._offset, lines, self._scale)
        return normalised.view(count, height, width, channels).permute(0, 3, 1, 2)
