"""Building blocks of all families: norm, activation, attention, stem and head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from optuna.trial import BaseTrial

from spaces.architecture import Builder
from spaces.operations import (
    NORMS,
    Activation,
    ChannelPooling,
    Concat,
    Convolution,
    Dropout,
    Gate,
    GlobalPooling,
    Linear,
    Norm,
    Pooling,
)
from spaces.options import Choices, FloatRange, PerPart, draw_float, draw_name, draw_per
from spaces.task import Task

ACTIVATIONS = ("relu", "leaky_relu", "celu", "gelu", "silu")
ATTENTIONS = ("none", "squeeze-excitation", "spatial", "both")
DOWNSAMPLINGS = ("max", "average", "stride", "blur")
STEMS = ("cifar", "imagenet")

NORM_GROUPS = 8
"""Maximum number of groups of group normalisation."""
REDUCTION = 16
"""Reduction ratio of squeeze-and-excitation (Hu et al. 2018, arXiv 1709.01507)."""
LEAST_SQUEEZED = 4
"""Minimum number of squeezed channels, if the layer has as many."""
SPATIAL_KERNEL = 7
"""Kernel size of spatial attention (Woo et al. 2018, arXiv 1807.06521)."""

# Creating an operation dominates the cost of adding a layer, so constant operations are created
# once and recurring ones are cached.
_SIGMOID = Activation("sigmoid")
_CONCAT = Concat()
_GATE = Gate()
_GLOBAL_POOLING = GlobalPooling()
_STEM_POOLING = Pooling("max", 3, 2, padding=1)
_CHANNEL_AVERAGE = ChannelPooling("average")
_CHANNEL_MAXIMUM = ChannelPooling("max")


@dataclass(frozen=True)
class Style:
    """Options that all layers of a network share.

    Attributes:
        activation: relu, leaky_relu, celu, gelu or silu.
        norm: batch, instance, layer or group.
        attention: none, squeeze-excitation (Hu et al. 2018, arXiv 1709.01507), spatial (the
            second half of CBAM, Woo et al. 2018, arXiv 1807.06521) or both, in this order; of
            all layers, unless the family draws it for each part.
        dropout: dropout rate in the head.
        per_part: draws an attention for each part of the network; None if all have the same.
    """

    activation: str
    norm: str
    attention: str
    dropout: float
    per_part: Callable[[int], list[str]] | None = None

    def attentions(self, parts: int) -> list[str]:
        """Return the attention of each part; draws them if they may differ."""
        return [self.attention] * parts if self.per_part is None else self.per_part(parts)


def draw_style(
    trial: BaseTrial,
    activation: Choices[str],
    norm: Choices[str],
    attention: PerPart[str],
    dropout: FloatRange,
    *,
    part: str = "",
) -> Style:
    """Draw the options that all families share; see `Style`.

    Args:
        trial: suggests or replays the values.
        activation: of the style.
        norm: of the style.
        attention: of the style; with a ``part`` also ``{per: PART, choices: [..]}``.
        dropout: of the style.
        part: what the family draws attentions for; see `spaces.options.draw_per`.

    Raises:
        BadInputError: an option is out of range.
    """

    def draw_attention(name: str, option: Choices[str]) -> str:
        return draw_name(trial, name, option, ATTENTIONS, field="space.attention")

    drawn_activation = draw_name(
        trial, "activation", activation, ACTIVATIONS, field="space.activation"
    )
    drawn_norm = draw_name(trial, "norm", norm, NORMS, field="space.norm")
    attentions = None
    if part and isinstance(attention, Mapping):
        attentions = draw_per(
            attention, part, "attention", field="space.attention", draw=draw_attention
        )
        shared = "none"
    else:
        shared = draw_attention("attention", cast("Choices[str]", attention))
    drawn_dropout = draw_float(trial, "dropout", dropout, field="space.dropout", below=1)
    return Style(drawn_activation, drawn_norm, shared, drawn_dropout, attentions)


@lru_cache(maxsize=4096)
def convolution(
    features: int,
    kernel: int,
    stride: int = 1,
    *,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> Convolution:
    """Return a convolution with an odd kernel whose padding keeps the size at stride 1."""
    return Convolution(features, kernel, stride, dilation=dilation, groups=groups, bias=bias)


@lru_cache(maxsize=256)
def downsampling_pool(mode: str, factor: int) -> Pooling:
    """Return a pooling with adjacent windows; a blur's overlap."""
    if mode == "blur":
        return Pooling(mode, 3, factor, padding=1)
    return Pooling(mode, factor)


