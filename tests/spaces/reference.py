"""What an architecture says about itself, calculated by torch or by brute force instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.architecture import Architecture
from spaces.operations import (
    Activation,
    Add,
    ChannelPooling,
    Concat,
    Convolution,
    Dropout,
    Gate,
    GlobalPooling,
    Input,
    Linear,
    Norm,
    Operation,
    Pair,
    Pooling,
)

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "celu": F.celu,
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
}


class TorchRun:
    """One forward pass with weights between 0.5 and 1.5.

    Attributes:
        outputs: of every layer, ``[n, c, h, w]``.
        parameters: all weights that the pass needed.
    """

    def __init__(self, architecture: Architecture, images: Tensor, *, training: bool) -> None:
        self.parameters: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self._dtype = images.dtype
        self._training = training
        for operation, inputs, *_ in architecture.layers:
            values = [self.outputs[i] for i in inputs]
            is_image = isinstance(operation, Input)
            self.outputs.append(images if is_image else self._apply(operation, values))

    def _weight(self, *shape: int) -> Tensor:
        self.parameters.append((torch.rand(shape, dtype=self._dtype) + 0.5).requires_grad_())
        return self.parameters[-1]

    def _apply(  # noqa: PLR0912 - one case for each operation
        self, operation: Operation, inputs: list[Tensor]
    ) -> Tensor:
        x = inputs[0]
        match operation:
            case Convolution(features, kernel, stride, padding, dilation, groups, bias):
                weight = self._weight(features, x.shape[1] // groups, *kernel)
                shift = self._weight(features) if bias else None
                return F.conv2d(x, weight, shift, stride, padding, dilation, groups)
            case Pooling("max", kernel, stride, padding, ceil):
                return F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil)
            case Pooling("average", kernel, stride, padding, ceil):
                return F.avg_pool2d(x, kernel, stride, padding, ceil_mode=ceil)
            case GlobalPooling("average"):
                return F.adaptive_avg_pool2d(x, 1)
            case GlobalPooling("max"):
                return F.adaptive_max_pool2d(x, 1)
            case ChannelPooling("average"):
                return x.mean(1, keepdim=True)
            case ChannelPooling("max"):
                return x.amax(1, keepdim=True)
            case Norm(norm, groups):
                return self._normalise(x, norm, groups)
            case Activation(function):
                return _ACTIVATIONS[function](x)
            case Dropout(rate):
                return F.dropout(x, rate, self._training)
            case Add():
                return torch.stack(inputs).sum(0)
            case Concat():
                return torch.cat(inputs, dim=1)
            case Gate():
                return x * inputs[1]
            case Linear(features, bias):
                weight = self._weight(features, x[0].numel())
                shift = self._weight(features) if bias else None
                return F.linear(x.flatten(1), weight, shift)[:, :, None, None]
        raise NotImplementedError(operation)

    def _normalise(self, x: Tensor, norm: str, groups: int) -> Tensor:
        channels = x.shape[1]
        gamma, beta = self._weight(channels), self._weight(channels)
        mean, variance = torch.zeros(channels), torch.ones(channels)
        match norm:
            case "batch":
                return F.batch_norm(x, mean, variance, gamma, beta, self._training)
            case "instance":
                return F.instance_norm(x, mean, variance, gamma, beta, self._training)
            case "layer":
                return F.group_norm(x, 1, gamma, beta)
            case _:
                return F.group_norm(x, groups, gamma, beta)


def paths_to(architecture: Architecture, index: int, *, gates: bool) -> Iterator[tuple[int, ...]]:
    """Yield every path from the image to a layer, as the layers on it."""
    operation, inputs, *_ = architecture.layers[index]
    if not inputs:
        yield (index,)
    for source in inputs[:1] if isinstance(operation, Gate) and not gates else inputs:
        for path in paths_to(architecture, source, gates=gates):
            yield (*path, index)


def field_along(architecture: Architecture, path: tuple[int, ...], axis: int) -> int:
    """Return the receptive field at the end of one path, by the published recurrence."""
    field = jump = 1
    for before, index in pairwise(path):
        match architecture.layers[index].operation:
            case Convolution(kernel=kernel, stride=strides, dilation=dilation):
                size, stride = dilation[axis] * (kernel[axis] - 1) + 1, strides[axis]
            case Pooling(kernel=kernel, stride=strides):
                size, stride = kernel[axis], strides[axis]
            case GlobalPooling() | Linear():
                size = stride = architecture.shapes[before][1 + axis]
            case _:
                size = stride = 1
        field += (size - 1) * jump
        jump *= stride
    return field


def over_axes(value: Callable[[int], int]) -> Pair:
    """Return ``value`` for height and width."""
    return value(0), value(1)


def reaching_output(architecture: Architecture) -> set[int]:
    """Return the layers on which the output depends."""
    found: set[int] = set()
    todo = [len(architecture.layers) - 1]
    while todo:
        index = todo.pop()
        found.add(index)
        todo.extend(architecture.layers[index].inputs)
    return found


def formula(architecture: Architecture, index: int) -> str:
    """Return what a layer calculates, written out as if nothing were shared."""
    operation, inputs, *_ = architecture.layers[index]
    below = [formula(architecture, i) for i in inputs]
    return f"{operation!r}({', '.join(sorted(below) if isinstance(operation, Add) else below)})"


def has_twin_summands(architecture: Architecture) -> bool:
    """Tell whether an addition takes two layers that are different and calculate the same."""
    for operation, inputs, *_ in architecture.layers:
        if isinstance(operation, Add):
            summands = set(inputs)
            if len({formula(architecture, i) for i in summands}) < len(summands):
                return True
    return False


def isomorphic(one: Architecture, other: Architecture) -> bool:
    """Tell whether two graphs are the same but for names, listing and the order of summands."""
    size = len(reaching_output(one))
    return size == len(reaching_output(other)) and _match(
        one, other, [(len(one.layers) - 1, len(other.layers) - 1)], {}
    )


def _match(
    one: Architecture, other: Architecture, todo: list[tuple[int, int]], known: dict[int, int]
) -> bool:
    """Extend a one-to-one map of layers until all pairs in ``todo`` are matched."""
    if not todo:
        return True
    (a, b), rest = todo[0], todo[1:]
    if a in known or b in known.values():
        return known.get(a) == b and _match(one, other, rest, known)
    layer_a, layer_b = one.layers[a], other.layers[b]
    if layer_a.operation != layer_b.operation or len(layer_a.inputs) != len(layer_b.inputs):
        return False
    orders = (
        permutations(layer_b.inputs) if isinstance(layer_a.operation, Add) else [layer_b.inputs]
    )
    return any(
        _match(one, other, [*zip(layer_a.inputs, order, strict=True), *rest], {**known, a: b})
        for order in orders
    )
