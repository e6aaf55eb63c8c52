"""The comparison of whole searches: any budget has the choices of a search that ended there."""

from __future__ import annotations

import pytest
from end_to_end import choose, first_seconds, first_trials
from quality.choices import ratio_of_means
from quality.plain_tune import Report, Until


def report(trial: str, accuracy: float, seconds: float = 2.0) -> Report:
    return Report(trial, {"name": trial}, accuracy, seconds)


REPORTS = [
    report("a", 0.5),
    report("b", 0.7),
    report("b", 0.6),
    report("a", 0.65),
    report("c", 0.9),
]


def test_choice_has_the_best_last_accuracy() -> None:
    chosen = choose(REPORTS[:4])
    assert (chosen.params, chosen.shown) == ({"name": "a"}, 0.65)
    assert (chosen.trials, chosen.seconds) == (2, 8.0)


def test_first_trials_keep_all_their_epochs() -> None:
    assert first_trials(REPORTS, 1) == [REPORTS[0], REPORTS[3]]


@pytest.mark.parametrize(("seconds", "count"), [(4.0, 2), (4.5, 3), (100.0, 5)])
def test_first_seconds_end_with_the_epoch_that_spends_them(seconds: float, count: int) -> None:
    assert first_seconds(REPORTS, seconds) == REPORTS[:count]


@pytest.mark.parametrize(
    ("seconds", "trials", "ended"), [(4.0, 1, True), (4.0, 2, False), (7.0, 1, False)]
)
def test_baseline_ends_after_seconds_and_trials(seconds: float, trials: int, ended: bool) -> None:
    until = Until(seconds, trials)
    for each in REPORTS[:3]:
        result = {"config": each.params, "validation_accuracy": each.accuracy, "epoch_seconds": 2.0}
        assert not until(each.trial, result)
    assert until.reports == REPORTS[:3]
    assert until.stop_all() is ended


def test_ratio_of_means_has_an_error_by_the_jackknife() -> None:
    ratio = ratio_of_means([1.0, 3.0], [2.0, 2.0])
    assert ratio.value == 1.0
    # Without the first seed 1.5, without the second .5.
    assert ratio.error == pytest.approx(0.5)
    assert ratio_of_means([1.0], [2.0]).error == 0.0
