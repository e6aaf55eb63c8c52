"""What the sampler is told of trials that ran out of memory or stopped themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState

from search.loop.failure_policy import HOPELESS_AFTER
from search.study.database import Database
from search.study.storages import read_trials
from search.study.study import Study
from spaces.candidate import CandidateSpace
from tests.search.loop.trial_runs import (
    OUT_OF_MEMORY,
    MakeTrials,
    Spaces,
    Train,
    all_started,
    any_width,
    started_by,
)

# Out of memory


def test_out_of_memory_trial_is_infeasible_for_sampler(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    train: Train,
    recorder: Any,
    tmp_path: Path,
) -> None:
    database = Database(tmp_path / "study.db", "mine")
    study = Study("mine", RandomSampler(seed=0), database=database)
    trials = make_trials(eight_candidates, study=study, observers=[recorder])
    number = started_by(trials).number
    train(trials, number, cause=OUT_OF_MEMORY, violation=0.5)
    database.close()
    assert recorder.of("finished") == [(number, TrialState.FAIL, OUT_OF_MEMORY)]
    for stored in (study.trial(number), read_trials(tmp_path / "study.db", "mine")[number]):
        assert (stored.state, stored.constraints) == (TrialState.PRUNED, {"memory": 0.5})
        assert stored.user_attrs["cause"] == OUT_OF_MEMORY


def test_out_of_memory_trials_do_not_end_a_search(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train
) -> None:
    trials = make_trials(vgg_space(), limit=12)
    all_started(trials, lambda n: train(trials, n, cause=OUT_OF_MEMORY, violation=0.5))
    assert len(trials.study.trials()) >= 12
    assert not trials.hopeless


def test_out_of_memory_trials_do_not_hide_other_failures(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train
) -> None:
    trials = make_trials(vgg_space(), limit=20)
    endings = iter([0.5, 0.0] * 10)
    found = all_started(
        trials, lambda n: train(trials, n, cause="no such device", violation=next(endings))
    )
    assert trials.hopeless == "no such device"
    assert len(found) == 2 * HOPELESS_AFTER


def test_an_out_of_memory_candidate_is_not_tried_again(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train, recorder: Any
) -> None:
    trials = make_trials(eight_candidates, limit=8, observers=[recorder])
    found = all_started(trials, lambda n: train(trials, n, cause=OUT_OF_MEMORY, violation=0.5))
    assert len({trial.candidate.digest for trial in found}) == 8
    duplicates = [trials.study.trial(number) for number, _ in recorder.of("rejected")]
    assert duplicates
    for stored in duplicates:
        assert (stored.state, stored.constraints) == (TrialState.PRUNED, {"memory": 0.5})


def test_the_sampler_avoids_candidates_without_enough_memory(
    make_trials: MakeTrials, train: Train, function_space: Spaces
) -> None:
    """Wider networks are better, but only a quarter of the widths fits.

    Told as failures, which samplers ignore, the others would be drawn ever more often.
    """
    fitting = {}
    for told in (False, True):
        study = Study("memory", TPESampler(seed=0))
        trials = make_trials(
            function_space(any_width),
            study=study,
            limit=60,
            epochs=1,
            screens={"duplicates": False},
        )
        train(trials, started_by(trials).number, 0.1)
        fits = []
        for _ in range(59):
            started = started_by(trials)
            excess = started.params["features"] / 8 - 1
            fits.append(excess <= 0)
            if excess <= 0:
                train(trials, started.number, started.params["features"] / 10)
            else:
                violation = excess if told else 0.0
                train(trials, started.number, cause=OUT_OF_MEMORY, violation=violation)
        fitting[told] = sum(fits[-30:]) / 30
    assert fitting[False] <= 0.25
    assert fitting[True] >= 0.4


# Trials that stop themselves


def test_a_trial_that_stops_itself_is_pruned_with_its_reason(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train, recorder: Any
) -> None:
    trials = make_trials(eight_candidates, epochs=3, observers=[recorder])
    number = started_by(trials).number
    train(trials, number, 0.1, 0.12, stopped="no better than a guess")
    stored = trials.study.trial(number)
    assert (stored.state, stored.value) == (TrialState.PRUNED, 0.12)
    assert stored.user_attrs["stopped"] == "no better than a guess"
    assert not stored.constraints
    assert recorder.of("finished") == [(number, TrialState.PRUNED, "no better than a guess")]
