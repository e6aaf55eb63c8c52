"""ASHA: which trials stop at a rung, also after a resume."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from search.loop.asha import Asha


class Slowly:
    """Asynchronous successive halving, written out from its definition."""

    def __init__(self, epochs: int, grace: int, reduction: int) -> None:
        self.epochs, self.grace, self.reduction = epochs, grace, reduction
        self.reported: list[tuple[int, int, float]] = []

    def is_rung(self, epoch: int) -> bool:
        while epoch > self.grace and epoch % self.reduction == 0:
            epoch //= self.reduction
        return epoch == self.grace

    def should_stop(self, number: int, epoch: int, value: float) -> bool:
        before = sorted(
            other
            for who, when, other in self.reported
            if when == epoch and who != number and not math.isnan(other)
        )
        self.reported.append((number, epoch, value))
        if not self.is_rung(epoch) or epoch >= self.epochs:
            return False
        if math.isnan(value):
            return True
        if not before:
            return False
        place = (1 - 1 / self.reduction) * (len(before) - 1)
        low = before[math.floor(place)]
        high = before[math.ceil(place)]
        return value < low + (high - low) * (place - math.floor(place)) - 1e-12


def random_reports(seed: int, epochs: int, trials: int) -> Iterator[tuple[int, int, float]]:
    """Yield the reports of parallel trials: trial, epoch, value."""
    draw = random.Random(seed)
    epoch = [0] * trials
    while any(each < epochs for each in epoch):
        number = draw.choice([n for n, each in enumerate(epoch) if each < epochs])
        epoch[number] += 1
        yield number, epoch[number], draw.choice([draw.random(), round(draw.random(), 1)])


settings_of_searches = [(9, 1, 3), (27, 1, 3), (16, 2, 2), (10, 3, 4), (5, 8, 2), (81, 1, 3)]


@pytest.mark.parametrize(("epochs", "grace", "reduction"), settings_of_searches)
@pytest.mark.parametrize("seed", range(5))
def test_asha_stops_the_trials_that_rays_scheduler_stops(
    epochs: int, grace: int, reduction: int, seed: int
) -> None:
    theirs = ASHAScheduler(
        metric="accuracy",
        mode="max",
        max_t=epochs,
        grace_period=min(grace, epochs),
        reduction_factor=reduction,
    )
    ours = Asha(epochs, grace, reduction)
    controller = SimpleNamespace()
    trials = [SimpleNamespace(trial_id=str(n), stub=True) for n in range(20)]
    for trial in trials:
        theirs.on_trial_add(controller, trial)
    stopped: dict[int, int] = {}
    for number, epoch, value in random_reports(seed, epochs, len(trials)):
        if number in stopped or epoch >= epochs:
            continue  # Neither stops a trial after its last epoch.
        result = {"training_iteration": epoch, "accuracy": value}
        decision = theirs.on_trial_result(controller, trials[number], result)
        ours.report(number, epoch, value)
        assert ours.should_stop(number, epoch) == (decision == TrialScheduler.STOP)
        if decision == TrialScheduler.STOP:
            stopped[number] = epoch
    assert bool(stopped) == (grace < epochs)


values = st.floats(0, 1) | st.sampled_from([0.25, 0.5, 0.75, math.nan])


@settings(max_examples=150, deadline=None)
@given(
    reports=st.lists(st.tuples(st.integers(0, 7), st.integers(1, 9), values), max_size=40),
    grace=st.integers(1, 4),
    reduction=st.integers(2, 4),
)
def test_trials_below_the_best_earlier_ones_stop(
    reports: Sequence[tuple[int, int, float]], grace: int, reduction: int
) -> None:
    asha, slowly = Asha(9, grace, reduction), Slowly(9, grace, reduction)
    seen: dict[tuple[int, int], bool] = {}
    for number, epoch, value in reports:
        if (number, epoch) in seen:
            asha.report(number, epoch, value)
        else:
            asha.report(number, epoch, value)
            seen[number, epoch] = slowly.should_stop(number, epoch, value)
        # The decision does not change when later trials reach the rung.
        for (who, when), should_stop in seen.items():
            assert asha.should_stop(who, when) == should_stop


def test_the_first_trial_at_a_rung_continues() -> None:
    asha = Asha(10, 1, 4)
    asha.report(3, 1, 0.0)
    assert not asha.should_stop(3, 1)


def test_a_nan_value_stops_its_trial_and_no_other() -> None:
    asha = Asha(10, 1, 2)
    for number, value in enumerate((math.nan, 0.1, math.nan, 0.2)):
        asha.report(number, 1, value)
    assert [asha.should_stop(number, 1) for number in range(4)] == [True, False, True, False]


def test_trials_stop_only_at_rungs() -> None:
    asha = Asha(8, 2, 2)
    for epoch in range(1, 9):
        asha.report(0, epoch, 0.9)
        asha.report(1, epoch, 0.1)
    assert [epoch for epoch in range(1, 10) if asha.should_stop(1, epoch)] == [2, 4]
    assert not any(asha.should_stop(0, epoch) for epoch in range(1, 10))


def test_a_trial_does_not_stop_at_a_rung_it_has_not_reached() -> None:
    asha = Asha(8, 2, 2)
    asha.report(0, 2, 0.9)
    assert not asha.should_stop(1, 2)


@pytest.mark.parametrize("cut", [0, 5, 20, 60])
def test_rungs_restored_from_reports_stop_the_same_trials(cut: int) -> None:
    """The driver that resumes a search knows only the study."""
    reports = list(random_reports(7, 9, 12))
    through, before, after = (Asha(9, 1, 3) for _ in range(3))
    for number, epoch, value in reports[:cut]:
        before.report(number, epoch, value)
        through.report(number, epoch, value)
    # The study orders the reports by trial, not by time.
    for number, epoch, value in sorted(reports[:cut]):
        after.report(number, epoch, value)
    for number, epoch, value in reports[cut:]:
        through.report(number, epoch, value)
        after.report(number, epoch, value)
        assert after.should_stop(number, epoch) == through.should_stop(number, epoch)
