"""The standing of a winner against a guess and logistic regression."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.experiment.defaults import FEWEST_STEPS
from search.experiment.folder import Home, SearchFolder
from search.experiment.loading import parse_experiment
from search.experiment.training_length import TrainingLength
from search.reporting.standing import GUESS, REGRESSION, Standing, read_standing
from search.study.finalists import Finalist, FinalistStore
from spaces.task import Task
from trainables.baseline import Baseline
from trainables.specs import FinalistResult

IMAGES = 100
LABELS = np.arange(IMAGES) % 4
LENGTH = TrainingLength(images=150, batch_size=128, epochs=12)


@pytest.fixture
def folder(tmp_path: Path) -> SearchFolder:
    """Return a search whose logistic regression is right about 60 of 100 test images."""
    folder = Home(tmp_path).folder("mine")
    folder.create(parse_experiment({"name": "mine"}).to_yaml(), Task(1, 8, 8, 4))
    baseline = Baseline(
        *("digest", 0, 0.25, 0.25, 150, 0.5),
        rows=tuple(range(IMAGES)),
        labels=tuple(LABELS.tolist()),
        predictions=tuple(predicted(60).tolist()),
    )
    folder.baseline_file.write_bytes(baseline.to_json())
    return folder


def predicted(right: int) -> np.ndarray:
    """Return predictions that are right about the first images alone."""
    wrong = (LABELS + 1) % 4
    return np.where(np.arange(IMAGES) < right, LABELS, wrong).astype(np.int32)


def winner(folder: SearchFolder, *right: int) -> Finalist:
    """Return a finalist with a training for each number of right predictions."""
    results = []
    for seed, count in enumerate(right):
        result = FinalistResult(7, seed, 0.5, count / IMAGES, 1.0)
        FinalistStore(folder.finalists).write(result, b"weights", predicted(count))
        results.append(result)
    return Finalist(7, tuple(results))


def standing(folder: SearchFolder, *right: int) -> Standing:
    found = read_standing(folder, [winner(folder, *right)])
    assert found is not None
    return found


def test_winner_at_chance_is_warned_of_with_remedies(folder: SearchFolder) -> None:
    found = standing(folder, 31)
    assert list(found.unbeaten) == [GUESS, REGRESSION]
    assert found.warning(LENGTH).startswith("Warning: trial 7 is not better than a guess (")
    assert "or logistic regression on the pixels (difference -0.2900, 95% interval -0.38" in (
        found.warning(LENGTH)
    )
    assert LENGTH.remedy in found.warning(LENGTH)
    enough = found.warning(LENGTH.lengthened(FEWEST_STEPS))
    assert "more images help most" in enough
    assert "epochs to" not in enough


def test_winner_within_noise_of_regression_is_warned_of(folder: SearchFolder) -> None:
    # Three more right images, none more wrong: exact McNemar gives 0.125.
    assert list(standing(folder, 63).unbeaten) == [REGRESSION]
    # Ten more: 0.001.
    assert standing(folder, 70).warning(LENGTH) == ""


def test_spread_of_seeds_is_noise(folder: SearchFolder) -> None:
    assert standing(folder, 69, 70, 71).shortcoming == ""
    assert REGRESSION in standing(folder, 55, 70, 85).unbeaten


def test_missing_predictions_leave_only_the_accuracies(folder: SearchFolder) -> None:
    finalist = winner(folder, 50)
    FinalistStore(folder.finalists).record(7, 0).unlink()
    found = read_standing(folder, [finalist])
    assert found is not None
    assert found.comparisons == {}
    assert found.warning(LENGTH) == ""
    assert found.metrics["baseline_test_accuracy"] == 0.6


def test_images_that_regression_was_not_scored_on_are_left_out(folder: SearchFolder) -> None:
    known = folder.baseline
    assert known is not None
    rows = slice(50, 90)
    part = Baseline(
        *("digest", 0, 0.25, 0.25, 150, 0.5),
        rows=known.rows[rows],
        labels=known.labels[rows],
        predictions=known.predictions[rows],
    )
    folder.baseline_file.write_bytes(part.to_json())
    # Of the 40 images, regression is right about 10 and the winner about 30.
    assert standing(folder, 80).comparisons[REGRESSION].difference == pytest.approx(0.5)


def test_search_without_baseline_has_no_standing(tmp_path: Path) -> None:
    assert read_standing(Home(tmp_path).folder("other"), []) is None
