"""What the trainings of one network on one set of images show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from experiments.published.layerwise_features.cases import SKEW_NORMAL, WIDE
from experiments.published.summaries import rank_correlation
from experiments.reproduction.records import Case, Outcome, Result

EARLY, LATE = 0.45, 0.55
"""A network is early-heavy if the centre of mass of its features is below, late-heavy if above."""


@dataclass(frozen=True)
class Trained:
    """A network with all its trainings.

    Attributes:
        case: the network.
        outcomes: by seed.
    """

    case: Case
    outcomes: dict[int, Outcome]

    @property
    def shape(self) -> str:
        """How its features are distributed over depth."""
        return str(self.case.factors["shape"])

    @property
    def label(self) -> str:
        """Xi, omega and alpha, or the shape."""
        if self.shape != SKEW_NORMAL:
            return self.shape
        xi, omega, alpha = (self.case.factors[name] for name in ("xi", "omega", "alpha"))
        return f"({xi:g}, {omega:g}, {alpha:g})"

    @property
    def centre(self) -> float:
        """Centre of mass of its features over depth, 0..1."""
        return float(self.case.factors["centre"])

    @property
    def features(self) -> str:
        """The feature amount of each layer."""
        return str(self.case.factors["features"])

    @property
    def params(self) -> int:
        """Number of parameters."""
        return next(iter(self.outcomes.values())).params

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a forward pass of one image."""
        return next(iter(self.outcomes.values())).macs

    @property
    def test(self) -> list[float]:
        """Test accuracy of each seed."""
        return [outcome.test_accuracy for outcome in self.outcomes.values()]

    @property
    def train(self) -> list[float]:
        """Training accuracy of each seed."""
        return [outcome.train_accuracy for outcome in self.outcomes.values()]

    @property
    def gaps(self) -> list[float]:
        """Training accuracy minus test accuracy of each seed."""
        return [gap(outcome) for outcome in self.outcomes.values()]


Value = Callable[[Outcome], float]


def gap(outcome: Outcome) -> float:
    """Return training accuracy minus test accuracy."""
    return outcome.train_accuracy - outcome.test_accuracy


def accuracy(outcome: Outcome) -> float:
    """Return the test accuracy."""
    return outcome.test_accuracy


@dataclass(frozen=True)
class Group:
    """The trained networks of one VGG on one set of images.

    Attributes:
        network: such as ``VGG-D``.
        images: name of the set.
        trained: the networks.
    """

    network: str
    images: str
    trained: tuple[Trained, ...]

    def of(self, shape: str) -> list[Trained]:
        """Return the networks of a shape."""
        return [each for each in self.trained if each.shape == shape]

    @property
    def early(self) -> list[Trained]:
        """Skew-normal networks with most features in early layers."""
        return [each for each in self.of(SKEW_NORMAL) if each.centre < EARLY]

    @property
    def late(self) -> list[Trained]:
        """Skew-normal networks with most features in late layers."""
        return [each for each in self.of(SKEW_NORMAL) if each.centre > LATE]

    @property
    def constant_total(self) -> list[Trained]:
        """All networks with the same total of features."""
        return [each for each in self.trained if each.shape != WIDE]

    def differences(self, networks: Sequence[Trained], shape: str, value: Value) -> list[float]:
        """Return the mean over networks minus the value of a shape, for each seed.

        Leaves out seeds that a network lacks.
        """
        others = self.of(shape)
        if not networks or not others:
            return []
        seeds = [*others[0].outcomes]
        return [
            fmean(value(each.outcomes[seed]) for each in networks) - value(others[0].outcomes[seed])
            for seed in seeds
            if all(seed in each.outcomes for each in networks)
        ]

    @property
    def seeds(self) -> int:
        """Number of seeds with which any network is trained."""
        return len({seed for each in self.trained for seed in each.outcomes})

    def correlation(
        self, of: Callable[[Trained], float], value: Value
    ) -> tuple[float, float, float] | None:
        """Return a rank correlation over the skew-normal networks.

        Args:
            of: a quantity of the network.
            value: of its trainings, averaged over the seeds.

        Returns:
            Spearman's coefficient, and its lowest and highest value over single seeds; None if it
            is undefined.
        """
        networks = self.of(SKEW_NORMAL)
        whole = rank_correlation(
            [(of(each), fmean(map(value, each.outcomes.values()))) for each in networks]
        )
        if whole is None:
            return None
        seeds = sorted({seed for each in networks for seed in each.outcomes})
        single = [
            rank_correlation(
                [
                    (of(each), value(each.outcomes[seed]))
                    for each in networks
                    if seed in each.outcomes
                ]
            )
            for seed in seeds
        ]
        found = [each for each in single if each is not None] or [whole]
        return whole, min(found), max(found)


def groups(results: Sequence[Result]) -> list[Group]:
    """Return the trained networks by VGG and set of images, in the order of the results."""
    trained: dict[str, Trained] = {}
    found: dict[tuple[str, str], list[str]] = {}
    for result in results:
        case, outcome = result.case, result.outcome
        if case.name not in trained:
            trained[case.name] = Trained(case, {})
            key = (str(case.factors["network"]), str(case.factors["images"]))
            found.setdefault(key, []).append(case.name)
        trained[case.name].outcomes[outcome.seed] = outcome
    return [
        Group(network, images, tuple(trained[name] for name in names))
        for (network, images), names in found.items()
    ]
