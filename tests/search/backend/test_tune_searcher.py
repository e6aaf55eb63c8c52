"""The searcher: calls from Ray Tune, and their effect on the study."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from search.backend.tune_scheduler import StudyScheduler
from search.backend.tune_searcher import StudySearcher, last_line
from search.loop.asha import Asha
from search.loop.trials import Trials
from search.study.database import Database
from search.study.study import Study
from spaces.architecture import Architecture
from spaces.candidate import Candidate, CandidateSpace
from spaces.errors import BadInputError
from spaces.task import Task
from spaces.vgg import vgg
from trainables.data import NodeDataError
from trainables.epoch_metrics import FAILURE, HISTORY, NODE_DATA, STOPPED, VIOLATION, EpochMetrics

MakeTrials = Callable[..., Trials]
Result = Callable[..., dict[str, Any]]


@pytest.fixture
def trials(make_trials: MakeTrials, eight_candidates: CandidateSpace, recorder: Any) -> Trials:
    return make_trials(eight_candidates, limit=3, epochs=3, observers=[recorder])


@pytest.fixture
def result(metrics: Callable[..., EpochMetrics]) -> Result:
    """Return a function that makes a result with the fields that Tune adds."""

    def make(epoch: int, accuracy: float, **more: Any) -> dict[str, Any]:
        tune = {"training_iteration": epoch, "trial_id": "a", "done": False, "config/seed": 3}
        return metrics(accuracy, epoch).as_dict() | tune | more

    return make


def test_suggestion_holds_only_what_a_worker_needs(trials: Trials) -> None:
    config = StudySearcher(trials).suggest("a")
    assert set(config) == {"number", "params", "digest", "seed", "gpus"}
    assert trials.study.trial(config["number"]).params == config["params"]
    assert trials.study.trial(config["number"]).state is TrialState.RUNNING
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301


def test_suggestion_requests_the_gpu_fraction_of_its_candidate(trials: Trials) -> None:
    gpu_fractions = iter((0.25, 1.0))
    asked = []

    def gpu_fraction(candidate: Candidate) -> float:
        asked.append(candidate)
        return next(gpu_fractions)

    searcher = StudySearcher(trials, gpu_fraction)
    assert [searcher.suggest(name)["gpus"] for name in "ab"] == [0.25, 1.0]
    assert asked == [trials.rebuild(trial).candidate for trial in trials.study.trials()]


def test_suggestion_without_gpus_requests_none(trials: Trials) -> None:
    assert StudySearcher(trials).suggest("a")["gpus"] == 0


def test_study_receives_results_epoch_by_epoch(trials: Trials, result: Result) -> None:
    searcher = StudySearcher(trials)
    number = searcher.suggest("a")["number"]
    searcher.on_trial_result("a", result(1, 0.5))
    searcher.on_trial_result("a", result(2, 0.6))
    assert trials.study.trial(number).intermediate_values == {1: 0.5, 2: 0.6}
    # Tune passes the last result only here.
    searcher.on_trial_complete("a", result(3, 0.7, done=True))
    stored = trials.study.trial(number)
    assert (stored.state, stored.value) == (TrialState.COMPLETE, 0.7)
    assert stored.intermediate_values == {1: 0.5, 2: 0.6, 3: 0.7}


def test_repeated_result_counts_once(trials: Trials, result: Result, recorder: Any) -> None:
    searcher = StudySearcher(trials)
    number = searcher.suggest("a")["number"]
    for epoch, accuracy in ((1, 0.5), (2, 0.6), (3, 0.7)):
        searcher.on_trial_result("a", result(epoch, accuracy))
    searcher.on_trial_complete("a", result(3, 0.7, done=True))
    assert len(recorder.of("reported")) == 3
    assert trials.study.trial(number).user_attrs["seconds"] == 3.0


def test_unwritable_checkpoints_cause_one_warning(trials: Trials, result: Result) -> None:
    said: list[str] = []
    searcher = StudySearcher(trials, say=said.append)
    number = searcher.suggest("a")["number"]
    for epoch in (1, 2):
        searcher.on_trial_result("a", result(epoch, 0.5, unkept="No space left on device"))
    (line,) = said
    assert line.startswith(
        "checkpoints cannot be written (No space left on device); trials continue"
    )
    assert trials.study.trial(number).intermediate_values == {1: 0.5, 2: 0.5}


def test_trial_stopped_by_scheduler_is_pruned_at_last_result(
    trials: Trials, result: Result
) -> None:
    searcher = StudySearcher(trials)
    number = searcher.suggest("a")["number"]
    searcher.on_trial_complete("a", result(1, 0.2))
    stored = trials.study.trial(number)
    assert (stored.state, stored.value) == (TrialState.PRUNED, 0.2)
    assert stored.intermediate_values == {1: 0.2}


def test_trial_with_lost_process_fails(trials: Trials, result: Result, recorder: Any) -> None:
    searcher = StudySearcher(trials)
    first, second = (searcher.suggest(name)["number"] for name in "ab")
    searcher.on_trial_complete("a", None, error=True)
    searcher.on_trial_result("b", result(1, 0.5))
    searcher.on_trial_complete("b", result(1, 0.5), error=True)
    for number in (first, second):
        assert trials.study.trial(number).state is TrialState.FAIL
        assert "process" in trials.study.trial(number).user_attrs["cause"]
    assert trials.study.trial(second).intermediate_values == {1: 0.5}
    assert [number for number, _, _ in recorder.of("finished")] == [first, second]


def test_reported_failure_becomes_the_cause(trials: Trials, result: Result) -> None:
    searcher = StudySearcher(trials)
    number = searcher.suggest("a")["number"]
    searcher.on_trial_result("a", result(1, 0.5))
    # The trainable returns this in place of an epoch.
    failed = {FAILURE: "out of memory", "validation_accuracy": math.nan, "done": True}
    searcher.on_trial_result("a", failed)
    searcher.on_trial_complete("a", failed)
    stored = trials.study.trial(number)
    assert (stored.state, stored.user_attrs["cause"]) == (TrialState.FAIL, "out of memory")
    assert stored.intermediate_values == {1: 0.5}


def test_out_of_memory_trial_is_infeasible_by_its_violation(
    trials: Trials, result: Result, recorder: Any
) -> None:
    searcher = StudySearcher(trials)
    number = searcher.suggest("a")["number"]
    searcher.on_trial_result("a", result(1, 0.5))
    failed = {
        FAILURE: "out of memory",
        VIOLATION: 0.5,
        "validation_accuracy": math.nan,
        "done": True,
    }
    searcher.on_trial_result("a", failed)
    searcher.on_trial_complete("a", failed)
    stored = trials.study.trial(number)
    assert (stored.state, stored.constraints) == (TrialState.PRUNED, {"memory": 0.5})
    assert recorder.of("finished") == [(number, TrialState.FAIL, "out of memory")]


def test_lost_process_sets_no_memory_constraint(trials: Trials, recorder: Any) -> None:
    searcher = StudySearcher(trials)
    number = searcher.suggest("a")["number"]
    failed = {FAILURE: "out of memory", VIOLATION: 0.5, "validation_accuracy": math.nan}
    searcher.on_trial_complete("a", failed, error=True)
    stored = trials.study.trial(number)
    assert (stored.state, stored.constraints) == (TrialState.FAIL, {})


def test_self_stopped_trial_is_pruned_with_its_reason(trials: Trials, result: Result) -> None:
    searcher = StudySearcher(trials)
    number = searcher.suggest("a")["number"]
    searcher.on_trial_complete("a", result(2, 0.1, done=True, **{STOPPED: "hopeless"}))
    stored = trials.study.trial(number)
    assert (stored.state, stored.value) == (TrialState.PRUNED, 0.1)
    assert stored.user_attrs["stopped"] == "hopeless"


def test_measured_latencies_are_reported_as_metrics(
    trials: Trials, result: Result, recorder: Any
) -> None:
    searcher = StudySearcher(trials)
    searcher.suggest("a")
    searcher.on_trial_result("a", result(1, 0.5))
    searcher.on_trial_result("a", result(2, 0.5, latency_ms=0.4, batch_latency_ms=9))
    first, second = (metrics.values for _, metrics in recorder.of("reported"))
    assert set(second) - set(first) == {"latency_ms", "batch_latency_ms"}
    assert (second["latency_ms"], second["batch_latency_ms"]) == (0.4, 9.0)


def test_trial_without_any_result_fails(trials: Trials) -> None:
    searcher = StudySearcher(trials)
    number = searcher.suggest("a")["number"]
    searcher.on_trial_complete("a", None)
    assert trials.study.trial(number).state is TrialState.FAIL


def test_concurrent_trials_do_not_mix_results(trials: Trials, result: Result) -> None:
    searcher = StudySearcher(trials)
    numbers = {name: searcher.suggest(name)["number"] for name in "abc"}
    for epoch in (1, 2):
        for name, accuracy in (("a", 0.1), ("b", 0.2), ("c", 0.3)):
            searcher.on_trial_result(name, result(epoch, accuracy * epoch))
    searcher.on_trial_complete("b", result(3, 0.9))
    found = {name: trials.study.trial(number) for name, number in numbers.items()}
    assert found["a"].intermediate_values == {1: 0.1, 2: 0.2}
    assert found["b"].value == 0.9
    assert found["c"].intermediate_values == {1: 0.3, 2: 0.6}
    assert [found[name].state.name for name in "abc"] == ["RUNNING", "COMPLETE", "RUNNING"]


def test_searcher_finishes_when_its_budget_is_spent(trials: Trials, result: Result) -> None:
    searcher = StudySearcher(trials)
    assert all(isinstance(searcher.suggest(name), dict) for name in "abc")
    # Each running trial may have to restart.
    assert searcher.suggest("d") is None
    for name in "abc":
        searcher.on_trial_complete(name, result(3, 0.5))
    assert searcher.suggest("d") == Searcher.FINISHED


def test_time_slice_without_candidate_does_not_finish(
    make_trials: MakeTrials,
    vgg_space: Callable[..., CandidateSpace],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("search.loop.trials.TIME_SLICE", 0.0)
    monkeypatch.setattr("search.loop.candidates.GIVE_UP_AFTER", 3)
    searcher = StudySearcher(make_trials(vgg_space(), screens={"max_params": 1}))
    assert [searcher.suggest("a") for _ in range(4)] == [
        None,
        None,
        Searcher.FINISHED,
        Searcher.FINISHED,
    ]


def test_exception_in_space_finishes_searcher_and_is_stored(
    make_trials: MakeTrials, function_space: Callable[..., CandidateSpace], result: Result
) -> None:
    drawn: list[int] = []

    def space(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
        drawn.append(trial.suggest_int("features", 1, 8))
        if drawn[-1] == 5:
            raise RuntimeError("second thoughts")
        return vgg(trial, task, depth=1, features=drawn[-1], kernel=3, pools=0)

    study = Study("test", RandomSampler(seed=0))
    for features in (3, 5, 7):
        study.enqueue({"features": features})
    trials = make_trials(function_space(space), study=study, limit=5)
    searcher = StudySearcher(trials)
    running = searcher.suggest("a")["number"]
    assert searcher.suggest("b") == Searcher.FINISHED
    assert isinstance(searcher.error, BadInputError)
    assert "second thoughts" in str(searcher.error)
    # No candidate is drawn; running trials pause after their epoch.
    assert searcher.suggest("c") == Searcher.FINISHED
    assert set(drawn) == {3, 5}
    assert not searcher.should_continue("a", result(2, 0.5))
    searcher.on_trial_complete("a", result(2, 0.5))
    assert trials.has_unfinished
    assert trials.study.trial(running).state is TrialState.RUNNING
    assert trials.study.trial(running).intermediate_values == {2: 0.5}


# Decisions after an epoch


def test_other_images_on_a_node_end_the_search_and_keep_the_trial(trials: Trials) -> None:
    searcher = StudySearcher(trials)
    number = searcher.suggest("a")["number"]
    error = NodeDataError("data", "images:x", "the node gpu-3 has others", "copy them")
    searcher.on_trial_complete("a", {FAILURE: str(error), NODE_DATA: error.args})
    assert str(searcher.error) == "data = images:x: the node gpu-3 has others; copy them"
    assert searcher.is_stopping()
    assert searcher.suggest("b") == Searcher.FINISHED
    assert not trials.study.trial(number).state.is_finished()


def test_running_trial_is_paused_when_the_search_stops(
    trials: Trials, result: Result, recorder: Any
) -> None:
    searcher = StudySearcher(trials)
    number = searcher.suggest("a")["number"]
    assert searcher.should_continue("a", result(1, 0.5))
    trials.stop("interrupted")
    assert searcher.suggest("b") == Searcher.FINISHED
    assert not searcher.should_continue("a", result(2, 0.6))
    searcher.on_trial_complete("a", result(2, 0.6, done=True))
    assert trials.study.trial(number).state is TrialState.WAITING
    assert trials.study.trial(number).intermediate_values == {1: 0.5, 2: 0.6}
    assert recorder.of("paused") == [(number,)]
    assert recorder.of("finished") == []


def test_trial_ending_in_the_stopping_epoch_is_finished(
    trials: Trials, result: Result, recorder: Any
) -> None:
    searcher = StudySearcher(trials)
    whole, failed, hopeless = (searcher.suggest(name)["number"] for name in "abc")
    trials.stop("interrupted")
    ends = {
        "a": result(3, 0.7, done=True),
        "b": {FAILURE: "out of memory", "validation_accuracy": math.nan, "done": True},
        "c": result(1, 0.1, done=True, **{STOPPED: "hopeless"}),
    }
    for name, last in ends.items():
        assert searcher.should_continue(name, last)
        searcher.on_trial_complete(name, last)
    assert {number: state.name for number, state, _ in recorder.of("finished")} == {
        whole: "COMPLETE",
        failed: "FAIL",
        hopeless: "PRUNED",
    }
    assert not trials.has_unfinished


def test_first_report_after_restart_adds_missing_epochs(
    trials: Trials, result: Result, recorder: Any
) -> None:
    searcher = StudySearcher(trials)
    number = searcher.suggest("a")["number"]
    searcher.on_trial_result("a", result(1, 0.5))
    before = [result(1, 0.5), result(2, 0.6)]
    assert searcher.should_continue("a", result(3, 0.7, **{HISTORY: before}))
    searcher.on_trial_complete("a", result(3, 0.7, done=True, **{HISTORY: before}))
    assert [metrics.epoch for _, metrics in recorder.of("reported")] == [1, 2, 3]
    stored = trials.study.trial(number)
    assert (stored.state, stored.intermediate_values) == (
        TrialState.COMPLETE,
        {1: 0.5, 2: 0.6, 3: 0.7},
    )


def test_cause_names_the_last_process_failure(trials: Trials, result: Result) -> None:
    searcher = StudySearcher(trials)
    number = searcher.suggest("a")["number"]
    searcher.record_failure("a", "the node died")
    searcher.on_trial_complete("a", None, error=True)
    cause = trials.study.trial(number).user_attrs["cause"]
    assert cause == "its process failed repeatedly: the node died"


def test_trial_that_tune_drops_restarts_if_retries_remain(
    trials: Trials, result: Result, recorder: Any
) -> None:
    searcher = StudySearcher(trials, retries=1)
    first, other, last = (searcher.suggest(name) for name in "abc")
    searcher.on_trial_result("a", result(1, 0.2))
    searcher.record_failure("a", "the process died", early=True)
    searcher.on_trial_complete("a", None, error=True)
    assert trials.study.trial(first["number"]).state is TrialState.RUNNING
    assert not recorder.of("finished")
    assert searcher.suggest("d") == first
    assert [trials.study.trial(n["number"]).state.name for n in (other, last)] == ["RUNNING"] * 2
    # The study does not record the reported epoch twice.
    searcher.on_trial_result("d", result(1, 0.2))
    searcher.on_trial_result("d", result(2, 0.4))
    assert trials.study.trial(first["number"]).intermediate_values == {1: 0.2, 2: 0.4}
    searcher.record_failure("d", "the process died", early=True)
    searcher.on_trial_complete("d", None, error=True)
    assert trials.study.trial(first["number"]).state is TrialState.FAIL


def test_final_failure_after_early_loss_fails_the_trial(trials: Trials) -> None:
    said: list[str] = []
    searcher = StudySearcher(trials, retries=3, say=said.append)
    number = searcher.suggest("a")["number"]
    searcher.record_failure("a", "lost", early=True)
    assert said == [f"trial {number} lost its process and restarts: lost"]
    searcher.record_failure("a", "lost for good")
    searcher.on_trial_complete("a", None, error=True)
    assert trials.study.trial(number).user_attrs["cause"].endswith("lost for good")
    assert len(said) == 1


def test_scheduler_stops_trials_that_asha_stops(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, result: Result, recorder: Any
) -> None:
    trials = make_trials(eight_candidates, epochs=4, asha=Asha(4, 1, 2), observers=[recorder])
    searcher = StudySearcher(trials)
    scheduler = StudyScheduler(searcher)
    good, bad = (searcher.suggest(name)["number"] for name in "ab")
    decisions = [
        scheduler.on_trial_result(None, SimpleNamespace(trial_id=name), result(1, accuracy))
        for name, accuracy in (("a", 0.9), ("b", 0.1))
    ]
    assert decisions == [TrialScheduler.CONTINUE, TrialScheduler.STOP]
    searcher.on_trial_complete("b", result(1, 0.1, done=True))
    assert recorder.of("finished") == [(bad, TrialState.PRUNED, "")]
    assert trials.study.trial(good).state is TrialState.RUNNING


def test_recording_error_stops_trials_without_finishing_them(
    trials: Trials, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = StudySearcher(trials)
    number = searcher.suggest("a")["number"]

    def full(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(trials.study, "report", full)
        assert not searcher.should_continue("a", result(1, 0.5))
    searcher.on_trial_complete("a", result(1, 0.5, done=True))
    assert isinstance(searcher.error, OSError)
    assert searcher.suggest("b") == Searcher.FINISHED
    assert trials.study.trial(number).state is TrialState.RUNNING


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("one\n\n  two  \n"), "two"),
        (RuntimeError(""), "RuntimeError"),
        (None, "its process is gone"),
        (
            RuntimeError("it died. End of file. Some common causes include: (1) a killer, (2) .."),
            "it died. End of file.",
        ),
    ],
)
def test_process_error_is_reduced_to_its_last_line(error: Exception | None, line: str) -> None:
    assert last_line(SimpleNamespace(get_error=lambda: error)) == line


def test_searcher_pickles_without_its_study(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, tmp_path: Path
) -> None:
    database = Database(tmp_path / "study.db", "mine")
    study = Study("mine", RandomSampler(seed=0), database=database)
    trials = make_trials(eight_candidates, study=study)
    searcher = StudySearcher(trials)
    searcher.suggest("a")
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        pickle.dumps(trials)
    copy = pickle.loads(pickle.dumps(searcher))  # noqa: S301
    assert (copy.metric, copy.mode) == ("validation_accuracy", "max")
    before = sorted(tmp_path.iterdir())
    searcher.save_to_dir(str(tmp_path))
    searcher.save(str(tmp_path / "snapshot"))
    assert sorted(tmp_path.iterdir()) == before
    database.close()


def test_restoring_a_snapshot_of_tune_is_refused(trials: Trials) -> None:
    with pytest.raises(RuntimeError, match="resumed from its study"):
        StudySearcher(trials).restore("snapshot")
