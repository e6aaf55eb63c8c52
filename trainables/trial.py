"""The thin layer between Ray Tune and the training loop."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from ray import tune

from trainables.data import Dataset
from trainables.job import Data, Job
from trainables.training import Training

STATE_FILE = "training.pt"
FAILURE = "failure"
"""Key of a result that says why a training cannot go on."""


class Trial(tune.Trainable):
    """One candidate in training; one step is one epoch.

    ``config`` holds ``params`` (the candidate's) and ``seed``. The process serves many trials one
    after the other: everything that belongs to a trial lives in ``self._training``.
    """

    _training: Training | None = None

    def setup(self, config: dict[str, Any], job: Job) -> None:  # type: ignore[override]
        """Begin the first trial of this process."""
        self._job = job
        torch.set_num_threads(job.threads)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial in the same process."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        # What the last trial held is let go before the next one takes memory.
        self._training = None
        self._config = config

    def _start(self) -> Training:
        job = self._job
        return Training(
            job.candidates().rebuild(self._config["params"]),
            shared_dataset(job.data),
            epochs=job.epochs,
            seed=self._config["seed"],
            augmentation=job.augmentation,
            device=job.device,
        )

    def step(self) -> dict[str, Any]:
        """Train one epoch and report it; a training that cannot go on is reported as failed.

        An error that a second try would meet again does not cost the process and its retries. One
        of the device itself does: after it nothing in the process can be trusted.
        """
        try:
            if self._training is None:
                self._training = self._start()
            result = self._training.run_epoch()
        except torch.AcceleratorError:
            raise
        except Exception as error:
            # Tune gives up the whole search over a result without the metric that it compares by.
            cause = f"{type(error).__name__}: {error}"
            return {FAILURE: cause, "validation_accuracy": math.nan, "done": True}
        return {
            "epoch": result.epoch,
            "train_loss": result.train_loss,
            "train_accuracy": result.train_accuracy,
            "validation_loss": result.validation_loss,
            "validation_accuracy": result.validation_accuracy,
            "epoch_seconds": result.seconds,
            "done": result.diverged or result.epoch >= self._job.epochs,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the training's state; an empty one where it has not begun or could not."""
        state = {} if self._training is None else self._training.state_dict()
        torch.save(state, Path(checkpoint_dir) / STATE_FILE)

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Continue from a state; nothing in it can run code."""
        # Written on a GPU that may not be here; what is loaded is copied to where it belongs.
        state = torch.load(Path(str(checkpoint)) / STATE_FILE, "cpu", weights_only=True)
        self._training = None
        if state:
            self._training = self._start()
            self._training.load_state_dict(state)


@lru_cache(maxsize=1)
def shared_dataset(data: Data) -> Dataset:
    """Return the images; all trials of a process look at the same map."""
    return data.load()
