"""Replays a recorded search against a clock, and compares the predicted time left with the real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from optuna.trial import TrialState

from search.loop.simulated_clock import SimulatedClock
from search.loop.time_left.observer import SearchClock
from time_left.recording import Recording
from trainables.epoch_metrics import EpochMetrics


@dataclass(frozen=True)
class Prediction:
    """A prediction during a search.

    Attributes:
        at: seconds since the start of the search.
        predicted: time left in seconds.
        real: time left in seconds.
        total: duration of the search in seconds.
    """

    at: float
    predicted: float
    real: float
    total: float

    @property
    def done(self) -> float:
        """Fraction of the search that is over."""
        return self.at / self.total

    @property
    def factor(self) -> float:
        """By which factor the prediction is off, 1 or more.

        A hundredth of the search is added to both sides: of the last second of a search, no factor
        matters.
        """
        slack = 0.01 * self.total
        ratio = (self.predicted + slack) / (self.real + slack)
        return max(ratio, 1 / ratio)


@dataclass(order=True)
class _Event:
    at: float
    order: int
    happen: Callable[[], None] = field(compare=False)


def replay(recording: Recording, every: float = 0.02) -> list[Prediction]:
    """Return the predictions at equal distances in a recorded search.

    Args:
        recording: of the search.
        every: distance, as a fraction of the search.
    """
    clock = SimulatedClock()
    search = SearchClock(recording.plan, recording.drawn, clock=clock.read)
    found: list[Prediction] = []
    moments = [every * step * recording.ended for step in range(1, int(1 / every))]
    for event in sorted(_events(recording, search)):
        while moments and moments[0] < event.at:
            clock.now = moments.pop(0)
            left = search.left()
            if left is not None:
                real = recording.ended - clock.now
                found.append(Prediction(clock.now, left.seconds, real, recording.ended))
        clock.now = event.at
        event.happen()
    return found


def _events(recording: Recording, search: SearchClock) -> Iterator[_Event]:
    def begin(trial: object) -> Callable[[], None]:
        return lambda: search.begin(trial.number, trial.workload)  # type: ignore[attr-defined]

    order = 0
    for trial in recording.trials:
        yield _Event(trial.started, order, begin(trial))
        reports = zip(trial.epochs, trial.seconds, trial.accuracy, strict=True)
        for number, (at, seconds, accuracy) in enumerate(reports, start=1):
            order += 1
            yield _Event(at, order, _epoch(search, trial.number, number, accuracy, seconds))
        order += 1
        yield _Event(trial.ended, order, _end(search, trial.number))
    rounds = _rounds(recording)
    yield _Event(recording.retrained, order + 1, _round(search, rounds[0]))
    for each in recording.finalists:
        order += 2
        yield _Event(
            each.ended,
            order,
            lambda each=each: search.finalist(  # type: ignore[misc]
                each.number, each.index, each.validation, each.seconds
            ),
        )
        for done, following in pairwise(rounds):
            if done[-1] == (each.number, each.index):
                yield _Event(each.ended, order + 1, _round(search, following))


def _rounds(recording: Recording) -> list[list[tuple[int, int]]]:
    """Return the trainings of each round, in the order of their ends."""
    seeds = recording.plan.finalists.seeds
    rounds: dict[int, list[tuple[int, int]]] = {}
    for each in recording.finalists:
        rounds.setdefault(max(each.index, seeds - 1), []).append((each.number, each.index))
    return [rounds[key] for key in sorted(rounds)]


def _epoch(
    search: SearchClock, trial: int, epoch: int, accuracy: float, seconds: float
) -> Callable[[], None]:
    metrics = EpochMetrics(epoch, 0.0, 0.0, 0.0, accuracy, seconds)
    return lambda: search.reported(trial, metrics)


def _end(search: SearchClock, trial: int) -> Callable[[], None]:
    return lambda: search.finished(trial, TrialState.COMPLETE, "")


def _round(search: SearchClock, missing: list[tuple[int, int]]) -> Callable[[], None]:
    return lambda: search.plan_finalists(missing)
