"""Retrains a finalist from scratch and scores it on the test split."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from trainables.folds import Folds
from trainables.probes.probing import ProbeSettings
from trainables.probes.records import NetworkProbes, title_of_trial
from trainables.probes.trained import probe_training
from trainables.specs import FinalistResult, Retraining, TrainingSpec
from trainables.training.loop import Training
from trainables.training.process import prepare_process, release_memory
from trainables.trial import start_finalist


def retrain(
    spec: TrainingSpec,
    number: int,
    params: Mapping[str, Any],
    seed: int,
    gpus: float = 0.0,
    digest: str = "",
    *,
    probed: bool = False,
) -> Retraining:
    """Train a candidate for all epochs with one seed and score it on test.

    Args:
        spec: training spec of the search.
        number: number of the finalist's trial.
        params: parameters of the candidate.
        seed: seed of initial weights, order and augmentation.
        gpus: fraction of a GPU for the process.
        digest: of the candidate; empty for no comparison.
        probed: whether to make the probes of the spec afterwards.

    Raises:
        BadInputError: the space draws another candidate from the parameters here.
    """
    prepare_process(spec.threads, gpus)
    release_memory()
    candidate = spec.candidates().rebuild(params, digest)
    training = start_finalist(spec, candidate, seed, gpus)
    results = [training.run_epoch() for _ in range(spec.epochs)]
    predicted, true = training.predict("test")
    validated, expected = training.predict("validation")
    weights = io.BytesIO()
    state = training.evaluated.state_dict()
    torch.save({name: tensor.cpu() for name, tensor in state.items()}, weights)
    title = title_of_trial(number, candidate.truncated)
    probes, failure = _probe(spec, title, seed, training) if probed and spec.probes else (None, "")
    return Retraining(
        FinalistResult(
            number=number,
            seed=seed,
            validation_accuracy=results[-1].validation_accuracy,
            test_accuracy=float((predicted == true).double().mean()),
            seconds=sum(result.epoch_seconds for result in results),
        ),
        weights.getvalue(),
        predicted.numpy().astype(np.int32),
        # Seeds that hold out other folds are scored on other images, so none are compared by image.
        (validated == expected).numpy()[: 0 if isinstance(spec.data.validation, Folds) else None],
        probes,
        failure,
    )


def _probe(
    spec: TrainingSpec, title: str, seed: int, training: Training
) -> tuple[NetworkProbes | None, str]:
    """Return the probes of a trained finalist, or why they failed; the training is kept."""
    try:
        settings = ProbeSettings(only=spec.probes, split="test", rule=spec.rule)
        found = probe_training(
            training, settings, title=title, weights=f"finalist with seed {seed}"
        )
    except Exception as error:
        return None, " ".join(f"{type(error).__name__}: {error}".split())
    return found, ""
