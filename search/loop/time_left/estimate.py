"""Plays the rest of a search to predict when it ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from random import Random
from statistics import fmean, quantiles

from search.loop.time_left.epoch_seconds import EpochSeconds
from search.loop.time_left.finalist_rounds import play_rounds
from search.loop.time_left.observed import FinalistsSeen, Observed, Training
from search.loop.time_left.plan import Plan
from search.loop.time_left.stop_rates import StopRates
from search.study.records import Workload

_PLAYED = 6400
"""Trials of all plays together; their number of plays lies between the next two."""
_FEWEST_PLAYS, _MOST_PLAYS = 8, 32
_MOST_PLAYED = 400
"""Trials of one play; further ones count with the mean time of these."""
_DRAWN_WEIGHT = 6.0
"""Trials that weigh as much as the random candidates, where the next candidates are assumed."""
_BEST = 1 / 3
"""Fraction of the trials that are the best; half of the next candidates are assumed to be alike."""
_HALF_LIFE = 0.5
"""Age at which an epoch counts half, as a fraction of the age of the first."""
_LARGEST = 0.05
"""Fraction of the random candidates of which the first trials are."""
_OVERDUE = 0.1
"""Rest of a finalist that trains longer than predicted, as a fraction of its time so far."""
_FEWEST_BUSY = 0.5
"""Fraction of the workers that is assumed to be busy at least: less is a slow start."""


@dataclass(frozen=True)
class TimeLeft:
    """The predicted time left.

    Attributes:
        search: seconds until the last trial ends.
        finalists: seconds from then to the last finalist.
        low: lower end of the 80 % interval of the sum, as far as chance decides.
        high: upper end.
    """

    search: float
    finalists: float
    low: float
    high: float

    @property
    def seconds(self) -> float:
        """Seconds until the last finalist ends."""
        return self.search + self.finalists


def estimate(
    plan: Plan, seen: Observed, drawn: Sequence[Workload], seed: int = 0
) -> TimeLeft | None:
    """Predict the time left of a search.

    Args:
        plan: of the search.
        seen: its trainings so far.
        drawn: workloads of random candidates that the screens accept.
        seed: of the plays.

    Returns:
        None before the first epoch of the search.
    """
    if not any(each.epochs and each.seconds > 0 for each in seen.trainings):
        return None
    return _played(plan, seen, drawn, _model(seen), seed)


def forecast(
    plan: Plan,
    drawn: Sequence[Workload],
    model: EpochSeconds,
    seed: int = 0,
    baselines: Sequence[Workload] = (),
) -> TimeLeft:
    """Predict the time of a search that has not started.

    Args:
        plan: of the search.
        drawn: workloads of random candidates that the screens accept, one or more.
        model: of the seconds of an epoch.
        seed: of the plays.
        baselines: workloads of the named networks that train after the finalists.
    """
    start = Observed(0.0, (), None, 0.0, baselines=tuple(baselines))
    return _played(plan, start, drawn, model, seed)


def _played(
    plan: Plan, seen: Observed, drawn: Sequence[Workload], model: EpochSeconds, seed: int
) -> TimeLeft:
    play = _Play(plan, seen, drawn, model)
    left = max(1, plan.trials - len(seen.trainings))
    plays = min(_MOST_PLAYS, max(_FEWEST_PLAYS, _PLAYED // left))
    found = [
        play.run(Random(seed + index))  # noqa: S311 - nothing is secret here
        for index in range(plays)
    ]
    totals = [search + finalists for search, finalists in found]
    deciles = quantiles(totals, n=10)
    return TimeLeft(
        fmean(search for search, _ in found),
        fmean(finalists for _, finalists in found),
        max(0.0, deciles[0]),
        deciles[-1],
    )


class _Play:
    """What all plays of the rest of a search share."""

    def __init__(
        self, plan: Plan, seen: Observed, drawn: Sequence[Workload], model: EpochSeconds
    ) -> None:
        self._plan = plan
        self._seen = seen
        self._model = model
        self._stops = StopRates.of(
            plan.rungs,
            plan.reduction,
            [(each.epochs, each.ended) for each in seen.trainings],
        )
        self._workers = plan.workers
        self._stretch = 1.0
        if seen.busy is not None:
            busy = min(float(plan.workers), max(seen.busy, _FEWEST_BUSY * plan.workers))
            self._workers = max(1, round(busy))
            self._stretch = self._workers / busy
        self._drawn = [self._model.predict(each) for each in drawn]
        self._largest = sorted(self._drawn)[-max(1, round(_LARGEST * len(drawn))) :]
        self._own = {each.number: self._epoch_seconds(each) for each in seen.trainings}
        scored = [each for each in seen.trainings if each.accuracy is not None]
        scored.sort(key=lambda each: (-each.epochs, -(each.accuracy or 0.0)))
        self._leaders = [self._own[each.number] for each in scored]
        self._best = self._leaders[: max(1, round(_BEST * len(scored)))]
        fractions = [each.device_fraction for each in seen.trainings]
        self._fraction = fmean(fractions) if fractions else 1.0
        self._baselines = self._baseline_seconds()

    def _epoch_seconds(self, training: Training) -> float:
        if training.epochs and training.seconds > 0:
            return training.seconds / training.epochs
        return self._model.predict(training.workload)

    def _baseline_seconds(self) -> float:
        """Return the seconds of the named networks, each with the seeds of a finalist."""
        plan, seen = self._plan, self._seen
        whole = plan.epochs * plan.finalists.cost * self._stretch
        trainings = [
            makespan(self._workers, [whole * self._model.predict(each)] * plan.finalists.seeds)
            for each in seen.baselines
        ]
        if trainings and seen.baseline_began is not None:
            trainings[0] -= min(trainings[0], seen.now - seen.baseline_began)
        return sum(trainings)

    def run(self, chance: Random) -> tuple[float, float]:
        """Play the rest once.

        Returns:
            Seconds of the search, and of the finalists after it.
        """
        if self._seen.finalists is not None:
            seconds = self._play_finalists(self._seen.finalists, {}, chance)
            return 0.0, seconds + self._baselines
        search, new = self._play_search(chance)
        chosen = self._choose(new, chance)
        empty = FinalistsSeen({number: {} for number in chosen})
        return search, self._play_finalists(empty, chosen, chance) + self._baselines

    def _play_search(self, chance: Random) -> tuple[float, list[float]]:
        """Return the seconds of the search, and the seconds of an epoch of the new trials."""
        plan, seen = self._plan, self._seen
        reached = [0] * len(plan.rungs)
        durations = [self._rest(each, reached, chance) for each in seen.trainings if not each.ended]
        left = max(0, plan.trials - len(seen.trainings))
        new = [self._new(index, chance) for index in range(min(left, _MOST_PLAYED))]
        fresh = [seconds * self._epochs(0, reached, chance) for seconds in new]
        seconds = makespan(self._workers, [*durations, *fresh])
        if left > len(new):
            seconds += (left - len(new)) * fmean(fresh) / self._workers
        seconds *= self._stretch
        for limit in self._limits():
            seconds = min(seconds, limit)
        return seconds, new

    def _limits(self) -> Iterable[float]:
        """Yield the seconds after which a budget ends the search."""
        plan, seen = self._plan, self._seen
        if plan.wall_clock is not None:
            yield max(0.0, plan.wall_clock - seen.seconds)
        if plan.device_seconds is not None:
            rate = self._workers / self._stretch * self._fraction
            yield max(0.0, plan.device_seconds - seen.device_seconds) / rate

    def _rest(self, training: Training, reached: list[int], chance: Random) -> float:
        seconds = self._own[training.number]
        running = min(seconds, max(0.0, self._seen.now - training.since))
        epochs = self._epochs(training.epochs, reached, chance) - training.epochs
        return max(0.0, epochs * seconds - running)

    def _epochs(self, done: int, reached: list[int], chance: Random) -> int:
        """Return after how many epochs a trial ends that has trained some."""
        for index, rung in enumerate(self._plan.rungs):
            if done >= rung:
                continue
            continues = chance.random() < self._stops.probability(index, reached[index])
            reached[index] += 1
            if not continues:
                return rung
        return self._plan.epochs

    def _new(self, index: int, chance: Random) -> float:
        """Return the seconds of an epoch of a trial that has not started."""
        trainings, unlike = self._seen.trainings, self._plan.unlike_others
        known = [self._own[each.number] for each in trainings]
        if len(trainings) + index < unlike:
            return chance.choice(known or self._largest)
        usual = known[unlike:]
        weight = len(usual) + len(self._best) / 2
        if self._drawn and chance.random() * (weight + _DRAWN_WEIGHT) < _DRAWN_WEIGHT:
            return chance.choice(self._drawn)
        if self._best and (not usual or chance.random() < 0.5):
            return chance.choice(self._best)
        return chance.choice(usual or known or self._drawn)

    def _choose(self, new: Sequence[float], chance: Random) -> dict[int, float]:
        """Return the seconds of an epoch of each finalist, by an arbitrary number."""
        leaders = list(self._leaders)
        known, total = len(leaders), len(leaders) + len(new)
        chosen: dict[int, float] = {}
        for index in range(min(self._plan.finalists.count, total)):
            if leaders and (not new or chance.random() * total < known):
                chosen[index] = leaders.pop(0)
            else:
                chosen[index] = chance.choice(self._best or new)
        return chosen

    def _play_finalists(
        self, finalists: FinalistsSeen, epoch_seconds: dict[int, float], chance: Random
    ) -> float:
        """Return the seconds of the trainings of finalists that are still to come."""
        if not finalists.results:
            return 0.0
        plan = self._plan
        whole = plan.epochs * plan.finalists.cost
        expected = {
            number: whole * epoch_seconds[number] if number in epoch_seconds else whole * own
            for number, own in {**self._own, **epoch_seconds}.items()
            if number in finalists.results
        }
        done = {n: fmean(found) for n, found in finalists.seconds.items() if found}
        if done:
            ratio = fmean(done[n] / max(expected[n], 1e-9) for n in done)
            expected = {n: done.get(n, ratio * seconds) for n, seconds in expected.items()}
        # Other processes than those of the trials train finalists.
        startup = 0.0 if done else self._seen.startup
        total = 0.0 if finalists.running else startup
        running = []
        for (number, _), began in finalists.running.items():
            so_far = self._seen.now - began
            rest = expected[number] * self._stretch + startup - so_far
            running.append(max(rest, _OVERDUE * so_far))
        waiting = [number for number, _ in finalists.running]
        for round_ in play_rounds(plan.finalists, finalists.results, chance):
            trainings = list(round_)
            for number in waiting:
                trainings.remove(number)
            total += makespan(
                self._workers,
                [*running, *(expected[n] * self._stretch for n in trainings)],
            )
            running, waiting = [], []
        return total


def _model(seen: Observed) -> EpochSeconds:
    """Return the prediction of epochs from those so far."""
    timed = [each for each in seen.trainings if each.epochs and each.seconds > 0]
    # Other programs may slow a machine for some time.
    half_life = max(1.0, _HALF_LIFE * (seen.now - min(each.since for each in timed)))
    return EpochSeconds(
        [each.workload for each in timed],
        [each.seconds / each.epochs for each in timed],
        [0.5 ** ((seen.now - each.since) / half_life) for each in timed],
    )


def makespan(workers: int, durations: Iterable[float]) -> float:
    """Return when the last of some trainings ends, each on the worker that is free first.

    Example:
        >>> makespan(2, [3.0, 1.0, 1.0, 4.0])
        6.0
    """
    free = [0.0] * workers
    heapify(free)
    for seconds in durations:
        heapreplace(free, free[0] + seconds)
    return max(free)
