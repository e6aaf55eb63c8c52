"""Resuming a search: changes of its experiment, and trials inherited from other searches."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search.driver.resume import (
    CHANGEABLE,
    Misfit,
    as_resumed,
    inherit,
    load_resumed,
    refuse_other,
)
from search.experiment.defaults import complete
from search.experiment.folder import SearchFolder
from search.experiment.loading import load_experiment, load_stored, parse_experiment
from search.experiment.objectives import Objective
from search.experiment.schema import Experiment
from search.experiment.sections import ScreensSection
from search.experiment.training_length import with_whole_epochs
from search.loop.screens import build_screens
from search.loop.trials import Trials
from search.study.database import Database
from search.study.records import TrialRecord
from search.study.storages import read_trials
from search.study.study import Study
from search.study.summary import summarise
from spaces.architecture import Architecture, Builder
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError
from spaces.operations import Convolution, GlobalPooling, Linear
from spaces.remedies import Truncated
from spaces.task import Task
from trainables.data_identity import ClassIdentity, DataIdentity
from trainables.epoch_metrics import EpochMetrics

MakeTrials = Callable[..., Trials]
Spaces = Callable[..., CandidateSpace]

OTHERS: dict[str, Any] = {
    "data": "cifar10",
    "resolution": 16,
    "subset": 0.5,
    "validation": 0.2,
    "test": 0.2,
    "validation_list": "held_out.txt",
    "groups": "patient-(.*?)/",
    "table": {"label": "species"},
    "seed": 8,
    "space": {"name": "resnet"},
    "recipe": {"batch_size": 64},
    "enqueue": ["vgg11"],
    "epochs": 7,
    "augmentation": {"crop": 1},
    "balance": "weights",
    "test_time_flip": True,
    "decoding": {"background": "black"},
    "screens": {"border": "off"},
    "objectives": ["accuracy", "params"],
    "latency_batch": 32,
    "sampler": "random",
    "scheduler": {"reduction": 2},
    "warm_start": ["other"],
    "database": "postgresql://host/name",
    "device": "cpu",
    "compile": True,
    "name": "other",
}
"""Another value of each field that must not change when a search is resumed."""
CHANGED: dict[str, Any] = {
    "baselines": ["resnet14c"],
    "budget": {"trials": 99, "wall_clock": "2h"},
    "failures": {"retries": 0, "hang_after": "5m"},
    "finalists": {"count": 9},
    "modules": "/experiments",
    "resources": {"concurrent": 3},
    "storage": "s3://bucket/prefix",
    "tracking": {"enabled": False},
    "metrics": ["f1"],
    "nightly": {"alpha": 0.02},
    "probes": True,
}
"""Another value of each field that may change when a search is resumed."""


def test_every_field_is_either_changeable_or_fixed() -> None:
    assert set(CHANGED) == set(CHANGEABLE)
    assert set(OTHERS) | set(CHANGED) == set(Experiment.model_fields)


@pytest.mark.parametrize("field", OTHERS)
def test_changing_a_fixed_field_on_resume_is_refused(folder: SearchFolder, field: str) -> None:
    before = load_stored(folder)
    after = parse_experiment({**before.model_dump(), field: OTHERS[field]})
    with pytest.raises(BadInputError) as caught:
        refuse_other(folder, before, after)
    assert caught.value.field == field
    assert "a resumed search must keep" in caught.value.problem
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", OTHERS)
def test_refused_change_names_the_command_of_a_new_search(folder: SearchFolder, field: str) -> None:
    before = load_stored(folder)
    after = parse_experiment({**before.model_dump(), field: OTHERS[field]})
    with pytest.raises(BadInputError) as caught:
        refuse_other(folder, before, after)
    _, command = caught.value.remedy.split("from the trials of this one: ")
    python, script, run, path, *options = shlex.split(command)
    assert (python, script, run) == ("python", "search.py", "run")
    overrides = [value for flag, value in pairwise(options) if flag == "--set"]
    started = load_experiment(Path(path), overrides)
    if field == "name":
        assert started.name == OTHERS["name"]
    elif field != "warm_start":
        assert started.name == "mine-2"
        assert getattr(started, field) == getattr(after, field)
    assert started.warm_start == ["mine"]


@pytest.mark.parametrize("field", CHANGED)
def test_changeable_fields_may_change_on_resume(folder: SearchFolder, field: str) -> None:
    before = load_stored(folder)
    after = parse_experiment({**before.model_dump(), field: CHANGED[field]})
    refuse_other(folder, before, after)
    refuse_other(folder, before, before)


@pytest.fixture
def folder(tmp_path: Path) -> SearchFolder:
    """Return the folder of a search with a budget of 30 trials and two device-hours."""
    folder = SearchFolder(tmp_path / "mine")
    experiment = parse_experiment({"name": "mine", "budget": {"trials": 30, "device_hours": 2}})
    folder.create(experiment.to_yaml(), Task(1, 8, 8, 10))
    return folder


def test_resume_uses_the_stored_experiment(folder: SearchFolder) -> None:
    assert load_resumed(folder, []).to_yaml() == folder.experiment.read_text(encoding="utf-8")


def test_resume_keeps_the_batch_size_that_the_search_chose(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path / "mine")
    asked = parse_experiment({"name": "mine", "recipe": {"momentum": 0.8}})
    folder.create(complete(asked, 215, 8)[0].to_yaml(), Task(1, 8, 8, 10))
    assert as_resumed(folder, asked).recipe["batch_size"] == 16
    assert as_resumed(folder, asked) == load_stored(folder)
    other = parse_experiment({"name": "mine", "recipe": {"momentum": 0.8, "batch_size": 32}})
    with pytest.raises(BadInputError, match="must keep"):
        as_resumed(folder, other)


def test_resume_keeps_the_epochs_that_a_length_gave(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path / "mine")
    document = {"name": "mine", "epochs": "2000 steps", "recipe": {"batch_size": 8}}
    asked = parse_experiment(document)
    classes = (ClassIdentity("cat", (200, 40, 40), "a"), ClassIdentity("dog", (15, 4, 4), "b"))
    data = DataIdentity(classes, ("1", "2", "3"), (8, 8, 1), "")
    started, _ = with_whole_epochs(asked, 215)
    folder.create(started.to_yaml(), Task(1, 8, 8, 2), data)
    assert as_resumed(folder, asked).epochs == 75
    assert load_resumed(folder, ["epochs=2000 steps"]).epochs == 75
    with pytest.raises(BadInputError, match="must keep 75"):
        as_resumed(folder, parse_experiment({**document, "epochs": "4000 steps"}))
    with pytest.raises(BadInputError, match="must keep 75"):
        load_resumed(folder, ["epochs=300k images"])


@pytest.mark.parametrize(
    ("override", "trials", "hours"),
    [
        ("budget.trials=+100", 130, 2),
        ("budget.trials=100", 100, 2),
        ("budget.device_hours=+0.5", 30, 2.5),
        ("budget.trials=+0", 30, 2),
    ],
)
def test_plus_adds_to_a_budget_and_no_plus_sets_it(
    folder: SearchFolder, override: str, trials: int, hours: float
) -> None:
    budget = load_resumed(folder, [override]).budget
    assert (budget.trials, budget.device_hours) == (trials, hours)


@pytest.mark.parametrize("added", ["+8h", "+28800", "+ 480m"])
@pytest.mark.parametrize("before", ["1h", "3600"])
def test_plus_accepts_units_of_time(tmp_path: Path, before: str, added: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"budget: {{wall_clock: {before}}}")
    found = load_experiment(path, [f"budget.wall_clock={added}"], adds=True)
    assert found.budget.wall_clock == 9 * 3600


@pytest.mark.parametrize(
    "override",
    [
        *("budget.wall_clock=+3600", "compile=+1", "space.depth=+1"),
        *("failures.hang_after=+long",),
    ],
)
def test_plus_on_a_field_without_number_is_refused(folder: SearchFolder, override: str) -> None:
    with pytest.raises(BadInputError, match="cannot add to a value that is not a number"):
        load_resumed(folder, [override])


@pytest.mark.parametrize("added", ["many", "8h", "-1", "+1", ""])
def test_plus_without_a_number_is_refused(folder: SearchFolder, added: str) -> None:
    with pytest.raises(BadInputError, match="cannot add a value that is not a number; write \\+"):
        load_resumed(folder, [f"budget.trials=+{added}"])


@pytest.mark.parametrize(
    ("added", "remedy"),
    [("1e2", r"write budget\.trials=\+100$"), ("1.5", r"write \+ and a whole number$")],
)
def test_plus_of_a_decimal_to_an_integer_says_what_to_write(
    folder: SearchFolder, added: str, remedy: str
) -> None:
    with pytest.raises(BadInputError, match=rf"is not a whole number; {remedy}"):
        load_resumed(folder, [f"budget.trials=+{added}"])


@pytest.mark.parametrize("field", ["name", "data"])
def test_plus_on_a_text_field_is_text(folder: SearchFolder, field: str) -> None:
    with pytest.raises(BadInputError, match=rf"{field} = \+1: "):
        load_resumed(folder, [f"{field}=+1"])


def test_override_of_a_fixed_field_is_refused(folder: SearchFolder) -> None:
    with pytest.raises(BadInputError, match="epochs = 3: a resumed search must keep"):
        load_resumed(folder, ["epochs=3"])


# Inherited trials


def width_and_rate(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
    """Draw a network of up to 32 features."""
    return _network(trial.suggest_int("features", 1, 32), task)


def narrow(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
    """Draw a network of 4 to 12 features."""
    return _network(trial.suggest_int("features", 4, 12), task)


def narrow_with_kernel(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
    """Draw a network with a parameter that the other spaces lack."""
    return _network(trial.suggest_int("features", 4, 12), task, trial.suggest_int("kernel", 1, 3))


def _network(features: int, task: Task, kernel: int = 3) -> Architecture:
    builder = Builder(task.image_shape)
    x = builder.add(Convolution(features, (kernel, kernel)), builder.image)
    builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
    return builder.build()


def ended(
    number: int, features: int, *accuracies: float, state: str = "PRUNED", **attributes: Any
) -> FrozenTrial:
    """Return a trial of another search as its study stores it."""
    latency = attributes.pop("latency", None)
    history = {
        str(epoch): EpochMetrics(epoch, 1.0, 0.5, 1.0, accuracy, 1.0, latency).values
        for epoch, accuracy in enumerate(accuracies, start=1)
    }
    trial = optuna.trial.create_trial(
        state=TrialState[state],
        values=None if state == "FAIL" else [accuracies[-1]],
        params={"features": features},
        distributions={"features": optuna.distributions.IntDistribution(1, 32)},
        intermediate_values=dict(enumerate(accuracies, start=1)),
        user_attrs={"digest": "old", "history": history, "epochs": len(history), **attributes},
    )
    trial.number = number
    return trial


def inherited(
    trials: Sequence[FrozenTrial], space: CandidateSpace, *objectives: Objective, **screens: Any
) -> list[FrozenTrial]:
    names = ["accuracy", *objectives]
    experiment = parse_experiment({"name": "mine", "objectives": names, "screens": screens})
    section = ScreensSection.model_validate(screens)
    return list(inherit("other", trials, space, build_screens(section), experiment))


def test_inherited_trial_has_state_value_and_origin(
    function_space: Spaces,
) -> None:
    space = function_space(narrow)
    whole, stopped = inherited([ended(3, 5, 0.4, 0.6, state="COMPLETE"), ended(7, 9, 0.3)], space)
    assert (whole.state, whole.values) == (TrialState.COMPLETE, [0.6])
    assert whole.intermediate_values == {1: 0.4, 2: 0.6}
    assert (stopped.state, stopped.values) == (TrialState.PRUNED, [0.3])
    for trial, number in ((whole, 3), (stopped, 7)):
        assert trial.user_attrs["inherited"] == "other"
        assert trial.user_attrs["inherited_number"] == number
        assert trial.user_attrs["digest"] == space.rebuild(trial.params).digest
        assert trial.distributions["features"] == optuna.distributions.IntDistribution(4, 12)


def test_trials_outside_the_new_space_are_not_inherited(
    function_space: Spaces, recwarn: pytest.WarningsRecorder
) -> None:
    trials = [ended(n, features, 0.5) for n, features in enumerate((1, 3, 4, 12, 13, 32))]
    found = inherited(trials, function_space(narrow))
    assert [trial.params["features"] for trial in found] == [4, 12]
    # The inherited trials have no value for the parameter kernel.
    assert inherited(trials, function_space(narrow_with_kernel)) == []
    assert not recwarn.list


def test_parameters_unknown_to_the_new_space_are_dropped(
    function_space: Spaces,
) -> None:
    trial = ended(0, 5, 0.5)
    trial.params = {**trial.params, "kernel": 3}
    trial.distributions = {
        **trial.distributions,
        "kernel": optuna.distributions.IntDistribution(1, 3),
    }
    (found,) = inherited([trial], function_space(narrow))
    assert found.params == {"features": 5}


def test_only_trials_of_the_same_truncated_network_are_inherited() -> None:
    screens = {"border": "truncate"}
    truncation = ScreensSection.model_validate(screens).truncation
    options = {"depth": [1, 9], "features": 4, "kernel": 3, "pools": 0}
    recipe = {"learning_rate": 0.1, "weight_decay": 1e-4, "batch_size": 16}
    space = CandidateSpace(Task(1, 8, 8, 10), "vgg", options, recipe, truncation=truncation)

    def deep(number: int, **attributes: Any) -> FrozenTrial:
        trial = ended(number, 5, 0.5, **attributes)
        depth = optuna.distributions.IntDistribution(1, 9)
        trial.params, trial.distributions = {"depth": 9}, {"depth": depth}
        return trial

    trials = [
        deep(0, truncated_from=9, truncated_to=5),
        deep(1, truncated_from=9, truncated_to=6),
        deep(2),
    ]
    misfits: Counter[Misfit] = Counter()
    experiment = parse_experiment({"name": "mine", "screens": screens})
    screening = build_screens(experiment.screens)
    (found,) = inherit("other", trials, space, screening, experiment, misfits)
    assert found.user_attrs["inherited_number"] == 0
    assert TrialRecord.of(found).truncated == Truncated(9, 5)
    assert misfits == {Misfit.TRUNCATION: 2}


def test_trials_that_screens_reject_are_not_inherited(function_space: Spaces) -> None:
    trials = [ended(0, 4, 0.5), ended(1, 12, 0.5)]
    found = inherited(trials, function_space(narrow), max_params=100)
    assert [trial.params["features"] for trial in found] == [4]


def test_rejected_failed_and_running_trials_are_not_inherited(function_space: Spaces) -> None:
    running = ended(3, 7, 0.5)
    running.state, running.values = TrialState.RUNNING, None
    trials = [
        ended(0, 4, 0.5, rejected="border"),
        ended(1, 5, 0.5, state="FAIL"),
        ended(2, 6, 0.5, inherited="a third one"),
        running,
        ended(4, 8, 0.5, verdict="fail"),
    ]
    assert inherited(trials, function_space(narrow)) == []


def test_trials_without_a_measured_objective_are_not_inherited(function_space: Spaces) -> None:
    trials = [ended(0, 5, 0.4, 0.5, latency=1.5), ended(1, 6, 0.4, 0.5)]
    found = inherited(trials, function_space(narrow), "params", "latency")
    (trial,) = found
    costs = function_space(narrow).rebuild(trial.params).costs
    assert trial.values == [0.5, costs.params, 1.5]


def test_multi_objective_inherits_pruned_trials_as_complete(
    function_space: Spaces,
) -> None:
    trials = [ended(0, 5, 0.5), ended(1, 6, 0.1, stopped="no better than a guess")]
    good, hopeless = inherited(trials, function_space(narrow), "params")
    for trial in (good, hopeless):
        assert (trial.state, TrialRecord.of(trial).outcome) == (
            TrialState.COMPLETE,
            TrialState.PRUNED,
        )
    # The sampler must not prefer a hopeless trial because it is cheap.
    assert (good.constraints, hopeless.constraints) == ({}, {"hopeless": 1.0})


@pytest.mark.parametrize("objectives", [(), ("params",)])
def test_inherited_trials_are_stored_but_not_counted(
    function_space: Spaces,
    make_trials: MakeTrials,
    metrics: Callable[..., EpochMetrics],
    tmp_path: Path,
    objectives: tuple[Objective, ...],
) -> None:
    space = function_space(narrow)
    path = tmp_path / "study.db"
    of = ("accuracy", *objectives)
    database = Database(path, "mine", objectives=of)
    study = Study("mine", RandomSampler(seed=0), objectives=of, database=database)
    for trial in inherited([ended(n, n + 4, 0.5) for n in range(4)], space, *objectives):
        study.add(trial)
    trials = make_trials(space, study=study, limit=3)
    while not trials.is_finished:
        started = trials.next()
        if started is not None:
            trials.report(started.number, metrics(0.5))
            trials.finish(started.number)
    database.close()
    stored = read_trials(path, "mine")
    assert [trial.number for trial in stored] == list(range(len(stored)))
    for one, other in zip(stored, study.trials(), strict=True):
        assert (one.params, one.values, one.state) == (other.params, other.values, other.state)
        assert one.user_attrs == other.user_attrs
    assert ["inherited" in trial.user_attrs for trial in stored[:5]] == [True] * 4 + [False]
    for found in (stored, study.trials()):
        summary = summarise(found)
        assert summary.trained == 3
        assert all(not trial.is_inherited for trial in summary.leaderboard)


@pytest.mark.parametrize("objectives", [(), ("params",)])
def test_sampler_learns_from_inherited_trials(
    function_space: Spaces, objectives: tuple[Objective, ...]
) -> None:
    """The accuracy falls with the distance from eight features."""
    space = function_space(width_and_rate)
    earlier = [
        ended(n, 1 + n % 32, 0.9 - abs(1 + n % 32 - 8) / 32, state="COMPLETE") for n in range(64)
    ]
    fractions = {}
    for warm in (False, True):
        study = Study("mine", TPESampler(seed=1), objectives=("accuracy", *objectives))
        if warm:
            for trial in inherited(earlier, space, *objectives):
                study.add(trial)
        drawn = []
        for _ in range(10):  # Without inherited trials, TPE draws its first ten trials at random.
            trial = study.ask()
            drawn.append(trial.suggest_int("features", 1, 32))
            study.start(trial, {})
            study.report(trial.number, 1, 0.5)
            study.finish(trial.number, TrialState.COMPLETE, {}, costs=[1.0] * len(objectives))
        fractions[warm] = sum(features <= 12 for features in drawn) / len(drawn)
    assert fractions[True] > fractions[False]
    assert fractions[True] >= 0.7
    assert not math.isnan(fractions[False])
