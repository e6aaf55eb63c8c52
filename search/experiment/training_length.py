"""The number of steps of a training, which few images or large batches make too small."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from search.experiment.schema import Experiment
from search.experiment.training_spec import SMALLEST_BATCH
from spaces.options import choices
from spaces.recipe import BATCH_SIZE

FEW_STEPS = 150
"""Below it, a training seldom gets far from its initial weights."""
_WANTED = 300


@dataclass(frozen=True)
class TrainingLength:
    """The length of a whole training.

    Attributes:
        images: number of training images.
        batch_size: images of a step; the largest that the search draws.
        epochs: passes over the images.
    """

    images: int
    batch_size: int
    epochs: int

    @classmethod
    def of(cls, experiment: Experiment, images: int) -> Self:
        """Return the length of the trainings of an experiment with valid batch sizes."""
        sizes = choices(experiment.recipe.get("batch_size", BATCH_SIZE))
        return cls(images, max(sizes), experiment.epochs)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return -(-self.epochs * self.images // self.batch_size)

    @property
    def warning(self) -> str:
        """A line for people if a training has few steps; else empty."""
        if self.steps >= FEW_STEPS:
            return ""
        return (
            f"warning: a training has only {self.describe()}, which is seldom enough. {self.remedy}"
        )

    def describe(self) -> str:
        """Return the number of steps in words.

        Example:
            >>> TrainingLength(images=150, batch_size=128, epochs=12).describe()
            '15 steps (1.17 an epoch, with batches of 128)'
        """
        each = f"{self.images / self.batch_size:.3g}"
        return f"{_count(self.steps)} ({each} an epoch, with batches of {self.batch_size})"

    @property
    def remedy(self) -> str:
        """A sentence about the settings that give some hundred steps, at least twice as many.

        Example:
            >>> TrainingLength(images=2_000, batch_size=128, epochs=6).remedy
            'Set recipe.batch_size to 32 (375 steps) or epochs to 20 (313 steps).'
            >>> TrainingLength(images=150, batch_size=128, epochs=12).remedy
            'Set recipe.batch_size to 8 and epochs to 16 (300 steps).'
        """
        wanted = max(_WANTED, 2 * self.steps)
        fitting = self.epochs * self.images // wanted
        if fitting >= SMALLEST_BATCH:
            smaller = replace(self, batch_size=1 << (fitting.bit_length() - 1))
            longer = self.lengthened(wanted)
            return (
                f"Set recipe.batch_size to {smaller.batch_size} ({_count(smaller.steps)}) or "
                f"epochs to {longer.epochs} ({_count(longer.steps)})."
            )
        smaller = replace(self, batch_size=min(self.batch_size, SMALLEST_BATCH))
        longer = smaller.lengthened(wanted)
        batch = f"recipe.batch_size to {smaller.batch_size} and " if smaller != self else ""
        return f"Set {batch}epochs to {longer.epochs} ({_count(longer.steps)})."

    def lengthened(self, wanted: int) -> Self:
        """Return the shortest training with at least so many steps."""
        return replace(self, epochs=-(-wanted * self.batch_size // self.images))


def _count(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps:,} steps"
