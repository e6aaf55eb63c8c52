"""What every trial of a search has in common; plain data, free of torch.

The driver sends it to each worker once; what travels per trial is only the flat ``params``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError
from spaces.task import Task
from trainables.data import Dataset, load


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied, each on its own.

    Attributes:
        crop: pad by so many pixels (black) and crop at random.
        translate: shift by up to this share of each side, in either direction; black comes in.
        flip: mirror horizontally: never, with probability one half in every epoch, or every
            second epoch (each image begins at random).
        erase: probability of random erasing (Zhong et al. 2017, arXiv 1708.04896).
        cutout: side in pixels of a square that is cut out, 0 for none (DeVries & Taylor 2017,
            arXiv 1708.04552).
        mixup: alpha of the Beta distribution by which pairs of images are mixed, 0 for none
            (Zhang et al. 2018, arXiv 1710.09412).
    """

    crop: int = 0
    translate: float = 0.0
    flip: Literal["none", "random", "alternating"] = "none"
    erase: float = 0.0
    cutout: int = 0
    mixup: float = 0.0

    def check(self, height: int, width: int) -> None:
        """Refuse what does not fit images of this size in pixels.

        Raises:
            BadInputError: naming the field, the value and the remedy.
        """
        smaller = min(height, width)
        for name, value, most in (
            # Moved by the whole image, a crop would show none of it.
            ("crop", self.crop, smaller - 1),
            ("cutout", self.cutout, smaller),
        ):
            if value > most:
                problem = f"does not fit images of {height}x{width} pixels"
                remedy = f"use {most} or less"
                raise BadInputError(f"augmentation.{name}", value, problem, remedy)
        if self.crop and self.translate:
            problem = "augmentation.crop shifts the images already"
            remedy = "use one of the two"
            raise BadInputError("augmentation.translate", self.translate, problem, remedy)

    def padding(self, height: int, width: int) -> tuple[int, int]:
        """Return by how many rows and columns images of this size may be shifted.

        However a share rounds to whole pixels, a row and a column of the image stay.
        """
        if self.translate:
            down, across = (min(round(self.translate * side), side - 1) for side in (height, width))
            return down, across
        return self.crop, self.crop


@dataclass(frozen=True)
class DataSpec:
    """Which images, and how they are split; see `trainables.data.load`.

    With ``identity`` a bucket is not asked again for what a node has of it.
    """

    source: str
    resolution: int | None = None
    subset: float = 1.0
    validation: float = 0.1
    test: float = 0.1
    split_seed: int = 0
    identity: str | None = None

    def load(self, progress: Callable[[int, int | None], None] | None = None) -> Dataset:
        """Return the images, decoding them first where no one on this node has yet."""
        return load(
            self.source,
            self.resolution,
            subset=self.subset,
            validation=self.validation,
            test=self.test,
            split_seed=self.split_seed,
            identity=self.identity,
            progress=progress,
        )


@dataclass(frozen=True)
class TrainingSpec:
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
        compile: let ``torch.compile`` translate each network; it costs seconds to minutes each.
        hopeless_after: epochs after which a training is given up unless its training accuracy is
            at least twice that of a guess; None for never.
        latency_batches: sizes of the batches whose latency is measured before training.
        checkpoints: place of the trials' checkpoints, which all nodes can reach: a folder or
            ``s3://bucket/prefix``, in it one for each trial by its number, and in that one by its
            seed; None for no checkpoints.
        hang_after: seconds after which an epoch that has not ended costs the process; None: never.
    """

    data: DataSpec
    task: Task
    space: str
    space_options: Mapping[str, Any]
    recipe_options: Mapping[str, Any]
    epochs: int
    augmentation: Augmentation = field(default_factory=Augmentation)
    device: str = "auto"
    threads: int = 1
    compile: bool = False
    hopeless_after: int | None = None
    latency_batches: tuple[int, ...] = ()
    checkpoints: Path | str | None = None
    hang_after: float | None = None

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
