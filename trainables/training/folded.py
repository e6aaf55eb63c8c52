"""Trains one network per fold of the training images, and scores each image once per repetition."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import fsum
from typing import Any

import torch
from torch import Tensor

from trainables.data import Dataset
from trainables.epoch_metrics import EpochMetrics
from trainables.training.loop import Training


class FoldedTraining:
    """One candidate in training on each fold; it has the interface of a `Training`.

    An epoch trains an epoch of each fold, one fold after another. Only one network is on the device
    at a time. The others wait in the memory of the host, as their `Training.state_dict`.

    Args:
        parts: the images of each fold; see `trainables.data.Dataset.parts`.
        start: begins the training of a fold, by its number.

    Attributes:
        epoch: number of finished epochs.
        result: metrics of the last finished epoch, as means over the images of all folds.

    Raises:
        BadInputError: as `Training`.
    """

    def __init__(self, parts: Sequence[Dataset], start: Callable[[int], Training]) -> None:
        self.epoch = 0
        self.result: EpochMetrics | None = None
        self._parts = parts
        self._start = start
        self._waiting: list[dict[str, Any] | None] = [None] * len(parts)
        self._open: tuple[int, Training] | None = None
        self._training(0)

    def run_epoch(self) -> EpochMetrics:
        """Train one epoch of each fold, then score the images that it holds out.

        Raises:
            RuntimeError: all epochs are finished.
        """
        started = time.perf_counter()
        results: dict[int, EpochMetrics] = {}
        for number in self._order():
            results[number] = self._training(number).run_epoch()
        every = [results[number] for number in range(len(self._parts))]
        self.epoch += 1
        self.result = EpochMetrics(
            epoch=self.epoch,
            train_loss=self._mean([each.train_loss for each in every], "train"),
            train_accuracy=self._mean([each.train_accuracy for each in every], "train"),
            validation_loss=self._mean([each.validation_loss for each in every], "validation"),
            validation_accuracy=self._mean(
                [each.validation_accuracy for each in every], "validation"
            ),
            epoch_seconds=time.perf_counter() - started,
        )
        return self.result

    def score(self, split: str) -> tuple[float, float]:
        """Return (mean cross-entropy, accuracy 0..1) over a split of all folds."""
        scores = {number: self._training(number).score(split) for number in self._order()}
        losses, accuracies = zip(*(scores[number] for number in sorted(scores)), strict=True)
        return self._mean(losses, split), self._mean(accuracies, split)

    def predict(self, split: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `Training.predict` returns, fold after fold."""
        found = {number: self._training(number).predict(split) for number in self._order()}
        predicted, true, confident = zip(*(found[n] for n in sorted(found)), strict=True)
        return torch.cat(predicted), torch.cat(true), torch.cat(confident)

    def measure_latency(self, batch: int) -> float:
        """Return the latency of one network for a batch size, in milliseconds."""
        return self._training(self._order()[0]).measure_latency(batch)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`; only tensors and plain values."""
        folds = list(self._waiting)
        if self._open is not None:
            number, training = self._open
            folds[number] = training.state_dict()
        result = self.result.as_dict() if self.result else None
        return {"epoch": self.epoch, "result": result, "folds": folds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of the same candidate on the same folds."""
        self._open = None
        self.epoch = state["epoch"]
        self.result = EpochMetrics.from_dict(state["result"]) if state["result"] else None
        self._waiting = list(state["folds"])

    def _order(self) -> list[int]:
        """Return the folds, beginning with the one on the device, which needs no exchange."""
        first = self._open[0] if self._open is not None else 0
        return sorted(range(len(self._parts)), key=lambda number: number != first)

    def _training(self, number: int) -> Training:
        """Return the training of a fold, after the one on the device has made room."""
        if self._open is not None:
            before, training = self._open
            if before == number:
                return training
            self._waiting[before] = _on_host(training.state_dict())
            self._open = None
            del training
        training = self._start(number)
        # The next epoch of this fold begins from its state, which contains no plan.
        training.plans_ahead = False
        state, self._waiting[number] = self._waiting[number], None
        if state is not None:
            training.load_state_dict(state)
        self._open = number, training
        return training

    def _mean(self, values: Sequence[float], split: str) -> float:
        """Return the mean over the images of a split of all folds."""
        images = [len(getattr(part, split)) for part in self._parts]
        return fsum(v * n for v, n in zip(values, images, strict=True)) / sum(images)


def _on_host(state: Any) -> Any:
    """Return a state with all tensors in the memory of the host."""
    if isinstance(state, Tensor):
        return state.cpu()
    if isinstance(state, dict):
        return {name: _on_host(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_on_host(value) for value in state)
    return state
