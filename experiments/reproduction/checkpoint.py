"""Checkpoints of one training: a killed run continues a long training where it was saved last."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from cluster.files import write_atomically
from trainables.epoch_metrics import EpochMetrics
from trainables.training.loop import Training

SAVE_EVERY = 120.0
"""Seconds between two checkpoints. Shorter trainings have none."""


class Clock:
    """Measures the time of a training over all runs that contribute to it."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.monotonic()

    @property
    def cpu(self) -> float:
        """Processor time in seconds."""
        return time.process_time() - self._cpu

    @property
    def wall(self) -> float:
        """Passed time in seconds."""
        return time.monotonic() - self._wall

    def add(self, cpu: float, wall: float) -> None:
        """Add the time of an earlier run, in seconds."""
        self._cpu -= cpu
        self._wall -= wall


class Checkpoint:
    """The last state of one training, in one file.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved = time.monotonic()

    def restore(self, training: Training, clock: Clock) -> list[EpochMetrics]:
        """Load the state into a fresh training, and return the metrics of its finished epochs."""
        if not self._path.exists():
            return []
        state = torch.load(self._path, map_location=training.device, weights_only=True)
        training.load_state_dict(state["training"])
        clock.add(state["cpu"], state["wall"])
        return [EpochMetrics.from_dict(each) for each in state["epochs"]]

    def save_if_due(self, training: Training, epochs: Sequence[EpochMetrics], clock: Clock) -> None:
        """Save the state if the last one is old.

        Args:
            training: between two epochs.
            epochs: metrics of its finished epochs.
            clock: of the training.
        """
        if time.monotonic() - self._saved < SAVE_EVERY:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "training": training.state_dict(),
            "epochs": [each.as_dict() for each in epochs],
            "cpu": clock.cpu,
            "wall": clock.wall,
        }
        content = io.BytesIO()
        torch.save(state, content)
        # Two commands that train the same case may save at the same time.
        write_atomically(self._path, content.getbuffer())
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)
