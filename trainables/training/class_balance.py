"""Gives all classes the same influence on a training, however many images each has."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Return a weight of the loss for each class, inverse to its number of images.

    The mean weight of an image is 1, so the learning rate keeps its meaning.

    Args:
        labels: class of each training image, ``[images]``.
        classes: number of classes; those without images have no influence.
    """
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return weights.astype(np.float32)


def draw_balanced(rows: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return as many rows as are given, equally many of each class, ordered by class.

    A class repeats its images as often as necessary, each equally often but for one; a class with
    too many images leaves out random ones. Random classes take the images that cannot be divided.

    Args:
        rows: positions of the training images in the data set, int64 ``[images]``.
        labels: class of each row, int64 ``[images]``.
        generator: source of randomness.
    """
    counts = torch.bincount(labels)
    by_class = torch.split(rows[labels.argsort(stable=True)], counts[counts > 0].tolist())
    amount, rest = divmod(len(rows), len(by_class))
    amounts = torch.full((len(by_class),), amount)
    amounts[torch.randperm(len(by_class), generator=generator)[:rest]] += 1
    drawn = []
    for images, wanted in zip(by_class, amounts.tolist(), strict=True):
        times, more = divmod(wanted, len(images))
        some = torch.randperm(len(images), generator=generator)[:more]
        drawn += [images.repeat(times), images[some]]
    return torch.cat(drawn)
