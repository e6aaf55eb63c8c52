"""The thin layer between Ray Tune and the training loop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from ray import tune

from spaces.candidate import Candidate
from trainables.data import Dataset
from trainables.device import select_device
from trainables.job import Data, Job
from trainables.process import (
    is_out_of_memory,
    prepare_process,
    release_memory,
    usable_memory,
)
from trainables.training import Training

STATE_FILE = "training.pt"
FAILURE = "failure"
"""Key of a result that says why a training cannot go on."""
VIOLATION = "violation"
"""Key beside it where the device's memory did not suffice: the excess, relative to the limit."""
STOPPED = "stopped"
"""Key of a last result that says why the trial gave itself up."""
_LEAST_EXCESS = 0.01


class Trial(tune.Trainable):
    """One candidate in training; one step is one epoch.

    ``config`` holds ``params`` (the candidate's), ``seed`` and ``gpus`` (the share of a GPU that
    the trial has). The process serves many trials one after the other, all with the same share:
    everything that belongs to a trial lives in ``self._training`` and ``self._latencies``.
    """

    _training: Training | None = None
    _latencies: Mapping[str, float] = {}

    def setup(self, config: dict[str, Any], job: Job) -> None:  # type: ignore[override]
        """Begin the first trial of this process."""
        self._job = job
        prepare_process(job.threads, config.get("gpus", 0.0))
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial in the same process."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        # What the last trial held is let go before the next one takes memory.
        self._training = None
        self._latencies = {}
        release_memory()
        self._config = config

    def _candidate(self) -> Candidate:
        return self._job.candidates().rebuild(self._config["params"])

    def _start(self) -> Training:
        return start_training(self._job, self._candidate(), self._config["seed"])

    def step(self) -> dict[str, Any]:
        """Train one epoch and report it; a training that cannot go on is reported as failed.

        An error that a second try would meet again does not cost the process and its retries. One
        of the device itself does: after it nothing in the process can be trusted.
        """
        try:
            return self._step()
        except Exception as error:
            if is_out_of_memory(error):
                return self._failure("out of memory", error) | {VIOLATION: self._excess()}
            if isinstance(error, torch.AcceleratorError):
                raise
            return self._failure(type(error).__name__, error)

    def _step(self) -> dict[str, Any]:
        if self._training is None:
            self._training = self._start()
            self._latencies = measure_latencies(self._training, self._job.latency_batches)
        training, job = self._training, self._job
        # A process that was lost right after its last epoch left a checkpoint with all of them.
        result = training.result if training.epoch >= job.epochs else training.run_epoch()
        assert result is not None  # noqa: S101 - there is one after the first epoch
        report: dict[str, Any] = {
            "epoch": result.epoch,
            "train_loss": result.train_loss,
            "train_accuracy": result.train_accuracy,
            "validation_loss": result.validation_loss,
            "validation_accuracy": result.validation_accuracy,
            "epoch_seconds": result.seconds,
            **self._latencies,
            "done": result.diverged or result.epoch >= job.epochs,
        }
        least = least_accuracy(job.task.classes)
        hopeless = result.epoch == job.hopeless_after and result.train_accuracy < least
        if hopeless and not report["done"]:
            said = f"training accuracy {result.train_accuracy:.4f} after {result.epoch} epochs"
            report |= {STOPPED: f"{said} is under {least:.4f}", "done": True}
        return report

    def _failure(self, kind: str, error: Exception) -> dict[str, Any]:
        # Tune gives up the whole search over a result without the metric that it compares by.
        cause = f"{kind}: {error}".strip().splitlines()[0]
        return {FAILURE: cause, "validation_accuracy": math.nan, "done": True}

    def _excess(self) -> float:
        """Return by how much the memory was exceeded, relative to what there is."""
        device = select_device(self._job.device)
        needed = self._candidate().training_memory(bfloat16=device.bfloat16)
        # Where the prediction held it to fit, it was wrong by a little at least.
        return max(needed / usable_memory(device.device) - 1, _LEAST_EXCESS)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the training's state; an empty one where it has not begun or could not."""
        state: dict[str, Any] = {}
        if self._training is not None:
            state = self._training.state_dict() | {"latencies": dict(self._latencies)}
        torch.save(state, Path(checkpoint_dir) / STATE_FILE)

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Continue from a state; nothing in it can run code."""
        # Written on a GPU that may not be here; what is loaded is copied to where it belongs.
        state = torch.load(Path(str(checkpoint)) / STATE_FILE, "cpu", weights_only=True)
        self._training = None
        if state:
            self._training = self._start()
            self._training.load_state_dict(state)
            self._latencies = state["latencies"]


def start_training(job: Job, candidate: Candidate, seed: int) -> Training:
    """Return a training of a candidate, about to begin."""
    return Training(
        candidate,
        shared_dataset(job.data),
        epochs=job.epochs,
        seed=seed,
        augmentation=job.augmentation,
        device=job.device,
        compile=job.compile,
    )


def measure_latencies(training: Training, batches: Sequence[int]) -> dict[str, float]:
    """Return the latencies of a network in milliseconds: of one image, and of a larger batch."""
    return {
        "latency_ms" if batch == 1 else "batch_latency_ms": training.measure_latency(batch)
        for batch in batches
    }


def least_accuracy(classes: int) -> float:
    """Return the training accuracy under which a training is hopeless: twice that of a guess.

    Of very few classes half of the way from a guess to perfection: twice may be all there is.
    """
    return min(2 / classes, (1 + 1 / classes) / 2)


@lru_cache(maxsize=1)
def shared_dataset(data: Data) -> Dataset:
    """Return the images; all trials of a process look at the same map."""
    return data.load()
