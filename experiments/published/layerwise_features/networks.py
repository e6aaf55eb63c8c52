"""VGGs whose feature amounts follow a skew-normal density over depth, at a constant total."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import ceil

from optuna.trial import FixedTrial

from spaces.architecture import Architecture
from spaces.costs import costs
from spaces.feature_amounts import layer_fractions, skew_normal_amounts
from spaces.operations import Norm
from spaces.task import Task
from spaces.vgg import vgg

HIDDEN = 2
"""Fully connected layers before the classifier; they count as layers."""
LEAST_REDUCED = 8
"""No layer is reduced to fewer features."""
MOST_FEATURES = 100_000
SCALES = tuple(step / 2 for step in range(12))
"""Grid of omega."""
SKEWS = tuple(range(-40, 41, 4))
"""Grid of alpha."""


@dataclass(frozen=True)
class Vgg:
    """A VGG of Simonyan & Zisserman for small images.

    Attributes:
        name: such as ``VGG-D``.
        pyramid: feature amount of each convolution and hidden layer.
        pools: numbers of the convolutions that a pooling layer follows.
    """

    name: str
    pyramid: tuple[int, ...]
    pools: tuple[int, ...]

    @property
    def layers(self) -> int:
        """L, the number of convolutions and hidden layers."""
        return len(self.pyramid)

    @property
    def total(self) -> int:
        """N, the number of features of all layers."""
        return sum(self.pyramid)


VGG_A = Vgg("VGG-A", (64, 128, 256, 256, *[512] * 6), (1, 2, 4, 6, 8))
VGG_B = Vgg("VGG-B", (64, 64, 128, 128, 256, 256, *[512] * 6), (2, 4, 6, 8, 10))
VGG_D = Vgg("VGG-D", (64, 64, 128, 128, *[256] * 3, *[512] * 8), (2, 4, 7, 10, 13))
VGG_E = Vgg("VGG-E", (64, 64, 128, 128, *[256] * 4, *[512] * 10), (2, 4, 8, 12, 16))


@dataclass(frozen=True)
class Distribution:
    """A skew-normal distribution of features over depth.

    Attributes:
        xi: location, in layers.
        omega: scale, in layers.
        alpha: skew.
    """

    xi: int
    omega: float
    alpha: int

    def __str__(self) -> str:
        return f"({self.xi}, {self.omega:g}, {self.alpha})"

    def amounts(self, net: Vgg) -> tuple[int, ...] | None:
        """Return the feature amount of each layer; None if the distribution is invalid."""
        return skew_normal_amounts(self.xi, self.omega, self.alpha, net.total, net.layers)


@lru_cache
def valid_distributions(net: Vgg) -> tuple[Distribution, ...]:
    """Return the valid distributions of the published grid; it has 4,032 points for VGG-D."""
    grid = product(range(net.layers + 1), SCALES, SKEWS)
    points = (Distribution(*point) for point in grid if _reaches_ends(net, *point))
    return tuple(point for point in points if point.amounts(net) is not None)


def _reaches_ends(net: Vgg, xi: float, omega: float, alpha: float) -> bool:
    """Tell whether first and last layer get a feature; this rejects most of the grid at once."""
    return omega > 0 and all(
        layer_fractions(location, omega, alpha, layers=1)[0] * net.total > 0.99
        for location in (xi, xi - net.layers + 1)
    )


def reduced(features: Sequence[int], divisor: int) -> tuple[int, ...]:
    """Divide feature amounts, and leave each layer at least `LEAST_REDUCED` if it had as many.

    Narrower layers would be bottlenecks that the published networks do not have.

    >>> reduced((64, 823, 9, 2), 8)
    (8, 103, 8, 2)
    """
    return tuple(max(min(amount, LEAST_REDUCED), ceil(amount / divisor)) for amount in features)


def uniform(total: int, layers: int) -> tuple[int, ...]:
    """Return equal feature amounts with a total."""
    return (round(total / layers),) * layers


def centre_of_mass(features: Sequence[int]) -> float:
    """Return the mean depth of all features: 0 is the first layer, 1 the last hidden layer.

    >>> centre_of_mass((2, 2, 2))
    0.5
    """
    mean = sum(layer * amount for layer, amount in enumerate(features)) / sum(features)
    return mean / (len(features) - 1)


def build(net: Vgg, features: Sequence[int], task: Task, dropout: float) -> Architecture:
    """Build a VGG.

    Small images lose the second pooling layer, so that the last feature map keeps a pixel. All
    later layers then have the feature maps of images of twice the side.

    Args:
        net: positions of the pooling layers.
        features: amount of each convolution and hidden layer.
        task: images and classes.
        dropout: rate after each hidden layer.
    """
    convolutions = net.layers - HIDDEN
    pools = list(net.pools)
    if task.height < 2 ** len(pools):
        del pools[1]
    values = {f"features_{n}": each for n, each in enumerate(features[:convolutions], start=1)}
    hidden = enumerate(features[convolutions:], start=1)
    values |= {f"hidden_features_{n}": each for n, each in hidden}
    return vgg(
        FixedTrial(values),
        task,
        depth=convolutions,
        hidden=HIDDEN,
        features=(1, MOST_FEATURES),
        hidden_features=(1, MOST_FEATURES),
        kernel=3,
        pool_after=pools,
        dropout=dropout,
    )


def weights(architecture: Architecture) -> int:
    """Return the parameters as published: without batch norms and the classifier's bias."""
    layers = zip(architecture.layers, architecture.shapes, strict=True)
    norms = sum(2 * shape[0] for layer, shape in layers if isinstance(layer.operation, Norm))
    return costs(architecture).params - norms - architecture.shapes[-1][0]


def widened(net: Vgg, features: Sequence[int], task: Task, macs: int) -> tuple[int, ...]:
    """Widen all layers by one factor, the smallest with at least so many multiply-accumulates.

    Args:
        net: positions of the pooling layers.
        features: amount of each layer.
        task: images and classes.
        macs: of a forward pass.
    """
    percent, wide = 100, tuple(features)
    while costs(build(net, wide, task, 0.0)).macs < macs:
        percent += 1
        wide = tuple(ceil(amount * percent / 100) for amount in features)
    return wide
