"""The device time that rejections save: intervals that hold the true time, and never change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial

from search.loop.asha import Asha
from search.loop.candidates import attributes_of
from search.study import savings as savings_module
from search.study.records import TrialRecord, Workload
from search.study.savings import (
    FEWEST,
    EpochTimes,
    RejectionTimes,
    SavedTime,
    Savings,
    estimate_savings,
)
from search.study.summary import summarise
from spaces.border import find_border
from spaces.candidate import CandidateSpace
from spaces.errors import InvalidCandidateError
from spaces.task import Task

Stored = Callable[..., FrozenTrial]


def timed(seconds: float, epochs: int, workload: int | Mapping[str, int]) -> dict[str, Any]:
    """Return the attributes of a trained candidate; a number stands for its MACs alone."""
    costs = {"macs": workload} if isinstance(workload, int) else workload
    return {"seconds": seconds, "epochs": epochs, **costs}


def work(macs: int, activation_bytes: int, layers: int, batch_size: int = 64) -> dict[str, int]:
    return {
        "macs": macs,
        "activation_bytes": activation_bytes,
        "layers": layers,
        "batch_size": batch_size,
    }


def exact_seconds(workload: Mapping[str, int]) -> float:
    """Return an epoch's time that the model can express: 1 + macs / 1e6 + bytes / 1e5 + .."""
    steps = workload["layers"] / workload["batch_size"]
    return 1 + workload["macs"] / 1e6 + workload["activation_bytes"] / 1e5 + 4 * steps


def savings(trials: list[FrozenTrial]) -> Savings:
    return estimate_savings([TrialRecord.of(trial) for trial in trials])


# The model


MIXED = [
    work(10**6, 4 * 10**5, 10),
    work(8 * 10**6, 10**5, 30),
    work(2 * 10**6, 9 * 10**5, 20, batch_size=32),
    work(4 * 10**6, 2 * 10**5, 40, batch_size=16),
    work(9 * 10**6, 8 * 10**5, 16),
    work(5 * 10**6, 5 * 10**5, 12),
]


def test_exact_times_of_several_costs_leave_no_interval(stored_trial: Stored) -> None:
    trained = [
        stored_trial(number, "COMPLETE", 0.5, **timed(3 * exact_seconds(each), 3, each))
        for number, each in enumerate(MIXED)
    ]
    within = work(3 * 10**6, 3 * 10**5, 20)
    found = EpochTimes([TrialRecord.of(trial) for trial in trained]).estimate(Workload(**within))
    assert found.low == pytest.approx(3 * exact_seconds(within), rel=1e-6)
    assert found.high == pytest.approx(found.low, rel=1e-6)


@pytest.mark.parametrize(
    "beyond",
    [
        work(90 * 10**6, 4 * 10**5, 20),
        work(4 * 10**6, 90 * 10**5, 20),
        work(4 * 10**6, 4 * 10**5, 20, batch_size=1),
        # Within each range, but together more than any trained candidate.
        work(9 * 10**6, 9 * 10**5, 40, batch_size=16),
    ],
)
def test_beyond_the_trained_costs_the_largest_counts(
    stored_trial: Stored, beyond: dict[str, int]
) -> None:
    trained = [
        stored_trial(number, "COMPLETE", 0.5, **timed(3 * exact_seconds(each), 3, each))
        for number, each in enumerate(MIXED)
    ]
    largest = max(map(exact_seconds, MIXED))
    found = EpochTimes([TrialRecord.of(trial) for trial in trained]).estimate(Workload(**beyond))
    assert found.high is None
    assert found.low <= 3 * largest * (1 + 1e-6)
    assert found.low <= 3 * exact_seconds(beyond)
    assert found.shown.startswith("at least ")
    everything = dict.fromkeys(beyond, 10**9) | {"batch_size": 1}
    found = EpochTimes([TrialRecord.of(trial) for trial in trained]).estimate(
        Workload(**everything)
    )
    assert found.low == pytest.approx(3 * largest, rel=1e-6)


