"""The clock of a simulated search."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SimulatedClock:
    """The simulated time.

    Attributes:
        now: seconds.
    """

    now: float = 0.0

    def read(self) -> float:
        """Return the seconds."""
        return self.now
