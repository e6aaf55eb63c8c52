"""The expected improvement by further trials."""

from __future__ import annotations

import numpy as np
import pytest

from search.loop.sampling.prospect import accuracy_per_score, expected_gain

MEAN = np.array([0.0, 0.2, -0.5, 0.1])
DEVIATION = np.array([1.0, 0.5, 2.0, 0.3])


def test_gain_equals_that_of_sampled_independent_candidates() -> None:
    drawn = MEAN + DEVIATION * np.random.default_rng(0).normal(size=(200_000, 4))
    sampled = np.maximum(drawn.max(axis=1) - 0.4, 0).mean()
    assert expected_gain(MEAN, DEVIATION, 0.4, 4) == pytest.approx(sampled, rel=0.02)


def test_more_trials_bring_more_and_certain_candidates_nothing() -> None:
    gains = [expected_gain(MEAN, DEVIATION, 0.4, trials) for trials in (1, 2, 4)]
    assert 0 < gains[0] < gains[1] < gains[2]
    assert expected_gain(MEAN, np.full(4, 1e-6), 0.4, 4) == 0
    assert expected_gain(MEAN[:0], DEVIATION[:0], 0.4, 4) == 0


def test_scores_translate_by_the_best_trials_alone() -> None:
    scores = np.linspace(-2, 2, 40)
    accuracies = np.where(scores > 0.5, 0.9 + 0.01 * scores, 0.3 * scores)
    assert accuracy_per_score(list(accuracies), scores) == pytest.approx(0.01)
    assert accuracy_per_score([0.5] * 6, np.zeros(6)) == 0


def test_equal_best_trials_are_compared_with_the_next() -> None:
    scores = np.array([1.0] * 6 + [-1.0] * 6)
    assert accuracy_per_score([0.9] * 6 + [0.7] * 6, scores) > 0.05
    # Nothing is better than an accuracy of 1.
    assert accuracy_per_score([1.0] * 6 + [0.7] * 6, scores) == 0
