"""The protocol of each table: images, networks and recipe. Nothing else decides its numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from experiments.reproduction.images import SPLIT_SEED, balanced_splits, check_task
from spaces.candidate import CandidateSpace
from spaces.task import Task
from trainables.data import Dataset, load
from trainables.specs import Augmentation, DataSpec

DRAW_SEED = 0
"""Draws the networks."""


@dataclass(frozen=True)
class Protocol:
    """Everything that decides the numbers of a table, except the images themselves.

    Attributes:
        name: of the data set and the table.
        task: shape of the images and number of classes.
        resized: whether the images are resized to the task.
        has_test: whether the source has a test split, which alone is scored; otherwise all images
            that are not trained on can be scored.
        train: number of training images, equally many of each class.
        validation: number of images scored after each epoch.
        test: number of other images scored after the last epoch.
        epochs: of a training.
        learning_rate: peak of the one-cycle schedule of SGD.
        batch_size: images per step.
        features: bounds of the feature amount of each convolution.
        networks: default number of networks.
        depth: bounds of the number of convolutions.
        kernel: choices of the kernel size of all convolutions.
        convs_before_pool: bounds of the number of convolutions before each pooling layer; numbers
            beyond the last convolution leave the layer out.
        weight_decay: L2 penalty of SGD.
        augmentation: random changes to training images.
    """

    name: str
    task: Task
    resized: bool
    has_test: bool
    train: int
    validation: int
    test: int
    epochs: int
    learning_rate: float
    batch_size: int
    features: tuple[int, int]
    networks: int = 1000
    depth: tuple[int, int] = (2, 10)
    kernel: tuple[int, ...] = (3, 5)
    convs_before_pool: tuple[int, int] = (1, 10)
    weight_decay: float = 5e-4
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def digest(self) -> str:
        """Hash that changes with everything that decides the numbers."""
        text = repr((replace(self, networks=0), SPLIT_SEED, DRAW_SEED))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def space(self) -> CandidateSpace:
        """Return the space that draws the networks, and rebuilds them from their parameters."""
        options: dict[str, Any] = {
            "depth": self.depth,
            "features": self.features,
            "kernel": self.kernel,
            "convs_before_pool": self.convs_before_pool,
        }
        recipe = {
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "batch_size": self.batch_size,
        }
        return CandidateSpace(self.task, "vgg", options, recipe)

    def load(self, source: str | None = None) -> Dataset:
        """Load the images and draw the splits.

        Args:
            source: see `trainables.specs.DataSpec`; None for the name of the protocol.

        Raises:
            BadInputError: the images do not fit the protocol.
        """
        source = source or self.name
        dataset = load(DataSpec(source, resolution=self.task.height if self.resized else None))
        check_task(dataset, self.task, f"the table {self.name}", source)
        if self.has_test:
            pool, held = np.concatenate([dataset.train, dataset.validation]), dataset.test
        else:
            pool = held = np.arange(len(dataset.labels))
        sizes = (self.train, self.validation, self.test)
        return balanced_splits(dataset, pool, held, sizes, source)


DIGITS = Protocol(
    name="digits",
    task=Task(channels=1, height=8, width=8, classes=10),
    resized=False,
    has_test=False,
    train=300,
    validation=750,
    test=747,
    epochs=9,
    learning_rate=0.2,
    batch_size=20,
    features=(8, 32),
)
MNIST = Protocol(
    name="mnist",
    task=Task(channels=1, height=14, width=14, classes=10),
    resized=True,
    has_test=True,
    train=1_000,
    validation=2_000,
    test=8_000,
    epochs=6,
    learning_rate=0.2,
    batch_size=40,
    features=(8, 24),
)
CIFAR10 = Protocol(
    name="cifar10",
    task=Task(channels=3, height=16, width=16, classes=10),
    resized=True,
    has_test=True,
    train=5_000,
    validation=2_000,
    test=8_000,
    epochs=10,
    learning_rate=0.1,
    batch_size=64,
    features=(8, 48),
    networks=200,
    augmentation=Augmentation(flip="random"),
)
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {protocol.name: protocol for protocol in (DIGITS, MNIST, CIFAR10)}
)
