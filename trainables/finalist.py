"""Retrains a finalist from scratch and scores it on the test split."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from cluster.storage import below
from trainables.epoch_metrics import EpochMetrics
from trainables.folds import Folds
from trainables.probes.probing import ProbeSettings
from trainables.probes.records import NetworkProbes, title_of_trial
from trainables.probes.trained import load_state, probe_training, read_state
from trainables.specs import FinalistResult, Retraining, TrainingSpec
from trainables.training.checkpoints import Checkpoints
from trainables.training.loop import Training
from trainables.training.process import prepare_process, release_memory
from trainables.trial import start_finalist

_SECONDS = "seconds"
"""Key of the training time in a checkpoint."""


def retrain(
    spec: TrainingSpec,
    number: int,
    params: Mapping[str, Any],
    seed: int,
    gpus: float = 0.0,
    digest: str = "",
    *,
    probed: bool = False,
    weights: bytes | None = None,
    progress: Callable[[EpochMetrics], None] = lambda _: None,
) -> Retraining:
    """Train a candidate for all epochs with one seed and score it on test.

    With a place for checkpoints in the spec, a training that was lost continues from its last one.

    Args:
        spec: training spec of the search.
        number: number of the finalist's trial.
        params: parameters of the candidate.
        seed: seed of initial weights, order and augmentation.
        gpus: fraction of a GPU for the process.
        digest: of the candidate; empty for no comparison.
        probed: whether to make the probes of the spec afterwards.
        weights: content of the file of the ``state_dict`` to start from; None for initial weights
            by the seed.
        progress: called after each epoch.

    Raises:
        BadInputError: the space draws another candidate from the parameters here, or the weights do
            not fit.
    """
    prepare_process(spec.threads, gpus)
    release_memory()
    candidate = spec.candidates().rebuild(params, digest)
    training = start_finalist(spec, candidate, seed, gpus)
    if weights is not None:
        _start_from(training, weights)
    last, seconds = _train(training, _checkpoints(spec, number, seed), progress)
    predicted, true, confident = training.predict("test")
    validated, expected, _ = training.predict("validation")
    trained = io.BytesIO()
    state = training.evaluated.state_dict()
    torch.save({name: tensor.cpu() for name, tensor in state.items()}, trained)
    title = title_of_trial(number, candidate.truncated)
    probes, failure = _probe(spec, title, seed, training) if probed and spec.probes else (None, "")
    return Retraining(
        FinalistResult(
            number=number,
            seed=seed,
            validation_accuracy=last.validation_accuracy,
            test_accuracy=float((predicted == true).double().mean()),
            seconds=seconds,
        ),
        trained.getvalue(),
        predicted.numpy().astype(np.int32),
        # Seeds that hold out other folds are scored on other images, so none are compared by image.
        (validated == expected).numpy()[: 0 if isinstance(spec.data.validation, Folds) else None],
        probes,
        failure,
        confident.numpy().astype(np.float16),
        # Not float16, which rounds small probabilities to 0 and so loses their order.
        training.probabilities("test").numpy() if spec.scores else None,
    )


def _start_from(training: Training, weights: bytes) -> None:
    """Replace the initial weights of a training, and of its moving average."""
    found = read_state(weights, "of the finalist")
    load_state(training.network, found, "the network")
    state = training.state_dict()
    training.load_state_dict(state | {"average": found if state["average"] else None})


def _checkpoints(spec: TrainingSpec, number: int, seed: int) -> Checkpoints | None:
    if spec.checkpoints is None:
        return None
    return Checkpoints(below(spec.checkpoints, str(number), f"{seed:08x}"))


def _train(
    training: Training, checkpoints: Checkpoints | None, progress: Callable[[EpochMetrics], None]
) -> tuple[EpochMetrics, float]:
    """Train to the last epoch, from the last checkpoint if there is one.

    Returns:
        Metrics of the last epoch, and the seconds of all.
    """
    seconds = 0.0
    state = checkpoints.load() if checkpoints is not None else None
    if state is not None:
        seconds = state.pop(_SECONDS)
        training.load_state_dict(state)
    last = training.result
    while training.epoch < training.epochs:
        last = result = training.run_epoch()
        seconds += result.epoch_seconds
        progress(result)
        if checkpoints is not None:
            with suppress(OSError):  # On a full disk, training continues without this checkpoint.
                checkpoints.offer(
                    result.epoch,
                    result.validation_accuracy,
                    training.state_dict() | {_SECONDS: seconds},
                )
    assert last is not None  # noqa: S101 - a spec has at least one epoch
    return last, seconds


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
