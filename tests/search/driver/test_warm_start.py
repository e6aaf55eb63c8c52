"""A search says which trials of other searches it takes, and which are of another task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.driver import warm_start
from search.driver.warm_start import read_warm_start
from search.experiment.folder import Home
from search.experiment.loading import parse_experiment
from search.loop.screens import build_screens
from search.study.records import TrialRecord
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError
from spaces.task import Task
from spaces.vgg import vgg
from trainables.data_identity import ClassIdentity, DataIdentity

DATA = DataIdentity(
    tuple(ClassIdentity(name, (8, 1, 1), name) for name in ("cat", "dog")),
    ("1", "2", "3"),
    (8, 8, 1),
    "",
)
TASK = Task(channels=1, height=8, width=8, classes=2)
PHOTOS = DataIdentity(
    tuple(ClassIdentity(name, (8, 1, 1), name) for name in ("car", "bus", "tram", "bike")),
    ("4", "5", "6"),
    (8, 8, 3),
    "",
)


def trained(number: int, features: int) -> FrozenTrial:
    trial = create_trial(
        state=TrialState.COMPLETE,
        value=0.5,
        params={"features": features},
        distributions={"features": IntDistribution(1, 32)},
        intermediate_values={1: 0.5},
        user_attrs={"digest": "", "epochs": 1},
    )
    trial.number = number
    return trial


@pytest.fixture
def read(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, function_space: Callable[..., CandidateSpace]
) -> Callable[..., tuple[list[FrozenTrial], list[str]]]:
    """Return a function that starts a search of DATA from a search of other data."""
    space = function_space(
        lambda trial, task: vgg(
            trial, task, depth=1, features=trial.suggest_int("features", 4, 12), kernel=3, pools=0
        )
    )
    home = Home(tmp_path)

    def start(
        other: DataIdentity | None,
        task: Task = TASK,
        features: Sequence[int] = (4, 5),
        names: Sequence[str] = ("lender",),
        **fields: Any,
    ) -> tuple[list[FrozenTrial], list[str]]:
        experiment = parse_experiment({"name": "lender", "data": "digits"})
        home.folder("lender").create(experiment.to_yaml(), task, other)
        trials = [trained(number, each) for number, each in enumerate(features)]
        monkeypatch.setattr(warm_start, "read_trials", lambda location, name: trials)
        mine = parse_experiment({"name": "mine", "warm_start": [*names], **fields})
        said: list[str] = []
        screens = build_screens(mine.screens)
        return read_warm_start(home, mine, DATA, space, screens, said.append), said

    return start


def test_number_of_added_trials_is_said(read: Callable[..., Any]) -> None:
    taken, said = read(DATA, features=[4, 5, 12])
    assert [trial.params["features"] for trial in taken] == [4, 5, 12]
    assert said == ["3 trials of lender (data: digits) were added to the sampler"]


def test_trials_that_are_left_out_are_counted_by_reason(read: Callable[..., Any]) -> None:
    taken, said = read(DATA, features=[1, 4, 11, 12, 30], screens={"max_params": 130})
    assert [trial.params["features"] for trial in taken] == [4]
    assert said == [
        "1 trial of lender (data: digits) was added to the sampler; left out: 2 outside this "
        "space, 2 rejected by its screens"
    ]


def test_a_search_that_gives_no_trial_says_so(read: Callable[..., Any]) -> None:
    assert read(DATA, features=[1, 30]) == (
        [],
        [
            "0 trials of lender (data: digits) were added to the sampler; left out: 2 outside this "
            "space"
        ],
    )


def test_a_search_named_twice_is_taken_once(read: Callable[..., Any]) -> None:
    taken, said = read(DATA, names=["lender", "lender"])
    assert len(taken) == 2
    assert len(said) == 1


def test_trials_of_other_classes_are_refused(read: Callable[..., Any]) -> None:
    with pytest.raises(BadInputError) as caught:
        read(PHOTOS, sampler="tpe")
    assert str(caught.value) == (
        "warm_start = lender: its trials were trained on other classes (car, bus, tram, ..) than "
        "this search has (cat, dog); name a search on the same classes, remove it, or set "
        "sampler: auto, which transfers"
    )


def test_trials_of_other_classes_transfer_as_another_task(read: Callable[..., Any]) -> None:
    taken, said = read(PHOTOS, sampler="auto")
    assert [TrialRecord.of(trial).same_task for trial in taken] == [False, False]
    assert said == [
        "2 trials of lender (data: digits) were added to the sampler. They count as trials of "
        "another task, because its classes are others (car, bus, tram, ..): they guide the search, "
        "and its own results outweigh them"
    ]


def test_trials_on_other_images_of_the_same_names_are_another_task(
    read: Callable[..., Any],
) -> None:
    others = [dataclasses.replace(each, digest=each.name * 2) for each in DATA.classes]
    taken, (line,) = read(dataclasses.replace(DATA, classes=tuple(others)), sampler="auto")
    assert not any(TrialRecord.of(trial).same_task for trial in taken)
    assert "because the data differ: other images in cat and dog" in line


def test_trials_on_the_same_data_are_results_of_the_same_task(read: Callable[..., Any]) -> None:
    taken, _ = read(DATA, sampler="auto")
    assert all(TrialRecord.of(trial).same_task for trial in taken)


def test_an_unrecorded_task_of_other_classes_transfers(read: Callable[..., Any]) -> None:
    taken, (line,) = read(None, Task(3, 8, 8, 2), sampler="auto")
    assert not any(TrialRecord.of(trial).same_task for trial in taken)
    assert "its classes are others (2 of 8x8 pixels in colour)" in line


def test_changed_data_are_named_beside_the_added_trials(read: Callable[..., Any]) -> None:
    smaller = dataclasses.replace(DATA, classes=DATA.classes[:1], shape=(4, 4, 3))
    taken, (line,) = read(smaller, sampler="tpe")
    assert len(taken) == 2
    assert line.startswith(
        "2 trials of lender (data: digits) were added to the sampler. Their accu"
    )
    assert "because the data differ: new class dog" in line
    assert "images of 8x8 pixels in grey instead of 4x4 pixels in colour" in line


def test_renamed_classes_with_the_same_images_are_accepted(read: Callable[..., Any]) -> None:
    renamed = [dataclasses.replace(each, name=each.name.upper()) for each in DATA.classes]
    taken, (line,) = read(dataclasses.replace(DATA, classes=tuple(renamed)))
    assert len(taken) == 2
    assert "class CAT is now cat" in line


@pytest.mark.parametrize(
    ("task", "there"),
    [
        (Task(3, 8, 8, 2), "2 of 8x8 pixels in colour"),
        (Task(1, 8, 8, 10), "10 of 8x8 pixels in grey"),
    ],
)
def test_another_task_without_a_record_of_data_is_refused(
    read: Callable[..., Any], task: Task, there: str
) -> None:
    with pytest.raises(BadInputError, match="trained on other classes") as caught:
        read(None, task, sampler="tpe")
    assert f"({there}) than this search has (2 of 8x8 pixels in grey)" in str(caught.value)


def test_other_numbers_of_epochs_are_said(read: Callable[..., Any]) -> None:
    taken, (line,) = read(DATA, epochs=50, sampler="auto")
    assert "because it trained for 10 epochs instead of 50" in line
    assert not any(TrialRecord.of(trial).same_task for trial in taken)


def test_a_missing_record_of_data_is_said(read: Callable[..., Any]) -> None:
    taken, (line,) = read(None, sampler="tpe")
    assert len(taken) == 2
    assert line.endswith(
        "may not be comparable, because lender has no record of its data; sampler: auto would "
        "treat them as trials of another task"
    )


@pytest.mark.parametrize("other", [DATA, None])
def test_random_draws_say_that_they_learn_from_no_trial(
    read: Callable[..., Any], other: DataIdentity | None
) -> None:
    _, (line,) = read(other, sampler="random")
    assert line == (
        "2 trials of lender (data: digits) were added to the sampler. They have no effect, because "
        "sampler: random does not learn from trials"
    )
