"""Carries a search out that is prepared: train, choose, retrain, report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from optuna.trial import FrozenTrial
from rich.console import Console

from cluster.stores import open_store
from search.backend.node_wait import NodeWait
from search.backend.retraining import retrain_finalists
from search.backend.searcher import StudySearcher
from search.backend.tuning import nodes_waited_for, train_trials
from search.backup.backup import Backup
from search.backup.checkpoint_cleanup import CheckpointCleanup
from search.experiment.folder import Home
from search.experiment.schema import Experiment
from search.loop.asha import Asha
from search.loop.budget import Budget
from search.loop.packing import Packing
from search.loop.samplers import make_sampler
from search.loop.screens import build_screens
from search.loop.trials import Trials
from search.reporting.progress import ProgressDisplay
from search.reporting.report import build_report
from search.reporting.sections import Section, as_html, print_report
from search.signals import stopping_gently
from search.study.database import Database
from search.study.finalists import Finalist, choose_finalists
from search.study.records import TrialRecord
from search.study.study import Study
from search.study.summary import Summary, summarise
from search.tracking.journal import Journal, worked_seconds
from search.tracking.recorder import JournalRecorder
from search.tracking.tracker import Destination, Tracker, ui_command
from trainables.specs import FinalistResult, TrainingSpec


class SearchFailedError(RuntimeError):
    """A search that came to no result, though its experiment can be used."""


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Attributes:
        interrupted: it was stopped from outside before its budget was spent.
        summary: of its study.
        finalists: best first.
    """

    interrupted: bool
    summary: Summary
    finalists: list[Finalist]


@dataclass(frozen=True)
class WarmStart:
    """What a search begins with.

    Attributes:
        seeds: parameters that are tried first.
        inherited: returns the trials of other searches from which the sampler learns.
    """

    seeds: Sequence[Mapping[str, Any]] = ()
    inherited: Callable[[], Sequence[FrozenTrial]] = tuple


