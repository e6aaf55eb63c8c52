"""The network that stages train: small, on noise, with enough steps for a capture."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from loops import noise

from gpu_checks.records import NO_GPU, NotMeasuredError
from gpu_checks.smi import query
from spaces.architecture import Builder
from spaces.candidate import Candidate
from spaces.operations import Activation, Convolution, Dropout, GlobalPooling, Linear, Norm, Pooling
from spaces.recipe import Recipe
from trainables.data import Dataset
from trainables.specs import Augmentation
from trainables.training.device import select_device
from trainables.training.loop import Training

STEPS = 24
"""Steps of an epoch, enough for a capture to pay off."""
EVERYTHING = Augmentation(
    crop=4,
    flip="random",
    zoom=(0.5, 1.0),
    rotate=20.0,
    policy="trivial",
    erase=0.5,
    cutout=6,
    mixup=0.4,
)


@dataclass(frozen=True)
class Setting:
    """Device, deadline and files of a stage.

    Attributes:
        device: the device that ``auto`` selects.
        deadline: time by which the stage must end, by `time.monotonic`.
        data: images of the benchmark, see `trainables.data.load`; None without images.
        folder: folder for files of the stage.
        used_before: GPU memory in use before this process used the GPU, in bytes; None if
            ``nvidia-smi`` does not report it.
    """

    device: torch.device
    deadline: float
    data: str | None
    folder: Path
    used_before: int | None = None

    @property
    def on_gpu(self) -> bool:
        """Tell whether there is a GPU."""
        return self.device.type == "cuda"

    def need_gpu(self) -> None:
        """Mark the check as not measured if there is no GPU."""
        if not self.on_gpu:
            raise NotMeasuredError(NO_GPU)

    @property
    def batch(self) -> int:
        """Images in a batch of the small network."""
        return 64 if self.on_gpu else 8

    def seconds_left(self) -> float:
        """Return the remaining seconds of the stage."""
        return self.deadline - time.monotonic()

    def images(self) -> Dataset:
        """Return noise for one epoch; always the same object, so that it is copied once."""
        return _noise(STEPS * self.batch, 32 if self.on_gpu else 16)

    def train(self, chosen: Candidate, epochs: int = 2, seed: int = 0, **options: Any) -> Training:
        """Return a training of a candidate on noise."""
        return Training(chosen, self.images(), epochs=epochs, seed=seed, device="auto", **options)

    def candidate(self, dropout: float = 0.0, **changes: Any) -> Candidate:
        """Return the small network with the given changes to the plain recipe."""
        side = 32 if self.on_gpu else 16
        builder = Builder((3, side, side))
        x = builder.image
        for features in (16, 32):
            x = builder.add(Norm(), builder.add(Convolution(features), x))
            x = builder.add(Pooling("max"), builder.add(Activation(), x))
            x = builder.add(Dropout(dropout), x) if dropout else x
        builder.add(Linear(10), builder.add(GlobalPooling(), x))
        recipe: Callable[..., Recipe] = partial(
            Recipe,
            learning_rate=0.02,
            weight_decay=5e-4,
            batch_size=self.batch,
            label_smoothing=0.1,
            momentum=0.9,
        )
        return Candidate(builder.build(), recipe(**changes))


def setting(deadline: float, data: str | None, folder: Path) -> Setting:
    """Return the setting of this process, which must not have used a GPU before."""
    used = query("memory.used")
    used_before = None if used is None else int(used) << 20
    return Setting(select_device().device, deadline, data, folder, used_before)


_noise = lru_cache(noise)
