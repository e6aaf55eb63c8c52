"""The DenseNet family: every layer takes the outputs of all earlier layers of its block.

Huang et al. 2017, "Densely Connected Convolutional Networks", arXiv 1608.06993.
"""

from __future__ import annotations

from optuna.trial import BaseTrial

from spaces.architecture import Architecture
from spaces.blocks import (
    DOWNSAMPLINGS,
    STEMS,
    NetBuilder,
    convolution,
    downsampling_pool,
    draw_style,
)
from spaces.operations import Concat, Convolution
from spaces.options import (
    Choices,
    FloatRange,
    IntRange,
    draw_float,
    draw_int,
    draw_kernel,
    draw_name,
)
from spaces.task import Task

_CONCAT = Concat()


def densenet(
    trial: BaseTrial,
    task: Task,
    *,
    stem: Choices[str] = "cifar",
    growth: IntRange = (8, 32),
    blocks: IntRange = (2, 4),
    layers: IntRange = (2, 8),
    bottleneck: IntRange = 4,
    compression: FloatRange = 0.5,
    stem_features: IntRange | None = None,
    downsampling: Choices[str] = "average",
    kernel: Choices[int] = 3,
    dilation: IntRange = 1,
    activation: Choices[str] = "relu",
    norm: Choices[str] = "batch",
    attention: Choices[str] = "none",
    dropout: FloatRange = 0.0,
) -> Architecture:
    """Draw a densely connected network: a stem, dense blocks, transitions between, a linear head.

    Norm and activation precede each convolution.

    Args:
        trial: suggests or replays the values.
        task: the images and classes.
        stem: ``cifar`` (3x3) or ``imagenet`` (7x7 with stride 2, max pooling 3x3 with stride 2).
        growth: features that each layer adds, on a logarithmic scale.
        blocks: number of dense blocks.
        layers: layers of each block.
        bottleneck: output of a layer's 1x1 convolution in multiples of ``growth``; 0 omits it.
        compression: fraction of the features that a transition keeps, in (0, 1].
        stem_features: feature amount of the stem; None: twice ``growth``.
        downsampling: of transitions: ``max``, ``average`` or ``blur`` pooling, ``stride`` for a 2x2
            convolution with stride 2.
        kernel: kernel size of the layers' convolutions, odd.
        dilation: of the layers' convolutions.
        activation: relu, leaky_relu, celu, gelu or silu.
        norm: batch, instance, layer or group.
        attention: none, squeeze-excitation, spatial or both, on the features that a layer adds.
        dropout: rate before the classifier.

    Raises:
        BadInputError: an option is out of range.
    """
    stem_kind = draw_name(trial, "stem", stem, STEMS, field="space.stem")
    grown = draw_int(trial, "growth", growth, field="space.growth", log=True)
    channels = 2 * grown
    if stem_features is not None:
        channels = draw_int(
            trial, "stem_features", stem_features, field="space.stem_features", log=True
        )
    widest = grown * draw_int(trial, "bottleneck", bottleneck, field="space.bottleneck", minimum=0)
    left = draw_float(
        trial, "compression", compression, field="space.compression", minimum=0.01, maximum=1
    )
    size = draw_kernel(trial, kernel)
    spread = draw_int(trial, "dilation", dilation, field="space.dilation")
    shrinking = draw_name(
        trial, "downsampling", downsampling, DOWNSAMPLINGS, field="space.downsampling"
    )
    style = draw_style(trial, activation, norm, attention, dropout)
    number_of_blocks = draw_int(trial, "blocks", blocks, field="space.blocks")
    block_layers = [
        draw_int(trial, f"layers_{block}", layers, field="space.layers")
        for block in range(1, number_of_blocks + 1)
    ]

    net = NetBuilder(task, style)
    x = net.stem(stem_kind, channels)
    added = convolution(grown, size, dilation=spread)
    for block, count in enumerate(block_layers, start=1):
        if block > 1:
            channels, x = _append_transition(net, x, channels, left, shrinking, block - 1)
        for number in range(1, count + 1):
            name = f"block{block}.layer{number}."
            y, width = x, channels
            if widest:
                y = net.activate(net.norm(y, width))
                y, width = net.add(convolution(widest, 1), y, name=f"{name}conv1"), widest
            y = net.activate(net.norm(y, width))
            y = net.attend(net.add(added, y, name=f"{name}conv2"), grown, name)
            # x already concatenates all earlier outputs, so the graph grows linearly.
            x = net.add(_CONCAT, x, y, name=f"{name}concat")
            channels += grown
    net.head(net.norm_activation(x, channels))
    return net.build()


def _append_transition(
    net: NetBuilder, x: int, channels: int, left: float, shrinking: str, number: int
) -> tuple[int, int]:
    """Append the transition after a block; return its number of features and its layer."""
    features = max(1, int(channels * left))
    x = net.activate(net.norm(x, channels))
    name = f"transition{number}"
    if shrinking == "stride":
        return features, net.add(Convolution(features, 2, 2, padding=0), x, name=name)
    x = net.add(convolution(features, 1), x, name=name)
    return features, net.add(downsampling_pool(shrinking, 2), x, name=f"pool{number}")
