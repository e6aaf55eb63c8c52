"""The task that retrains a finalist on a worker.

The driver imports this module without torch, and workers import it without Ray Tune, which takes
as long as an epoch of a small search.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.specs import Retraining, TrainingSpec


def retrain(
    spec: TrainingSpec,
    number: int,
    params: Mapping[str, Any],
    seed: int,
    gpus: float,
    digest: str,
    probed: bool,
) -> Retraining:
    """Retrain a finalist in this process; see `trainables.finalist.retrain`."""
    from trainables.finalist import retrain as train  # noqa: PLC0415 - imports torch

    return train(spec, number, params, seed, gpus, digest, probed=probed)
