"""What a running search tells other processes about itself beside its study."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from cluster.files import write_atomically

MOST_AGE = 60.0
"""Seconds after which a state says nothing about the search any more."""


@dataclass(frozen=True)
class LiveState:
    """The state of a running search.

    Attributes:
        written_at: seconds since 1970.
        finalists: whether the search phase has ended.
        seconds_left: predicted; None before the first epoch.
        nodes: of the cluster.
        cpus: of the cluster.
        cpus_used: of these, those that trainings occupy.
        gpus: of the cluster.
        gpus_used: of these, those that trainings occupy; fractions add up.
    """

    written_at: float
    finalists: bool
    seconds_left: float | None
    nodes: int
    cpus: float
    cpus_used: float
    gpus: float
    gpus_used: float

    def write(self, path: Path) -> None:
        """Write the state atomically."""
        write_atomically(path, json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, path: Path, now: float | None = None) -> Self | None:
        """Return the state as of now; None without one, or if it is old.

        Args:
            path: of the file.
            now: seconds since 1970; None reads the clock.
        """
        try:
            state = cls(**json.loads(path.read_text(encoding="utf-8")))
            age = (time.time() if now is None else now) - state.written_at
        except (OSError, TypeError, ValueError):
            return None
        if age > MOST_AGE:
            return None
        left = None if state.seconds_left is None else max(0.0, state.seconds_left - age)
        return cls(**{**asdict(state), "seconds_left": left})

    @property
    def devices(self) -> str:
        """The nodes and the devices in use, in words."""
        nodes = f"{self.nodes} {'node' if self.nodes == 1 else 'nodes'}"
        if self.gpus:
            return f"{nodes}, {self.gpus_used:g} of {self.gpus:g} GPUs in use"
        return f"{nodes}, {self.cpus_used:g} of {self.cpus:g} CPUs in use"
