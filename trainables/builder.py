"""From an architecture to the ``torch.nn.Module`` that it describes."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor, nn

from spaces.architecture import Architecture
from spaces.operations import (
    Activation,
    Add,
    Concat,
    Convolution,
    Dropout,
    Gate,
    GlobalPooling,
    Linear,
    Norm,
    Operation,
    Pooling,
    Shape,
)


class Network(nn.Module):
    """The module of an architecture: float images ``[n, c, h, w]`` in, logits ``[n, classes]`` out.

    Layer i of the architecture is ``layers[i]``; layer 0, the image, is an identity.

    Args:
        architecture: the graph; its last layer must be one pixel in size.
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
        # What no later layer takes is let go at once, so that evaluation needs little memory.
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
    """He-normal kernels, unit gamma, zero beta (He et al. 2015, arXiv 1502.01852)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class _Sum(nn.Module):
    def forward(self, *values: Tensor) -> Tensor:
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total


class _Concatenation(nn.Module):
    def forward(self, *values: Tensor) -> Tensor:
        return torch.cat(values, dim=1)


class _Product(nn.Module):
    def forward(self, gated: Tensor, gate: Tensor) -> Tensor:
        return gated * gate


class _Classifier(nn.Linear):
    """A linear layer whose output stays an image of one pixel, as in the graph."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Linear
        return super().forward(input.flatten(1))[:, :, None, None]


@singledispatch
def build_layer(operation: Operation, inputs: tuple[Shape, ...]) -> nn.Module:
    """Return the module of one operation for inputs of these shapes ``(c, h, w)``."""
    raise TypeError(f"no module for {operation.kind}")


@build_layer.register
def _(operation: Convolution, inputs: tuple[Shape, ...]) -> nn.Module:
    return nn.Conv2d(
        inputs[0][0],
        operation.features,
        operation.kernel,
        operation.stride,
        operation.padding,
        operation.dilation,
        operation.groups,
        operation.bias,
    )


@build_layer.register
def _(operation: Pooling, inputs: tuple[Shape, ...]) -> nn.Module:
    pool = nn.MaxPool2d if operation.mode == "max" else nn.AvgPool2d
    return pool(operation.kernel, operation.stride, operation.padding, ceil_mode=operation.ceil)


@build_layer.register
def _(operation: GlobalPooling, inputs: tuple[Shape, ...]) -> nn.Module:
    return nn.AdaptiveMaxPool2d(1) if operation.mode == "max" else nn.AdaptiveAvgPool2d(1)


@build_layer.register
def _(operation: Norm, inputs: tuple[Shape, ...]) -> nn.Module:
    channels = inputs[0][0]
    match operation.norm:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "instance":
            return nn.InstanceNorm2d(channels, affine=True)
        case "layer":
            return nn.GroupNorm(1, channels)
        case "group":
            return nn.GroupNorm(operation.groups, channels)
        case _:
            raise TypeError(f"no norm called {operation.norm}")


_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "celu": nn.CELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}


@build_layer.register
def _(operation: Activation, inputs: tuple[Shape, ...]) -> nn.Module:
    return _ACTIVATIONS[operation.function]()


@build_layer.register
def _(operation: Dropout, inputs: tuple[Shape, ...]) -> nn.Module:
    return nn.Dropout(operation.rate)


@build_layer.register
def _(operation: Add, inputs: tuple[Shape, ...]) -> nn.Module:
    return _Sum()


@build_layer.register
def _(operation: Concat, inputs: tuple[Shape, ...]) -> nn.Module:
    return _Concatenation()


@build_layer.register
def _(operation: Gate, inputs: tuple[Shape, ...]) -> nn.Module:
    return _Product()


@build_layer.register
def _(operation: Linear, inputs: tuple[Shape, ...]) -> nn.Module:
    channels, height, width = inputs[0]
    return _Classifier(channels * height * width, operation.features, operation.bias)
