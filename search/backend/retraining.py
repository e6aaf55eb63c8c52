"""The task that retrains a finalist on a worker.

The driver imports this module without torch, and workers import it without Ray Tune, which takes
as long as an epoch of a small search.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.epoch_metrics import EpochMetrics
from trainables.specs import Retraining, TrainingSpec


def retrain(
    spec: TrainingSpec,
    number: int,
    params: Mapping[str, Any],
    seed: int,
    gpus: float,
    digest: str,
    probed: bool,
    weights: bytes | None = None,
    board: Any = None,
) -> Retraining:
    """Retrain a finalist in this process; see `trainables.finalist.retrain`.

    An actor of `EpochBoard`, if there is one, receives each epoch.
    """
    from trainables.finalist import retrain as train  # noqa: PLC0415 - imports torch

    def report(metrics: EpochMetrics) -> None:
        if board is not None:
            board.write.remote(seed, metrics.epoch, metrics.validation_accuracy)

    return train(
        *(spec, number, params, seed, gpus, digest),
        probed=probed,
        weights=weights,
        progress=report,
    )


class EpochBoard:
    """An actor that knows the last epoch of each running training of one network."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, float]] = {}

    def write(self, seed: int, epoch: int, accuracy: float) -> None:
        """Note the last epoch of a seed and its validation accuracy."""
        self._last[seed] = (epoch, accuracy)

    def read(self) -> dict[int, tuple[int, float]]:
        """Return the last epoch and its validation accuracy, by seed."""
        return self._last
