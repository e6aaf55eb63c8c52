"""The ResNet family: ResNet, ResNeXt and wide ResNet, for small and large images.

He et al. 2016, arXiv 1512.03385; Xie et al. 2017 (ResNeXt), arXiv 1611.05431; Zagoruyko &
Komodakis 2016 (wide ResNet), arXiv 1605.07146. Blocks and shortcuts match torchvision: a
shortcut is a 1x1 convolution with norm if the shape changes, else the identity.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from spaces.errors import BadInputError
from spaces.operations import Add, Convolution
from spaces.options import (
    Choices,
    FloatRange,
    IntRange,
    PerPart,
    choices,
    draw_choice,
    draw_int,
    draw_kernels,
    draw_name,
)
from spaces.task import Task

BLOCKS = ("basic", "bottleneck")
AMOUNTS = ("doubling", "free")
EXPANSION = 4
"""Output features of a bottleneck block relative to its stage."""
_PLAIN_WIDTH_PER_GROUP = 64
"""With this width and one group, the inner width of a block is that of its stage (torchvision)."""
_ADD = Add()


def resnet(
    trial: BaseTrial,
    task: Task,
    *,
    block: Choices[str] = "basic",
    stem: Choices[str] = "cifar",
    stages: IntRange = (2, 4),
    blocks: IntRange = (1, 3),
    width: IntRange = (16, 64),
    amounts: Choices[str] = "doubling",
    widening: IntRange = 1,
    groups: Choices[int] = 1,
    width_per_group: IntRange = 64,
    stage_stride: IntRange = 2,
    downsampling: Choices[str] = "stride",
    kernel: PerPart[int] = 3,
    dilation: IntRange = 1,
    activation: Choices[str] = "relu",
    norm: Choices[str] = "batch",
    attention: PerPart[str] = "none",
    dropout: FloatRange = 0.0,
) -> Architecture:
    """Draw a residual network: a stem, stages of blocks, a linear head.

    ``kernel`` and ``attention`` are drawn once for all blocks; ``{per: stage, choices: [3, 5]}``
    draws them for each stage.

    Args:
        trial: suggests or replays the values.
        task: the images and classes.
        block: ``basic`` (two convolutions) or ``bottleneck`` (1x1, one convolution, 1x1 with four
            times the features).
        stem: ``cifar`` (3x3) or ``imagenet`` (7x7 with stride 2, max pooling 3x3 with stride 2).
        stages: number of stages.
        blocks: blocks of each stage.
        width: features of the stem and the stages, on a logarithmic scale.
        amounts: ``doubling``: ``width`` is for the first stage and doubles with every stage;
            ``free``: it is drawn for each stage.
        widening: multiplies the features of the stages, not of the stem (wide ResNet).
        groups: groups of a block's convolution (the second of a basic block): ResNeXt's
            cardinality. Widths of basic blocks are rounded up to a multiple of it.
        width_per_group: inner width of a block per group; 64 means the width of the stage. 4 with
            32 groups is ResNeXt 32x4d; 128 with one group is torchvision's wide ResNet.
        stage_stride: downsampling factor at the start of every stage except the first.
        downsampling: by ``stride`` of the first block, or by ``max``, ``average`` or ``blur``
            pooling before it.
        kernel: kernel size of the convolutions in blocks, odd.
        dilation: of the convolutions in blocks.
        activation: relu, leaky_relu, celu, gelu or silu.
        norm: batch, instance, layer or group.
        attention: none, squeeze-excitation, spatial or both, at the end of each block's branch.
        dropout: rate before the classifier.

    Raises:
        BadInputError: an option is out of range.
    """
    kind = draw_name(trial, "block", block, BLOCKS, field="space.block")
    stem_kind = draw_name(trial, "stem", stem, STEMS, field="space.stem")
    cardinality = draw_groups(trial, groups)
    inner_width = draw_int(trial, "width_per_group", width_per_group, field="space.width_per_group")
    kernels = draw_kernels(trial, kernel, "stage")
    spread = draw_int(trial, "dilation", dilation, field="space.dilation")
    shrinking = draw_name(
        trial, "downsampling", downsampling, DOWNSAMPLINGS, field="space.downsampling"
    )
    style = draw_style(trial, activation, norm, attention, dropout, part="stage")
    factor = draw_int(trial, "widening", widening, field="space.widening")
    doubling = draw_name(trial, "amounts", amounts, AMOUNTS, field="space.amounts") == "doubling"
    number_of_stages = draw_int(trial, "stages", stages, field="space.stages")
    drawn_widths = draw_widths(trial, width, number_of_stages, doubling)
    stage_blocks = [
        draw_int(trial, f"blocks_{stage}", blocks, field="space.blocks")
        for stage in range(1, number_of_stages + 1)
    ]
    strides = [1] + [
        draw_int(trial, f"stage_stride_{stage}", stage_stride, field="space.stage_stride")
        for stage in range(2, number_of_stages + 1)
    ]

    shapes = [
        _Block(kind == "bottleneck", size, spread, cardinality, inner_width, attends)
        for size, attends in zip(
            kernels(number_of_stages), style.attentions(number_of_stages), strict=True
        )
    ]

    net = NetBuilder(task, style)
    channels = drawn_widths[0]
    x = net.stem(stem_kind, channels)
    for stage, (shape, count, features, stride) in enumerate(
        zip(shapes, stage_blocks, drawn_widths, strides, strict=True), start=1
    ):
        if stride > 1 and shrinking != "stride":
            x = net.add(downsampling_pool(shrinking, stride), x, name=f"pool{stage}")
        first_stride = stride if shrinking == "stride" else 1
        for number in range(1, count + 1):
            name = f"stage{stage}.block{number}."
            x, channels = shape.append(
                net, x, channels, features * factor, first_stride if number == 1 else 1, name
            )
    net.head(x)
    return net.build()


def draw_groups(trial: BaseTrial, groups: Choices[int]) -> int:
    """Draw a number of groups.

    Raises:
        BadInputError: the option holds something else.
    """
    drawn = draw_choice(trial, "groups", groups, field="space.groups")
    for value in choices(groups):
        if type(value) is not int or value < 1:
            problem = f"{value} is no number of groups"
            raise BadInputError("space.groups", groups, problem, "use 1 or more")
    return drawn


def draw_widths(trial: BaseTrial, width: IntRange, stages: int, doubling: bool) -> list[int]:
    """Return the feature amount of each stage."""
    if doubling:
        first = draw_int(trial, "width", width, field="space.width", log=True)
        return [first << stage for stage in range(stages)]
    return [
        draw_int(trial, f"width_{stage}", width, field="space.width", log=True)
        for stage in range(1, stages + 1)
    ]


@dataclass(frozen=True)
class _Block:
    """How the residual blocks of a stage are made."""

    bottleneck: bool
    kernel: int
    dilation: int
    groups: int
    width_per_group: int
    attention: str

    def append(
        self, net: NetBuilder, x: int, channels: int, features: int, stride: int, name: str
    ) -> tuple[int, int]:
        """Append a block.

        Args:
            net: what is built.
            x: the block's input.
            channels: of the input.
            features: of the stage.
            stride: of the block.
            name: what the names of its layers begin with.

        Returns:
            The block's output and its number of channels.
        """
        inner = max(1, features * self.width_per_group // _PLAIN_WIDTH_PER_GROUP) * self.groups
        if self.bottleneck:
            out = features * EXPANSION
            y = net.add(convolution(inner, 1), x, name=f"{name}conv1")
            y = net.activate(net.norm(y, inner))
            y = net.add(self._convolution(inner, stride, self.groups), y, name=f"{name}conv2")
            y = net.activate(net.norm(y, inner))
            y = net.add(convolution(out, 1), y, name=f"{name}conv3")
        else:
            out = -(-features // self.groups) * self.groups
            y = net.add(self._convolution(inner, stride, 1), x, name=f"{name}conv1")
            y = net.activate(net.norm(y, inner))
            y = net.add(self._convolution(out, 1, self.groups), y, name=f"{name}conv2")
        y = net.attend(net.norm(y, out), out, name, self.attention)
        if stride > 1 or channels != out:
            x = net.add(convolution(out, 1, stride), x, name=f"{name}shortcut")
            x = net.norm(x, out)
        return net.activate(net.add(_ADD, y, x, name=f"{name}add")), out

    def _convolution(self, features: int, stride: int, groups: int) -> Convolution:
        return convolution(features, self.kernel, stride, dilation=self.dilation, groups=groups)
