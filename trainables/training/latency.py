"""How long a network takes for a batch, measured on the device that is to run it.

Measured as one would deploy it: weights in the number format of the device, cast once, and on a
GPU the forward pass replayed as a CUDA graph. Otherwise a small network's figure is that of casting
its weights and launching its kernels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch
from torch import nn

from trainables.training.cuda_graphs import GraphedStep
from trainables.training.device import Device

_MULTIPLYING = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""Layers whose weights autocast casts in every forward pass."""
WARM_UP_ROUNDS = (5, 20)
"""Fewest and most rounds that do not count; between them they end once timings have settled."""
WARM_UP_SECONDS = 1.0
"""After so long not even the fewest rounds are waited for, but for the first two."""
SETTLED = 1.1
"""Timings have settled when, of three in a row, the slowest took so many times the fastest."""
REPEATS = (10, 100)
"""Fewest and most rounds that count."""
REPEAT_SECONDS = 0.5
"""After so long no more than the fewest are made."""


def measure_latency(
    network: nn.Module,
    shape: tuple[int, int, int],
    batch: int,
    device: Device,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the milliseconds that a network takes from a batch to its logits: the median.

    Where the forward pass cannot be captured as a CUDA graph, it is measured as it is, and a
    warning says so. The network is left as it was, and so are the global random number generators.

    Args:
        network: on the device.
        shape: channels, height and width of an image.
        batch: images at a time.
        device: what is measured; waited for in every round, as who needs the answer waits for it.
        clock: returns seconds.
    """
    images = torch.randn((batch, *shape), generator=torch.Generator().manual_seed(0))
    images = images.to(device.device, memory_format=torch.channels_last)
    repeat = GraphedStep(device.device, REPEATS[1])

    def forward() -> None:
        network(images)

    def timed() -> float:
        _wait_for(device)
        started = clock()
        repeat(forward)
        _wait_for(device)
        return clock() - started

    with (
        _untouched(network, device),
        _cast_weights(network, device),
        torch.inference_mode(),
        device.autocast(),
    ):
        _warm_up(timed)
        return 1000 * median(_repeat(timed))


def _warm_up(timed: Callable[[], float]) -> None:
    """Run until caches, clock rates and the choice of kernels have settled."""
    seconds: list[float] = []
    fewest, most = WARM_UP_ROUNDS
    while len(seconds) < most:
        seconds.append(timed())
        last = seconds[-3:]
        settled = len(seconds) >= fewest and max(last) <= SETTLED * min(last)
        late = len(seconds) >= 2 and sum(seconds) >= WARM_UP_SECONDS
        if settled or late:
            return


def _repeat(timed: Callable[[], float]) -> list[float]:
    seconds: list[float] = []
    fewest, most = REPEATS
    while len(seconds) < fewest or (len(seconds) < most and sum(seconds) < REPEAT_SECONDS):
        seconds.append(timed())
    return seconds


def _wait_for(device: Device) -> None:
    if device.device.type == "cuda":
        torch.cuda.synchronize(device.device)


@contextmanager
def _untouched(network: nn.Module, device: Device) -> Iterator[None]:
    """Evaluate a network for a while, and leave no trace of it."""
    training = {module: module.training for module in network.modules()}
    gpus = [device.device] if device.device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        network.eval()
        try:
            yield
        finally:
            # Each by itself: a part may have been frozen before.
            for module, mode in training.items():
                module.training = mode


@contextmanager
def _cast_weights(network: nn.Module, device: Device) -> Iterator[None]:
    """Hold weights in the format that autocast casts them to; the results are the same."""
    if not device.bfloat16:
        yield
        return
    layers = [module for module in network.modules() if isinstance(module, _MULTIPLYING)]
    weights = [(layer, dict(layer.named_parameters(recurse=False))) for layer in layers]
    try:
        for layer, named in weights:
            for name, weight in named.items():
                cast = weight.detach().to(torch.bfloat16)
                setattr(layer, name, nn.Parameter(cast, requires_grad=False))
        yield
    finally:
        for layer, named in weights:
            for name, weight in named.items():
                setattr(layer, name, weight)
