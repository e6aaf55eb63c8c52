"""Prepares resumed searches and warm starts.

A resumed search may change some sections of its experiment. A warm start translates the trials of
another search into the space of this one.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum

from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from cluster.folder_store import open_store
from search.backup.checkpoint_cleanup import move_checkpoints
from search.driver.new_search import new_search
from search.experiment.defaults import as_completed
from search.experiment.folder import SearchFolder
from search.experiment.loading import load_experiment, load_stored
from search.experiment.objectives import cost_values
from search.experiment.schema import Experiment
from search.experiment.training_length import with_whole_epochs
from search.loop.screens import Screen, judge
from search.private_apis import contains
from search.study.records import (
    TrialAttributes,
    TrialRecord,
    told_constraints,
    told_state,
    truncation_of,
)
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError, InvalidCandidateError

CHANGEABLE = (
    *("budget", "failures", "finalists", "modules", "resources", "storage", "tracking"),
    *("baselines", "metrics"),
    *("nightly", "probes"),
)
"""Sections that affect neither the candidates nor their training."""
LOCATING = ("data", "table", "validation_list", "groups")
"""Fields that say where the images are, and how their names give classes, splits and groups."""


def load_resumed(folder: SearchFolder, overrides: Sequence[str]) -> Experiment:
    """Return the experiment of an existing search with changes.

    Args:
        folder: of the search.
        overrides: as of `search.experiment.loading.load_experiment`; ``budget.trials=+100`` adds.

    Raises:
        BadInputError: a change affects the candidates or their training.
    """
    before = load_stored(folder)
    after = _with_known_length(folder, load_experiment(folder.experiment, overrides, adds=True))
    _refuse_changes(folder, before, after)
    return after


def as_resumed(folder: SearchFolder, experiment: Experiment) -> Experiment:
    """Return an experiment with what the existing search that it resumes has chosen itself.

    These are the locations of study and storage, the settings of `search.experiment.defaults`, and
    the number of epochs for a length in steps or images.

    Raises:
        BadInputError: it differs from the existing search in a field that must stay.
    """
    before = load_stored(folder)
    if experiment.database is None:
        # The study stays where BORDERLINE_DATABASE pointed when the search started.
        experiment = experiment.model_copy(update={"database": before.database})
    if experiment.storage is None:
        experiment = experiment.model_copy(update={"storage": before.storage})
    experiment = _with_known_length(folder, as_completed(experiment, before))
    _refuse_changes(folder, before, experiment)
    return experiment


def _with_known_length(folder: SearchFolder, experiment: Experiment) -> Experiment:
    """Return the experiment with the number of epochs that its length gives on the search's data.

    A search without a record of its data is older than such lengths, so its own number stays.
    """
    if folder.data is None:
        return experiment
    return with_whole_epochs(experiment, folder.data.training_images)[0]


def _refuse_changes(folder: SearchFolder, before: Experiment, after: Experiment) -> None:
    """Refuse changes, except of the location of the images, such as ``images:PATH``.

    The driver compares classes, splits and images at the new location with those that the search
    started with, if it has a record of them.
    """
    located = all(":" in each.data for each in (before, after))
    if located and folder.data is not None:
        after = after.model_copy(update={field: getattr(before, field) for field in LOCATING})
    refuse_other(folder, before, after)


def refuse_other(folder: SearchFolder, before: Experiment, after: Experiment) -> None:
    """Check that a search may be resumed with a changed experiment.

    Args:
        folder: of the search, with the experiment before the change.
        before: experiment of the search.
        after: experiment with which it is resumed.

    Raises:
        BadInputError: names the first field that must not change.
    """
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    for field, value in new.items():
        if field not in CHANGEABLE and value != old[field]:
            problem = f"a resumed search must keep {old[field]!r}"
            remedy = (
                f"leave it out, or start a new search from the trials of this one: "
                f"{new_search(folder, after)}"
            )
            raise BadInputError(field, value, problem, remedy)


def migrate_checkpoints(folder: SearchFolder, experiment: Experiment) -> bool:
    """Move checkpoints to the storage of a resumed search.

    Args:
        folder: of the search, with the experiment before the change.
        experiment: after the change.

    Returns:
        Whether all were moved; trials without their checkpoints start again.
    """
    before = load_stored(folder).storage
    if before == experiment.storage:
        return True
    try:
        move_checkpoints(
            open_store(folder.checkpoints_in(before)),
            open_store(folder.checkpoints_in(experiment.storage)),
        )
    except OSError:
        return False
    return True


class Misfit(Enum):
    """Why a search does not inherit a trained candidate of another search."""

    SPACE = "outside this space"
    SCREENS = "rejected by its screens"
    OBJECTIVES = "without a measurement of its objectives"
    TRUNCATION = "truncated otherwise"


def inherit(
    name: str,
    trials: Sequence[FrozenTrial],
    space: CandidateSpace,
    screens: Sequence[Screen],
    experiment: Experiment,
    misfits: Counter[Misfit] | None = None,
    *,
    same_task: bool = True,
) -> Iterator[FrozenTrial]:
    """Yield the trials of another search such that the sampler of this one can learn from them.

    This search's space draws each candidate again from its parameters. Candidates outside the space
    are left out.

    Args:
        name: of the other search.
        trials: of its study.
        space: of this search.
        screens: of this search.
        experiment: of this search.
        misfits: counts the trained candidates that are left out.
        same_task: whether the other search has the same data and protocol.
    """
    for trial in trials:
        record = TrialRecord.of(trial)
        if not record.is_trained or record.accuracy is None:
            continue
        if record.outcome not in (TrialState.COMPLETE, TrialState.PRUNED):
            continue
        translated = _translate(name, trial, space, screens, experiment, same_task=same_task)
        if isinstance(translated, FrozenTrial):
            yield translated
        elif misfits is not None:
            misfits[translated] += 1


def _translate(
    name: str,
    trial: FrozenTrial,
    space: CandidateSpace,
    screens: Sequence[Screen],
    experiment: Experiment,
    *,
    same_task: bool,
) -> FrozenTrial | Misfit:
    drawn = FixedTrial(dict(trial.params))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            candidate = space.draw(drawn)
    except (BadInputError, InvalidCandidateError, ValueError):
        return Misfit.SPACE
    # A fixed trial accepts values outside the distribution.
    inside = all(
        contains(distribution, drawn.params[parameter])
        for parameter, distribution in drawn.distributions.items()
    )
    if not inside:
        return Misfit.SPACE
    if judge(candidate, screens) is not None:
        return Misfit.SCREENS
    record = TrialRecord.of(trial)
    if candidate.truncated != record.truncated:
        return Misfit.TRUNCATION  # Its accuracy is that of another network.
    last = record.history.get(record.epochs)
    metrics = last.values if last else {}
    try:
        costs = cost_values(experiment.objectives, candidate.costs, metrics)
    except KeyError:
        return Misfit.OBJECTIVES
    attributes = TrialAttributes(
        inherited=name,
        inherited_number=trial.number,
        digest=candidate.digest,
        **truncation_of(candidate),
    )
    if same_task:
        attributes["same_task"] = True
    objectives = len(experiment.objectives)
    constraints = told_constraints(record.outcome, objectives=objectives, stopped=record.stopped)
    told = told_state(record.outcome, objectives=objectives, is_infeasible=bool(constraints))
    if told is not record.outcome:
        attributes["verdict"] = record.outcome.name.lower()
    return create_trial(
        state=told,
        params=drawn.params,
        distributions=drawn.distributions,
        values=[record.accuracy or 0.0, *costs],
        intermediate_values=trial.intermediate_values,
        user_attrs=dict(attributes),
        constraints=constraints or None,
    )
