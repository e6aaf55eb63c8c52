"""The end of a search: the report, the end of tracking, and where to find the results."""

from __future__ import annotations

from contextlib import suppress
from copy import copy

from optuna.trial import TrialState

from cluster.files import write_atomically
from search.driver.baseline_process import GRACE
from search.driver.outcome import Outcome
from search.driver.session import SearchSession
from search.reporting.additional_results import baseline_metrics
from search.reporting.gathering import Gathered
from search.reporting.page.search_page import search_page
from search.reporting.rendering import Section
from search.study.finalists import Finalist, read_results
from search.tracking.field_plot import field_plot
from search.tracking.mlflow_destination import view_links
from search.tracking.tracking_process import ui_command
from spaces.border import find_border


def write_report(
    search: SearchSession, finalists: list[Finalist], *, interrupted: bool
) -> tuple[Outcome, list[Section]]:
    """Close the study, write the report, and record how the search ended."""
    search.database.close()
    trials = search.study.trials()
    if not interrupted:
        _wait_for_baseline(search)
    state = "interrupted" if interrupted else "finished"
    gathered = Gathered(search.folder, search.experiment, trials, finalists, search.space, state)
    standing = gathered.standing
    page = search_page(gathered)
    write_atomically(search.folder.report, page)
    search.recorder.end(
        "KILLED" if interrupted else "FINISHED",
        page,
        finalists[0].test_accuracy if finalists else None,
        (standing.metrics if standing else {}) | baseline_metrics(gathered.additional),
        _picture(search, gathered),
    )
    return Outcome(interrupted, gathered.summary, finalists), gathered.sections()


def _picture(search: SearchSession, gathered: Gathered) -> str | None:
    """Draw the receptive field of the best candidate; None without one."""
    if not gathered.finalists and gathered.summary.best is None:
        return None
    best = gathered.best[0]
    analysis = find_border(gathered.candidate(best).architecture, search.experiment.screens.rule)
    return field_plot(analysis, f"trial {best.number}")


def _wait_for_baseline(search: SearchSession) -> None:
    if search.baseline.is_running:
        search.say(f"computing logistic regression on the pixels (at most {GRACE:.0f}s) ..")
    if line := search.baseline.wait():
        search.say(line)


def show_links(search: SearchSession) -> None:
    """Print where to watch the search while it runs."""
    search.say(f"Watch:   {search.command('status')} --watch, or open {search.folder.report}")
    if search.tracker is not None:
        search.say(f"Compare: {ui_command(search.destination)}")


def close_after(search: SearchSession, error: BaseException) -> None:
    """Close study, journal and page after an error, so that the search can be resumed."""
    search.database.close()
    interrupted = isinstance(error, KeyboardInterrupt)
    with suppress(OSError):
        search.recorder.end("KILLED" if interrupted else "FAILED")
    with suppress(OSError):
        # On a full disk, a later attempt to close it would hide the first error.
        search.journal.close()
    if search.folder.report.exists():
        # It says that the search runs, and loads itself again. A second error would hide the first.
        with suppress(Exception):
            _write_last_page(search, "interrupted" if interrupted else "failed")


def _write_last_page(search: SearchSession, state: str) -> None:
    """Write the page of a search that did not finish, from memory: its database may be away."""
    trials = [copy(trial) for trial in search.study.trials()]
    for trial in trials:
        if trial.state is TrialState.RUNNING:
            trial.state = TrialState.WAITING
    finalists = read_results(search.folder.finalists)
    gathered = Gathered(search.folder, search.experiment, trials, finalists, search.space, state)
    write_atomically(search.folder.report, search_page(gathered))


def show_ending(search: SearchSession, outcome: Outcome) -> None:
    """Finish tracking, and print what is incomplete and where the results are."""
    if not search.backup.is_complete:
        search.say(
            f"The last snapshot is not in {search.experiment.storage}. Everything is saved here; "
            f"to upload it, run: {search.command('resume')}"
        )
    if outcome.interrupted:
        search.say(f"\nInterrupted; nothing is lost. Resume with: {search.command('resume')}")
    search.say(f"\nReport:  {search.folder.report}")
    _finish_tracking(search)
    search.say(f"Again:   {search.command('report')}")
    if outcome.finalists or outcome.summary.best:
        search.say(f"Use it:  {search.home.export_command(search.experiment.name)}")


def _finish_tracking(search: SearchSession) -> None:
    if search.tracker is None:
        return
    wait = search.experiment.tracking.wait
    search.say(f"sending the last events to MLflow (at most {wait:.0f}s) ..")
    if search.tracker.finish(wait):
        search.say(f"Compare: {ui_command(search.destination)}")
        for line in view_links(search.destination, search.folder):
            search.say(line)
    else:
        search.say(
            f"MLflow ({search.destination.shown}) has not received all events. They are saved in "
            f"the journal; to send them later, run: {search.command('sync')}"
        )
