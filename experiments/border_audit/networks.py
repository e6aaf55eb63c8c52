"""The networks of a table as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from experiments.plain_networks.records import Row
from spaces.border import Rule

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Networks:
    """One entry per network; matrices have one row per network and one column per seed.

    A missing training is NaN.

    Attributes:
        validation: accuracies on the validation images, 0..1.
        test: accuracies on the test images, 0..1.
        train: accuracies on the training images, 0..1.
        images: number of validation images and of test images.
        macs: multiply-accumulates of one image.
        parameters: number of parameters.
        seconds: median over the seeds of the processor time of a training.
        depth: number of convolutions.
        border: 1-based border layer by rule; 0 without one.
        beyond: number of convolutions after the border layer, by rule.
    """

    validation: Floats
    test: Floats
    train: Floats
    images: tuple[int, int]
    macs: Ints
    parameters: Ints
    seconds: Floats
    depth: Ints
    border: dict[Rule, Ints]
    beyond: dict[Rule, Ints]

    def __len__(self) -> int:
        """Return the number of networks."""
        return len(self.macs)

    @property
    def seeds(self) -> Ints:
        """Number of trainings of each network."""
        return np.asarray(np.sum(np.isfinite(self.test), axis=1), np.int64)

    @property
    def accuracies(self) -> Floats:
        """Accuracies on all scored images."""
        validation, test = self.images
        return (self.validation * validation + self.test * test) / (validation + test)

    @property
    def accuracy(self) -> Floats:
        """Mean accuracy of each network on all scored images."""
        return np.asarray(np.nanmean(self.accuracies, axis=1), np.float64)

    @property
    def train_accuracy(self) -> Floats:
        """Mean accuracy of each network on the training images."""
        return np.asarray(np.nanmean(self.train, axis=1), np.float64)

    def subset(self, chosen: Mask) -> Networks:
        """Return the chosen networks."""
        return replace(
            self,
            validation=self.validation[chosen],
            test=self.test[chosen],
            train=self.train[chosen],
            macs=self.macs[chosen],
            parameters=self.parameters[chosen],
            seconds=self.seconds[chosen],
            depth=self.depth[chosen],
            border={rule: values[chosen] for rule, values in self.border.items()},
            beyond={rule: values[chosen] for rule, values in self.beyond.items()},
        )


def from_rows(rows: Sequence[Row], images: tuple[int, int]) -> Networks:
    """Collect the rows of a table by network.

    Args:
        rows: of the table, at least one.
        images: number of validation images and of test images.
    """
    trainings: dict[int, list[Row]] = {}
    for row in rows:
        trainings.setdefault(row.number, []).append(row)
    by_network = [trainings[number] for number in sorted(trainings)]
    first = [each[0] for each in by_network]
    column = {seed: number for number, seed in enumerate(sorted({row.seed for row in rows}))}

    def matrix(name: str) -> Floats:
        found = np.full((len(by_network), len(column)), np.nan)
        for number, each in enumerate(by_network):
            for row in each:
                found[number, column[row.seed]] = getattr(row, name)
        return found

    def integers(name: str) -> Ints:
        return np.array([getattr(row, name) or 0 for row in first], np.int64)

    def by_rule(name: str) -> dict[Rule, Ints]:
        return {rule: integers(f"{name}_{rule.value.replace('-', '_')}") for rule in Rule}

    return Networks(
        validation=matrix("validation_accuracy"),
        test=matrix("test_accuracy"),
        train=matrix("train_accuracy"),
        images=images,
        macs=integers("macs"),
        parameters=integers("parameters"),
        seconds=np.nanmedian(matrix("cpu_seconds"), axis=1),
        depth=integers("depth"),
        border=by_rule("border"),
        beyond=by_rule("beyond"),
    )
