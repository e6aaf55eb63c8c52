"""The networks, images and recipes of both protocols."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from experiments.published.layerwise_features.networks import (
    VGG_A,
    VGG_D,
    Distribution,
    Vgg,
    build,
    centre_of_mass,
    reduced,
    uniform,
    valid_distributions,
    widened,
)
from experiments.reproduction.records import Abort, Case, Images
from spaces.candidate import Candidate
from spaces.costs import costs
from spaces.recipe import Recipe
from spaces.schedules import WarmRestarts
from spaces.task import Task
from trainables.specs import Augmentation

SKEW_NORMAL, PYRAMID, UNIFORM, WIDE = "skew-normal", "pyramid", "uniform", "wide pyramid"
"""Shapes of the feature amounts over depth. Only the wide pyramid has a larger total."""

PUBLISHED_PARAMS = {
    Distribution(0, 4, 8): 27_206_551,
    Distribution(7, 3.5, 0): 18_874_905,
    Distribution(15, 5.5, -12): 13_771_031,
}
"""Of VGG-D with three channels, without batch norms and the classifier's bias."""

DIVISOR = 8
"""Feature amounts of the reduced protocol are those of the publication divided by this number."""
REDUCED_D = (
    Distribution(0, 4, 8),
    Distribution(1, 4, 28),
    Distribution(0, 5.5, 24),
    Distribution(1, 5, 8),
    Distribution(3, 3.5, 4),
    Distribution(7, 3.5, 0),
    Distribution(11, 5, -4),
    Distribution(12, 4.5, -4),
    Distribution(14, 5.5, -28),
    Distribution(15, 5.5, -12),
    Distribution(15, 4.5, -12),
    Distribution(15, 4, -40),
)
"""Span the valid distributions of VGG-D from early to late features; the published ones are in."""
REDUCED_A = (
    Distribution(0, 3, 16),
    Distribution(0, 4, 28),
    Distribution(1, 3.5, 16),
    Distribution(5, 2, 0),
    Distribution(9, 4, -16),
    Distribution(10, 4.5, -32),
    Distribution(10, 3, -24),
)
"""Span the valid distributions of VGG-A."""
BROAD: Mapping[Vgg, Distribution] = {VGG_D: Distribution(0, 5.5, 24), VGG_A: Distribution(0, 4, 28)}
"""Early features, spread over many layers: the wide pyramid has as many multiply-accumulates."""


@dataclass(frozen=True)
class Setting:
    """How networks are trained.

    Attributes:
        recipe: optimiser and schedule.
        epochs: of each training.
        dropout: rate after each hidden layer.
        divisor: of the published feature amounts.
        abort: ends trainings early.
    """

    recipe: Recipe
    epochs: int
    dropout: float = 0.0
    divisor: int = 1
    abort: Abort | None = None


REDUCED = Setting(
    Recipe(learning_rate=0.05, weight_decay=5e-4, batch_size=32, label_smoothing=0.0, momentum=0.9),
    epochs=10,
    divisor=DIVISOR,
)
FULL = Setting(
    Recipe(
        learning_rate=0.01,
        weight_decay=5e-4,
        batch_size=128,
        label_smoothing=0.0,
        momentum=0.9,
        schedule=WarmRestarts(first=10, growth=2, floor=1e-3),
    ),
    epochs=150,
    dropout=0.5,
    abort=Abort(epoch=10, train_accuracy=0.2),
)
GREY_EPOCHS = 12
"""Of the reduced protocol on MNIST, which has fewer images."""


def reduced_cases() -> list[Case]:
    """Return a few distributions of narrow networks on small images."""
    colour = Images("cifar10", _task(3, 16), train=5_000, validation=500, test=5_000)
    grey = Images("mnist", _task(1, 16), train=2_000, validation=500, test=5_000)
    flips, longer = Augmentation(flip="random"), replace(REDUCED, epochs=GREY_EPOCHS)
    return [
        *_cases(VGG_D, REDUCED_D, colour, REDUCED, flips),
        *_cases(VGG_D, REDUCED_D, grey, longer, Augmentation()),
        *_cases(VGG_A, REDUCED_A, colour, REDUCED, flips),
    ]


def full_cases() -> list[Case]:
    """Return all valid distributions of the published grid on three sets of images."""
    shifts = Augmentation(crop=4, flip="random")
    sets = (
        (Images("cifar10", _task(3, 32)), shifts),
        (Images("fashion-mnist", _task(1, 32)), Augmentation()),
        (Images("mnist", _task(1, 32)), Augmentation()),
    )
    return [
        case
        for net in (VGG_D, VGG_A)
        for images, augmentation in sets
        for case in _cases(net, valid_distributions(net), images, FULL, augmentation)
    ]


def _task(channels: int, side: int) -> Task:
    return Task(channels=channels, height=side, width=side, classes=10)


def _cases(
    net: Vgg,
    distributions: Sequence[Distribution],
    images: Images,
    setting: Setting,
    augmentation: Augmentation,
) -> Iterable[Case]:
    """Return the pyramid, the uniform network, a wide pyramid, and each distribution."""

    def case(shape: str, features: Sequence[int], distribution: Distribution | None = None) -> Case:
        architecture = build(net, features, images.task, setting.dropout)
        factors: dict[str, str | float] = {
            "network": net.name,
            "images": images.source,
            "shape": shape,
            "centre": centre_of_mass(features),
            "features": " ".join(map(str, features)),
        }
        if distribution is not None:
            xi, omega, alpha = distribution.xi, distribution.omega, distribution.alpha
            factors |= {"xi": xi, "omega": omega, "alpha": alpha}
        return Case(
            f"{net.name} {images.source} {distribution or shape}",
            Candidate(architecture, setting.recipe),
            images,
            setting.epochs,
            augmentation,
            abort=setting.abort,
            factors=factors,
        )

    pyramid = reduced(net.pyramid, setting.divisor)
    yield case(PYRAMID, pyramid)
    yield case(UNIFORM, uniform(sum(pyramid), net.layers))
    broad = build(net, amounts(net, BROAD[net], setting.divisor), images.task, 0.0)
    yield case(WIDE, widened(net, pyramid, images.task, costs(broad).macs))
    for distribution in distributions:
        yield case(SKEW_NORMAL, amounts(net, distribution, setting.divisor), distribution)


def amounts(net: Vgg, distribution: Distribution, divisor: int = 1) -> tuple[int, ...]:
    """Return the feature amounts of a valid distribution, divided by a number.

    Raises:
        ValueError: the distribution is invalid.
    """
    features = distribution.amounts(net)
    if features is None:
        raise ValueError(f"{distribution} is no valid distribution of {net.name}")
    return reduced(features, divisor)
