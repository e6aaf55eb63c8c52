"""Learning-rate schedules: the ratio of each step's learning rate to the peak.

A schedule has no unused parameters. The digest of a candidate hashes the schedule's repr, so
equal trainings must have equal reprs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from spaces.errors import BadInputError

Time = TypeVar("Time", int, Fraction)

WARM_UP = 0.2
"""Fraction of the steps over which the learning rate of `OneCycle` rises."""


class Schedule(ABC):
    """Base class of learning-rate schedules."""

    @abstractmethod
    def ratio(self, step: int, steps_per_epoch: Fraction | int, epochs: int) -> float:
        """Return the ratio of a step's learning rate to the peak, 0..1.

        Args:
            step: index of the step in the whole training, from 0.
            steps_per_epoch: mean number of steps per epoch.
            epochs: number of epochs of the training.
        """

    def check(self, epochs: int) -> None:  # noqa: B027 - most schedules fit every length
        """Check that the schedule fits a number of epochs.

        Args:
            epochs: number of epochs of the training.

        Raises:
            BadInputError: it does not fit; the error names the field of the recipe and a remedy.
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """A constant learning rate."""

    def ratio(self, step: int, steps_per_epoch: Fraction | int, epochs: int) -> float:
        """See `Schedule.ratio`."""
        return 1.0


@dataclass(frozen=True)
class OneCycle(Schedule):
    """A linear rise over the first fifth of the steps, then a half cosine to 0.

    From Smith & Topin 2018 (arXiv 1708.07120), with the cosine that is now common.
    """

    def ratio(self, step: int, steps_per_epoch: Fraction | int, epochs: int) -> float:
        """See `Schedule.ratio`."""
        # The last step may exceed the last epoch by a part.
        position = min((step + 0.5) / float(steps_per_epoch * epochs), 1.0)
        if position < WARM_UP:
            return position / WARM_UP
        return _half_cosine(position - WARM_UP, 1 - WARM_UP)


@dataclass(frozen=True)
class Cosine(Schedule):
    """A half cosine over the whole training.

    Attributes:
        floor: lowest learning rate relative to the peak, 0..1.
    """

    floor: float

    def ratio(self, step: int, steps_per_epoch: Fraction | int, epochs: int) -> float:
        """See `Schedule.ratio`."""
        return _half_cosine(step, steps_per_epoch * epochs, self.floor)


@dataclass(frozen=True)
class MultiStep(Schedule):
    """The learning rate drops by a factor at each milestone.

    Attributes:
        milestones: epochs after which it drops, in increasing order.
        factor: multiplies the learning rate at each milestone, 0..1.
    """

    milestones: tuple[int, ...]
    factor: float

    def ratio(self, step: int, steps_per_epoch: Fraction | int, epochs: int) -> float:
        """See `Schedule.ratio`."""
        return self.factor ** bisect_right(self.milestones, step // steps_per_epoch)

    def check(self, epochs: int) -> None:
        """Check that the milestones precede the last epoch; see `Schedule.check`."""
        milestones = list(self.milestones)
        check_milestones(milestones)
        if milestones[-1] >= epochs:
            problem = f"{milestones[-1]} is not before the end of the {epochs} epochs"
            remedy = f"use milestones under {epochs}, or more epochs"
            raise BadInputError("recipe.milestones", milestones, problem, remedy)


@dataclass(frozen=True)
class WarmRestarts(Schedule):
    """Half cosines that restart at the peak.

    Loshchilov & Hutter 2017 (SGDR, arXiv 1608.03983).

    Attributes:
        first: epochs of the first cycle, at least 1.
        growth: length of each cycle relative to the previous one, at least 1.
        floor: lowest learning rate of each cycle relative to the peak, 0..1.
    """

    first: int
    growth: int
    floor: float

    def ratio(self, step: int, steps_per_epoch: Fraction | int, epochs: int) -> float:
        """See `Schedule.ratio`."""
        start, length = self._cycle(Fraction(step), self.first * Fraction(steps_per_epoch))
        return _half_cosine(step - start, length, self.floor)

    def check(self, epochs: int) -> None:
        """Check that the training ends with a cycle; see `Schedule.check`.

        Otherwise it would end at a high learning rate.
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

    def _cycle(self, time: Time, first: Time) -> tuple[Time, Time]:
        """Return (start, length) of the cycle at a time, in the unit of ``first``."""
        if self.growth == 1:
            return time - time % first, first
        start, length = first * 0, first
        while time >= start + length:
            start += length
            length *= self.growth
        return start, length


def check_milestones(milestones: Sequence[int] | None) -> None:
    """Check that milestones are increasing epochs, each 1 or more.

    Raises:
        BadInputError: they are not.
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


def _half_cosine(elapsed: Fraction | float, length: Fraction | float, floor: float = 0.0) -> float:
    """Return the half cosine from 1 to the floor over a length, after a part has elapsed."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * float(elapsed) / float(length)))
