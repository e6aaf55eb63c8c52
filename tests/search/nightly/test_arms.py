"""Nights as arms of a comparison."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from search.experiment.folder import Home
from search.experiment.loading import parse_experiment
from search.loop.budget import Spent
from search.nightly.arms import arm_of
from search.nightly.history import NOTHING, History, Night, Score, State
from search.study.database import Database
from search.study.finalists import FinalistStore
from search.study.study import Study
from spaces.errors import BadInputError
from spaces.task import Task
from trainables.specs import FinalistResult


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return a home with a search of two nights; its trials ended in the second one."""
    home = Home(tmp_path)
    folder = home.folder("mine")
    folder.create(parse_experiment({"name": "mine"}).to_yaml(), Task(1, 8, 8, 10))
    database = Database(folder.study, "mine")
    study = Study("mine", RandomSampler(seed=0), database=database)
    for accuracy in (0.5, 0.6):
        trial = study.ask()
        study.start(trial, {"digest": "d", "share": 1.0, "seconds": 7.0, "epochs": 1})
        study.report(trial.number, 1, accuracy)
        study.finish(trial.number, TrialState.COMPLETE, {})
    database.close()
    store = FinalistStore(folder.finalists)
    for number in (0, 1):
        result = FinalistResult(number, 1, 0.5, 0.4 + number / 10, 3.0)
        store.write(result, b"", np.zeros(3, np.int32))
    now, history = datetime.now(UTC), History(folder.nights)
    for name, began, spent, scores in (
        ("first", now - timedelta(days=1), 10.0, ()),
        ("second", now - timedelta(hours=1), 40.0, (Score(1, 0.6, 0.5, 0.0, 1),)),
    ):
        after = NOTHING if name == "first" else None
        history.write(
            Night(
                name,
                began.isoformat(),
                Spent(0, spent, 0.0),
                State.FINISHED,
                ended=(began + timedelta(hours=2)).isoformat(),
                after=after,
                finalists=scores,
            )
        )
    return home


def test_night_has_the_trials_and_finalists_of_its_time(home: Home) -> None:
    first, second = arm_of(home, "mine:first"), arm_of(home, "mine:second")
    assert (first.trials, first.finalists) == ([], [])
    assert [trial.number for trial in second.trials] == [0, 1]
    assert [each.number for each in second.finalists] == [1]
    assert second.name == "mine:second"
    assert second.device_seconds == 14.0


def test_search_is_an_arm_of_all_its_trials(home: Home) -> None:
    assert [trial.number for trial in arm_of(home, "mine").trials] == [0, 1]


def test_unknown_night_is_refused_with_the_known_ones(home: Home) -> None:
    with pytest.raises(BadInputError, match="mine has no such night; known: first, second"):
        arm_of(home, "mine:third")
