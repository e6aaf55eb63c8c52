"""Trains candidates one after another in the process of a trial, and reports each epoch."""

from __future__ import annotations

import faulthandler
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import torch

from cluster.storage import below
from spaces.candidate import Candidate
from spaces.errors import BadInputError
from trainables.data import Dataset, NodeDataError, load
from trainables.epoch_metrics import (
    FAILURE,
    HISTORY,
    NODE_DATA,
    OBJECTIVE,
    STOPPED,
    UNSAVED,
    VIOLATION,
    EpochMetrics,
)
from trainables.folds import Folds
from trainables.specs import DataSpec, TrainingSpec
from trainables.training.augmentation import user_augmentation
from trainables.training.checkpoints import Checkpoints
from trainables.training.device import select_device
from trainables.training.folded import FoldedTraining
from trainables.training.loop import Training
from trainables.training.process import (
    has_reached_memory_limit,
    is_out_of_memory,
    prepare_process,
    release_memory,
    usable_memory,
)
from trainables.training.seeds import fold_seed

_LEAST_EXCESS = 0.01


class Trial:
    """Trains one candidate; one step is one epoch.

    One process serves many trials with the same fraction of a GPU, one after another.

    Args:
        config: ``number``, ``params`` and ``digest`` (of the candidate), ``seed`` and ``gpus`` (the
            fraction of a GPU for the trial).
        spec: training spec of the search.
    """

    _training: Training | FoldedTraining | None = None
    _latencies: Mapping[str, float] = {}

    def __init__(self, config: Mapping[str, Any], spec: TrainingSpec) -> None:
        self._spec = spec
        prepare_process(spec.threads, config.get("gpus", 0.0))
        self._begin(config)

    def reset(self, config: Mapping[str, Any]) -> None:
        """Begin the next trial in the same process."""
        self._keep()
        self._begin(config)

    def stop(self) -> None:
        """Save a trial that ends before its last epoch, because it may be resumed."""
        self._keep()

    def _begin(self, config: Mapping[str, Any]) -> None:
        # Free the memory of the last trial before the next one allocates.
        self._training = None
        self._history: list[EpochMetrics] = []
        self._unreported = 0
        self._latencies = {}
        release_memory()
        self._config = config
        self._checkpoints = self._find_checkpoints()

    def _find_checkpoints(self) -> Checkpoints | None:
        place = self._spec.checkpoints
        if place is None:
            return None
        # A number alone does not identify a candidate: if a driver is killed after starting a trial
        # and before recording it, the next driver reuses the number.
        number, seed = self._config["number"], self._config["seed"]
        return Checkpoints(below(place, str(number), f"{seed:08x}"))

    def _keep(self) -> None:
        training, checkpoints = self._training, self._checkpoints
        if training is None or checkpoints is None or training.result is None:
            return
        with suppress(OSError):
            # The search removes the checkpoints of a finished trial.
            if training.epoch < self._spec.epochs and checkpoints.exist:
                checkpoints.save(
                    training.epoch, training.result.validation_accuracy, self._state(training)
                )

    def _candidate(self) -> Candidate:
        return self._spec.candidates().rebuild(
            self._config["params"], self._config.get("digest", "")
        )

    def _start(self) -> Training | FoldedTraining:
        """Start the training, or resume it from the checkpoint of an earlier process."""
        gpus = self._config.get("gpus", 0.0)
        training = start_training(self._spec, self._candidate(), self._config["seed"], gpus)
        state = self._checkpoints.load() if self._checkpoints is not None else None
        if state is None:
            self._latencies = measure_latencies(training, self._spec.latency_batches)
        else:
            self._history = [EpochMetrics.from_dict(each) for each in state.pop(HISTORY)]
            self._latencies = state.pop("latencies")
            training.load_state_dict(state)
        self._unreported = len(self._history)
        return training

    def _state(self, training: Training | FoldedTraining) -> dict[str, Any]:
        history = [metrics.as_dict() for metrics in self._history]
        return training.state_dict() | {HISTORY: history, "latencies": dict(self._latencies)}

    def step(self) -> dict[str, Any]:
        """Train one epoch and report its metrics; a failed training reports its cause.

        An error that a retry would repeat is reported and does not end the process. Three kinds of
        errors end it and are retried: errors of the device, after which nothing in the process can
        be trusted; memory exhausted by another process on the GPU; a device that torch cannot use,
        since another node may have a working driver.
        """
        try:
            # Outside of the hang limit: fetching and decoding have their own timeouts.
            shared_dataset(self._spec.data)
            with ending_if_hung(self._hang_after()):
                return self._step()
        except Exception as error:
            # A training cannot be resumed from the middle of an epoch.
            self._training = None
            if is_out_of_memory(error):
                if not self._has_reached_memory_limit(error):
                    raise
                return self._failure("out of memory", error) | {VIOLATION: self._excess()}
            if isinstance(error, torch.AcceleratorError) or _is_unusable_device(error):
                raise
            failure = self._failure(type(error).__name__, error)
            if isinstance(error, NodeDataError):
                failure[NODE_DATA] = error.args
            return failure

    def _hang_after(self) -> float | None:
        """Return the time limit of an epoch, including the timeout of unavailable storage."""
        after, validation = self._spec.hang_after, self._spec.data.validation
        if after is None:
            return None
        if isinstance(validation, Folds):
            after *= validation.trainings
        return after if self._checkpoints is None else after + self._checkpoints.timeout

    def _step(self) -> dict[str, Any]:
        if self._training is None:
            self._training = self._start()
        training, spec = self._training, self._spec
        unsaved = ""
        if training.epoch < spec.epochs and not self._is_over():
            result = training.run_epoch()
            self._history.append(result.with_latencies(self._latencies))
            unsaved = self._offer(training, result)
        # A process lost right after its last epoch leaves only the report to be done.
        last = self._history[-1]
        report: dict[str, Any] = last.as_dict()
        if unsaved:
            report[UNSAVED] = unsaved
        if self._unreported:
            # The earlier process may not have reported these epochs.
            report[HISTORY] = [metrics.as_dict() for metrics in self._history[: self._unreported]]
            self._unreported = 0
        report["done"] = self._has_diverged() or last.epoch >= spec.epochs
        if not report["done"] and self._is_hopeless():
            said = f"training accuracy {last.train_accuracy:.4f} after {last.epoch}"
            noun = "epoch" if last.epoch == 1 else "epochs"
            least = least_accuracy(spec.task.classes)
            report |= {
                STOPPED: f"{said} {noun} is under {least:.4f}",
                "done": True,
            }
        return report

    def _offer(self, training: Training | FoldedTraining, result: EpochMetrics) -> str:
        """Save a checkpoint if one is due; return the cause of a failure, or "".

        With a full disk or an unavailable bucket, training continues without this checkpoint.
        """
        if self._checkpoints is not None:
            try:
                self._checkpoints.offer(
                    result.epoch, result.validation_accuracy, self._state(training)
                )
            except OSError as error:
                return " ".join(str(error).split()) or type(error).__name__
        return ""

    def _is_over(self) -> bool:
        """Tell whether the last epoch ended the training early."""
        return self._has_diverged() or self._is_hopeless()

    def _is_hopeless(self) -> bool:
        if not self._history or self._history[-1].epoch != self._spec.hopeless_after:
            return False
        return self._history[-1].train_accuracy < least_accuracy(self._spec.task.classes)

    def _has_diverged(self) -> bool:
        result = self._training.result if self._training is not None else None
        return result is not None and result.has_diverged

    def _failure(self, kind: str, error: Exception) -> dict[str, Any]:
        # Tune aborts the whole search if a result lacks the metric that it compares.
        cause = f"{kind}: {error}".strip().splitlines()[0]
        return {FAILURE: cause, OBJECTIVE: math.nan, "done": True}

    def _has_reached_memory_limit(self, error: Exception) -> bool:
        device = select_device(self._spec.device).device
        return has_reached_memory_limit(error, device, self._config.get("gpus", 0.0))

    def _excess(self) -> float:
        """Return the predicted excess of memory, relative to the usable memory."""
        device = select_device(self._spec.device)
        needed = self._candidate().training_memory(bfloat16=device.bfloat16)
        # If the prediction fits, it was too low by at least a little.
        there = max(1, usable_memory(device.device))
        return max(needed / there - 1, _LEAST_EXCESS)


