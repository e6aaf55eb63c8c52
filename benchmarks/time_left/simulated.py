"""Simulated searches of known duration, whose time left is predicted on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search.experiment.loading import parse_experiment
from search.loop.screens import build_screens
from search.loop.simulated_clock import SimulatedClock
from search.loop.simulation import FIXED_RECIPE, simulate
from search.loop.time_left.drawn import draw_workloads
from search.loop.time_left.observer import SearchClock
from search.loop.time_left.plan import Plan
from search.study.events import Observer
from spaces.candidate import Candidate, CandidateSpace
from spaces.task import Task
from time_left.replay import Prediction
from trainables.epoch_metrics import EpochMetrics

TASK = Task(channels=3, height=32, width=32, classes=10)


@dataclass(frozen=True)
class Scenario:
    """A search to simulate.

    Attributes:
        name: for the table.
        trials: number of trials.
        workers: trainings at a time.
        epochs: length of a whole training.
        scheduler: ``asha`` or ``none``.
        budget: further limits.
    """

    name: str
    trials: int
    workers: int
    epochs: int
    scheduler: str = "asha"
    budget: Mapping[str, Any] = field(default_factory=dict)


SCENARIOS = (
    Scenario("30 trials one after another", 30, 1, 9),
    Scenario("100 trials of 27 epochs, 8 at a time", 100, 8, 27),
    Scenario("200 trials of 9 epochs, 64 at a time", 200, 64, 9),
    Scenario("60 whole trainings, 8 at a time", 60, 8, 9, "none"),
    Scenario("stopped by a limit of time", 1000, 8, 27, budget={"wall_clock": 1500.0}),
    Scenario("stopped by a limit of device time", 1000, 8, 27, budget={"device_hours": 3.0}),
)


class _Predictions(Observer):
    """Notes a prediction whenever some time has passed."""

    def __init__(self, search: SearchClock, clock: SimulatedClock, every: float) -> None:
        self.found: list[tuple[float, float]] = []
        self._search = search
        self._clock = clock
        self._every = every

    def reported(self, number: int, metrics: EpochMetrics) -> None:
        """Predict, if it is time to."""
        if self.found and self._clock.now - self.found[-1][0] < self._every:
            return
        left = self._search.left()
        if left is not None:
            self.found.append((self._clock.now, left.seconds))


def seconds_of(candidate: Candidate) -> float:
    """Return the simulated seconds of an epoch, which follow another law than the prediction."""
    costs = candidate.costs
    return 1 + costs.macs / 4e7 + costs.activation_bytes / 2e6


def predictions(scenario: Scenario, seed: int = 0, every: float = 10.0) -> list[Prediction]:
    """Simulate a search and return its predictions.

    Args:
        scenario: to simulate.
        seed: of the search.
        every: simulated seconds between two predictions.
    """
    fields = {
        "epochs": scenario.epochs,
        "scheduler": {"name": scenario.scheduler},
        "budget": {"trials": scenario.trials, **scenario.budget},
        "finalists": {"count": 0},
        "sampler": "random",
    }
    clock = SimulatedClock()
    experiment = parse_experiment(fields)
    space = CandidateSpace(TASK, "vgg", {"features": [8, 64]}, FIXED_RECIPE)
    drawn = draw_workloads(space, build_screens(experiment.screens), seed)
    search = SearchClock(Plan.of(experiment, scenario.workers), drawn, clock=clock.read)
    watch = _Predictions(search, clock, every)

    def accuracy(candidate: Candidate, params: Mapping[str, Any], epoch: int) -> float:
        del params
        return 1 - math.exp(-epoch / 5) * (1 + 1e6 / candidate.costs.macs) / 2

    simulate(
        "vgg",
        TASK,
        accuracy,
        trials=scenario.trials,
        seed=seed,
        sampler="random",
        workers=scenario.workers,
        epochs=scenario.epochs,
        seconds=seconds_of,
        space_options={"features": [8, 64]},
        scheduler={"name": scenario.scheduler},
        budget=scenario.budget,
        observers=[search, watch],
        clock=clock,
    )
    total = clock.now
    return [Prediction(at, left, total - at, total) for at, left in watch.found]


def late(found: Sequence[Prediction]) -> list[Prediction]:
    """Return the predictions from a tenth of the search on."""
    return [each for each in found if each.done >= 0.1]
