"""An open search: its study, journal, tracking and backup, shared by all of its phases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial
from rich.console import Console

from cluster.folder_store import open_store
from search.backend.tuning import concurrent_trials
from search.backup.backup import Backup
from search.backup.checkpoint_cleanup import CheckpointCleanup
from search.console import say
from search.driver.baseline_process import BaselineProcess
from search.experiment.folder import Home, SearchFolder
from search.experiment.schema import Experiment
from search.loop.budget import Budget
from search.loop.packing import Packing
from search.loop.samplers import make_sampler
from search.loop.screens import build_screens
from search.loop.time_left.drawn import baseline_workloads, draw_workloads
from search.loop.time_left.observer import SearchClock
from search.loop.time_left.plan import Plan
from search.study.database import Database
from search.study.records import TrialRecord
from search.study.study import Study
from search.study.summary import summarise
from search.tracking.journal import Journal
from search.tracking.journal_reader import worked_seconds
from search.tracking.journal_recorder import JournalRecorder
from search.tracking.mlflow_destination import Destination
from search.tracking.tracking_process import Tracker
from spaces.candidate import CandidateSpace
from trainables.specs import TrainingSpec


@dataclass(frozen=True)
class WarmStart:
    """Prior knowledge that a search starts from.

    Attributes:
        seeds: parameters to try first.
        inherited: returns trials of other searches for the sampler to learn from.
    """

    seeds: Sequence[Mapping[str, Any]] = ()
    inherited: Callable[[], Sequence[FrozenTrial]] = tuple

    def apply(self, study: Study) -> None:
        """Add the trials and seeds that no earlier driver has added to the study."""
        known = study.trials()
        inherited = sum(TrialRecord.of(trial).is_inherited for trial in known)
        drawn = len(known) - inherited
        if not drawn:
            for trial in self.inherited()[inherited:]:
                study.add(trial)
        for params in self.seeds[drawn:]:
            study.enqueue(params)


@dataclass(frozen=True)
class SearchSession:
    """One search whose folder exists and whose cluster is up.

    Attributes:
        experiment: the search as its file describes it.
        home: holds the folder of the search.
        folder: of the search.
        spec: of every training.
        space: of all candidates.
        packing: the resources that trials request.
        console: shows progress and report.
        budget: of all drivers of the search.
        database: the durable copy of the study.
        study: every candidate and its result.
        journal: every event, for tracking.
        recorder: writes the journal.
        backup: the copy in a bucket.
        cleanup: of checkpoints that no trial needs any more.
        destination: the tracking server.
        tracker: replays the journal there; None if tracking is disabled.
        baseline: computes logistic regression on the images.
        clock: predicts the time left.
        stop_requested: set as soon as the search should end before its budget is spent.
    """

    experiment: Experiment
    home: Home
    folder: SearchFolder
    spec: TrainingSpec
    space: CandidateSpace
    packing: Packing
    console: Console
    budget: Budget
    database: Database
    study: Study
    journal: Journal
    recorder: JournalRecorder
    backup: Backup
    cleanup: CheckpointCleanup
    destination: Destination
    tracker: Tracker | None
    baseline: BaselineProcess
    clock: SearchClock
    stop_requested: threading.Event = field(default_factory=threading.Event)

    def say(self, line: str) -> None:
        """Print a line for the user."""
        say(self.console, line)

    def command(self, name: str) -> str:
        """Return a command about this search as the user would type it here."""
        return self.home.command(name, self.experiment.name)


def open_search(
    experiment: Experiment,
    home: Home,
    spec: TrainingSpec,
    packing: Packing,
    console: Console,
    warm_start: WarmStart,
    backup: Backup,
    baseline: BaselineProcess,
    *,
    resume: bool,
) -> SearchSession:
    """Open the study and the journal of a search whose folder exists.

    Raises:
        BadInputError: the database cannot be used, or another driver writes the study.
    """
    folder = home.folder(experiment.name)
    budget = Budget(experiment.budget, worked_seconds(folder.journal))
    database = Database(
        folder.location(experiment.database),
        experiment.name,
        objectives=experiment.objectives,
        resume=resume,
        identity=folder.identity,
    )
    known = database.load()
    # The same seed again would draw the same candidates again.
    seed = experiment.seed + len(known)
    space = spec.candidates()
    study = Study(
        experiment.name,
        make_sampler(experiment, seed, space, packing),
        seed=seed,
        objectives=experiment.objectives,
        database=database,
    )
    study.restore(known)
    warm_start.apply(study)
    journal = Journal(folder.journal)
    destination = Destination.of_search(folder, experiment.tracking.experiment)
    if experiment.tracking.enabled:
        destination.record(folder)
    return SearchSession(
        experiment,
        home,
        folder,
        spec,
        space,
        packing,
        console,
        budget,
        database,
        study,
        journal,
        JournalRecorder(
            journal,
            experiment,
            lambda: summarise(study.trials()),
            spec.data.expected,
            folder.identity,
        ),
        backup,
        CheckpointCleanup(
            open_store(folder.checkpoints_in(experiment.storage)), at_once=not backup.is_remote
        ),
        destination,
        Tracker(journal.path, destination, folder.identity)
        if experiment.tracking.enabled
        else None,
        baseline,
        SearchClock(
            Plan.of(experiment, concurrent_trials(experiment, packing)),
            draw_workloads(space, build_screens(experiment.screens, packing), experiment.seed),
            seconds_before=budget.seconds,
            known=[TrialRecord.of(trial) for trial in study.trials()],
            device_fraction=packing.device_fraction,
            baselines=baseline_workloads(experiment, spec.task),
        ),
    )
