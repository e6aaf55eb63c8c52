"""Measures the latency of a network for a batch on a device.

Measures the network as deployed: weights are cast once to the device's number format, and a GPU
replays the forward pass as a CUDA graph. Otherwise casting weights and launching kernels would
dominate the latency of a small network.
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

_CAST = {
    "cpu": (nn.Conv2d, nn.ConvTranspose2d, nn.Linear),
    "cuda": (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.PReLU),
}
"""Layers whose weights autocast casts in every forward pass, by device type."""
WARM_UP_ROUNDS = (5, 20)
"""Minimum and maximum number of warm-up rounds; they end early once timings have settled."""
WARM_UP_SECONDS = 1.0
"""Warm-up ends after this time even below the minimum, but not before two rounds."""
SETTLED = 1.1
"""Timings have settled if the slowest of three rounds takes at most this times the fastest."""
REPEATS = (10, 100)
"""Minimum and maximum number of measured rounds."""
REPEAT_SECONDS = 0.5
"""After this time, measuring ends at the minimum number of rounds."""


def measure_latency(
    network: nn.Module,
    shape: tuple[int, int, int],
    batch: int,
    device: Device,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the median time in milliseconds from a batch to its logits.

    If the forward pass cannot be captured as a CUDA graph, it is measured without one, and a
    warning is logged. The network and the global random number generators are left unchanged.

    Args:
        network: the network, on the device.
        shape: channels, height and width of an image.
        batch: batch size.
        device: device that runs the network; every round waits for its result.
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
    """Run until caches, clock rates and kernel selection have settled."""
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
    """Put a network into evaluation mode, then restore it and the random generators."""
    training = {module: module.training for module in network.modules()}
    gpus = [device.device] if device.device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        network.eval()
        try:
            yield
        finally:
            # Per module, because parts may have been in evaluation mode before.
            for module, mode in training.items():
                module.training = mode


@contextmanager
def _cast_weights(network: nn.Module, device: Device) -> Iterator[None]:
    """Cast weights to autocast's format for a while; the results are the same."""
    if not device.bfloat16:
        yield
        return
    cast_here = _CAST[device.device.type]
    layers = [module for module in network.modules() if isinstance(module, cast_here)]
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
