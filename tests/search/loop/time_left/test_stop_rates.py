"""How many trials continue at the rungs of ASHA."""

from __future__ import annotations

from random import Random

import pytest

from search.loop.asha import Asha
from search.loop.time_left.stop_rates import StopRates, passing


def test_passing_is_the_frequency_of_asha_on_equal_trials() -> None:
    chance = Random(0)
    continued = [0] * 6
    for _ in range(500):
        asha = Asha(epochs=2, grace=1, reduction=3)
        for number in range(6):
            asha.report(number, 1, chance.random())
            continued[number] += not asha.should_stop(number, 1)
    expected = [passing(earlier, 3) for earlier in range(6)]
    assert [count / 500 for count in continued] == pytest.approx(expected, abs=0.08)


def test_improving_trials_continue_more_often_than_by_chance() -> None:
    better = StopRates.of((1,), 3, [(4, True)] * 20)
    usual = StopRates.of((1,), 3, [(4, True)] * 7 + [(1, True)] * 13)
    assert better.probability(0, 0) > 0.7
    assert usual.probability(0, 0) == pytest.approx(passing(20, 3), abs=0.06)


def test_running_trial_at_a_rung_has_passed_it() -> None:
    assert StopRates.of((1,), 3, [(1, False)]).advantage == pytest.approx(1.0)
