"""Metrics of finalists come from their stored predictions, for every seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.experiment.folder import SearchFolder
from search.experiment.loading import parse_experiment
from search.reporting.finalist_metrics import metrics_section, read_metrics
from search.study.finalists import FinalistStore, rank_finalists
from spaces.task import Task
from trainables.baseline import Baseline
from trainables.specs import FinalistResult

LABELS = (0, 0, 0, 1)


@pytest.fixture
def folder(tmp_path: Path) -> SearchFolder:
    """Return the folder of a search with a baseline and a finalist of two seeds."""
    folder = SearchFolder(tmp_path / "mine")
    folder.create(parse_experiment({"name": "mine"}).to_yaml(), Task(1, 8, 8, 2))
    baseline = Baseline("", 0, 0.75, 0.75, 4, 0.5, (0, 1, 2, 3), LABELS, (0, 0, 0, 0))
    folder.baseline_file.write_bytes(baseline.to_json())
    store = FinalistStore(folder.finalists)
    for seed, predicted in ((1, (0, 0, 0, 0)), (2, LABELS)):
        result = FinalistResult(7, seed, 0.5, 0.75, 1.0)
        store.write(result, b"weights", np.array(predicted, dtype=np.int32))
    return folder


def test_metrics_are_means_over_the_seeds(folder: SearchFolder) -> None:
    experiment = parse_experiment({"metrics": ["balanced_accuracy"]})
    results = sorted(FinalistStore(folder.finalists).results(), key=lambda each: each.seed)
    found = read_metrics(folder, experiment, rank_finalists({7: results}))
    mean, deviation = found[7]["balanced_accuracy"]
    assert (mean, deviation) == pytest.approx((0.75, np.std([0.5, 1.0], ddof=1)))
    (section,) = metrics_section(found)
    assert section.header == ("trial", "balanced_accuracy")
    assert section.rows == (("7", "0.7500 ± 0.3536"),)


def test_no_metrics_make_no_section(folder: SearchFolder) -> None:
    assert metrics_section(read_metrics(folder, parse_experiment({}), [])) == []


def test_metric_of_one_seed_has_no_deviation(folder: SearchFolder) -> None:
    experiment = parse_experiment({"metrics": ["f1"]})
    results = [each for each in FinalistStore(folder.finalists).results() if each.seed == 2]
    found = read_metrics(folder, experiment, rank_finalists({7: results}))
    assert metrics_section(found)[0].rows == (("7", "1.0000"),)


def test_metric_of_probabilities_needs_stored_ones(folder: SearchFolder) -> None:
    experiment = parse_experiment({"metrics": ["auc", "f1"]})
    store = FinalistStore(folder.finalists)
    result = FinalistResult(8, 1, 0.5, 0.75, 1.0)
    sure = np.eye(2, dtype=np.float16)[list(LABELS)]
    right = np.array(LABELS, dtype=np.int32)
    store.write(result, b"weights", right, probabilities=sure)
    old = [each for each in store.results() if each.number == 7]
    found = read_metrics(folder, experiment, rank_finalists({7: old, 8: [result]}))
    assert found[8]["auc"] == (1.0, None)
    assert "auc" not in found[7]
    (section,) = metrics_section(found)
    assert {row[0]: row[section.header.index("auc")] for row in section.rows} == {
        "7": "-",
        "8": "1.0000",
    }
    assert "no probabilities are stored" in section.sentences[1]
