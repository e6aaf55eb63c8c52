"""Spaces that draw the networks of two published tables, as real architectures.

Parameters and multiply-accumulates equal those of the tables exactly; tests hold that. Equal
parameters return the same object, so that `quality.cached_space` analyses each network once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from optuna.trial import BaseTrial

from spaces.architecture import Architecture, Builder
from spaces.blocks import convolution
from spaces.operations import Activation, Add, GlobalPooling, Linear, Norm
from spaces.task import Task

CHOICES = ("identity", "mb3_k3", "mb6_k5")
"""Of each layer, in the order of the digits of a table's keys."""
EXPANSION_KERNEL = {"mb3_k3": (3, 3), "mb6_k5": (6, 5)}
STAGES = ((64, 2), (128, 3), (256, 3))
"""Channels and layers of each stage; its first layer halves the resolution."""
STEM, HEAD = 32, 1280
WIDTHS = 7
"""Searched widths of the residual network."""
UNITS = (64, 64, 64, 128, 128, 128, 128)
"""A quarter of the largest width of each."""


def inverted_residuals(
    trial: BaseTrial, task: Task, *, stages: Sequence[tuple[int, int]] = STAGES, head: int = HEAD
) -> Architecture:
    """Draw a network of NAS-Bench-Macro (Su et al. 2021, arXiv 2103.11922).

    Each layer is an inverted residual block (expansion 3 and kernel 3, or 6 and 5) or an identity.
    An identity that changes the resolution is a 1x1 convolution with stride 2 and batch norm. The
    activation is ReLU.

    Args:
        trial: suggests one choice per layer.
        task: the images and classes.
        stages: channels and layers of each stage.
        head: channels of the last convolution.
    """
    layers = sum(each for _, each in stages)
    choices = [trial.suggest_categorical(f"layer{i}", CHOICES) for i in range(layers)]
    return _build_inverted(tuple(choices), task, tuple(stages), head)


@cache
def _build_inverted(
    choices: Sequence[str], task: Task, stages: Sequence[tuple[int, int]], head: int
) -> Architecture:
    builder = Builder(task.image_shape)
    x, channels = _conv_norm(builder, builder.image, STEM, 3, activate=True), STEM
    left = iter(choices)
    for width, layers in stages:
        for stride in (2, *(1,) * (layers - 1)):
            choice = next(left)
            if choice != "identity":
                expansion, kernel = EXPANSION_KERNEL[choice]
                x = _inverted(builder, x, (channels, width), expansion, kernel, stride)
            elif stride == 2:
                x = _conv_norm(builder, x, width, 1, stride)
            channels = width
    x = _conv_norm(builder, x, head, 1, activate=True)
    builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
    return builder.build()


def residual_widths(trial: BaseTrial, task: Task) -> Architecture:
    """Draw a network of Channel-Bench-Macro's ResNet: seven widths in quarters.

    The table fixes its structure by the costs: a stem with stride 2, two residual blocks, two
    convolutions of which the first has stride 2, and two residual blocks. The costs show no
    projection beside the two convolutions, so these have no shortcut here.

    Args:
        trial: suggests the widths, 1 to 4 each.
        task: the images and classes.
    """
    widths = [trial.suggest_int(f"width{i}", 1, 4) * UNITS[i] for i in range(WIDTHS)]
    return _build_residual(tuple(widths), task)


@cache
def _build_residual(widths: Sequence[int], task: Task) -> Architecture:
    builder = Builder(task.image_shape)
    x = _conv_norm(builder, builder.image, widths[0], 3, 2, activate=True)
    for inner in widths[1:3]:
        x = _residual(builder, x, inner, widths[0])
    x = _conv_norm(builder, x, widths[3], 3, 2, activate=True)
    x = _conv_norm(builder, x, widths[4], 3, activate=True)
    for inner in widths[5:7]:
        x = _residual(builder, x, inner, widths[4])
    builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
    return builder.build()


def _conv_norm(
    builder: Builder,
    x: int,
    features: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    activate: bool = False,
) -> int:
    x = builder.add(convolution(features, kernel, stride, groups=groups), x)
    x = builder.add(Norm("batch"), x)
    return builder.add(Activation("relu"), x) if activate else x


def _inverted(
    builder: Builder, x: int, channels: tuple[int, int], expansion: int, kernel: int, stride: int
) -> int:
    before, after = channels
    hidden = expansion * before
    y = _conv_norm(builder, x, hidden, 1, activate=True)
    y = _conv_norm(builder, y, hidden, kernel, stride, groups=hidden, activate=True)
    y = _conv_norm(builder, y, after, 1)
    return builder.add(Add(), x, y) if stride == 1 and before == after else y


def _residual(builder: Builder, x: int, inner: int, outer: int) -> int:
    y = _conv_norm(builder, x, inner, 3, activate=True)
    y = _conv_norm(builder, y, outer, 3)
    return builder.add(Activation("relu"), builder.add(Add(), x, y))
