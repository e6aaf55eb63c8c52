"""Images to an accuracy: interpolated between epochs, and resumed from a file."""

import argparse
import math
from types import SimpleNamespace

import images_to_accuracy as benchmark
import pytest
from images_to_accuracy import Amounts, Option, Run, Runs, amount_to, amounts

from spaces.task import Task

MISSED = Run([0.2, 0.3], [100, 100], [50, 100], [1.0, 1.0])
REACHED = Run([0.2, 0.6], [100, 100], [50, 100], [1.0, 2.0])


@pytest.mark.parametrize(
    ("target", "expected"), [(0.1, 50.0), (0.2, 100.0), (0.4, 150.0), (0.6, 200.0), (0.7, None)]
)
def test_amount_is_interpolated_between_epochs(target, expected):
    found = amount_to(target, REACHED.accuracies, REACHED.images)
    assert found == (None if expected is None else pytest.approx(expected))


def test_missed_target_counts_with_all_images():
    found = amounts([MISSED, REACHED], 0.1, 0.4)
    expected = [math.sqrt(200 * 150), math.sqrt(150 * 100), math.sqrt(2 * 2)]
    assert [found.images, found.costs, found.seconds] == pytest.approx(expected)
    assert (found.rate, found.missed) == (0.1, 1)
    assert isinstance(found, Amounts)


def test_finished_trainings_are_read_from_the_file(tmp_path, monkeypatch):
    trained = []

    def train(dataset, candidate, seed, args):
        trained.append((candidate.recipe.learning_rate, seed))
        return REACHED

    monkeypatch.setattr(benchmark, "train", train)
    monkeypatch.setattr(benchmark, "describe_task", lambda dataset: Task(1, 8, 8, 10))
    settings = {"data": "digits", "resolution": None, "validation": 0.2, "target": 0.5}
    settings |= {"images": 10, "epochs": 2, "batch": 8, "runs": tmp_path / "runs"}
    dataset = SimpleNamespace(shape=(8, 8, 1))
    for changes in ({}, {}, {"target": 0.6}):
        runs = Runs(dataset, argparse.Namespace(**(settings | changes)))
        for rate, seed in [(0.1, 0), (0.1, 1), (0.3, 0)]:
            assert runs.get("vgg", 0, Option(), rate, seed) == REACHED
    assert trained == [(0.1, 0), (0.1, 1), (0.3, 0)] * 2
