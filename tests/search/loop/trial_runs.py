"""Drives the trials of a search in tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler

from search.experiment.objectives import Objective
from search.loop.trials import Trials
from search.study.events import StartedTrial
from search.study.study import Study
from spaces.architecture import Architecture, Builder
from spaces.candidate import CandidateSpace
from spaces.operations import Convolution, GlobalPooling, Linear
from spaces.task import Task

MakeTrials = Callable[..., Trials]
Train = Callable[..., None]
Spaces = Callable[..., CandidateSpace]

OUT_OF_MEMORY = "out of memory: 3.0 GB are needed, there are 2.0 GB"


def started_by(trials: Trials) -> StartedTrial:
    """Return the next trial, however many time slices it takes."""
    while not trials.is_finished:
        started = trials.next()
        if started is not None:
            return started
    raise AssertionError("the search has ended")


def all_started(trials: Trials, end: Callable[[int], None]) -> list[StartedTrial]:
    """Run a search to its end, one trial at a time, and return the started trials."""
    found = []
    while not trials.is_finished:
        started = trials.next()
        if started is not None:
            found.append(started)
            end(started.number)
    return found


def any_width(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
    """Draw one of 32 networks that no screen rejects."""
    builder = Builder(task.image_shape)
    x = builder.add(Convolution(trial.suggest_int("features", 1, 32)), builder.image)
    builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
    return builder.build()


def several(*objectives: Objective, sampler: BaseSampler | None = None, **options: Any) -> Study:
    """Return a study of accuracy and further objectives."""
    return Study(
        "several", sampler or RandomSampler(seed=0), objectives=("accuracy", *objectives), **options
    )


def resumed(
    make_trials: MakeTrials, before: Trials, space: CandidateSpace, **options: Any
) -> Trials:
    """Return the trials of a later driver, which knows only the study."""
    known = before.study.trials()
    study = Study("test", RandomSampler(seed=1 + len(known)), objectives=before.study.objectives)
    study.restore(known)
    return make_trials(space, study=study, **options)
