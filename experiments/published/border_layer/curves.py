"""Saturation and probe accuracy over the layers of a network, before and beyond the border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from experiments.published.border_layer.networks import main_path
from experiments.published.summaries import by_case
from experiments.reproduction.records import Result

REACHED = 0.9
"""Fraction of the largest gain of probe accuracy over the first layer; see `Curve.plateau`."""


@dataclass(frozen=True)
class Curve:
    """The probes of the main path of one trained network.

    Attributes:
        seed: of the training.
        border: 1-based number of the border layer on the main path; None without one.
        probe: accuracy of logistic regression on each layer, 0..1.
        saturation: of each layer, 0..1.
    """

    seed: int
    border: int | None
    probe: tuple[float, ...]
    saturation: tuple[float, ...]

    @property
    def has_tail(self) -> bool:
        """Tell whether there are layers before the border to compare with, and a border."""
        return self.border is not None and self.border > 2

    @property
    def gain_before(self) -> float:
        """Gain of probe accuracy per layer, from the first to the last layer before the border."""
        return self.whole_gain_before / self._last

    @property
    def gain_beyond(self) -> float:
        """Gain of probe accuracy per layer, from the border layer on."""
        return self.whole_gain_beyond / (len(self.probe) - 1 - self._last)

    @property
    def whole_gain_before(self) -> float:
        """Gain of probe accuracy of all layers before the border together, over layer 1."""
        return self.probe[self._last] - self.probe[0]

    @property
    def whole_gain_beyond(self) -> float:
        """Gain of probe accuracy of the border layer and all later layers together."""
        return self.probe[-1] - self.probe[self._last]

    @property
    def saturation_before(self) -> float:
        """Mean saturation of the layers before the border."""
        return fmean(self.saturation[: self._last + 1])

    @property
    def saturation_beyond(self) -> float:
        """Mean saturation of the border layer and all later layers."""
        return fmean(self.saturation[self._last + 1 :])

    @property
    def plateau(self) -> int:
        """1-based number of the first layer with nine tenths of the largest gain over layer 1."""
        first = self.probe[0]
        needed = first + REACHED * (max(self.probe) - first)
        return next(number for number, each in enumerate(self.probe, 1) if each >= needed)

    @property
    def _last(self) -> int:
        """Position of the last layer before the border, from 0."""
        if self.border is None:
            raise ValueError("the network has no border")
        return self.border - 2


def curve(result: Result) -> Curve | None:
    """Return the curve of a training; None without complete probes."""
    probes = result.outcome.probes
    if probes is None:
        return None
    architecture = result.case.candidate.architecture
    names = {architecture.layers[index].name for index in main_path(architecture)}
    layers = [layer for layer in probes.layers if layer.name in names]
    accuracies = tuple(each.probe_accuracy for each in layers if each.probe_accuracy is not None)
    saturations = tuple(each.saturation for each in layers if each.saturation is not None)
    if not layers or len(accuracies) < len(layers) or len(saturations) < len(layers):
        return None
    border = int(result.case.factors["border"]) or None
    return Curve(result.outcome.seed, border, accuracies, saturations)


def curves(results: Sequence[Result]) -> dict[str, list[Curve]]:
    """Return the curves of all trainings with probes, by the name of their case."""
    found = {}
    for name, group in by_case(results).items():
        known = [each for each in map(curve, group) if each is not None]
        if known:
            found[name] = known
    return found


@dataclass(frozen=True)
class EqualDepth:
    """Gains of probe accuracy of layers with the same number, on both sides of the border.

    Attributes:
        layers: numbers of the layers that some networks have before, and others beyond the border.
        before: mean gain of these layers in networks with a later border, for each seed.
        beyond: the same in the other networks.
    """

    layers: tuple[int, ...]
    before: tuple[float, ...]
    beyond: tuple[float, ...]


def at_equal_depth(group: Sequence[Curve]) -> EqualDepth | None:
    """Compare networks that differ in their pooling layers alone.

    Each layer has the same weight. A gain is that over the previous layer.

    Args:
        group: curves of networks with equally many layers and with borders.

    Returns:
        None if no layer is on both sides in every seed.
    """
    depth = min((len(each.probe) for each in group), default=0)
    borders = [each.border or depth + 1 for each in group]
    layers = tuple(
        number for number in range(2, depth + 1) if min(borders, default=0) <= number < max(borders)
    )
    before, beyond = [], []
    for seed in sorted({each.seed for each in group}):
        own = [each for each in group if each.seed == seed]
        sides = [_split(own, number) for number in layers]
        if not sides or any(not gains for side in sides for gains in side):
            continue
        before.append(fmean(fmean(side[0]) for side in sides))
        beyond.append(fmean(fmean(side[1]) for side in sides))
    return EqualDepth(layers, tuple(before), tuple(beyond)) if before else None


def _split(group: Sequence[Curve], number: int) -> tuple[list[float], list[float]]:
    """Return the gains of one layer before and beyond the border."""
    before: list[float] = []
    beyond: list[float] = []
    for each in group:
        gain = each.probe[number - 1] - each.probe[number - 2]
        is_before = each.border is None or number < each.border
        (before if is_before else beyond).append(gain)
    return before, beyond
