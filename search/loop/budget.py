"""The budget of a search and the part that is spent, across all its drivers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Self

from optuna.trial import FrozenTrial

from search.experiment.sections import BudgetSection
from search.formatting import duration
from search.study.records import TrialRecord


@dataclass(frozen=True)
class Spent:
    """The spent part of a budget.

    Attributes:
        trials: that were started.
        seconds: wall clock of the drivers.
        device_seconds: device time of the trials; one second on half a device counts as 0.5.
    """

    trials: int = 0
    seconds: float = 0.0
    device_seconds: float = 0.0

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], seconds: float) -> Self:
        """Return what the trials of a study and drivers that ran for so many seconds have spent."""
        started = [record for record in map(TrialRecord.of, trials) if record.is_trained]
        return cls(len(started), seconds, sum(record.device_seconds for record in started))


def beyond(section: BudgetSection, spent: Spent) -> BudgetSection:
    """Return limits raised by the spent amounts."""
    hours = spent.device_seconds / 3600
    before: dict[str, float] = {
        "trials": spent.trials,
        "wall_clock": spent.seconds,
        "device_hours": hours,
        "money": hours * section.price,
    }
    limits = {name: getattr(section, name) for name in before}
    raised = {name: limit + before[name] for name, limit in limits.items() if limit is not None}
    return section.model_copy(update=raised)


def _wall_clock() -> float:
    return time.monotonic()


@dataclass
class Budget:
    """Counts the wall clock and compares it, device time and money with their limits.

    Args:
        section: the limits.
        seconds_before: wall clock of earlier drivers.
        clock: returns the seconds since some moment; a simulation replaces it.
    """

    section: BudgetSection
    seconds_before: float = 0.0
    clock: Callable[[], float] = _wall_clock
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def trials(self) -> int:
        """Number of candidates to train."""
        return self.section.trials

    @property
    def least_improvement(self) -> float:
        """Expected improvement below which no further trial starts; 0 for none."""
        return self.section.least_improvement

    @property
    def limits_devices(self) -> bool:
        """Tell whether device time or money is limited."""
        return self.section.device_hours is not None or self.section.money is not None

    @property
    def seconds(self) -> float:
        """Wall clock so far, across all drivers."""
        return self.seconds_before + self.clock() - self._started

    def spent(self, device_seconds: float) -> str:
        """Return a message that names the reached limit; empty if there is none."""
        for what, *_ in self._reached(device_seconds):
            return f"the budget of {what} is spent"
        return ""

    def larger_limits(self, device_seconds: float) -> list[str]:
        """Return overrides of the reached limits that leave as much as is already spent."""
        reached = self._reached(device_seconds)
        return [f"budget.{name}=+{_plain(2 * spent - limit)}" for _, name, spent, limit in reached]

    def describe(self, device_seconds: float) -> str:
        """Describe the spent and the remaining part of each limit."""
        hours = device_seconds / 3600
        section = self.section
        parts = []
        if section.wall_clock is not None:
            left = duration(max(0.0, section.wall_clock - self.seconds))
            parts.append(f"{duration(self.seconds)} spent, {left} left")
        if section.device_hours is not None:
            left = f"{max(0.0, section.device_hours - hours):.3g}"
            parts.append(f"{hours:.3g} device-hours spent, {left} left")
        if section.money is not None:
            money = hours * section.price
            left = f"{max(0.0, section.money - money):.2f}"
            parts.append(f"{money:.2f} of money spent, {left} left")
        return "; ".join(parts)

    def _reached(self, device_seconds: float) -> Iterator[tuple[str, str, float, float]]:
        """Yield the name, field, spent amount and limit of each limit that is reached."""
        section, hours = self.section, device_seconds / 3600
        for what, name, spent in (
            ("time", "wall_clock", self.seconds),
            ("device-hours", "device_hours", hours),
            ("money", "money", hours * section.price),
        ):
            limit = getattr(section, name)
            if limit is not None and spent >= limit:
                yield what, name, spent, limit


def _plain(number: float) -> str:
    """Format a number for an experiment file: rounded up, without an exponent."""
    return f"{ceil(1000 * number) / 1000:.3f}".rstrip("0").rstrip(".")
