"""Retrain a finalist from scratch and score it on the test split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainables.job import FinalistResult, Job
from trainables.process import prepare_process, release_memory
from trainables.trial import start_training


def retrain(
    job: Job,
    number: int,
    params: Mapping[str, Any],
    seed: int,
    weights: Path,
    gpus: float = 0.0,
) -> FinalistResult:
    """Train a candidate for all epochs with one seed, score it on test, keep its weights.

    Args:
        job: the search's.
        number: the trial the candidate comes from.
        params: the candidate's parameters.
        seed: of initial weights, order and augmentation.
        weights: file to write the trained network's ``state_dict`` to, or that of its moving
            average where that is what is scored; it can be loaded without a GPU.
        gpus: share of a GPU that the process has.
    """
    prepare_process(job.threads, gpus)
    release_memory()
    training = start_training(job, job.candidates().rebuild(params), seed)
    results = [training.run_epoch() for _ in range(job.epochs)]
    weights.parent.mkdir(parents=True, exist_ok=True)
    state = training.evaluated.state_dict()
    torch.save({name: tensor.cpu() for name, tensor in state.items()}, weights)
    return FinalistResult(
        number=number,
        seed=seed,
        validation_accuracy=results[-1].validation_accuracy,
        test_accuracy=training.score_test()[1],
        seconds=sum(result.seconds for result in results),
    )