@lru_cache(maxsize=4096)
def _norm(norm: str, channels: int) -> Norm:
    """Return a norm for a number of channels; groups have at least two channels."""
    if norm != "group":
        return Norm(norm)
    groups = [g for g in range(1, NORM_GROUPS + 1) if NORM_GROUPS % g == 0]
    fitting = [g for g in groups if channels % g == 0 and 2 * g <= channels]
    return Norm(norm, max(fitting, default=1))


@lru_cache(maxsize=4096)
def _linear(features: int, bias: bool) -> Linear:
    return Linear(features, bias)


class NetBuilder(Builder):
    """A builder with the blocks that families share.

    Args:
        task: the images and classes.
        style: of all layers.
    """

    def __init__(self, task: Task, style: Style) -> None:
        super().__init__(task.image_shape)
        self._classes = task.classes
        self._style = style
        self._activation = Activation(style.activation)

    def norm(self, x: int, channels: int, name: str = "") -> int:
        """Append a norm."""
        return self.add(_norm(self._style.norm, channels), x, name=name)

    def activate(self, x: int, name: str = "") -> int:
        """Append an activation."""
        return self.add(self._activation, x, name=name)

    def norm_activation(self, x: int, channels: int, number: str = "") -> int:
        """Append ``norm{number}`` and ``activation{number}``."""
        x = self.add(_norm(self._style.norm, channels), x, name=f"norm{number}")
        return self.add(self._activation, x, name=f"activation{number}")

    def attend(self, x: int, channels: int, name: str = "", attention: str | None = None) -> int:
        """Append an attention, if any; None is that of the style."""
        kind = self._style.attention if attention is None else attention
        if kind in ("squeeze-excitation", "both"):
            x = self._squeeze_and_excite(x, channels, name)
        if kind in ("spatial", "both"):
            x = self._attend_spatially(x, name)
        return x

    def _squeeze_and_excite(self, x: int, channels: int, name: str) -> int:
        squeezed = max(channels // REDUCTION, min(channels, LEAST_SQUEEZED))
        y = self.add(_GLOBAL_POOLING, x, name=f"{name}squeeze")
        y = self.add(convolution(squeezed, 1, bias=True), y, name=f"{name}reduce")
        y = self.activate(y)
        y = self.add(convolution(channels, 1, bias=True), y, name=f"{name}excite")
        return self.add(_GATE, x, self.add(_SIGMOID, y), name=f"{name}channel_gate")

    def _attend_spatially(self, x: int, name: str) -> int:
        average, maximum = self.add(_CHANNEL_AVERAGE, x), self.add(_CHANNEL_MAXIMUM, x)
        y = self.add(_CONCAT, average, maximum)
        y = self.add(convolution(1, SPATIAL_KERNEL), y, name=f"{name}look")
        return self.add(_GATE, x, self.add(_SIGMOID, y), name=f"{name}spatial_gate")

    def stem(self, stem: str, features: int) -> int:
        """Append the stem of a ResNet or DenseNet.

        ``cifar``: convolution 3x3; ``imagenet``: convolution 7x7 with stride 2, then max pooling
        3x3 with stride 2. Norm and activation follow the convolution.
        """
        kernel, stride = (3, 1) if stem == "cifar" else (7, 2)
        x = self.add(convolution(features, kernel, stride), self.image, name="stem")
        x = self.norm_activation(x, features, "_stem")
        if stem == "imagenet":
            x = self.add(_STEM_POOLING, x, name="pool_stem")
        return x

    def head(self, x: int, hidden: Sequence[int] = (), *, bias: bool = True) -> int:
        """Append global average pooling, hidden fully connected layers and the classifier.

        Dropout follows each hidden layer, or the pooling if there is none. Hidden layers omit
        instance norm, which is undefined for a single pixel.

        Args:
            x: the last feature map.
            hidden: feature amount of each hidden layer.
            bias: give hidden layers a bias.
        """
        x = self.add(_GLOBAL_POOLING, x, name="global_pool")
        for number, features in enumerate(hidden, start=1):
            x = self.add(_linear(features, bias), x, name=f"hidden{number}")
            if self._style.norm != "instance":
                x = self.norm(x, features)
            x = self._drop(self.activate(x))
        if not hidden:
            x = self._drop(x)
        return self.add(_linear(self._classes, True), x, name="classifier")

    def _drop(self, x: int) -> int:
        return self.add(Dropout(self._style.dropout), x) if self._style.dropout else x
