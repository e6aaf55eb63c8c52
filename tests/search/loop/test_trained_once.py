"""No candidate of a search is trained twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from optuna.trial import TrialState

from search.loop import candidates
from spaces.candidate import CandidateSpace
from tests.search.loop.trial_runs import MakeTrials, Train, all_started, started_by


def test_a_search_ends_when_every_candidate_is_trained_once(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(candidates, "GIVE_UP_AFTER", 200)
    trials = make_trials(eight_candidates, limit=20)
    found = all_started(trials, lambda n: train(trials, n, 0.5, 0.6, 0.7))
    assert len(found) == 8
    assert len({trial.candidate.digest for trial in found}) == 8
    assert trials.exhausted


@pytest.mark.parametrize(
    ("accuracies", "state", "value"),
    [((0.5, 0.6, 0.7), TrialState.COMPLETE, 0.7), ((0.2, 0.4), TrialState.PRUNED, None)],
)
def test_a_duplicate_is_told_the_result_of_its_original(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    train: Train,
    recorder: Any,
    accuracies: tuple[float, ...],
    state: TrialState,
    value: float | None,
) -> None:
    trials = make_trials(eight_candidates, limit=8, observers=[recorder])
    found = all_started(trials, lambda n: train(trials, n, *accuracies))
    numbers = {trial.candidate.digest: trial.number for trial in found}
    duplicates = recorder.of("rejected")
    assert duplicates
    for number, rejection in duplicates:
        assert rejection.reason == "duplicate"
        stored = trials.study.trial(number)
        original = numbers[stored.user_attrs["digest"]] if "digest" in stored.user_attrs else None
        original = stored.user_attrs["duplicate_of"] if original is None else original
        assert stored.user_attrs["duplicate_of"] == original < number
        assert stored.params == trials.study.trial(original).params
        assert stored.state is state
        assert stored.value == value
        assert stored.intermediate_values == dict(enumerate(accuracies, start=1))
        # An infeasible duplicate would drive the sampler away from a good candidate.
        assert not stored.constraints


def test_a_duplicate_of_a_running_trial_fails(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, recorder: Any
) -> None:
    trials = make_trials(eight_candidates, limit=8, observers=[recorder])
    while not trials.is_finished:
        trials.next()
    duplicates = recorder.of("rejected")
    assert duplicates
    for number, _ in duplicates:
        assert trials.study.trial(number).state is TrialState.FAIL
        assert trials.study.trial(number).value is None
    assert all(
        trials.study.trial(number).state is TrialState.RUNNING
        for number, _ in recorder.of("started")
    )


def test_a_failed_candidate_may_be_tried_again(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    trials = make_trials(eight_candidates, limit=40)
    failing = started_by(trials)
    train(trials, failing.number, 0.5, cause="the machine went away")
    seen = Counter[str]()
    while not seen[failing.candidate.digest]:
        again = started_by(trials)
        seen[again.candidate.digest] += 1
        train(trials, again.number, 0.5, 0.6, 0.7)
    assert set(seen.values()) == {1}
    assert again.seed == failing.seed


def test_duplicates_are_trained_when_their_screen_is_off(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    trials = make_trials(eight_candidates, screens={"duplicates": False}, limit=20)
    found = all_started(trials, lambda n: train(trials, n, 0.5))
    assert [trial.number for trial in found] == list(range(20))