class Execution:
    """One search whose folder exists and whose cluster is up."""

    def __init__(
        self,
        experiment: Experiment,
        home: Home,
        spec: TrainingSpec,
        packing: Packing,
        console: Console,
        warm_start: WarmStart,
        backup: Backup,
        *,
        resume: bool,
    ) -> None:
        folder = home.folder(experiment.name)
        self._experiment = experiment
        self._folder = folder
        self._spec = spec
        self._packing = packing
        self._space = spec.candidates()
        self._console = console
        self._stop_requested = False
        self._budget = Budget(experiment.budget, worked_seconds(folder.journal))
        self._database = Database(
            folder.location(experiment.database),
            experiment.name,
            objectives=experiment.objectives,
            resume=resume,
            identity=folder.identity,
        )
        known = self._database.load()
        # The same numbers again would draw the same candidates again.
        seed = experiment.seed + len(known)
        self._study = Study(
            experiment.name,
            make_sampler(experiment, seed),
            seed=seed,
            objectives=experiment.objectives,
            database=self._database,
        )
        self._study.restore(known)
        self._warm_start(warm_start)
        self._journal = Journal(folder.journal)
        self._recorder = JournalRecorder(
            self._journal, experiment, lambda: summarise(self._study.trials())
        )
        self._backup = backup
        self._cleanup = CheckpointCleanup(
            open_store(folder.checkpoints_in(experiment.storage)), at_once=not backup.is_remote
        )
        self._destination = Destination.from_environment(home.path, experiment.tracking.experiment)
        self._tracker = (
            Tracker(self._journal.path, self._destination, folder.identity)
            if experiment.tracking.enabled
            else None
        )

    def _warm_start(self, warm_start: WarmStart) -> None:
        """Enter what a search begins with, as far as no driver before has done so."""
        known = self._study.trials()
        inherited = sum(TrialRecord.of(trial).is_inherited for trial in known)
        drawn = len(known) - inherited
        if not drawn:
            for trial in warm_start.inherited()[inherited:]:
                self._study.add(trial)
        for params in warm_start.seeds[drawn:]:
            self._study.enqueue(params)

    def execute(self) -> Outcome:
        """Search, retrain, report."""
        if self._tracker is not None:
            self._tracker.start()
        self._backup.start(self._folder, self._cleanup)
        with self._journal:
            try:
                self._recorder.begin()
                outcome, sections = self._search_and_report()
            except BaseException as error:
                self._abort(error)
                raise
        # The journal is closed: from here on nothing that happens changes how the search ended.
        print_report(self._console, sections)
        if not self._backup.finish(self._study.trials()):
            self._say(
                f"The last snapshot is not in {self._experiment.storage}; all is kept here, bring "
                f"it with: {self._command('resume')}"
            )
        if outcome.interrupted:
            self._say(f"\nInterrupted; nothing is lost. Go on with: {self._command('resume')}")
        self._print_locations()
        return outcome

    def _abort(self, error: BaseException) -> None:
        """Leave everything as it is, to be resumed, and say so to tracking where that goes."""
        self._database.close()
        with suppress(OSError):
            self._recorder.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        with suppress(OSError):
            # Where the disk took nothing of that: else closing it would raise over what happened.
            self._journal.close()
        self._backup.finish(self._study.trials())
        if self._tracker is not None:
            self._tracker.finish(self._experiment.tracking.wait)

    def _search_and_report(self) -> tuple[Outcome, list[Section]]:
        finalists: list[Finalist] = []
        interrupted = self._search()
        if not interrupted:
            finalists = self._retrain()
            interrupted = self._stop_requested
        self._database.close()
        trials = self._study.trials()
        sections = build_report(self._experiment, trials, finalists, self._space)
        page = as_html(f"Search {self._experiment.name}", sections)
        self._folder.report.write_text(page, encoding="utf-8")
        self._recorder.end(
            "KILLED" if interrupted else "FINISHED",
            page,
            finalists[0].test_accuracy if finalists else None,
        )
        return Outcome(interrupted, summarise(trials), finalists), sections

    def _search(self) -> bool:
        """Train the trials; return whether it was interrupted."""
        experiment = self._experiment
        section = experiment.scheduler
        progress = ProgressDisplay(
            self._console,
            experiment.budget.trials,
            experiment.epochs,
            before=summarise(self._study.trials()),
            budget=lambda: self._budget.describe(trials.device_seconds),
        )
        trials = Trials(
            self._study,
            self._space,
            build_screens(experiment.screens, self._packing),
            budget=self._budget,
            epochs=experiment.epochs,
            asha=(
                Asha(experiment.epochs, section.grace_epochs, section.reduction)
                if section.name == "asha"
                else None
            ),
            seed=experiment.seed,
            duplicates=experiment.screens.duplicates,
            rule=experiment.screens.rule,
            device_fraction=self._packing.device_fraction,
            observers=(self._recorder, self._cleanup, progress),
        )
        for trial in self._study.trials():
            if trial.state.is_finished() and TrialRecord.of(trial).is_trained:
                self._recorder.complete(TrialRecord.of(trial), partial(trials.rebuild, trial))
        searcher = StudySearcher(
            trials, self._packing.gpu_fraction, experiment.failures.retries, self._say
        )

        def stop() -> None:
            self._stop_requested = True
            trials.stop("interrupted")
            self._say(
                "stopping after the running epochs (once more to stop at once; either way the "
                "search can be resumed) .."
            )

        def yield_to(host: str) -> None:
            self._stop_requested = True
            trials.stop("taken over")
            self._say(f"{host} has taken the search over; stopping after the running epochs ..")

        self._backup.on_lost(yield_to)
        with progress, stopping_gently(stop):
            try:
                train_trials(
                    experiment, self._spec, self._packing, searcher, self._folder.tune, self._say
                )
                if searcher.error is not None:
                    raise searcher.error
            except BaseException:
                with suppress(Exception):  # As far as it can still be written.
                    trials.pause_all()
                raise
        if trials.hopeless:
            trials.pause_all()
            failed = summarise(self._study.trials()).failed
            raise SearchFailedError(
                f"the first trials all failed ({trials.hopeless}); the search is given up. Mend "
                f"that, then {self._command_to_raise(trials, failed)}"
            )
        if trials.exhausted:
            self._say("The space is exhausted: the last candidates drawn were all rejected.")
        interrupted = self._stop_requested or not trials.is_finished
        trials.pause_all()
        self._database.flush()
        if not self._backup.is_remote:
            self._cleanup.remove_ended(self._study.trials())
        summary = summarise(self._study.trials())
        if not interrupted and not summary.leaderboard:
            causes = f"(causes: {self._command('report')})"
            more = self._command_to_raise(trials, summary.failed)
            if trials.stopping:
                others = f"; {summary.failed} failed {causes}" if summary.failed else ""
                raise SearchFailedError(
                    f"{trials.stopping}, and no trial has come to its end{others}; go on with, for "
                    f"example: {more}"
                )
            if summary.failed:
                raise SearchFailedError(
                    f"none of the {summary.failed} candidates could be trained {causes}; mend "
                    f"that, then {more}"
                )
        if trials.stopping and not self._stop_requested:
            spent = f"{trials.stopping[0].upper()}{trials.stopping[1:]}"
            self._say(f"{spent}. With a larger one it goes on: {self._command_to_raise(trials)}")
        shutil.rmtree(self._folder.tune, ignore_errors=True)
        return interrupted

    def _command_to_raise(self, trials: Trials, failed: int = 0) -> str:
        """Return the command that goes on with as much again of what is spent.

        Args:
            trials: of this search.
            failed: how many are to be made up for.
        """
        settings = self._budget.larger_limits(trials.device_seconds)
        if failed:
            settings.append(f"budget.trials=+{failed}")
        return " --set ".join([self._command("resume"), *settings])

    def _retrain(self) -> list[Finalist]:
        """Retrain the best candidates."""
        section = self._experiment.finalists
        best = choose_finalists(summarise(self._study.trials()), section.count)
        if not best:
            return []
        self._journal.retrain()

        def begin() -> None:
            what = "candidate" if len(best) == 1 else f"{len(best)} candidates"
            how = "one fresh seed" if section.seeds == 1 else f"{section.seeds} fresh seeds"
            self._say(f"\nretraining the best {what} with {how}{' each' if len(best) > 1 else ''}")

        def show(result: FinalistResult) -> None:
            self._console.print(
                f"  trial {result.number:<4} seed {result.seed}  validation "
                f"{result.validation_accuracy:.4f}  test {result.test_accuracy:.4f}",
                highlight=False,
            )

        def stop() -> None:
            self._stop_requested = True

        with stopping_gently(stop):
            finalists = retrain_finalists(
                self._spec,
                best,
                seeds=section.seeds,
                first_seed=self._experiment.seed + 1,
                folder=self._folder.finalists,
                packing=self._packing,
                wait=NodeWait(
                    self._experiment.resources.wait,
                    self._say,
                    partial(nodes_waited_for, self._packing),
                ),
                on_begin=begin,
                on_result=show,
                on_failure=lambda cause: self._console.print(
                    f"  a retraining failed: {cause}", highlight=False, markup=False
                ),
                stopped=lambda: self._stop_requested,
            )
        if self._stop_requested:
            return []
        for finalist in finalists:
            params = self._study.trial(finalist.number).params
            architecture = self._space.rebuild(params).architecture
            self._recorder.finalist(finalist, architecture)
        return finalists

    def _print_locations(self) -> None:
        """Tell where everything lies, and wait for tracking."""
        self._say(f"\nReport:  {self._folder.report}")
        if self._tracker is not None:
            wait = self._experiment.tracking.wait
            self._say(f"bringing the last records to MLflow (at most {wait:.0f}s) ..")
            if self._tracker.finish(self._experiment.tracking.wait):
                self._say(f"Compare: {ui_command(self._destination)}")
            else:
                self._say(
                    f"MLflow ({self._destination.shown}) has not got everything; it is kept, "
                    f"bring it later with: {self._command('sync')}"
                )
        self._say(f"Again:   {self._command('report')}")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _command(self, name: str) -> str:
        """Return a command about this search as the user would type it here."""
        return Home(self._folder.path.parent).command(name, self._experiment.name)
