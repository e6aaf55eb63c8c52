"""The ConvMixer family: patches, mixed by depthwise and 1x1 convolutions.

Trockman & Kolter 2022, "Patches Are All You Need?", arXiv 2201.09792.
"""

from __future__ import annotations

from optuna.trial import BaseTrial

from spaces.architecture import Architecture
from spaces.blocks import NetBuilder, convolution, draw_style
from spaces.operations import Add, Convolution
from spaces.options import Choices, FloatRange, IntRange, PerPart, draw_int, draw_kernels
from spaces.task import Task

_ADD = Add()


def convmixer(
    trial: BaseTrial,
    task: Task,
    *,
    width: IntRange = (64, 256),
    depth: IntRange = (4, 16),
    kernel: PerPart[int] = (3, 5, 7, 9),
    patch: IntRange = (1, 4),
    dilation: IntRange = 1,
    activation: Choices[str] = "gelu",
    norm: Choices[str] = "batch",
    attention: PerPart[str] = "none",
    dropout: FloatRange = 0.0,
) -> Architecture:
    """Draw a ConvMixer: patch embedding, equal blocks, a linear head.

    Each block is a depthwise convolution with a skip connection, then a 1x1 convolution. Norm
    follows activation, and convolutions have a bias, as published.

    ``kernel`` and ``attention`` are drawn once for all blocks; ``{per: block, choices: [3, 5]}``
    draws them for each block.

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
    kernels = draw_kernels(trial, kernel, "block")
    side = draw_int(trial, "patch", patch, field="space.patch")
    spread = draw_int(trial, "dilation", dilation, field="space.dilation")
    style = draw_style(trial, activation, norm, attention, dropout, part="block")

    sizes, attentions = kernels(blocks), style.attentions(blocks)
    pointwise = convolution(features, 1, bias=True)
    net = NetBuilder(task, style)
    patches = Convolution(features, side, side, padding=0, bias=True)
    x = net.add(patches, net.image, name="patches")
    x = net.norm(net.activate(x), features)
    for number, (size, attends) in enumerate(zip(sizes, attentions, strict=True), start=1):
        name = f"block{number}."
        depthwise = convolution(features, size, dilation=spread, groups=features, bias=True)
        y = net.add(depthwise, x, name=f"{name}depthwise")
        x = net.add(_ADD, net.norm(net.activate(y), features), x, name=f"{name}add")
        x = net.add(pointwise, x, name=f"{name}pointwise")
        x = net.attend(net.norm(net.activate(x), features), features, name, attends)
    net.head(x)
    return net.build()
