"""Runs the phases of an open search in order: train, retrain, close."""

from __future__ import annotations

from search.driver.baseline_phase import train_baselines
from search.driver.closing import close_after, show_ending, show_links, write_report
from search.driver.finalist_phase import retrain_best
from search.driver.live_view import LiveView
from search.driver.outcome import Outcome
from search.driver.search_phase import train_candidates
from search.driver.session import SearchSession
from search.reporting.rendering import Section, print_report
from search.study.finalists import Finalist


def execute(search: SearchSession) -> Outcome:
    """Search, retrain the finalists, and report."""
    if search.tracker is not None:
        search.tracker.start()
    try:
        with search.backup.copying(search.folder, search.cleanup, search.study.trials):
            with search.journal:
                try:
                    search.recorder.begin()
                    show_links(search)
                    outcome, sections = _search_and_report(search)
                except BaseException as error:
                    close_after(search, error)
                    raise
            # The journal is closed: nothing from here on changes how the search ended.
            print_report(search.console, sections)
    except BaseException:
        if search.tracker is not None:
            search.tracker.finish(search.experiment.tracking.wait)
        raise
    show_ending(search, outcome)
    return outcome


def _search_and_report(search: SearchSession) -> tuple[Outcome, list[Section]]:
    finalists: list[Finalist] = []
    with LiveView(search):
        interrupted = train_candidates(search)
        if not interrupted:
            finalists = retrain_best(search)
        if finalists:
            train_baselines(search, finalists[0])
    interrupted = interrupted or search.stop_requested.is_set()
    return write_report(search, finalists, interrupted=interrupted)
