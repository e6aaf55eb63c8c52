"""Runs the phases of an open search in order: train, retrain, close."""

from __future__ import annotations

from search.driver.closing import abort, show_ending, write_report
from search.driver.finalist_phase import retrain_best
from search.driver.open_search import OpenSearch
from search.driver.outcome import Outcome
from search.driver.search_phase import train_candidates
from search.reporting.sections import Section


def execute(search: OpenSearch) -> Outcome:
    """Search, retrain the finalists, and report."""
    if search.tracker is not None:
        search.tracker.start()
    search.backup.start(search.folder, search.cleanup)
    with search.journal:
        try:
            search.recorder.begin()
            outcome, sections = _search_and_report(search)
        except BaseException as error:
            abort(search, error)
            raise
    # The journal is closed: nothing from here on changes how the search ended.
    show_ending(search, outcome, sections)
    return outcome


def _search_and_report(search: OpenSearch) -> tuple[Outcome, list[Section]]:
    if train_candidates(search):
        return write_report(search, [], interrupted=True)
    finalists = retrain_best(search)
    return write_report(search, finalists, interrupted=search.stop_requested.is_set())
