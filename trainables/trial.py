"""The thin layer between Ray Tune and the training loop."""

from __future__ import annotations

import faulthandler
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import torch
from ray import tune

from cluster.storage import below
from spaces.candidate import Candidate
from trainables.data import Dataset, load
from trainables.metrics import OBJECTIVE, EpochMetrics
from trainables.specs import DataSpec, TrainingSpec
from trainables.training.checkpoints import Checkpoints
from trainables.training.device import select_device
from trainables.training.loop import Training
from trainables.training.process import (
    has_reached_memory_limit,
    is_out_of_memory,
    prepare_process,
    release_memory,
    usable_memory,
)

FAILURE = "failure"
"""Key of a result that says why a training cannot go on."""
VIOLATION = "violation"
"""Key beside it where the device's memory did not suffice: the excess, relative to the limit."""
STOPPED = "stopped"
"""Key of a last result that says why the trial gave itself up."""
UNKEPT = "unkept"
"""Key of a result that says why no checkpoint of it could be kept."""
HISTORY = "history"
"""Key of a result that goes on from a checkpoint: what the epochs before it had reported."""
_LEAST_EXCESS = 0.01


class Trial(tune.Trainable):
    """One candidate in training; one step is one epoch.

    ``config`` holds ``number``, ``params`` (the candidate's), ``seed`` and ``gpus`` (the share of
    a GPU that the trial has). The process serves many trials one after the other, all with the
    same share; what belongs to a trial is renewed by `_begin`.
    """

    _training: Training | None = None
    _latencies: Mapping[str, float] = {}

    def setup(self, config: dict[str, Any], spec: TrainingSpec) -> None:  # type: ignore[override]
        """Begin the first trial of this process."""
        self._spec = spec
        prepare_process(spec.threads, config.get("gpus", 0.0))
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial in the same process."""
        self._keep()
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        # What the last trial held is let go before the next one takes memory.
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
        # A number alone does not say which candidate: a driver may be killed after it has handed
        # one out and before its database knows, and the next gives the number to another one.
        number, seed = self._config["number"], self._config["seed"]
        return Checkpoints(below(place, str(number), f"{seed:08x}"))

    def cleanup(self) -> None:
        """Keep what a trial has done that ends before its last epoch: it may be taken up again."""
        self._keep()

    def _keep(self) -> None:
        training, checkpoints = self._training, self._checkpoints
        if training is None or checkpoints is None or training.result is None:
            return
        with suppress(OSError):
            # The search removes what it has of a trial that has ended.
            if training.epoch < self._spec.epochs and checkpoints.exist:
                checkpoints.save(
                    training.epoch, training.result.validation_accuracy, self._state(training)
                )

    def _candidate(self) -> Candidate:
        return self._spec.candidates().rebuild(self._config["params"])

    def _start(self) -> Training:
        """Begin the training, or go on with it where a process before this one has left it."""
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

    def _state(self, training: Training) -> dict[str, Any]:
        history = [metrics.as_dict() for metrics in self._history]
        return training.state_dict() | {HISTORY: history, "latencies": dict(self._latencies)}

    def step(self) -> dict[str, Any]:
        """Train one epoch and report it; a training that cannot go on is reported as failed.

        An error that a second try would meet again does not cost the process and its retries. Two
        kinds do: errors of the device, after which nothing in the process can be trusted, and
        memory that a neighbour on the GPU has used up.
        """
        try:
            # Fetching and decoding have locks and time limits of their own, and no epochs.
            shared_dataset(self._spec.data)
            with ending_if_hung(self._hang_after()):
                return self._step()
        except Exception as error:
            # Weights in the middle of an epoch are no state to go on from.
            self._training = None
            if is_out_of_memory(error):
                if not self._has_reached_memory_limit(error):
                    raise
                return self._failure("out of memory", error) | {VIOLATION: self._excess()}
            if isinstance(error, torch.AcceleratorError):
                raise
            return self._failure(type(error).__name__, error)

    def _hang_after(self) -> float | None:
        """Return the longest time of an epoch, with what a storage that is away may hold it up."""
        after = self._spec.hang_after
        if after is None or self._checkpoints is None:
            return after
        return after + self._checkpoints.timeout

    def _step(self) -> dict[str, Any]:
        if self._training is None:
            self._training = self._start()
        training, spec = self._training, self._spec
        unkept = ""
        if training.epoch < spec.epochs and not self._is_over():
            result = training.run_epoch()
            self._history.append(result.with_latencies(self._latencies))
            unkept = self._offer(training, result)
        # A process that was lost right after its last epoch has left nothing but to report it.
        last = self._history[-1]
        report: dict[str, Any] = last.as_dict()
        if unkept:
            report[UNKEPT] = unkept
        if self._unreported:
            # What the process before this one may not have got through.
            report[HISTORY] = [metrics.as_dict() for metrics in self._history[: self._unreported]]
            self._unreported = 0
        report["done"] = self._has_diverged() or last.epoch >= spec.epochs
        if not report["done"] and self._is_hopeless():
            said = f"training accuracy {last.train_accuracy:.4f} after {last.epoch}"
            least = least_accuracy(spec.task.classes)
            report |= {STOPPED: f"{said} epochs is under {least:.4f}", "done": True}
        return report

    def _offer(self, training: Training, result: EpochMetrics) -> str:
        """Keep a checkpoint if it is time; return why that cannot be done, empty if it can.

        A full disk or a bucket that is away costs the chance to go on from here, not the training.
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
        """Tell whether the last epoch has ended the training before its time."""
        return self._has_diverged() or self._is_hopeless()

    def _is_hopeless(self) -> bool:
        if not self._history or self._history[-1].epoch != self._spec.hopeless_after:
            return False
        return self._history[-1].train_accuracy < least_accuracy(self._spec.task.classes)

    def _has_diverged(self) -> bool:
        result = self._training.result if self._training is not None else None
        return result is not None and result.has_diverged

    def _failure(self, kind: str, error: Exception) -> dict[str, Any]:
        # Tune gives up the whole search over a result without the metric that it compares by.
        cause = f"{kind}: {error}".strip().splitlines()[0]
        return {FAILURE: cause, OBJECTIVE: math.nan, "done": True}

    def _has_reached_memory_limit(self, error: Exception) -> bool:
        device = select_device(self._spec.device).device
        return has_reached_memory_limit(error, device, self._config.get("gpus", 0.0))

    def _excess(self) -> float:
        """Return by how much the memory was exceeded, relative to what there is."""
        device = select_device(self._spec.device)
        needed = self._candidate().training_memory(bfloat16=device.bfloat16)
        # Where the prediction held it to fit, it was wrong by a little at least.
        there = max(1, usable_memory(device.device))
        return max(needed / there - 1, _LEAST_EXCESS)


@contextmanager
def ending_if_hung(seconds: float | None) -> Iterator[None]:
    """End the process if what is inside takes longer, whatever it hangs in; it is then tried again.

    Args:
        seconds: how long it may take; None for as long as it likes.
    """
    if seconds is None:
        yield
        return
    # A thread outside of the interpreter keeps the time: a hung kernel holds the interpreter.
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def start_training(
    spec: TrainingSpec, candidate: Candidate, seed: int, gpus: float = 0.0
) -> Training:
    """Return a training of a candidate, about to begin.

    Args:
        spec: what the trials of the search have in common.
        candidate: architecture and recipe.
        seed: of initial weights, order and augmentation.
        gpus: share of a GPU that the process holds: it then trains on the GPU, never on the CPU
            because torch cannot use the GPU.

    Raises:
        BadInputError: the device cannot be used, or the candidate cannot be trained on the images.
    """
    return Training(
        candidate,
        shared_dataset(spec.data),
        epochs=spec.epochs,
        seed=seed,
        augmentation=spec.augmentation,
        device="cuda" if gpus and spec.device == "auto" else spec.device,
        compile=spec.compile,
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
def shared_dataset(data: DataSpec) -> Dataset:
    """Return the images; all trials of a process look at the same map."""
    return load(data)