def test_below_the_trained_costs_the_true_time_is_inside(stored_trial: Stored) -> None:
    trained = [
        stored_trial(number, "COMPLETE", 0.5, **timed(exact_seconds(each), 1, each))
        for number, each in enumerate(MIXED)
    ]
    below = work(10**5, 10**4, 2)
    found = EpochTimes([TrialRecord.of(trial) for trial in trained]).estimate(Workload(**below))
    smallest = work(10**6, 10**5, 10)
    assert found.high == pytest.approx(exact_seconds(smallest), rel=1e-6)
    assert found.low == pytest.approx(1.0, rel=1e-6)


def test_noisy_times_and_unequal_epochs_widen_the_interval(stored_trial: Stored) -> None:
    def width(noise: float, epochs: tuple[int, ...]) -> float:
        generator = np.random.default_rng(0)
        trained = []
        for number, each in enumerate(epochs):
            seconds = each * (100 + 10 * number) * math.exp(noise * generator.normal())
            trial = stored_trial(number, "COMPLETE", 0.5, **timed(seconds, each, 100 + 10 * number))
            trained.append(TrialRecord.of(trial))
        found = EpochTimes(trained).estimate(Workload(145))
        assert found.high is not None
        return found.high / found.low

    calm, noisy = width(0.01, (3,) * 12), width(0.2, (3,) * 12)
    assert 1 < calm < 1.1 < noisy
    assert width(0.01, (1, 3, 9) * 4) > 1.5


