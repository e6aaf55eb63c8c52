"""Trains a case with one seed, scores it and probes it."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.reproduction.checkpoint import Checkpoint, Clock
from experiments.reproduction.images import LoadedImages, Places, load_images
from experiments.reproduction.measuring import rounded, versions
from experiments.reproduction.records import Case, Outcome, Probes
from trainables.epoch_metrics import EpochMetrics
from trainables.probes.probing import ProbeSettings, probe_network
from trainables.probes.records import LayerProbes, NetworkProbes
from trainables.training.loop import Training
from trainables.training.process import release_memory

_FORMAT = 1
"""Part of all keys. A new number makes all trainings of earlier versions invalid."""


@dataclass(frozen=True)
class Job:
    """One training: a case and a seed."""

    case: Case
    seed: int


class ImageCache:
    """The images of cases; each set is loaded once per process.

    Args:
        places: data source of each image set.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._loaded: dict[str, LoadedImages] = {}

    def load(self, case: Case) -> LoadedImages:
        """Return the images of a case.

        Raises:
            BadInputError: they cannot be used.
        """
        images = case.images
        if repr(images) not in self._loaded:
            self._loaded[repr(images)] = load_images(images, self._places[images.source])
        return self._loaded[repr(images)]


def training_key(job: Job, images: LoadedImages) -> str:
    """Return the hash of what decides the numbers of a training, without device and versions.

    Args:
        job: case and seed.
        images: of the case.
    """
    case = job.case
    parts: list[object] = [
        _FORMAT,
        case.candidate.digest,
        images.digest,
        case.epochs,
        case.augmentation.identity,
        job.seed,
    ]
    if case.probes:
        parts += [case.probes, case.probe_images]
    if case.abort is not None:
        parts.append(case.abort)
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def make_trainer(places: Places, device: str, checkpoints: Path) -> Callable[[Job], Outcome]:
    """Return the function that trains jobs in this process.

    Args:
        places: data source of each image set.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        checkpoints: folder of checkpoints of long trainings.
    """
    return partial(_train, ImageCache(places), device, checkpoints)


def _train(cache: ImageCache, device: str, checkpoints: Path, job: Job) -> Outcome:
    return train(job, cache.load(job.case), device, checkpoints)


def train(job: Job, images: LoadedImages, device: str, checkpoints: Path) -> Outcome:
    """Train, score and probe.

    Args:
        job: case and seed.
        images: of the case.
        device: see `trainables.training.device.select_device`.
        checkpoints: folder of checkpoints; a training continues from its own.

    Raises:
        BadInputError: the device is unavailable.
    """
    case, key = job.case, training_key(job, images)
    clock = Clock()
    training = Training(
        case.candidate,
        images.dataset,
        epochs=case.epochs,
        seed=job.seed,
        augmentation=case.augmentation,
        device=device,
    )
    checkpoint = Checkpoint(checkpoints / f"{key}.pt")
    epochs = _run_epochs(case, training, checkpoint, clock)
    test_loss, test_accuracy = training.score("test")
    probes = _probe(case, training, images) if case.probes else None
    parameters = list(training.network.parameters())
    outcome = Outcome(
        key=key,
        seed=job.seed,
        train_accuracy=rounded(epochs[-1].train_accuracy),
        test_accuracy=rounded(test_accuracy),
        test_loss=rounded(test_loss),
        train_accuracies=tuple(rounded(epoch.train_accuracy) for epoch in epochs),
        validation_accuracies=tuple(rounded(epoch.validation_accuracy) for epoch in epochs),
        train_losses=tuple(rounded(epoch.train_loss) for epoch in epochs),
        validation_losses=tuple(rounded(epoch.validation_loss) for epoch in epochs),
        params=sum(each.numel() for each in parameters),
        trained_params=sum(each.numel() for each in parameters if each.requires_grad),
        macs=case.candidate.costs.macs,
        cpu_seconds=round(clock.cpu, 2),
        wall_seconds=round(clock.wall, 2),
        images=images.description,
        device=_describe(training.device),
        versions=versions(),
        date=datetime.now(UTC).date().isoformat(),
        probes=probes,
    )
    checkpoint.remove()
    del training
    release_memory()
    return outcome


def _run_epochs(
    case: Case, training: Training, checkpoint: Checkpoint, clock: Clock
) -> list[EpochMetrics]:
    epochs = checkpoint.restore(training, clock)
    while len(epochs) < case.epochs:
        checkpoint.save_if_due(training, epochs, clock)
        epochs.append(training.run_epoch())
        if (
            case.abort is not None
            and len(epochs) == case.abort.epoch
            and epochs[-1].train_accuracy < case.abort.train_accuracy
        ):
            break
    return epochs


def _probe(case: Case, training: Training, images: LoadedImages) -> Probes:
    found = probe_network(
        training.evaluated,
        images.dataset,
        ProbeSettings(only=case.probes, images=case.probe_images, split="test"),
        training.device,
        title=case.name,
        weights="trained here",
        architecture=training.architecture,
    )
    return as_probes(found)


def as_probes(found: NetworkProbes) -> Probes:
    """Return the probes of a network of the builder as an outcome stores them."""
    return Probes(
        accuracy=rounded(found.accuracy or 0.0),
        images=found.images,
        border=found.border,
        disabled_features=None
        if found.disabled_features is None
        else rounded(found.disabled_features),
        layers=tuple(map(_rounded_layer, found.layers)),
    )


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} thread"


def _rounded_layer(layer: LayerProbes) -> LayerProbes:
    metrics: dict[str, Any] = {name: rounded(value) for name, value in layer.metrics.items()}
    return replace(layer, mass_within=tuple(map(rounded, layer.mass_within)), **metrics)
