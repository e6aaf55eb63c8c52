"""Retrain a finalist from scratch and score it on the test split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainables.job import FinalistResult, Job
from trainables.training import Training
from trainables.trial import shared_dataset


def retrain(
    job: Job, number: int, params: Mapping[str, Any], seed: int, weights: Path
) -> FinalistResult:
    """Train a candidate for all epochs with one seed, score it on test, keep its weights.

    Args:
        job: the search's.
        number: the trial the candidate comes from.
        params: the candidate's parameters.
        seed: of initial weights, order and augmentation.
        weights: file to write the trained network's ``state_dict`` to.
    """
    torch.set_num_threads(job.threads)
    training = Training(
        job.candidates().rebuild(params),
        shared_dataset(job.data),
        epochs=job.epochs,
        seed=seed,
        augmentation=job.augmentation,
        device=job.device,
    )
    results = [training.run_epoch() for _ in range(job.epochs)]
    weights.parent.mkdir(parents=True, exist_ok=True)
    torch.save(training.network.state_dict(), weights)
    return FinalistResult(
        number=number,
        seed=seed,
        validation_accuracy=results[-1].validation_accuracy,
        test_accuracy=training.score_test()[1],
        seconds=sum(result.seconds for result in results),
    )
