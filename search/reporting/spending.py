"""What a stored search has spent, and what its running driver says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

from search.experiment.sections import BudgetSection
from search.formatting import duration, plural
from search.loop.budget import Budget, Spent
from search.reporting.stored_search import StoredSearch
from search.study.live_state import LiveState
from search.study.records import TrialRecord
from search.tracking.journal_reader import worked_seconds


@dataclass(frozen=True)
class Spending:
    """The effort of a search so far.

    Attributes:
        budget: the limits.
        epochs: of all trials, including running ones.
        spent: what the budget counts.
        live: what the driver says; None without one.
    """

    budget: BudgetSection
    epochs: int
    spent: Spent
    live: LiveState | None

    @classmethod
    def of(cls, stored: StoredSearch) -> Self:
        """Return the effort of a stored search."""
        trained = [trial for trial in stored.trials if TrialRecord.of(trial).is_trained]
        epochs = sum(
            max(TrialRecord.of(trial).epochs, len(trial.intermediate_values)) for trial in trained
        )
        live = LiveState.read(stored.folder.live) if stored.state == "running" else None
        spent = Spent.of(stored.trials, worked_seconds(stored.folder.journal))
        return cls(stored.experiment.budget, epochs, spent, live)

    def lines(self) -> Iterator[str]:
        """Yield sentences without full stops: the effort, and the running driver."""
        if self.epochs:
            device = duration(self.spent.device_seconds)
            yield (
                f"{plural(self.epochs, 'epoch')} trained in {duration(self.spent.seconds)}, "
                f"{device} of device time"
            )
        budget = Budget(self.budget, self.spent.seconds, clock=lambda: 0.0)
        if limits := budget.describe(self.spent.device_seconds):
            yield f"budget: {limits}"
        if self.live is not None:
            yield self.live.devices
            if self.live.seconds_left is not None:
                what = " for the finalists" if self.live.finalists else ""
                yield f"about {duration(self.live.seconds_left)} left{what}"

    def document(self) -> dict[str, Any]:
        """Return the effort as plain values."""
        limits = ("trials", "wall_clock", "device_hours", "money")
        return {
            "epochs": self.epochs,
            "seconds": self.spent.seconds,
            "device_seconds": self.spent.device_seconds,
            "budget": {name: getattr(self.budget, name) for name in limits},
            "live": None if self.live is None else asdict(self.live),
        }
