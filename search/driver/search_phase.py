"""The first phase of a search: draw candidates and train them until the budget is spent."""

from __future__ import annotations

import shutil
from contextlib import suppress
from functools import partial

from search.backend.tune_searcher import StudySearcher
from search.backend.tuning import train_trials
from search.driver.changed_verdicts import changed_verdicts
from search.driver.outcome import SearchFailedError
from search.driver.session import SearchSession
from search.driver.view_announcement import ViewAnnouncement
from search.loop.assembly import build_trials
from search.loop.screens import build_screens
from search.loop.trials import Trials
from search.reporting.progress import ProgressDisplay
from search.signals import stopping_gently
from search.study.records import AHEAD, TrialRecord
from search.study.summary import describe_prospect, summarise


def train_candidates(search: SearchSession) -> bool:
    """Train candidates and leave none running.

    Returns:
        Whether the search was interrupted.

    Raises:
        SearchFailedError: the first trials all failed, or no trial completed.
    """
    experiment = search.experiment
    progress = ProgressDisplay(
        search.console,
        experiment.budget.trials,
        experiment.whole_epochs,
        before=summarise(search.study.trials()),
        budget=lambda: _describe(search, trials),
        left=search.clock.left,
    )
    trials = build_trials(
        experiment,
        search.study,
        search.space,
        search.packing,
        search.budget,
        observers=(
            search.recorder,
            search.cleanup,
            search.clock,
            progress,
            *_announcement(search),
        ),
    )
    screens = build_screens(experiment.screens)
    if line := changed_verdicts(search.study.trials(), search.space, screens):
        search.say(line)
    for trial in search.study.trials():
        record = TrialRecord.of(trial)
        if trial.state.is_finished() and record.is_trained:
            search.recorder.complete(record, partial(trials.rebuild, trial))
    with progress:
        _train(search, trials)
    _refuse_hopeless(search, trials)
    if trials.exhausted:
        search.say("The space is exhausted: the last candidates drawn were all rejected.")
    if trials.converged:
        search.say(
            f"The search ends, because {describe_prospect(trials.prospect or 0.0)} "
            f"(budget.until = {experiment.budget.until}). To continue, run: "
            f"{search.command('resume')} --set budget.until="
        )
    interrupted = search.stop_requested.is_set() or not trials.is_finished
    trials.pause_all()
    search.database.flush()
    if not search.backup.is_remote:
        search.cleanup.remove_ended(search.study.trials())
    if not interrupted:
        _require_completed_trial(search, trials)
    if trials.stopping and not search.stop_requested.is_set():
        spent = f"{trials.stopping[0].upper()}{trials.stopping[1:]}"
        search.say(f"{spent}. To continue with more, run: {_command_to_raise(search, trials)}")
    shutil.rmtree(search.folder.tune, ignore_errors=True)
    return interrupted


def _announcement(search: SearchSession) -> tuple[ViewAnnouncement, ...]:
    """Return what prints where MLflow shows the search; nothing without tracking."""
    if search.tracker is None:
        return ()
    return (ViewAnnouncement(search.destination, search.folder, search.say),)


def _describe(search: SearchSession, trials: Trials) -> str:
    """Return the spent and the remaining budget, and what further trials may bring."""
    parts = [search.budget.describe(trials.device_seconds)]
    if trials.prospect is not None:
        parts.append(f"next {AHEAD} trials: +{trials.prospect:.4f} expected")
    return "; ".join(filter(None, parts))


def _train(search: SearchSession, trials: Trials) -> None:
    """Let the backend train trials until they are finished or a stop is requested."""

    def interrupt() -> None:
        search.stop_requested.set()
        trials.stop("interrupted")
        search.say(
            "stopping after the running epochs (press Ctrl-C again to stop at once; either way "
            "the search can be resumed) .."
        )

    def yield_to(host: str) -> None:
        search.stop_requested.set()
        trials.stop("taken over")
        search.say(f"{host} has taken the search over; stopping after the running epochs ..")

    experiment = search.experiment
    searcher = StudySearcher(
        trials, search.packing.gpu_fraction, experiment.failures.retries, search.say
    )
    search.backup.on_lost(yield_to)
    with stopping_gently(interrupt):
        try:
            train_trials(
                experiment, search.spec, search.packing, searcher, search.folder.tune, search.say
            )
            if searcher.error is not None:
                raise searcher.error
        except BaseException:
            with suppress(Exception):  # The database may be the cause.
                trials.pause_all()
            raise


def _refuse_hopeless(search: SearchSession, trials: Trials) -> None:
    """End a search whose first trials all failed.

    Raises:
        SearchFailedError: they did; names their common cause.
    """
    if not trials.hopeless:
        return
    trials.pause_all()
    failed = summarise(search.study.trials()).failed
    raise SearchFailedError(
        f"stopped: the first trials all failed ({trials.hopeless}). Fix the cause, then run: "
        f"{_command_to_raise(search, trials, failed)}"
    )


def _require_completed_trial(search: SearchSession, trials: Trials) -> None:
    """Require at least one completed trial to choose finalists from.

    Raises:
        SearchFailedError: names the causes and the command that continues the search.
    """
    summary = summarise(search.study.trials())
    if summary.leaderboard:
        return
    causes = f"(causes: {search.command('report')})"
    more = _command_to_raise(search, trials, summary.failed)
    if trials.stopping:
        others = f"; {summary.failed} failed {causes}" if summary.failed else ""
        raise SearchFailedError(
            f"{trials.stopping}, and no trial has completed{others}. Raise the budget, for "
            f"example: {more}"
        )
    if summary.failed:
        raise SearchFailedError(
            f"all {summary.failed} trained candidates failed {causes}. Fix the cause, then "
            f"run: {more}"
        )


def _command_to_raise(search: SearchSession, trials: Trials, failed: int = 0) -> str:
    """Return the command that resumes the search with a larger budget.

    Args:
        search: the search.
        trials: of this search.
        failed: how many failed trials the larger budget makes up for.
    """
    settings = search.budget.larger_limits(trials.device_seconds)
    if failed:
        settings.append(f"budget.trials=+{failed}")
    return " --set ".join([search.command("resume"), *settings])
