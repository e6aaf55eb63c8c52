"""Named baselines: trained with the recipe and the seeds of the winner, and compared with it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from search.driver import additional_training
from search.driver.baseline_phase import train_baselines
from search.driver.session import SearchSession
from search.experiment.folder import Home, SearchFolder
from search.experiment.loading import parse_experiment
from search.experiment.training_spec import describe_training
from search.loop.baseline_networks import check_baselines
from search.loop.packing import Packing
from search.reporting.additional_results import (
    additional_section,
    baseline_metrics,
    read_additional,
)
from search.reporting.standing import read_standing
from search.study.finalists import Finalist, FinalistStore
from spaces.errors import BadInputError
from spaces.named import named
from spaces.task import Task
from trainables.baseline import Baseline
from trainables.specs import FinalistResult

TASK = Task(1, 8, 8, 10)
LABELS = np.arange(200, dtype=np.int32) % 10


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what would be trained; each network is rebuilt as on a worker, and half right."""
    ran: list[Any] = []

    def train(spec: Any, trainings: Any, *, folder: Path, **calls: Any) -> None:
        for each in trainings:
            candidate = spec.candidates().rebuild(each.trial.params, each.trial.digest)
            ran.append((candidate, each.seed))
            result = FinalistResult(each.trial.number, each.seed, 0.5, 0.5, 1.0)
            guess = np.where(np.arange(200) < 100 + each.seed, LABELS, (LABELS + 1) % 10)
            FinalistStore(folder).write(result, b"", guess.astype(np.int32))
            calls["on_result"](result)

    monkeypatch.setattr(additional_training, "retrain_finalists", train)
    return ran


def session(folder: SearchFolder, params: dict[str, Any], lines: list[str]) -> SearchSession:
    """Return as much of a search as the phase needs."""
    folder.create(parse_experiment({"name": "mine"}).to_yaml(), TASK)
    experiment = parse_experiment(
        {"name": "mine", "baselines": ["resnet14c"], "recipe": {"learning_rate": [0.01, 0.5]}}
    )
    search = SimpleNamespace(
        experiment=experiment,
        folder=folder,
        spec=describe_training(experiment, TASK),
        packing=Packing(cpus=1, fixed=0.0),
        study=SimpleNamespace(trial=lambda _: SimpleNamespace(params=params)),
        stop_requested=SimpleNamespace(is_set=lambda: False, set=lambda: None),
        clock=SimpleNamespace(begin_baseline=lambda: None, end_baseline=lambda: None),
        say=lines.append,
    )
    return cast("SearchSession", search)


def winner(folder: SearchFolder) -> Finalist:
    """Store a finalist that is right about all test images, and the labels of these."""
    zeros = (0,) * len(LABELS)
    rows = tuple(range(len(LABELS)))
    baseline = Baseline("d", 0, 0.1, 0.1, 10, 0.5, rows, tuple(LABELS.tolist()), zeros)
    folder.baseline_file.write_bytes(baseline.to_json())
    results = tuple(FinalistResult(7, seed, 1.0, 1.0, 1.0) for seed in (1, 2, 3))
    for result in results:
        FinalistStore(folder.finalists).write(result, b"", LABELS)
    return Finalist(7, results)


def test_baseline_has_recipe_and_seeds_of_winner(tmp_path: Path, trained: list[Any]) -> None:
    folder = Home(tmp_path).folder("mine")
    lines: list[str] = []
    params = {"learning_rate": 0.123, "weight_decay": 1e-3, "features_1": 8, "depth": 3}
    search = session(folder, params, lines)
    best = winner(folder)
    train_baselines(search, best)
    assert [seed for _, seed in trained] == [1, 2, 3]
    candidate = trained[0][0]
    assert candidate.recipe.learning_rate == 0.123
    assert candidate.architecture.digest == named("resnet14c", TASK).digest
    assert "training the baseline resnet14c with the recipe of trial 7 and 3 seeds" in lines[0]
    # A resumed search keeps what is trained, unless the winner has another recipe.
    train_baselines(search, best)
    assert len(trained) == 3
    params["learning_rate"] = 0.2
    train_baselines(search, best)
    assert len(trained) == 6
    assert any("was trained with another recipe than that of trial 7" in each for each in lines)


def test_winner_is_compared_with_each_baseline(tmp_path: Path, trained: list[Any]) -> None:
    folder = Home(tmp_path).folder("mine")
    search = session(folder, {"learning_rate": 0.1, "weight_decay": 1e-3}, [])
    best = winner(folder)
    train_baselines(search, best)
    (result,) = read_additional(folder, [best])
    assert result.verdict.startswith("trial 7 is better than resnet14c by 0.49")
    assert baseline_metrics([result]) == {"resnet14c_test_accuracy": 0.5}
    (section,) = additional_section([result], read_standing(folder, [best]))
    assert section.heading == "Baselines"
    assert [row[0] for row in section.rows] == [
        "resnet14c",
        "a guess",
        "logistic regression on the pixels",
    ]
    assert section.rows[0][5].startswith("+0.4900 (")


def test_baselines_that_cannot_be_trained_are_refused() -> None:
    check_baselines(["resnet14c", "vgg11"], Task(3, 32, 32, 10))
    for names, said in (
        (["resnet18x"], r"baselines = resnet18x: unknown network; did you mean resnet18"),
        (["vgg11", "vgg11"], r"baselines = vgg11: is named 2 times; name each network once"),
        (
            ["densenet121"],
            r"baselines = densenet121: leaves less than one pixel of images of 8x8;",
        ),
    ):
        with pytest.raises(BadInputError, match=said):
            check_baselines(names, TASK)