def _is_unusable_device(error: Exception) -> bool:
    return isinstance(error, BadInputError) and error.field == "device"


@contextmanager
def ending_if_hung(seconds: float | None) -> Iterator[None]:
    """End the process if the block takes too long; Ray then retries the trial.

    Args:
        seconds: time limit; None for no limit.
    """
    if seconds is None:
        yield
        return
    # faulthandler uses a thread outside the interpreter, because a hung kernel blocks the latter.
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def start_training(
    spec: TrainingSpec, candidate: Candidate, seed: int, gpus: float = 0.0
) -> Training | FoldedTraining:
    """Return a new training of a candidate, on each fold if validation is by folds.

    Args:
        spec: training spec of the search.
        candidate: architecture and recipe.
        seed: seed of initial weights, order and augmentation.
        gpus: fraction of a GPU for the process. If it is not 0, ``auto`` never falls back to the
            CPU.

    Raises:
        BadInputError: the device cannot be used, or the candidate cannot be trained on the images.
    """
    dataset = shared_dataset(spec.data)
    if dataset.folds is None:
        return _start(spec, candidate, dataset, seed, gpus)
    return FoldedTraining(
        dataset.parts,
        lambda fold: _start(spec, candidate, dataset.parts[fold], fold_seed(seed, fold), gpus),
    )


def start_finalist(
    spec: TrainingSpec, candidate: Candidate, seed: int, gpus: float = 0.0
) -> Training:
    """Return a new training of a finalist: one network, also if validation is by folds.

    Arguments and errors are those of `start_training`.
    """
    return _start(spec, candidate, shared_dataset(spec.data).finalist_part(seed), seed, gpus)


def _start(
    spec: TrainingSpec, candidate: Candidate, dataset: Dataset, seed: int, gpus: float
) -> Training:
    return Training(
        candidate,
        dataset,
        epochs=spec.epochs,
        seed=seed,
        augmentation=spec.augmentation,
        augment=user_augmentation(spec.augmentation.function, spec.folders),
        balance=spec.balance,
        test_time_flip=spec.test_time_flip,
        device="cuda" if gpus and spec.device == "auto" else spec.device,
        compile=spec.compile,
    )


def measure_latencies(
    training: Training | FoldedTraining, batches: Sequence[int]
) -> dict[str, float]:
    """Return the latencies of a network for batch sizes, in milliseconds, by metric name."""
    return {
        "latency_ms" if batch == 1 else "batch_latency_ms": training.measure_latency(batch)
        for batch in batches
    }


def least_accuracy(classes: int) -> float:
    """Return the training accuracy below which a training is hopeless: twice that of a guess.

    With very few classes it is halfway between a guess and 1, because twice a guess may be 1.
    """
    return min(2 / classes, (1 + 1 / classes) / 2)


@lru_cache(maxsize=1)
def shared_dataset(data: DataSpec) -> Dataset:
    """Return the images; all trials of a process share one memory map."""
    return load(data)
