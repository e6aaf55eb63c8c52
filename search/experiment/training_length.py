"""The number of epochs and steps of a training, which follow from its images and batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from search.experiment.batch_size import SMALLEST_BATCH
from search.experiment.length import Length
from search.experiment.schema import Experiment
from search.formatting import plural
from spaces.errors import BadInputError
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
        return cls(images, max(_batch_sizes(experiment)), experiment.whole_epochs)

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
            'Set either recipe.batch_size to 32 (375 steps) or epochs to 20 (313 steps).'
            >>> TrainingLength(images=150, batch_size=128, epochs=12).remedy
            'Set both recipe.batch_size to 8 (225 steps) and epochs to 16 (then 300 steps).'
        """
        wanted = max(_WANTED, 2 * self.steps)
        fitting = self.epochs * self.images // wanted
        if fitting >= SMALLEST_BATCH:
            smaller = replace(self, batch_size=1 << (fitting.bit_length() - 1))
            longer = self.lengthened(wanted)
            return (
                f"Set either recipe.batch_size to {smaller.batch_size} "
                f"({_count(smaller.steps)}) or "
                f"epochs to {longer.epochs:,} ({_count(longer.steps)})."
            )
        smaller = replace(self, batch_size=min(self.batch_size, SMALLEST_BATCH))
        if smaller.steps == self.steps:
            smaller = self
        longer = smaller.lengthened(wanted)
        if smaller == self:
            return f"Set epochs to {longer.epochs:,} ({_count(longer.steps)})."
        return (
            f"Set both recipe.batch_size to {smaller.batch_size} ({_count(smaller.steps)}) and "
            f"epochs to {longer.epochs:,} (then {_count(longer.steps)})."
        )

    def lengthened(self, wanted: int) -> Self:
        """Return the shortest training with at least so many steps."""
        return replace(self, epochs=-(-wanted * self.batch_size // self.images))


def with_whole_epochs(experiment: Experiment, images: int) -> tuple[Experiment, str]:
    """Return the experiment with a number of epochs, and how a length in other units gives it.

    Steps are counted in the largest batches that the search draws, so every training has at least
    as many.

    Args:
        experiment: its batch sizes must be valid unless `epochs` is a number.
        images: number of training images.

    Returns:
        The experiment, and a line for people; empty if `epochs` is a number already.

    Raises:
        BadInputError: the number of epochs does not fit other settings.
    """
    length = experiment.epochs
    if not isinstance(length, Length):
        return experiment, ""
    sizes = _batch_sizes(experiment)
    epochs = length.epochs(images, max(sizes))
    whole = experiment.model_copy(update={"epochs": epochs})
    whole.check_length()
    line = f"epochs: {epochs:,}, for {length.amount:,} {length.unit} of "
    if length.unit == "images":
        return whole, f"{line}{images:,} per epoch"
    largest = plural(max(sizes), "image")
    if len(set(sizes)) > 1:
        largest += ", the largest batch size; smaller batches give more steps"
    return whole, line + largest


def _batch_sizes(experiment: Experiment) -> list[int]:
    """Return all batch sizes that the search draws.

    Raises:
        BadInputError: one is no whole number above 0.
    """
    option = experiment.recipe.get("batch_size", BATCH_SIZE)
    sizes = choices(option)
    if not isinstance(sizes, list | tuple) or not sizes:
        sizes = [0]
    for size in sizes:
        if type(size) is not int or size < 1:
            raise BadInputError("recipe.batch_size", option, "is no batch size", "use 1 or more")
    return [*sizes]


def _count(steps: int) -> str:
    return plural(steps, "step")
