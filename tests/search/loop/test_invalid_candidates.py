"""Draws that describe no network are rejected, and the sampler learns from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from rich.console import Console

from search.experiment.schema import Experiment
from search.experiment.sections import ScreensSection
from search.loop.preflight import Prepared, check_space
from search.loop.screens import build_screens
from search.loop.trials import Trials
from search.reporting.screening import screen_space
from search.study.study import Study
from spaces.architecture import Architecture
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError, InvalidCandidateError
from trainables.data import Dataset

MakeTrials = Callable[..., Trials]
Spaces = Callable[..., CandidateSpace]

SKEW_NORMAL = {"amounts": "skew-normal", "total_features": 200, "depth": 4}


def run(trials: Trials, train: Callable[..., None]) -> None:
    while not trials.is_finished:
        started = trials.next()
        if started is not None:
            train(trials, started.number, 0.5, 0.6, 0.7)


def test_an_invalid_draw_is_rejected_and_costs_no_trial(
    vgg_space: Spaces, make_trials: MakeTrials, train: Callable[..., None], recorder: Any
) -> None:
    trials = make_trials(vgg_space(**SKEW_NORMAL), limit=5, observers=(recorder,))
    run(trials, train)

    assert len(recorder.of("started")) == 5
    invalid = {n: r for n, r in recorder.of("rejected") if r.reason == "invalid"}
    assert len(invalid) > 5
    for number, rejection in invalid.items():
        stored = trials.study.trial(number)
        assert stored.state is TrialState.PRUNED
        assert stored.user_attrs["rejected"] == "invalid"
        assert stored.user_attrs["detail"] == rejection.detail
        assert "skew-normal" in rejection.detail
        assert rejection.violation > 0
        assert rejection.violation in stored.constraints.values()
        assert {"location", "scale", "skew"} <= set(stored.params)


def test_a_sampler_learns_to_draw_valid_distributions(
    vgg_space: Spaces, make_trials: MakeTrials, train: Callable[..., None], recorder: Any
) -> None:
    study = Study("test", TPESampler(seed=1))
    space = vgg_space(**SKEW_NORMAL, location=[0, 4], scale=[0.1, 4], pools=0, kernel=3)
    run(make_trials(space, limit=60, study=study, observers=(recorder,)), train)

    outcomes = [e[0] == "started" for e in recorder.events if e[0] in ("started", "rejected")]
    third = len(outcomes) // 3
    assert sum(outcomes[-third:]) > 1.5 * sum(outcomes[:third])


def never(trial: Any, task: Any) -> Architecture:
    raise InvalidCandidateError(f"{trial.suggest_int('n', 1, 9)} is no number", 3.0)


def test_a_space_with_only_invalid_draws_is_refused(
    function_space: Spaces,
) -> None:
    screens = build_screens(ScreensSection())
    with pytest.raises(BadInputError, match=r"invalid 1,000; e.g. \d is no number") as caught:
        check_space(function_space(never), screens, training_images=100, epochs=1)
    assert caught.value.remedy == "search values that more often describe a network"


def test_a_space_with_enough_valid_draws_passes(vgg_space: Spaces) -> None:
    check_space(
        vgg_space(**SKEW_NORMAL), build_screens(ScreensSection()), training_images=100, epochs=1
    )


def accept(prepared: Prepared, dataset: Dataset) -> None:
    """Check nothing, in place of what only a driver can check."""


def test_screening_a_space_counts_its_invalid_draws(printed: Callable[..., str]) -> None:
    experiment = Experiment.model_validate(
        {"name": "skewed", "data": "digits", "space": {"name": "vgg", **SKEW_NORMAL}}
    )

    def show(console: Console) -> None:
        screen_space(experiment, 60, console, accept)

    rows = [line.split() for line in printed(show).splitlines()]
    counts = {row[0]: int(row[1]) for row in rows if row and row[0] in ("accepted", "invalid")}
    assert counts["invalid"] > counts["accepted"] > 0


def test_screening_a_space_counts_its_truncated_candidates(printed: Callable[..., str]) -> None:
    def counts(border: str) -> dict[str, int]:
        experiment = Experiment.model_validate(
            {"name": "deep", "data": "digits", "screens": {"border": border}}
            | {"space": {"name": "vgg", "depth": [1, 9], "kernel": 3, "pools": 0}}
        )
        out = printed(lambda console: screen_space(experiment, 40, console, accept))
        assert ("accepted with 5 of 9 convolutions" in out) == (border == "truncate")
        rows = [line.split() for line in out.splitlines()]
        verdicts = ("accepted", "border", "truncated")
        return {row[0]: int(row[1]) for row in rows if row and row[0] in verdicts}

    rejecting, truncating = counts("previous-conv"), counts("truncate")
    assert truncating == {"accepted": rejecting["accepted"], "truncated": rejecting["border"]}


def test_an_invalid_candidate_cannot_be_rebuilt(vgg_space: Spaces) -> None:
    params = {"location": 2.0, "scale": 0.1, "skew": 0.0, "kernel": 3, "batch_size": 16}
    space = vgg_space(**SKEW_NORMAL, pool_after=[2], scale=[0.0, 4.0])

    with pytest.raises(BadInputError, match="they describe no network") as caught:
        space.rebuild(params)
    assert len(str(caught.value).splitlines()) == 1
