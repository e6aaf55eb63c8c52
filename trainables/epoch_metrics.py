"""Metrics of an epoch: one record from the training loop to the journal; free of torch and Ray.

The result of a trial holds them and, under the keys below, how the trial went.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

OBJECTIVE = "validation_accuracy"
"""The metric that a search maximises."""
FAILURE = "failure"
"""Result key of a trial: why its training failed."""
NODE_DATA = "node_data"
"""Result key after a failure because of the images on a node: the arguments of the error."""
VIOLATION = "violation"
"""Result key after running out of memory: the excess relative to the limit."""
STOPPED = "stopped"
"""Result key: why the trial stopped itself early."""
UNSAVED = "unkept"
"""Result key: why no checkpoint of the epoch could be saved."""
HISTORY = "history"
"""Result key of a resumed trial: the metrics of the epochs before its checkpoint."""


@dataclass(frozen=True)
class EpochMetrics:
    """What a training measured in one epoch; its fields are the names of the metrics everywhere.

    Attributes:
        epoch: number of finished epochs.
        train_loss: mean over the training images, during the epoch.
        train_accuracy: likewise, 0..1; a mixed image counts for the class of its larger part.
        validation_loss: mean over the validation images, after the epoch.
        validation_accuracy: likewise, 0..1.
        epoch_seconds: wall clock of training and validation.
        latency_ms: latency for one image; None if the search does not measure it.
        batch_latency_ms: latency for a batch; None if the search does not measure it.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    epoch_seconds: float
    latency_ms: float | None = None
    batch_latency_ms: float | None = None

    @property
    def has_diverged(self) -> bool:
        """Tell whether a loss is no longer finite."""
        return not (math.isfinite(self.train_loss) and math.isfinite(self.validation_loss))

    @property
    def objective(self) -> float:
        """Validation accuracy; NaN after divergence, where accuracy is that of a guess."""
        return math.nan if self.has_diverged else self.validation_accuracy

    @property
    def values(self) -> dict[str, float]:
        """The measured metrics by name, without the epoch."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name != "epoch" and value is not None
        }

    def with_latencies(self, latencies: Mapping[str, float]) -> Self:
        """Return these metrics with latencies measured before the training."""
        return self.from_dict({**self.as_dict(), **latencies})

    def as_dict(self) -> dict[str, float]:
        """Return the epoch and the measured metrics, as Ray Tune and checkpoints hold them."""
        return {"epoch": self.epoch, **self.values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the metrics that `as_dict` gave; other keys are ignored.

        Raises:
            TypeError: a metric that every epoch has is missing.
        """
        if "seconds" in values:
            # Checkpoints of version 0.1 name the duration so.
            values = {"epoch_seconds": values["seconds"], **values}
        names = [field.name for field in fields(cls) if field.name in values]
        metrics = {name: float(values[name]) for name in names if name != "epoch"}
        return cls(int(values["epoch"]), **metrics)
