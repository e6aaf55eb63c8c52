"""Predicts time and money of a search from a short training on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from search.experiment.schema import Experiment
from search.formatting import duration, plural
from search.loop.candidates import attributes_of
from search.loop.time_left.epoch_seconds import EpochSeconds
from search.loop.time_left.estimate import TimeLeft, forecast
from search.loop.time_left.plan import Plan
from search.study.records import Workload
from spaces.candidate import Candidate
from trainables.specs import TrainingSpec

MOST_SECONDS = 60.0
"""Seconds after which no further network is measured."""
SPREAD = 1.5
"""Factor by which both ends are wider than chance: other networks are extrapolated, and the first
predictions of recorded searches are off by as much."""
_QUANTILES = (0.5, 0.9, 0.1)
"""Networks that are measured, by multiply-accumulates among the accepted ones."""
CPU = "CPU"
"""Name of the device without a GPU."""
_SHORT = 5.0
"""A first epoch shorter than it, in seconds, is repeated, because it contains the start."""


@dataclass(frozen=True)
class Capacity:
    """What the machine or cluster trains at a time.

    Attributes:
        workers: trainings at a time.
        fraction: of a device that a training occupies.
    """

    workers: int
    fraction: float = 1.0


@dataclass(frozen=True)
class Measured:
    """A network whose epoch was measured.

    Attributes:
        workload: what decides the time of an epoch.
        seconds: of an epoch.
    """

    workload: Workload
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """The predicted effort of a search.

    Attributes:
        left: time of the search and of its finalists, from the start.
        capacity: trainings at a time.
        measured: number of measured networks.
        device: on which they were measured.
        price: of a device-hour; 0 if it is unknown.
    """

    left: TimeLeft
    capacity: Capacity
    measured: int
    device: str
    price: float

    @property
    def seconds(self) -> tuple[float, float]:
        """Lower and upper end of the time."""
        return self.left.low / SPREAD, self.left.high * SPREAD

    @property
    def device_hours(self) -> tuple[float, float]:
        """Lower and upper end of the device-hours, finalists included."""
        low, high = self.seconds
        devices = self.capacity.workers * self.capacity.fraction / 3600
        return low * devices, high * devices

    def sentences(self) -> list[str]:
        """Return the forecast and its basis."""
        low, high = self.seconds
        share = self.left.finalists / max(self.left.seconds, 1e-9)
        hours = self.device_hours
        found = [
            f"predicted time: {duration(low)} to {duration(high)}, finalists included "
            f"({share:.0%}); {hours[0]:.2g} to {hours[1]:.2g} device-hours"
        ]
        if self.price:
            found.append(
                f"predicted money: {hours[0] * self.price:,.2f} to {hours[1] * self.price:,.2f} "
                "at budget.price"
            )
        found.append(
            f"basis: {plural(self.measured, 'network')} trained for one or two epochs on this "
            f"machine ({self.device}); {plural(self.capacity.workers, 'training')} at a time; "
            "another device or a shared machine differs"
        )
        return found

    def document(self) -> dict[str, object]:
        """Return the forecast as plain values."""
        return {
            "seconds": self.seconds,
            "device_hours": self.device_hours,
            "money": [hours * self.price for hours in self.device_hours] if self.price else None,
            "workers": self.capacity.workers,
            "measured_networks": self.measured,
            "device": self.device,
        }


def measure(spec: TrainingSpec, accepted: Sequence[Candidate]) -> tuple[list[Measured], str]:
    """Train some candidates for an epoch or two in this process.

    Args:
        spec: of the trainings.
        accepted: candidates that the screens accept, one or more.

    Returns:
        The measured networks, and the name of the device.
    """
    import torch  # noqa: PLC0415 - takes seconds

    from trainables.trial import start_training  # noqa: PLC0415

    torch.set_num_threads(max(1, spec.threads))
    gpus = 1.0 if spec.device != "cpu" and torch.cuda.is_available() else 0.0
    ranked = sorted(accepted, key=lambda each: each.costs.macs)
    chosen = {round(part * (len(ranked) - 1)): None for part in _QUANTILES}
    found: list[Measured] = []
    began = time.monotonic()
    for index in chosen:
        candidate = ranked[index]
        workload = Workload.of(attributes_of(candidate))
        if workload is None or (found and time.monotonic() - began > MOST_SECONDS):
            continue
        training = start_training(spec, candidate, seed=0, gpus=gpus)
        seconds = training.run_epoch().epoch_seconds
        if seconds < _SHORT and spec.epochs > 1:
            seconds = training.run_epoch().epoch_seconds
        found.append(Measured(workload, seconds))
    return found, torch.cuda.get_device_name() if gpus else CPU


def predict(
    experiment: Experiment,
    capacity: Capacity,
    accepted: Sequence[Candidate],
    measured: Sequence[Measured],
    device: str,
    baselines: Sequence[Workload] = (),
) -> Forecast:
    """Return the forecast of a search.

    Args:
        experiment: of the search, with a known number of epochs.
        capacity: what trains at a time.
        accepted: candidates that the screens accept, one or more.
        measured: networks whose epoch was measured, one or more.
        device: on which they were measured.
        baselines: workloads of the named networks that train after the finalists.
    """
    model = EpochSeconds(
        [each.workload for each in measured],
        [each.seconds for each in measured],
        [1.0] * len(measured),
    )
    workloads = [Workload.of(attributes_of(each)) for each in accepted]
    drawn = [each for each in workloads if each is not None]
    left = forecast(Plan.of(experiment, capacity.workers), drawn, model, baselines=baselines)
    return Forecast(left, capacity, len(measured), device, experiment.budget.price)


def local_capacity(experiment: Experiment, device: str = CPU) -> Capacity:
    """Return what this machine trains at a time.

    On GPUs without `resources.gpus`, it assumes one training for each: their memory may hold more.

    Args:
        experiment: of the search.
        device: on which networks were measured.
    """
    section = experiment.resources
    if device == CPU:
        cpus = max(1, (os.cpu_count() or 1) // (section.cpus or 1))
        return Capacity(section.concurrent or cpus)
    import torch  # noqa: PLC0415 - takes seconds

    fraction = section.gpus or 1.0
    most = max(1, int(torch.cuda.device_count() / fraction))
    return Capacity(min(section.concurrent or most, most), fraction)