def test_the_prediction_of_a_long_search_is_fitted_rarely(
    stored_trial: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[int] = []
    fit = savings_module._fit

    def counted(predictors: Any, seconds: Any) -> Any:
        fits.append(len(seconds))
        return fit(predictors, seconds)

    monkeypatch.setattr(savings_module, "_fit", counted)
    times, workload = RejectionTimes(), Workload(10**6)
    record = TrialRecord.of(stored_trial(0, value=0.5, **timed(9.0, 9, 10**6)))
    for _ in range(400):
        times.ended(record)
    assert times.estimate(workload) is not None
    assert len(fits) == 101  # All candidates, and 100 parts.
    for _ in range(16):
        times.ended(record)
        times.estimate(workload)
    assert len(fits) == 101
    times.ended(record)
    times.estimate(workload)
    assert max(fits) == 417


def test_intervals_add_up_and_are_shown_in_words() -> None:
    one, other, beyond = SavedTime(1.0, 4.0), SavedTime(60.0, 90.0), SavedTime(5.0, None)
    assert one + other == SavedTime(61.0, 94.0)
    assert one + beyond == beyond + one == SavedTime(6.0, None)
    assert (one + other).shown == "1m01s to 1m34s"
    assert beyond.shown == "at least 5s"
    assert SavedTime(3.1, 3.2).shown == "3s"


# What a study saves


def test_before_enough_trials_nothing_is_predicted(stored_trial: Stored) -> None:
    trials = [
        stored_trial(number, "COMPLETE", 0.5, **timed(3.0, 3, 100)) for number in range(FEWEST - 1)
    ]
    trials += [
        stored_trial(10, "PRUNED", rejected="border", macs=100),
        stored_trial(11, "FAIL", seconds=0, epochs=0, macs=100),
        stored_trial(12, "WAITING", seconds=5.0, macs=100),
    ]
    found = savings(trials)
    assert (found.by_reason, found.waiting, found.total) == ({}, 1, SavedTime(0.0, 0.0))
    trials.append(stored_trial(13, "FAIL", **timed(1.0, 1, 100)))
    found = savings(trials)
    assert found.waiting == 0
    assert found.by_reason["border"].low > 0


def test_a_stored_estimate_counts_whatever_comes_after(stored_trial: Stored) -> None:
    trials = [stored_trial(number, "COMPLETE", 0.5, **timed(99.0, 1, 10**6)) for number in range(9)]
    trials += [
        stored_trial(10, "PRUNED", rejected="border", macs=100, saved_low=2.0, saved_high=3.0),
        stored_trial(11, "PRUNED", rejected="border", macs=100, saved_low=2.0, saved_high=4.0),
        stored_trial(12, "PRUNED", rejected="params", macs=100, saved_low=7.0),
    ]
    found = savings(trials)
    assert found.by_reason == {"border": SavedTime(4.0, 7.0), "params": SavedTime(7.0, None)}
    assert found.total == SavedTime(11.0, None)


def test_a_candidate_without_estimate_gets_one_that_stays(stored_trial: Stored) -> None:
    early = stored_trial(0, "PRUNED", rejected="border", macs=150)
    trials = [early]
    totals = []
    for number in range(1, 20):
        trials.append(
            stored_trial(number, "COMPLETE", 0.5, **timed(number % 4 + 1.0, 1, 100 + 10 * number))
        )
        totals.append(savings(trials).by_reason.get("border"))
    assert totals[: FEWEST - 1] == [None] * (FEWEST - 1)
    assert totals[FEWEST - 1] is not None
    assert set(totals[FEWEST - 1 :]) == {totals[FEWEST - 1]}


def test_trials_of_older_versions_are_predicted_by_macs(stored_trial: Stored) -> None:
    trials = [
        stored_trial(number, "COMPLETE", 0.5, **timed(2 + number, 1, 100 * number))
        for number in range(1, FEWEST + 1)
    ]
    trials.append(stored_trial(20, "PRUNED", rejected="border", macs=250))
    found = savings(trials).by_reason["border"]
    assert found.low == pytest.approx(4.5)
    assert found.high == pytest.approx(4.5)


def test_the_time_of_interrupted_trials_counts_as_trained(stored_trial: Stored) -> None:
    paused = stored_trial(1, "WAITING", seconds=5.0, share=0.5)
    assert savings([paused]).trained_seconds == 2.5
    ended = stored_trial(0, "COMPLETE", 0.5, **timed(12.0, 3, 200))
    assert savings([ended, paused]).trained_seconds == 14.5


def test_duplicates_and_collapsed_networks_save_nothing(stored_trial: Stored) -> None:
    trials = [
        *(stored_trial(n, "COMPLETE", 0.5, **timed(12.0, 3, 100)) for n in range(FEWEST)),
        stored_trial(10, "COMPLETE", 0.5, rejected="duplicate", duplicate_of=0, macs=100),
        stored_trial(11, "FAIL", rejected="duplicate", duplicate_of=4, macs=100),
        stored_trial(12, "PRUNED", rejected="collapsed"),
    ]
    found = savings(trials)
    assert (found.by_reason, found.waiting) == ({}, 0)
    assert found.trained_seconds == 12.0 * FEWEST
    assert summarise(trials).rejections == {"duplicate": 2, "collapsed": 1}


def test_a_trial_on_a_quarter_of_a_device_counts_a_quarter(stored_trial: Stored) -> None:
    trials = [
        *(
            stored_trial(n, "COMPLETE", 0.5, share=0.25, **timed(12.0, 3, 100))
            for n in range(FEWEST)
        ),
        stored_trial(10, "PRUNED", rejected="border", macs=100),
    ]
    found = savings(trials)
    assert found.trained_seconds == 3.0 * FEWEST
    assert found.by_reason["border"].low == pytest.approx(3.0)


@settings(max_examples=50, deadline=None)
@given(
    measured=st.lists(
        st.tuples(st.floats(1e-6, 1e4), st.integers(1, 50), st.integers(0, 10**10)),
        min_size=FEWEST,
        max_size=12,
    ),
    rejected=st.lists(st.integers(0, 10**10), max_size=6),
)
def test_savings_grow_with_the_rejections(
    stored_trial: Stored, measured: list[tuple[float, int, int]], rejected: list[int]
) -> None:
    trained = [
        stored_trial(number, "COMPLETE", 0.5, **timed(*each))
        for number, each in enumerate(measured)
    ]
    totals = []
    for count in range(len(rejected) + 1):
        screened = [
            stored_trial(100 + number, "PRUNED", rejected="border", macs=macs)
            for number, macs in enumerate(rejected[:count])
        ]
        totals.append(savings([*trained, *screened]).total)
    assert totals[0] == SavedTime(0.0, 0.0)
    assert [each.low for each in totals] == sorted(each.low for each in totals)
    assert all(each.high is None or each.low <= each.high for each in totals)
    assert all(math.isfinite(each.low) for each in totals)


# Simulated searches, whose true times are known


@dataclass(frozen=True)
class Network:
    """A network of the space, its true time of an epoch, and its quality."""

    attributes: Mapping[str, Any]
    beyond: int
    seconds: float
    quality: float


@cache
def networks() -> list[Network]:
    """Draw plain networks as the table of digits does; their times are like those of the table.

    The times of that table differ from this model by 9 % in the median and by 37 % in a tenth of
    the networks.
    """
    space = CandidateSpace(
        Task(channels=1, height=8, width=8, classes=10),
        "vgg",
        {"depth": [2, 10], "features": [8, 32], "kernel": [3, 5], "convs_before_pool": [1, 10]},
        {"learning_rate": 0.2, "weight_decay": 5e-4, "batch_size": [20, 40]},
    )
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    generator = np.random.default_rng(0)
    found: list[Network] = []
    while len(found) < 300:
        try:
            candidate = space.draw(study.ask())
        except InvalidCandidateError:
            continue
        attributes = dict(attributes_of(candidate))
        del attributes["params"]
        beyond = find_border(candidate.architecture).beyond
        scale = 0.35 if generator.random() < 0.2 else 0.1
        epoch = (
            0.01
            + 0.12 * attributes["layers"] / attributes["batch_size"]
            + attributes["macs"] / 5e7
            + attributes["activation_bytes"] / 4e6
        )
        noise = math.exp(scale * generator.normal())
        found.append(Network(attributes, beyond, epoch * noise, generator.normal() - beyond / 4))
    return found


def is_beyond_the_border(network: Network) -> bool:
    return network.beyond > 0


def has_many_macs(network: Network) -> bool:
    return bool(network.attributes["macs"] > 10**6)


def is_average(network: Network) -> bool:
    """Reject half of the networks of average costs; the other half is trained."""
    costs = network.attributes
    is_typical = 5 * 10**4 < costs["macs"] < 10**6 and costs["activation_bytes"] < 50_000
    return is_typical and int(costs["digest"], 16) % 2 == 0


@dataclass
class Simulated:
    """A search: its predicted and true savings."""

    total: SavedTime
    true_seconds: float
    rejected: int

    @property
    def holds(self) -> bool:
        high = math.inf if self.total.high is None else self.total.high
        return self.total.low <= self.true_seconds <= high


def simulate(stored_trial: Stored, screen: Callable[[Network], bool], seed: int) -> Simulated:
    """Run a search without training; the scheduler decides how long each candidate would train."""
    generator = np.random.default_rng(seed)
    asha, times, trials = Asha(epochs=9, grace=1, reduction=3), RejectionTimes(), []
    true_seconds = 0.0

    def train(number: int, network: Network, asha: Asha) -> int:
        for epoch in range(1, 10):
            asha.report(number, epoch, network.quality + generator.normal() / epoch)
            if asha.should_stop(number, epoch):
                return epoch
        return 9

    trained = 0
    for number, place in enumerate(generator.permutation(len(networks()))):
        network = networks()[place]
        if not screen(network):
            epochs = train(number, network, asha)
            seconds = epochs * network.seconds * math.exp(0.05 * generator.normal())
            attributes = dict(network.attributes) | {"seconds": seconds, "epochs": epochs}
            trial = stored_trial(number, "COMPLETE", 0.5, **attributes)
            times.ended(TrialRecord.of(trial))
            trials.append(trial)
            trained += 1
            if trained == 24:
                break
            continue
        true_seconds += network.seconds * train(number, network, asha)
        attributes = dict(network.attributes) | {"rejected": screen.__name__}
        record = TrialRecord.of(stored_trial(number, "PRUNED", **attributes))
        assert record.workload is not None
        saved = times.estimate(record.workload)
        if saved is not None:
            attributes |= {"saved_low": saved.low, "saved_high": saved.high}
        trials.append(stored_trial(number, "PRUNED", **attributes))
    found = savings(trials)
    assert found.waiting == 0
    return Simulated(found.total, true_seconds, len(trials) - trained)


@pytest.mark.parametrize("screen", [is_beyond_the_border, has_many_macs, is_average])
def test_true_savings_are_within_the_interval_in_nine_of_ten(
    stored_trial: Stored, screen: Callable[[Network], bool]
) -> None:
    found = [simulate(stored_trial, screen, seed) for seed in range(25)]
    assert min(each.rejected for each in found) >= 3
    assert np.mean([each.holds for each in found]) >= 0.9
    # An interval from 0 upwards would always hold.
    assert np.median([each.total.low / each.true_seconds for each in found]) > 0.25
    open_ended = [each.total.high is None for each in found]
    assert all(open_ended) if screen is not is_average else np.mean(open_ended) < 0.6
