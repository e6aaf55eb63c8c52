"""The predicted time left on recorded and simulated searches."""

from __future__ import annotations

import pytest
from time_left.recording import FOLDER, Recording
from time_left.replay import Prediction, replay
from time_left.simulated import SCENARIOS, late, predictions

STEADY = ("photos-0", "photos-2", "photos-old")
"""Recordings of a machine whose speed did not change; the benchmark shows the others, too."""


def within(found: list[Prediction]) -> float:
    """Return the fraction of the predictions that are off by a factor of at most 1.5."""
    return sum(each.factor <= 1.5 for each in found) / len(found)


@pytest.mark.parametrize("name", STEADY)
def test_time_left_of_recorded_search_is_within_a_factor(name: str) -> None:
    found = late(replay(Recording.read(FOLDER / f"{name}.json"), 0.05))
    assert len(found) >= 17
    # How many seeds the finalists need is chance: 9 to 18 trainings.
    assert within(found) >= 0.7
    assert all(2 / 3 < (each.at + each.predicted) / each.total < 1.5 for each in found)


def test_time_left_of_simulated_search_is_within_a_factor() -> None:
    found = late(predictions(SCENARIOS[1], every=40.0))
    assert within(found) >= 0.8
    assert all(2 / 3 < (each.at + each.predicted) / each.total < 1.5 for each in found)
