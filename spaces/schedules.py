"""Learning-rate schedules: which share of the peak learning rate each step of a training gets.

A schedule has only the parameters that matter to it: digests of candidates are taken of its text,
so equal trainings must read the same.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from spaces.errors import BadInputError

WARM_UP = 0.2
"""Share of all steps over which the learning rate of `OneCycle` rises."""


class Schedule(ABC):
    """How the learning rate changes over a training."""

    @abstractmethod
    def ratio(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """Return the learning rate of a step as a share of the peak, 0..1.

        Args:
            step: counted from 0 over the whole training.
            steps_per_epoch: steps of one epoch.
            epochs: of the whole training.
        """

    def check(self, epochs: int) -> None:  # noqa: B027 - most schedules fit every length
        """Refuse a length of training that the schedule does not fit.

        Args:
            epochs: of the whole training.

        Raises:
            BadInputError: naming the field of the recipe and what would fit.
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """The peak learning rate throughout."""

    def ratio(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """See `Schedule.ratio`."""
        return 1.0


@dataclass(frozen=True)
class OneCycle(Schedule):
    """A linear rise over the first fifth of all steps, then a half cosine to zero.

    After Smith & Topin 2018 (arXiv 1708.07120), with the cosine that is usual since.
    """

    def ratio(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """See `Schedule.ratio`."""
        position = (step + 0.5) / (steps_per_epoch * epochs)
        if position < WARM_UP:
            return position / WARM_UP
        return _half_cosine(position - WARM_UP, 1 - WARM_UP)


@dataclass(frozen=True)
class Cosine(Schedule):
    """A half cosine over the whole training.

    Attributes:
        floor: share of the peak learning rate to which it falls, 0..1.
    """

    floor: float

    def ratio(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """See `Schedule.ratio`."""
        return _half_cosine(step, steps_per_epoch * epochs, self.floor)


@dataclass(frozen=True)
class MultiStep(Schedule):
    """The learning rate falls by the same factor after each of some epochs.

    Attributes:
        milestones: numbers of epochs after which it falls, rising.
        factor: by which it is multiplied each time, 0..1.
    """

    milestones: tuple[int, ...]
    factor: float

    def ratio(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """See `Schedule.ratio`."""
        return self.factor ** bisect_right(self.milestones, step // steps_per_epoch)

    def check(self, epochs: int) -> None:
        """Refuse milestones that do not lie within the training; see `Schedule.check`."""
        milestones = list(self.milestones)
        check_milestones(milestones)
        if milestones[-1] >= epochs:
            problem = f"{milestones[-1]} is not before the end of the {epochs} epochs"
            remedy = f"use milestones under {epochs}, or more epochs"
            raise BadInputError("recipe.milestones", milestones, problem, remedy)


@dataclass(frozen=True)
class WarmRestarts(Schedule):
    """Half cosines that begin again at the peak, each longer than the one before.

    Loshchilov & Hutter 2017 (SGDR, arXiv 1608.03983).

    Attributes:
        first: epochs of the first cycle, at least 1.
        growth: each cycle is so many times as long as the one before, at least 1.
        floor: share of the peak learning rate to which each falls, 0..1.
    """

    first: int
    growth: int
    floor: float

    def ratio(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """See `Schedule.ratio`."""
        start, length = self._cycle(step, self.first * steps_per_epoch)
        return _half_cosine(step - start, length, self.floor)

    def check(self, epochs: int) -> None:
        """Refuse a training that ends within a cycle; see `Schedule.check`.

        It would end at a high learning rate.
        """
        start, length = self._cycle(epochs, self.first)
        if start == epochs:
            return
        fitting = f"{start} or {start + length}" if start else str(length)
        problem = (
            f"with cycle_growth {self.growth} no cycle ends with the {epochs} epochs, "
            "so the learning rate would not have reached its floor"
        )
        remedy = f"set epochs to {fitting}, or change recipe.first_cycle"
        raise BadInputError("recipe.first_cycle", self.first, problem, remedy)

    def _cycle(self, time: int, first: int) -> tuple[int, int]:
        """Return (start, length) of the cycle at a time, in the unit of the first one's length."""
        if self.growth == 1:
            return time - time % first, first
        start, length = 0, first
        while time >= start + length:
            start += length
            length *= self.growth
        return start, length


def check_milestones(milestones: Sequence[int] | None) -> None:
    """Refuse anything but a list of rising numbers of epochs, each 1 or more.

    Raises:
        BadInputError: as said.
    """
    remedy = "list the epochs after which the learning rate falls, such as [30, 60]"
    if not isinstance(milestones, (list, tuple)) or not milestones:
        problem = "multi_step needs a list of epochs"
        raise BadInputError("recipe.milestones", milestones, problem, remedy)
    before = 0
    for milestone in milestones:
        if type(milestone) is not int or milestone < 1:
            problem = f"{milestone} is no number of epochs"
            raise BadInputError("recipe.milestones", milestones, problem, remedy)
        if milestone <= before:
            problem = f"{milestone} does not come after {before}"
            raise BadInputError("recipe.milestones", milestones, problem, "let them rise")
        before = milestone


def _half_cosine(elapsed: float, length: float, floor: float = 0.0) -> float:
    """Return what falls from 1 to the floor over a length, where so much of it has elapsed."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * elapsed / length))
