"""A trial in training, as its driver knows it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from search.study.events import StartedTrial
from search.study.records import TrialAttributes


@dataclass
class RunningTrial:
    """A trial in training: what its epochs have reported so far."""

    trial: StartedTrial
    device_fraction: float
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    """What each epoch reported."""
    stored: frozenset[int] = frozenset()
    """Epochs that the study had from an earlier driver."""
    seconds_kept: float = 0.0
    """What the study knows to be spent on it; a driver's first report brings these epochs again."""

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return max(self.history, default=0)

    @property
    def metrics(self) -> dict[str, float]:
        """What the last epoch reported."""
        return self.history.get(self.epoch, {})

    @property
    def seconds(self) -> float:
        """Seconds of the epochs that have been reported; any thread may ask."""
        return math.fsum(metrics["epoch_seconds"] for metrics in list(self.history.values()))

    @property
    def spent(self) -> float:
        """Seconds of training so far, those that an earlier driver had counted too."""
        return max(self.seconds, self.seconds_kept)

    @property
    def device_seconds(self) -> float:
        """Seconds of devices that it has taken so far."""
        return self.spent * self.device_fraction

    @property
    def attributes(self) -> TrialAttributes:
        """What the study stores of the training."""
        found = TrialAttributes(
            seconds=self.spent,
            epochs=self.epoch,
            history={str(epoch): metrics for epoch, metrics in self.history.items()},
        )
        if "train_accuracy" in self.metrics:
            found["train_accuracy"] = self.metrics["train_accuracy"]
        return found
