"""What every trial of a search has in common; plain data, free of torch.

The driver sends it to each worker once; what travels per trial is only the flat ``params``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from spaces.candidate import CandidateSpace
from spaces.task import Task
from trainables.data import Dataset, load


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied.

    Attributes:
        crop: pad by so many pixels and crop at random.
        flip: mirror horizontally with probability one half.
    """

    crop: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Data:
    """Which images, and how they are split; see `trainables.data.load`."""

    source: str
    resolution: int | None = None
    subset: float = 1.0
    validation: float = 0.1
    test: float = 0.1
    split_seed: int = 0

    def load(self, progress: Callable[[int, int | None], None] | None = None) -> Dataset:
        """Return the images, decoding them first where no one on this node has yet."""
        return load(
            self.source,
            self.resolution,
            subset=self.subset,
            validation=self.validation,
            test=self.test,
            split_seed=self.split_seed,
            progress=progress,
        )


@dataclass(frozen=True)
class Job:
    """What every trial of a search has in common.

    Attributes:
        data: the images.
        task: their shape and classes.
        space: a family's name or ``module:function``.
        space_options: keyword arguments of the space.
        recipe_options: keyword arguments of the recipe.
        epochs: passes over the training images of a whole training.
        augmentation: how training images are varied.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads a trial uses.
    """

    data: Data
    task: Task
    space: str
    space_options: Mapping[str, Any]
    recipe_options: Mapping[str, Any]
    epochs: int
    augmentation: Augmentation = field(default_factory=Augmentation)
    device: str = "auto"
    threads: int = 1

    def candidates(self) -> CandidateSpace:
        """Return the space that draws and rebuilds candidates."""
        return CandidateSpace(self.task, self.space, self.space_options, self.recipe_options)


@dataclass(frozen=True)
class FinalistResult:
    """One retraining of one finalist.

    Attributes:
        number: the trial it was chosen from.
        seed: the fresh seed.
        validation_accuracy: after the last epoch, 0..1.
        test_accuracy: after the last epoch, 0..1.
        seconds: wall clock of the training.
    """

    number: int
    seed: int
    validation_accuracy: float
    test_accuracy: float
    seconds: float
