"""What a search may spend, and what it has spent, over all drivers that have worked on it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from search.experiment import BudgetSection
from search.words import duration


@dataclass
class Budget:
    """Counts what is spent from now on, on top of what was spent before.

    Args:
        section: the limits.
        seconds_before: wall clock of earlier drivers.
    """

    section: BudgetSection
    seconds_before: float = 0.0
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = time.monotonic()

    @property
    def trials(self) -> int:
        """Candidates to train."""
        return self.section.trials

    @property
    def seconds(self) -> float:
        """Wall clock so far."""
        return self.seconds_before + time.monotonic() - self._began

    def spent(self, device_seconds: float) -> str:
        """Return which limit is reached, in words; empty where none is."""
        for what, spent, limit in self._accounts(device_seconds):
            if limit is not None and spent >= limit:
                return f"the budget of {what} is spent"
        return ""

    def describe(self, device_seconds: float) -> str:
        """Return what is spent and left of each limit that there is."""
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
            parts.append(f"{money:.2f} spent of money, {left} left")
        return "; ".join(parts)

    def _accounts(self, device_seconds: float) -> list[tuple[str, float, float | None]]:
        section, hours = self.section, device_seconds / 3600
        return [
            ("time", self.seconds, section.wall_clock),
            ("device-hours", hours, section.device_hours),
            ("money", hours * section.price, section.money),
        ]
