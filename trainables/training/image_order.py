"""The order in which a training sees its images."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from trainables.training.class_balance import draw_balanced
from trainables.training.seeds import epoch_seed


@dataclass(frozen=True)
class ImageOrder:
    """One permutation of the images after another, cut into batches of equal size.

    A batch may contain the last images of one pass and the first of the next. So no image is left
    out, every image counts equally, and all steps have one shape, which a CUDA graph needs. An
    epoch ends with the step that completes its pass; the next one continues from there.

    A balanced pass has as many images, but equally many of each class: it repeats the images of
    small classes, and leaves out some of large ones.

    Attributes:
        rows: positions of the training images in the data set, int64 ``[images]``.
        batch: number of images of a step, at most ``images``.
        seed: seed of the training.
        labels: class of each row, int64 ``[images]``, for balanced passes; None for permutations.
    """

    rows: Tensor
    batch: int
    seed: int
    labels: Tensor | None = None

    @property
    def steps_per_epoch(self) -> Fraction:
        """Mean number of steps per epoch."""
        return Fraction(len(self.rows), self.batch)

    def steps(self, epochs: int) -> int:
        """Return the number of steps of the first epochs."""
        return -(-epochs * len(self.rows) // self.batch)

    def epoch(self, epoch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the images of an epoch.

        Args:
            epoch: number of finished epochs.
            generator: seeded with the epoch's seed; its first draws decide the pass.

        Returns:
            The rows of each step, and the number of earlier passes over each of its images, both
            int64 ``[steps, batch]``.
        """
        count = len(self.rows)
        first, end = self.steps(epoch), self.steps(epoch + 1)
        # Earlier batches took the first images of this pass.
        ours = self._pass(generator)[first * self.batch - epoch * count :]
        borrowed = (end - first) * self.batch - len(ours)
        following = torch.Generator().manual_seed(epoch_seed(self.seed, epoch + 1))
        later = self._pass(following)[:borrowed] if borrowed else ours[:0]
        passes = torch.full((len(ours) + borrowed,), epoch)
        passes[len(ours) :] += 1
        shape = (end - first, self.batch)
        return torch.cat([ours, later]).view(shape), passes.view(shape)

    def _pass(self, generator: torch.Generator) -> Tensor:
        rows = self.rows
        if self.labels is not None:
            rows = draw_balanced(rows, self.labels, generator)
        return rows[torch.randperm(len(rows), generator=generator)]
