"""Layer triviality: how much accuracy a network loses without one of its convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainables.probes.images import ProbeImages
from trainables.probes.subject import ConvolutionLayer


@contextmanager
def zero_kernel(layer: ConvolutionLayer) -> Iterator[None]:
    """Let a convolution return what it returns with a zero kernel: its bias, or zero.

    A following norm still adds its shift (Wang et al. 2020, arXiv 2009.09938).
    """

    def biased(module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        bias = module.bias
        if not isinstance(bias, Tensor):
            return torch.zeros_like(output)
        return torch.zeros_like(output) + bias.view(-1, 1, 1)

    handle = layer.module.register_forward_hook(biased)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def zero_branch(layer: ConvolutionLayer) -> Iterator[None]:
    """Let a convolution and the norm that follows it directly return zero."""
    handle = layer.branch_end.register_forward_hook(
        lambda _module, _inputs, output: torch.zeros_like(output)
    )
    try:
        yield
    finally:
        handle.remove()


@torch.inference_mode()
def measure_accuracy(network: nn.Module, images: ProbeImages) -> float:
    """Return the accuracy of a network that returns one value per class, 0..1."""
    predicted = [network(batch).flatten(1).argmax(1).cpu() for batch in images.batches()]
    return float((torch.cat(predicted) == images.labels).double().mean())
