"""The end of a search: the report, the end of tracking, and where to find the results."""

from __future__ import annotations

from contextlib import suppress

from search.driver.baseline_process import GRACE
from search.driver.outcome import Outcome
from search.driver.session import SearchSession
from search.reporting.additional_results import (
    additional_section,
    baseline_metrics,
    read_additional,
)
from search.reporting.finalist_metrics import read_metrics
from search.reporting.page.frame import as_html
from search.reporting.rendering import Section
from search.reporting.report import build_report
from search.reporting.standing import read_distances, read_standing
from search.study.finalists import Finalist
from search.study.probes import ProbeStore
from search.study.summary import Summary, summarise
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
    standing = read_standing(search.folder, finalists)
    behind = read_distances(search.folder, finalists)
    sections = build_report(
        search.experiment,
        trials,
        finalists,
        search.space,
        search.folder.data,
        standing,
        behind,
        ProbeStore(search.folder.probes).all(),
        read_metrics(search.folder, search.experiment, finalists),
    )
    additional = read_additional(search.folder, finalists)
    sections += additional_section(additional, standing)
    page = as_html(f"Search {search.experiment.name}", sections)
    search.folder.report.write_text(page, encoding="utf-8")
    search.recorder.end(
        "KILLED" if interrupted else "FINISHED",
        page,
        finalists[0].test_accuracy if finalists else None,
        (standing.metrics if standing else {}) | baseline_metrics(additional),
        _picture(search, finalists, summarise(trials)),
    )
    return Outcome(interrupted, summarise(trials), finalists), sections


def _picture(search: SearchSession, finalists: list[Finalist], summary: Summary) -> str | None:
    """Draw the receptive field of the best candidate; None without one."""
    if not finalists and summary.best is None:
        return None
    number = finalists[0].number if finalists else summary.leaderboard[0].number
    candidate = search.space.rebuild(search.study.trial(number).params)
    analysis = find_border(candidate.architecture, search.experiment.screens.rule)
    return field_plot(analysis, f"trial {number}")


def _wait_for_baseline(search: SearchSession) -> None:
    if search.baseline.is_running:
        search.say(f"computing logistic regression on the pixels (at most {GRACE:.0f}s) ..")
    if line := search.baseline.wait():
        search.say(line)


def close_after(search: SearchSession, error: BaseException) -> None:
    """Close study and journal after an error, so that the search can be resumed."""
    search.database.close()
    with suppress(OSError):
        search.recorder.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
    with suppress(OSError):
        # On a full disk, a later attempt to close it would hide the first error.
        search.journal.close()


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
