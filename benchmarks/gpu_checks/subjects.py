"""What the stages train: a small network on noise, large enough that its steps are captured."""

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
"""Steps of an epoch; enough for a capture to be worth it."""
EVERYTHING = Augmentation(crop=4, flip="random", erase=0.5, cutout=6, mixup=0.4)


@dataclass(frozen=True)
class Setting:
    """Where a stage runs.

    Attributes:
        device: the device that ``auto`` selects.
        deadline: when the stage has to have ended, by `time.monotonic`.
        data: the images of the benchmark, see `trainables.data.load`; None where there are none.
        folder: where it leaves its files.
        used_before: bytes of the GPU that were in use before this process used it; None where
            ``nvidia-smi`` does not tell.
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
        """Leave a check out where there is no GPU."""
        if not self.on_gpu:
            raise NotMeasuredError(NO_GPU)

    @property
    def batch(self) -> int:
        """Images in a batch of the small network."""
        return 64 if self.on_gpu else 8

    def seconds_left(self) -> float:
        """Return how long the stage may still take."""
        return self.deadline - time.monotonic()

    def images(self) -> Dataset:
        """Return noise for one epoch; the same object every time, so that it is brought once."""
        return _noise(STEPS * self.batch, 32 if self.on_gpu else 16)

    def train(self, chosen: Candidate, epochs: int = 2, seed: int = 0, **options: Any) -> Training:
        """Return a training of a candidate on noise."""
        return Training(chosen, self.images(), epochs=epochs, seed=seed, device="auto", **options)

    def candidate(self, dropout: float = 0.0, **changes: Any) -> Candidate:
        """Return the small network with a recipe that differs from the plain one as given."""
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
