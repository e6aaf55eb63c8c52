"""Accuracy against the costs of the networks: parameters, multiply-accumulates and latency."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from search.reporting.charts.plot import Plot, Point, Series
from search.reporting.charts.scales import Axis, short
from search.reporting.gathering import Gathered
from search.reporting.page.describing import label
from search.reporting.page.frame import Part, figure, table
from search.reporting.standing import GUESS
from search.study.records import TrialRecord


@dataclass(frozen=True)
class Priced:
    """A trial with one of its costs.

    Attributes:
        record: the trial, which has an accuracy.
        cost: over 0.
    """

    record: TrialRecord
    cost: float

    @property
    def accuracy(self) -> float:
        """Validation accuracy."""
        return self.record.accuracy or 0.0


def cheapest_first(priced: Sequence[Priced]) -> list[Priced]:
    """Return the trials that no other one exceeds at the same cost or less, cheapest first.

    A trial that stopped itself as hopeless does not count.
    """
    front: list[Priced] = []
    for each in sorted(priced, key=lambda each: (each.cost, -each.accuracy, each.record.number)):
        if not each.record.stopped and (not front or each.accuracy > front[-1].accuracy):
            front.append(each)
    return front


def hypervolume(front: Sequence[Priced], worst: float, low: float, high: float) -> float:
    """Return the fraction of a rectangle that a front dominates, 0..1.

    The rectangle reaches from the worst accuracy to 1, and over the logarithm of the cost from the
    cheapest to the most expensive trial.

    Args:
        front: cheapest first.
        worst: accuracy of a guess.
        low: cost of the cheapest trial.
        high: cost of the most expensive trial.
    """
    if not front or high <= low or worst >= 1:
        return 0.0
    area = 0.0
    for number, each in enumerate(front):
        following = front[number + 1].cost if number + 1 < len(front) else high
        width = math.log(following / each.cost) / math.log(high / low)
        area += width * max(each.accuracy - worst, 0.0) / (1 - worst)
    return area


def costs_part(gathered: Gathered) -> Part | None:
    """Return the part on accuracy against costs; None before a trial has an accuracy."""
    objectives = gathered.experiment.objectives
    costs: dict[str, Callable[[TrialRecord], float | None]] = {
        "parameters": lambda record: record.param_count,
        "multiply-accumulates": lambda record: record.macs,
    }
    names = {
        "latency": "latency for 1 image, ms",
        "batch_latency": f"latency for {gathered.experiment.latency_batch} images, ms",
    }
    for place, objective in enumerate(objectives):
        if objective in names:
            costs[names[objective]] = lambda record, at=place: (  # type: ignore[misc]
                record.values[at] if len(record.values) > at else None
            )
    content = []
    sentences = []
    for name, cost in costs.items():
        priced = [
            Priced(record, float(value))
            for record in gathered.scored
            if (value := cost(record)) is not None and value > 0
        ]
        front = cheapest_first(priced)
        if not front:
            continue
        content.append(_chart(name, priced, front))
        if gathered.standing is not None:
            worst = gathered.standing.baseline.guess_validation
            ends = [each.cost for each in priced]
            found = hypervolume(front, worst, min(ends), max(ends))
            if found:
                sentences.append(f"{name} {found:.3f}")
    if not content:
        return None
    said = []
    if sentences:
        said.append(
            f"Hypervolume of the front: {', '.join(sentences)}. It is the dominated part of the "
            f"area between {GUESS} and accuracy 1, over the logarithm of the cost from the "
            "cheapest to the most expensive trial."
        )
    return Part("Accuracy against cost", tuple(said), tuple(content))


def _chart(name: str, priced: Sequence[Priced], front: Sequence[Priced]) -> Markup:
    def points(chosen: Sequence[Priced]) -> list[Point]:
        return [Point(each.cost, each.accuracy, label(each.record)) for each in chosen]

    numbers = {each.record.number for each in front}
    rest = [each for each in priced if each.record.number not in numbers]
    rest.sort(key=lambda each: -each.accuracy)
    plot = Plot(
        f"Validation accuracy against {name}",
        Axis(name, log=True),
        Axis("validation accuracy", fraction=True),
        [
            Series("other trials", points(rest), None),
            Series("", points(front), 1, line="step"),
            Series("Pareto front", points(front), 1),
        ],
    )
    rows = [(str(e.record.number), short(e.cost), f"{e.accuracy:.4f}") for e in front]
    data = table(("trial", name, "accuracy"), rows, "The Pareto front.")
    caption = (
        f"Each trial with an accuracy. The front joins those that no other one exceeds with "
        f"fewer {name}."
        if "latency" not in name
        else "Each trial with an accuracy."
    )
    return figure(plot, caption, data)
