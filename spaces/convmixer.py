"""The ConvMixer family: patches, mixed by depthwise and 1x1 convolutions.

Trockman & Kolter 2022, "Patches Are All You Need?", arXiv 2201.09792.
"""

from __future__ import annotations

from optuna.trial import BaseTrial

from spaces.architecture import Architecture
from spaces.blocks import NetBuilder, convolution, draw_style
from spaces.operations import Add, Convolution
from spaces.options import Choices, FloatRange, IntRange, draw_int, draw_kernel
from spaces.task import Task

_ADD = Add()


def convmixer(
    trial: BaseTrial,
    task: Task,
    *,
    width: IntRange = (64, 256),
    depth: IntRange = (4, 16),
    kernel: Choices[int] = (3, 5, 7, 9),
    patch: IntRange = (1, 4),
    dilation: IntRange = 1,
    activation: Choices[str] = "gelu",
    norm: Choices[str] = "batch",
    attention: Choices[str] = "none",
    dropout: FloatRange = 0.0,
) -> Architecture:
    """Draw a ConvMixer: patch embedding, equal blocks, a linear head.

    Each block is a depthwise convolution with a skip connection, then a 1x1 convolution. Norm
    follows activation, and convolutions have a bias, as published.

    Args:
        trial: suggests or replays the values.
        task: the images and classes.
        width: feature amount of all layers, on a logarithmic scale.
        depth: number of blocks.
        kernel: kernel size of the depthwise convolutions, odd.
        patch: size of the square patches, in pixels; the only downsampling.
        dilation: of the depthwise convolutions.
        activation: relu, leaky_relu, celu, gelu or silu.
        norm: batch, instance, layer or group.
        attention: none, squeeze-excitation, spatial or both, at the end of each block.
        dropout: rate before the classifier.

    Raises:
        BadInputError: an option is out of range.
    """
    features = draw_int(trial, "width", width, field="space.width", log=True)
    blocks = draw_int(trial, "depth", depth, field="space.depth")
    size = draw_kernel(trial, kernel)
    side = draw_int(trial, "patch", patch, field="space.patch")
    spread = draw_int(trial, "dilation", dilation, field="space.dilation")
    style = draw_style(trial, activation, norm, attention, dropout)

    depthwise = convolution(features, size, dilation=spread, groups=features, bias=True)
    pointwise = convolution(features, 1, bias=True)
    net = NetBuilder(task, style)
    patches = Convolution(features, side, side, padding=0, bias=True)
    x = net.add(patches, net.image, name="patches")
    x = net.norm(net.activate(x), features)
    for number in range(1, blocks + 1):
        name = f"block{number}."
        y = net.add(depthwise, x, name=f"{name}depthwise")
        x = net.add(_ADD, net.norm(net.activate(y), features), x, name=f"{name}add")
        x = net.add(pointwise, x, name=f"{name}pointwise")
        x = net.attend(net.norm(net.activate(x), features), features, name)
    net.head(x)
    return net.build()
