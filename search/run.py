"""Runs a search from an experiment to its report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from rich.console import Console

from search.database import Database
from search.experiment import Experiment
from search.finalists import Finalist, choose_finalists
from search.home import Home
from search.job import describe_job, describe_task, load_images
from search.journal import Journal
from search.logbook import Logbook
from search.muscle import connected, plan_packing, train_trials
from search.packing import UNKNOWN_SHARE, Packing
from search.preflight import check_space, find_seeds
from search.progress import ProgressDisplay
from search.report import Section, as_html, build_report, print_report
from search.retraining import retrain_finalists
from search.screens import build_screens
from search.searcher import StudySearcher
from search.study import Study
from search.summary import Summary, summarise
from search.tracking import Destination, Tracker, ui_command
from search.trials import INTERRUPTED, Trials
from trainables.job import FinalistResult, Job

SYNC_SECONDS = 60.0
"""How long the end of a search waits for the tracking server."""


class SearchFailedError(RuntimeError):
    """A search that came to no result, through no fault of its experiment file."""


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


def run_search(
    experiment: Experiment, home: Home, console: Console, *, address: str = "local"
) -> Outcome:
    """Run a whole search: draw, screen, train, choose, retrain, report.

    Args:
        experiment: what is searched.
        home: where its folder is made.
        console: where progress and report are shown.
        address: of the Ray cluster; ``local`` starts a private one on this machine.

    Raises:
        BadInputError: something in the experiment cannot be used. Nothing has been written then,
            unless a space function that had passed the pre-flight check fails on a later draw.
        SearchFailedError: no candidate could be trained.
    """
    folder = home.folder(experiment.name)
    folder.refuse_existing()
    dataset = load_images(experiment, console)
    job = describe_job(experiment, describe_task(dataset))
    job.augmentation.check(job.task.height, job.task.width)
    space = job.candidates()
    screens = build_screens(experiment.screens)
    check_space(
        space,
        screens,
        training_images=len(dataset.train),
        epochs=experiment.epochs,
        seed=experiment.seed,
    )
    seeds = find_seeds(experiment.enqueue, space.name, job.task, experiment.space.options)
    console.print(
        f"search {experiment.name}: {dataset!r} from {experiment.data}; space {space.name}; "
        f"border screen {experiment.screens.border.value}; {experiment.budget.trials} trials of up "
        f"to {experiment.epochs} epochs",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    # Ray comes last before writing: it is what may be missing or refuse to start.
    with connected(address):
        packing = plan_packing(experiment, dataset.images.nbytes)
        folder.create(experiment.to_yaml(), job.task)
        if packing.is_guessed:
            console.print(
                f"How much memory the GPUs have could not be found out: {UNKNOWN_SHARE:g} of one "
                f"for each trial; set resources.gpus for another share.",
                highlight=False,
                soft_wrap=True,
            )
        job = replace(job, threads=packing.cpus)
        if experiment.device == "auto" and not packing.on_gpus:
            # Trials that were given no GPU must not take one that is there.
            job = replace(job, device="cpu")
        return _Run(experiment, home, job, packing, console, seeds).execute()


class _Run:
    """One search whose folder exists and whose cluster is up."""

    def __init__(
        self,
        experiment: Experiment,
        home: Home,
        job: Job,
        packing: Packing,
        console: Console,
        seeds: Sequence[Mapping[str, Any]],
    ) -> None:
        folder = home.folder(experiment.name)
        self._experiment = experiment
        self._folder = folder
        self._job = job
        self._packing = packing
        self._space = job.candidates()
        self._console = console
        self._database = Database(folder.study, experiment.name, objectives=experiment.objectives)
        self._study = Study(
            experiment.name,
            make_sampler(experiment),
            seed=experiment.seed,
            objectives=experiment.objectives,
            database=self._database,
        )
        for params in seeds:
            self._study.enqueue(params)
        self._journal = Journal(folder.journal)
        self._logbook = Logbook(self._journal, experiment, lambda: summarise(self._study.trials()))
        self._destination = Destination.from_environment(home.path, experiment.tracking.experiment)
        self._tracker = (
            Tracker(self._journal.path, self._destination, folder.identity)
            if experiment.tracking.enabled
            else None
        )

    def execute(self) -> Outcome:
        """Search, retrain, report."""
        if self._tracker is not None:
            self._tracker.start()
        self._logbook.begin()
        with self._journal:
            try:
                outcome, sections = self._search_and_report()
            except BaseException as error:
                self._database.close()
                self._logbook.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
                if self._tracker is not None:
                    self._tracker.finish(SYNC_SECONDS)
                raise
        # The journal is closed: from here on nothing that happens changes how the search ended.
        print_report(self._console, sections)
        if outcome.interrupted:
            self._console.print("\nInterrupted: what was trained so far is kept.", highlight=False)
        self._say_where()
        return outcome

    def _search_and_report(self) -> tuple[Outcome, list[Section]]:
        finalists: list[Finalist] = []
        interrupted = self._search()
        if not interrupted:
            finalists = self._retrain()
        self._database.close()
        trials = self._study.trials()
        sections = build_report(self._experiment, trials, finalists, self._space)
        page = as_html(f"Search {self._experiment.name}", sections)
        self._folder.report.write_text(page, encoding="utf-8")
        self._logbook.end(
            "KILLED" if interrupted else "FINISHED",
            page,
            finalists[0].test_accuracy if finalists else None,
        )
        return Outcome(interrupted, summarise(trials), finalists), sections

    def _search(self) -> bool:
        """Train the trials; return whether it was interrupted."""
        experiment = self._experiment
        budget = experiment.budget
        progress = ProgressDisplay(self._console, budget.trials, experiment.epochs)
        trials = Trials(
            self._study,
            self._space,
            build_screens(experiment.screens, self._packing),
            limit=budget.trials,
            epochs=experiment.epochs,
            seed=experiment.seed,
            deadline=time.monotonic() + budget.wall_clock if budget.wall_clock else None,
            duplicates=experiment.screens.duplicates,
            rule=experiment.screens.rule,
            share=self._packing.device_share,
            observers=(self._logbook, progress),
        )
        searcher = StudySearcher(trials, self._packing.share)
        try:
            with progress:
                train_trials(
                    experiment, self._job, self._packing, searcher, self._folder.checkpoints
                )
        except BaseException as error:
            trials.abandon(f"the search was broken off: {type(error).__name__}")
            raise
        if searcher.error is not None:
            trials.abandon(f"the search ended: {searcher.error}")
            raise searcher.error
        if trials.hopeless:
            trials.abandon("the search was given up")
            raise SearchFailedError(
                f"the first trials all failed ({trials.hopeless}); the search is given up"
            )
        if trials.exhausted:
            self._console.print(
                "The space is exhausted: the last candidates drawn were all rejected.",
                highlight=False,
            )
        interrupted = trials.has_running or not trials.is_finished
        trials.abandon(INTERRUPTED)
        self._database.flush()
        summary = summarise(self._study.trials())
        if not interrupted and summary.failed and not summary.leaderboard:
            raise SearchFailedError(f"none of the {summary.failed} candidates could be trained")
        if not interrupted:
            # No trial is continued any more, and together they can be as large as the images.
            shutil.rmtree(self._folder.checkpoints, ignore_errors=True)
        return interrupted

    def _retrain(self) -> list[Finalist]:
        """Retrain the best candidates."""
        section = self._experiment.finalists
        best = choose_finalists(summarise(self._study.trials()), section.count)
        if not best:
            return []
        self._console.print(
            f"\nretraining the best {len(best)} candidates with {section.seeds} fresh seeds each",
            highlight=False,
        )

        def show(result: FinalistResult) -> None:
            self._console.print(
                f"  trial {result.number:<4} seed {result.seed}  validation "
                f"{result.validation_accuracy:.4f}  test {result.test_accuracy:.4f}",
                highlight=False,
            )

        finalists = retrain_finalists(
            self._job,
            best,
            seeds=section.seeds,
            first_seed=self._experiment.seed + 1,
            folder=self._folder.finalists,
            packing=self._packing,
            on_result=show,
            on_failure=lambda cause: self._console.print(
                f"  a retraining failed: {cause}", highlight=False, markup=False
            ),
        )
        for finalist in finalists:
            params = self._study.trial(finalist.number).params
            architecture = self._space.rebuild(params).architecture
            self._logbook.finalist(finalist, architecture)
        return finalists

    def _say_where(self) -> None:
        """Tell where everything lies, and wait for tracking."""
        self._say(f"\nReport:  {self._folder.report}")
        if self._tracker is not None:
            self._say(f"bringing the last records to MLflow (at most {SYNC_SECONDS:.0f}s) ..")
            if self._tracker.finish(SYNC_SECONDS):
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
        home = self._folder.path.parent
        option = "" if home == Home.locate().path else f" --home {home}"
        return f"python search.py {name} {self._experiment.name}{option}"


def make_sampler(experiment: Experiment) -> BaseSampler:
    """Return the sampler that an experiment asks for."""
    if experiment.sampler == "random":
        return RandomSampler(seed=experiment.seed)
    return TPESampler(seed=experiment.seed)
