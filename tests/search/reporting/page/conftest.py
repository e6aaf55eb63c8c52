"""A finished search without trainings: its trials are drawn, and their accuracies made up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.experiment.folder import SearchFolder
from search.experiment.loading import parse_experiment
from search.experiment.schema import Experiment
from search.reporting.gathering import Gathered
from search.study.finalists import FinalistStore, rank_finalists
from search.study.machine import Machine, write_machine
from search.study.pictures import Picture, PictureStore
from spaces.candidate import CandidateSpace
from spaces.task import Task
from trainables.baseline import Baseline
from trainables.data_identity import ClassIdentity, DataIdentity
from trainables.specs import FinalistResult

EVIL = '<script>alert("&")</script>'
PNG = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0:~\x9bU\0\0\0\nIDATx\x9cc`\0\0\0"
    b"\x02\0\x01H\xaf\xa4q\0\0\0\0IEND\xaeB`\x82"
)
BEGAN = datetime(2026, 1, 1)
EPOCHS = 9
IMAGES = 60

MakeGathered = Callable[..., Gathered]


@pytest.fixture(scope="session")
def drawn_trials(vgg_space: Callable[..., CandidateSpace]) -> Callable[[int], list[FrozenTrial]]:
    """Return a function that makes trials; every fourth is stopped early, every tenth rejected."""
    space = vgg_space(depth=[1, 6], recipe={"learning_rate": [0.01, 0.5], "batch_size": [16, 32]})

    def make(count: int) -> list[FrozenTrial]:
        study = optuna.create_study(sampler=RandomSampler(seed=0))
        random = np.random.default_rng(0)
        templates = []
        for _ in range(min(count, 40)):
            asked = study.ask()
            costs = space.draw(asked).costs
            templates.append((dict(asked.params), dict(asked.distributions), costs))
        return [
            _trial(number, *templates[number % len(templates)], random) for number in range(count)
        ]

    return make


def _trial(
    number: int,
    params: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    costs: Any,
    random: np.random.Generator,
) -> FrozenTrial:
    stored: dict[str, Any] = {
        "digest": f"digest {number}",
        "params": costs.params,
        "macs": costs.macs,
    }
    state, value = TrialState.COMPLETE, None
    if number % 10 == 9:
        state = TrialState.PRUNED
        stored |= {"rejected": "border", "detail": EVIL, "saved_low": 1.0, "saved_high": 2.0}
    else:
        epochs = 1 if number % 4 == 3 else EPOCHS
        state = TrialState.PRUNED if epochs == 1 else TrialState.COMPLETE
        curve = 0.9 * (1 - 0.5 ** np.arange(1, epochs + 1)) + 0.05 * random.random()
        value = float(curve[-1])
        history = {
            str(epoch): {
                "train_loss": 1.0,
                "train_accuracy": float(each),
                "validation_loss": 1.0,
                "validation_accuracy": float(each),
                "epoch_seconds": 1.0,
            }
            for epoch, each in enumerate(curve, start=1)
        }
        stored |= {"epochs": epochs, "seconds": float(epochs), "history": history}
    trial = create_trial(
        state=state,
        value=value,
        params=params,
        distributions=distributions,
        user_attrs=stored,
        intermediate_values={1: value} if state is TrialState.PRUNED and value else {},
    )
    trial.number = number
    trial.datetime_start = BEGAN + timedelta(seconds=number)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=10)
    return trial


@pytest.fixture
def make_gathered(
    tmp_path: Path,
    vgg_space: Callable[..., CandidateSpace],
    drawn_trials: Callable[[int], list[FrozenTrial]],
) -> MakeGathered:
    """Return a function that makes a search in a folder.

    It takes the number of trials, the numbers of the finalists, and fields of the experiment.
    """
    space = vgg_space(depth=[1, 6], recipe={"learning_rate": [0.01, 0.5], "batch_size": [16, 32]})

    def make(
        trials: int = 40,
        finalists: tuple[int, ...] = (0, 1),
        state: str = "finished",
        classes: tuple[str, ...] = (EVIL, "dog", "cow"),
        **fields: Any,
    ) -> Gathered:
        folder = SearchFolder(tmp_path / "mine")
        experiment: Experiment = parse_experiment({"name": "mine", "epochs": EPOCHS, **fields})
        counts = (100, 20, IMAGES // len(classes))
        data = DataIdentity(
            tuple(ClassIdentity(name, counts, name) for name in classes),
            ("1", "2", "3"),
            (8, 8, 1),
            "",
        )
        folder.create(experiment.to_yaml(), Task(1, 8, 8, len(classes)), data)
        labels = np.arange(IMAGES) % len(classes)
        ours = (0,) * IMAGES
        baseline = Baseline(
            "", 0, 0.3, 0.3, 9, 0.5, tuple(range(IMAGES)), tuple(labels.tolist()), ours
        )
        folder.baseline_file.write_bytes(baseline.to_json())
        write_machine(folder, Machine(EVIL, "Python 3", "python search.py"))
        found = {number: _retrain(folder, number, labels, len(classes)) for number in finalists}
        pictures = PictureStore(folder.pictures)
        pictures.write_examples([Picture.of(PNG, name) for name in classes])
        pictures.write_wrong([Picture.of(PNG, "dog", EVIL, 0.75)])
        return Gathered(
            folder, experiment, drawn_trials(trials), rank_finalists(found), space, state
        )

    return make


def _retrain(
    folder: SearchFolder, number: int, labels: np.ndarray[Any, Any], classes: int
) -> list[FinalistResult]:
    """Store two trainings of a finalist, each wrong about as many images as its number and 3."""
    results = []
    for seed in (1, 2):
        predicted = labels.astype(np.int32)
        predicted[: number + 3] = (predicted[: number + 3] + 1) % classes
        accuracy = float((predicted == labels).mean())
        result = FinalistResult(number, seed, 0.9 - number / 100, accuracy, 5.0)
        right = np.arange(30) > number
        confident = np.where(predicted == labels, 0.9, 0.6).astype(np.float16)
        FinalistStore(folder.finalists).write(result, b"", predicted, right, confident)
        results.append(result)
    return results
