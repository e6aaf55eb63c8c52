"""The trials of a search: drawing, rejecting, recording and ending them."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import BaseTrial, TrialState

from search.experiment.loading import parse_experiment
from search.experiment.training_spec import describe_training
from search.loop import candidates
from search.loop import trials as module
from search.study.database import Database
from search.study.records import TrialRecord
from search.study.savings import FEWEST
from search.study.storages import read_trials
from search.study.study import Study
from search.study.summary import summarise
from spaces.architecture import Architecture, Builder
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError
from spaces.operations import Convolution, GlobalPooling, Linear
from spaces.remedies import Truncated
from spaces.task import Task
from spaces.vgg import vgg
from tests.search.loop.trial_runs import MakeTrials, Spaces, Train, all_started, started_by
from trainables.epoch_metrics import EpochMetrics

# Drawing


def test_the_same_seed_draws_the_same_candidates(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train
) -> None:
    runs = []
    for accuracy in (0.1, 0.9):
        trials = make_trials(vgg_space(), limit=15, seed=3)
        found = all_started(trials, lambda n, t=trials, a=accuracy: train(t, n, a, a, a))
        runs.append([(trial.number, trial.params, trial.seed) for trial in found])
    assert runs[0] == runs[1]
    other = all_started(
        trials := make_trials(vgg_space(), limit=15, seed=4), lambda n: train(trials, n, 0.5)
    )
    assert [trial.params for trial in other] != [params for _, params, _ in runs[0]]


def test_a_started_trial_can_be_rebuilt_from_its_params(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train
) -> None:
    space = vgg_space()
    trials = make_trials(space, limit=10)
    for trial in all_started(trials, lambda n: train(trials, n, 0.5)):
        assert space.rebuild(trial.params) == trial.candidate
        stored = trials.study.trial(trial.number)
        assert stored.params == trial.params
        assert stored.user_attrs["digest"] == trial.candidate.digest
        assert stored.user_attrs["params"] == trial.costs.params
        assert stored.user_attrs["macs"] == trial.costs.macs
        assert stored.user_attrs["beyond"] == trial.border.beyond == 0


def test_tuples_as_choices_survive_the_database(
    make_trials: MakeTrials, function_space: Spaces, train: Train, tmp_path: Path
) -> None:
    def space(trial: BaseTrial, task: Task) -> Architecture:
        kernel, features = trial.suggest_categorical("layer", [(3, 4), (5, 2), (5, 7)])
        return vgg(trial, task, depth=1, features=features, kernel=kernel, pools=0)

    database = Database(tmp_path / "study.db", "test")
    study = Study("test", RandomSampler(seed=0), database=database)
    choices = function_space(space)
    trials = make_trials(choices, study=study, limit=3)
    started = all_started(trials, lambda n: train(trials, n, 0.5))
    database.close()
    stored = {trial.number: trial for trial in read_trials(tmp_path / "study.db", "test")}
    for trial in started:
        assert choices.rebuild(stored[trial.number].params, trial.digest) == trial.candidate


def test_a_candidate_that_is_drawn_differently_again_is_not_trained(
    make_trials: MakeTrials, function_space: Spaces
) -> None:
    numbers = itertools.count(1)

    def space(trial: BaseTrial, task: Task) -> Architecture:
        features = trial.suggest_int("features", 1, 8) + next(numbers)
        return vgg(trial, task, depth=1, features=features, kernel=3, pools=0)

    trials = make_trials(function_space(space))
    with pytest.raises(BadInputError, match="draws another network from the same parameters"):
        trials.next()
    assert not trials.has_unfinished


def test_a_candidate_has_one_training_seed_per_search_seed(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train
) -> None:
    seeds: dict[str, set[int]] = {}
    for border in ("off", "previous-conv"):
        trials = make_trials(vgg_space(), screens={"border": border}, limit=30, seed=7)
        for trial in all_started(trials, lambda n, t=trials: train(t, n, 0.5)):
            seeds.setdefault(trial.candidate.digest, set()).add(trial.seed)
    assert all(len(each) == 1 for each in seeds.values())
    assert len(set.union(*seeds.values())) == len(seeds)


def test_the_training_seed_depends_on_the_search_seed(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    runs = []
    for seed in (7, 8):
        trials = make_trials(eight_candidates, limit=8, seed=seed)
        found = all_started(trials, lambda n, t=trials: train(t, n, 0.5))
        runs.append({trial.candidate.digest: trial.seed for trial in found})
    first, second = runs
    assert set(first) == set(second)
    assert all(first[digest] != second[digest] for digest in first)


def test_the_border_screen_changes_only_what_is_trained(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train, recorder: Any
) -> None:
    screened = make_trials(vgg_space(), limit=20, seed=1, observers=[recorder])
    all_started(screened, lambda n: train(screened, n, 0.5))
    rejected = {
        screened.study.trial(number).user_attrs["digest"]
        for number, rejection in recorder.of("rejected")
        if rejection.reason == "border"
    }
    draws = len(screened.study.trials())
    free = make_trials(vgg_space(), screens={"border": "off"}, limit=draws, seed=1)
    found = all_started(free, lambda n: train(free, n, 0.5))
    assert len(rejected) >= 3
    assert rejected <= {trial.candidate.digest for trial in found}
    assert all(trial.border.beyond > 0 for trial in found if trial.candidate.digest in rejected)


# Rejections


def test_rejected_candidates_cost_no_trial(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train, recorder: Any
) -> None:
    trials = make_trials(vgg_space(depth=[1, 10]), limit=12, observers=[recorder])
    found = all_started(trials, lambda n: train(trials, n, 0.5))
    assert len(found) == 12
    rejections = dict(recorder.of("rejected"))
    assert len(rejections) >= 3
    for stored in trials.study.trials():
        if stored.number in rejections:
            rejection = rejections[stored.number]
            assert stored.state is TrialState.PRUNED
            assert stored.user_attrs["rejected"] == rejection.reason
            assert stored.user_attrs["detail"] == rejection.detail
            assert stored.constraints == {rejection.reason: rejection.violation}
            assert "beyond" not in stored.user_attrs
        else:
            assert not stored.constraints


def test_a_fully_rejected_space_is_exhausted_after_a_limit(
    make_trials: MakeTrials, vgg_space: Spaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "GIVE_UP_AFTER", 60)
    trials = make_trials(vgg_space(), screens={"max_params": 1}, limit=5)
    while not trials.is_finished:
        assert trials.next() is None
    assert trials.exhausted
    assert len(trials.study.trials()) == 60
    assert trials.next() is None
    assert len(trials.study.trials()) == 60
    assert not trials.has_unfinished


def test_drawing_yields_at_the_end_of_a_time_slice(
    make_trials: MakeTrials, vgg_space: Spaces, clock: SimpleNamespace
) -> None:
    trials = make_trials(vgg_space(), screens={"max_params": 1}, limit=5)
    clock.step = module.TIME_SLICE / 10
    assert trials.next() is None
    first = len(trials.study.trials())
    assert 1 <= first <= 12
    assert not trials.is_finished
    assert trials.next() is None
    assert first < len(trials.study.trials()) <= first + 12


def test_random_draws_replace_a_sampler_that_is_always_rejected(
    make_trials: MakeTrials, vgg_space: Spaces
) -> None:
    class Stubborn(RandomSampler):
        def sample_independent(self, study: Any, trial: Any, name: str, dist: Any) -> Any:
            if isinstance(dist, optuna.distributions.CategoricalDistribution):
                return dist.choices[-1]
            return dist.high

    study = Study("stubborn", Stubborn(), seed=0)
    trials = make_trials(vgg_space(depth=[1, 10]), study=study, limit=1)
    started = started_by(trials)
    assert started.border.beyond == 0
    assert candidates.EXPLORE_AFTER <= started.number < candidates.EXPLORE_AFTER + 100


# What the study stores of a trial


def test_a_truncated_trial_keeps_its_params_and_trains_the_twin(
    make_trials: MakeTrials, train: Train
) -> None:
    screens = {"border": "truncate", "allow_beyond": 1}
    options = {"depth": [1, 9], "features": 4, "kernel": 3, "pools": 0}
    recipe = {"learning_rate": 0.1, "weight_decay": 1e-4, "batch_size": 16}
    spec = describe_training(
        parse_experiment(
            {
                "name": "cut",
                "screens": screens,
                "recipe": recipe,
                "space": {"name": "vgg"} | options,
            }
        ),
        Task(1, 8, 8, 10),
    )
    trials = make_trials(spec.candidates(), screens=screens, limit=20, epochs=1)
    found = all_started(trials, lambda n: train(trials, n, 0.5))
    # Six of the nine depths have at most one convolution beyond the border layer, the fifth.
    assert len(found) == 6
    (cut,) = [trial for trial in found if trial.candidate.truncated]
    assert cut.params["depth"] > 6
    assert cut.candidate.truncated == Truncated(cut.params["depth"], 6)
    record = TrialRecord.of(trials.study.trial(cut.number))
    assert (record.truncated, record.digest) == (cut.candidate.truncated, cut.candidate.digest)
    assert record.params == cut.params
    assert record.macs == cut.costs.macs == cut.candidate.costs.macs
    assert cut.border.beyond == 1
    # A worker rebuilds the twin, from a spec that travelled to it.
    there = pickle.loads(pickle.dumps(spec)).candidates()  # noqa: S301 - written here
    assert there.rebuild(cut.params, cut.digest) == cut.candidate
    assert trials.rebuild(trials.study.trial(cut.number)).candidate == cut.candidate
    # All deeper networks have the same twin.
    every = [TrialRecord.of(trial) for trial in trials.study.trials()]
    deeper = [each for each in every if each.params.get("depth", 0) >= 6]
    duplicates = [each.rejected_for for each in deeper if each.is_rejected]
    assert duplicates == ["duplicate"] * (len(deeper) - 1)
    assert summarise(trials.study.trials()).truncated == 1


def test_a_rejection_stores_the_time_that_it_saves_once(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train
) -> None:
    def stored(trials: module.Trials) -> dict[int, tuple[float | None, float | None]]:
        records = [TrialRecord.of(trial) for trial in trials.study.trials()]
        rejected = [each for each in records if each.is_rejected and each.duplicate_of is None]
        return {each.number: (each.saved_low, each.saved_high) for each in rejected}

    trials = make_trials(vgg_space(), limit=12)
    ended: list[int] = []
    for _ in all_started(trials, lambda n: (train(trials, n, 0.5), ended.append(n))):
        pass
    first = stored(trials)
    early = [number for number in first if number < ended[FEWEST - 1]]
    late = [number for number in first if number > ended[FEWEST - 1]]
    assert early
    assert late
    assert all(first[number] == (None, None) for number in early)
    assert all((first[number][0] or 0) > 0 for number in late)
    assert any(first[number][1] is not None for number in late)
    # A later driver goes on, and changes nothing.
    later = make_trials(vgg_space(), study=trials.study, limit=20, seed=1)
    for _ in all_started(later, lambda n: train(later, n, 0.5, 0.6, 0.7)):
        pass
    again = stored(later)
    assert {number: again[number] for number in first} == first
    assert all(low is not None for number, (low, _) in again.items() if number > max(first))


@pytest.mark.parametrize(
    ("accuracies", "cause", "state", "value"),
    [
        ((0.5, 0.6, 0.7), "", TrialState.COMPLETE, 0.7),
        ((0.5, 0.6), "", TrialState.PRUNED, 0.6),
        ((0.5,), "", TrialState.PRUNED, 0.5),
        ((), "", TrialState.FAIL, None),
        ((), "out of memory", TrialState.FAIL, None),
        ((0.5, 0.6), "out of memory", TrialState.FAIL, None),
        ((0.5, 0.6, 0.7), "out of memory", TrialState.FAIL, None),
        ((0.5, math.nan), "", TrialState.FAIL, None),
    ],
)
def test_a_trial_is_complete_only_after_its_last_epoch(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    train: Train,
    recorder: Any,
    accuracies: tuple[float, ...],
    cause: str,
    state: TrialState,
    value: float | None,
) -> None:
    trials = make_trials(eight_candidates, epochs=3, observers=[recorder])
    number = started_by(trials).number
    train(trials, number, *accuracies, cause=cause)
    stored = trials.study.trial(number)
    assert (stored.state, stored.value) == (state, value)
    assert stored.user_attrs["epochs"] == len(accuracies)
    assert stored.user_attrs["seconds"] == len(accuracies)
    assert stored.user_attrs.get("cause", "") == cause
    ((told, told_state, told_cause),) = recorder.of("finished")
    assert (told, told_state) == (number, state)
    assert bool(told_cause) == (state is TrialState.FAIL)
    if cause:
        assert told_cause == cause


@pytest.mark.parametrize("loss", ["train_loss", "validation_loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_fails_the_trial(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    recorder: Any,
    loss: str,
    value: float,
) -> None:
    trials = make_trials(eight_candidates, epochs=2, observers=[recorder])
    number = started_by(trials).number
    trials.report(number, metrics(0.5))
    trials.report(number, replace(metrics(0.5, 2), **{loss: value}))
    trials.finish(number)
    assert trials.study.trial(number).state is TrialState.FAIL
    assert recorder.of("finished") == [(number, TrialState.FAIL, "the loss is no longer a number")]


def test_repeated_or_late_epochs_are_ignored(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    recorder: Any,
) -> None:
    trials = make_trials(eight_candidates, epochs=3, observers=[recorder])
    number = started_by(trials).number
    for epoch, accuracy in ((1, 0.5), (1, 0.9), (2, 0.6), (1, 0.9), (2, 0.1), (3, 0.7), (3, 0.2)):
        trials.report(number, metrics(accuracy, epoch, seconds=2.0))
    trials.finish(number)
    stored = trials.study.trial(number)
    assert stored.intermediate_values == {1: 0.5, 2: 0.6, 3: 0.7}
    assert (stored.state, stored.value) == (TrialState.COMPLETE, 0.7)
    assert (stored.user_attrs["seconds"], stored.user_attrs["epochs"]) == (6.0, 3)
    assert stored.user_attrs["train_accuracy"] == 0.7
    assert [(n, metrics.epoch) for n, metrics in recorder.of("reported")] == [
        (number, 1),
        (number, 2),
        (number, 3),
    ]


def test_the_sampler_is_told_of_every_trial_that_ends() -> None:
    told: list[tuple[int, TrialState]] = []

    class Listening(RandomSampler):
        def after_trial(self, study: Any, trial: Any, state: TrialState, values: Any) -> None:
            told.append((trial.number, state))

    sampler: BaseSampler = Listening(seed=0)
    study = Study("listening", sampler)
    study.reject(study.ask(), "border", 1.0, {})
    study.start(study.ask(), {})
    study.report(1, 1, 0.5)
    study.finish(1, TrialState.COMPLETE, {})
    assert told == [(0, TrialState.PRUNED), (1, TrialState.COMPLETE)]


# Spaces that fail in the middle of a search


def test_a_space_that_fails_during_the_search_is_refused(
    make_trials: MakeTrials, function_space: Spaces
) -> None:
    def space(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
        features = trial.suggest_int("features", 1, 100)
        if features > 70:
            raise RuntimeError("too many")
        builder = Builder(task.image_shape)
        x = builder.add(GlobalPooling(), builder.add(Convolution(features), builder.image))
        builder.add(Linear(task.classes if features > 30 else 3), x)
        return builder.build()

    problems = set()
    for seed in range(12):
        trials = make_trials(function_space(space), limit=100, seed=seed)
        with pytest.raises(BadInputError) as caught:
            all_started(trials, trials.finish)
        assert caught.value.field == "space"
        problems.add(caught.value.problem.split(":")[0].split(" in ")[0])
    assert problems == {"the space function raised RuntimeError", "its networks end"}
