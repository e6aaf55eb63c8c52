"""Training with a switch of torch on against off, both in one process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from first_step import all_seconds
from harness import Table, Values
from loops import AUGMENTATION, candidate, noise

from spaces.candidate import Candidate
from trainables.data import Dataset
from trainables.training.device import Device
from trainables.training.loop import Training

STEPS = 100
EPOCHS = 3


@dataclass(frozen=True)
class Pace:
    """Pace of a training.

    Attributes:
        first: seconds of construction and first epoch.
        steps: steps per second of later epochs.
    """

    first: float
    steps: float


@contextmanager
def timed_kernels() -> Iterator[None]:
    """Let cuDNN time its kernels for each new shape instead of choosing by a heuristic."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def pace(chosen: Candidate, images: Dataset, device: Device, *, compiled: bool = False) -> Pace:
    """Time a training."""
    started = time.perf_counter()
    training = Training(
        chosen,
        images,
        epochs=EPOCHS + 1,
        seed=0,
        augmentation=AUGMENTATION,
        device=str(device.device),
        compile=compiled,
    )
    training.run_epoch()
    first = time.perf_counter() - started
    # An epoch ends with a wait for the device.
    seconds = [training.run_epoch().epoch_seconds for _ in range(EPOCHS)]
    return Pace(first, len(images.train) // chosen.recipe.batch_size / median(seconds))


def measure_cudnn(table: Table, device: Device) -> None:
    """Compare training and first steps with and without timed kernels."""

    def train(net: str, batch: int) -> Values:
        chosen, images = candidate(net, batch), noise(STEPS * batch)
        off = pace(chosen, images, device).steps
        with timed_kernels():
            on = pace(chosen, images, device).steps
        return on, off, on / off

    def first_steps() -> Values:
        off = median(all_seconds(device))
        with timed_kernels():
            on = median(all_seconds(device))
        return on, off, off / on

    for net, batch in (("small", 128), ("vgg16", 512)):
        figure = f"GPU: {net} net at batch {batch} with cudnn.benchmark; against without"
        table.measure(figure, "-", "steps/s", partial(train, net, batch))
    figure = "GPU: first step of a new network with cudnn.benchmark; against without"
    table.measure(figure, "-", "s", first_steps)


def measure_compile(table: Table, device: Device, net: str = "medium", batch: int = 512) -> None:
    """Compare a compiled network with a plain one."""
    found: list[tuple[Pace, Pace]] = []

    def train() -> Values:
        chosen, images = candidate(net, batch), noise(STEPS * batch)
        # The first training loads libraries.
        pace(chosen, images, device)
        plain = pace(chosen, images, device)
        compiled = pace(chosen, images, device, compiled=True)
        found.append((compiled, plain))
        return compiled.steps, plain.steps, compiled.steps / plain.steps

    def first_epoch() -> Values:
        if not found:
            raise RuntimeError("the compiled network could not be measured")
        compiled, plain = (each.first for each in found[0])
        return compiled, plain, plain / compiled

    kind = f"GPU: {net} net at batch {batch}, compiled; against uncompiled"
    table.measure(kind, "-", "steps/s", train)
    table.measure(f"{kind}, first epoch", "-", "s", first_epoch)
