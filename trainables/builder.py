"""Builds the ``torch.nn.Module`` of an architecture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spaces.architecture import Architecture
from trainables.layers import build_layer

__all__ = ["Network", "build_layer", "initialise", "initialise_identity"]


class Network(nn.Module):
    """The module of an architecture: float images ``[n, c, h, w]`` to logits ``[n, classes]``.

    Layer i of the architecture is ``layers[i]``. Layer 0, the image, is an identity.

    Args:
        architecture: the graph; its output must be a single pixel.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        shapes = architecture.shapes
        self.layers = nn.ModuleList(
            [
                nn.Identity()
                if index == 0
                else build_layer(layer.operation, tuple([shapes[i] for i in layer.inputs]))
                for index, layer in enumerate(architecture.layers)
            ]
        )
        self._inputs = [layer.inputs for layer in architecture.layers]
        last_use = {source: i for i, inputs in enumerate(self._inputs) for source in inputs}
        # Outputs are freed after their last use, so that evaluation needs little memory.
        self._spent = [
            [source for source in set(inputs) if last_use[source] == index]
            for index, inputs in enumerate(self._inputs)
        ]
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[n, classes]``."""
        values: dict[int, Tensor] = {0: images}
        for index in range(1, len(self.layers)):
            values[index] = self.layers[index](*[values[i] for i in self._inputs[index]])
            for source in self._spent[index]:
                del values[source]
        return values[len(self.layers) - 1].flatten(1)


def initialise(module: nn.Module) -> None:
    """Initialise kernels as He-normal and biases as 0 (He et al. 2015, arXiv 1502.01852)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def initialise_scales(network: nn.Module) -> None:
    """Draw the scales of batch norms uniformly from [0, 1) (Frankle et al., arXiv 2003.00152)."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            module.weight.uniform_()


@torch.no_grad()
def initialise_identity(network: nn.Module) -> None:
    """Let the first filters of each convolution copy its input channels; others stay as they are.

    As in the CIFAR-10 speed records (Jordan 2024, arXiv 2404.00498). A convolution, or a group of
    its channels, with more inputs than outputs stays as it is.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            groups = module.weight.view(module.groups, -1, *module.weight.shape[1:])
            inputs = module.weight.shape[1]
            if inputs <= groups.shape[1]:
                copies = groups[:, :inputs]
                copies.zero_()
                centre = copies[..., copies.shape[-2] // 2, copies.shape[-1] // 2]
                centre.diagonal(dim1=1, dim2=2).fill_(1)
