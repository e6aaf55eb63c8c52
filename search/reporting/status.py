"""The commands `status`, `report` and `sync`: what they print about stored searches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from search.console import program, say
from search.experiment.folder import Home
from search.experiment.loading import load_experiment
from search.formatting import plural
from search.reporting.additional_results import describe_additional
from search.reporting.comparison import comparability, compare
from search.reporting.documents import list_documents
from search.reporting.gathering import Gathered
from search.reporting.page.search_page import search_page
from search.reporting.rendering import NOT_ALLOWED, print_report
from search.reporting.spending import Spending
from search.reporting.standing import read_distances, read_standing
from search.reporting.stored_search import StoredSearch
from search.study.finalist_ties import tied_with_first
from search.study.finalists import Finalist
from search.study.summary import Summary, summarise
from search.tracking.tracking_process import Destination, sync, ui_command
from spaces.errors import BadInputError

WATCH_EVERY = 5.0
"""Seconds between two tables of `status --watch`."""
_NO_SEARCH = "no search in {} yet (--home names another folder); start one: {}"
_STOPPED = {"interrupted": "was interrupted", "failed": "has failed"}


def show_list(home: Home, console: Console) -> None:
    """Print which searches there are, and where."""
    searches = list_documents(home)
    if not searches:
        say(console, _NO_SEARCH.format(home.path, program()))
        return
    table = Table(box=None, header_style="dim")
    for column in ("search", "started", "data", "space", "MB", "folder"):
        table.add_column(column, overflow="fold")
    for each in searches:
        shown = [each.get(key) for key in ("started", "data", "space", "size_mb")]
        cells = ["-" if value is None else escape(str(value)) for value in shown]
        table.add_row(each["name"], *cells, escape(each["folder"]))
    console.print(table, highlight=False)
    for each in searches:
        if "error" in each:
            say(console, f"{each['name']} cannot be shown: {each['error']}")


def watch_status(
    name: str | None,
    home: Home,
    console: Console,
    wait: Callable[[float], object] = time.sleep,
) -> None:
    """Print the progress again and again until no search runs or the user presses Ctrl-C.

    Args:
        name: of the search; None for all.
        home: holds the searches.
        console: receives a table each time; a terminal is cleared before.
        wait: waits for seconds.
    """
    with suppress(KeyboardInterrupt):
        while True:
            console.clear()
            if not show_status(name, home, console):
                return
            wait(WATCH_EVERY)


def show_status(name: str | None, home: Home, console: Console) -> bool:
    """Print the progress of one search, or of every search.

    Returns:
        Whether a search runs.
    """
    names = home.names() if name is None else [home.existing(name).name]
    if not names:
        say(console, _NO_SEARCH.format(home.path, program()))
        return False
    table = Table(box=None, header_style="dim")
    for column in (
        "search",
        "trained",
        "running",
        "interrupted",
        "epochs",
        "rejected",
        "saved",
        "best",
        "test accuracy",
        "baseline",
        "state",
    ):
        table.add_column(column)
    below: list[str] = []
    runs = False
    for each in names:
        try:
            stored = StoredSearch(home.folder(each))
            finalists = stored.finalists
            standing = read_standing(stored.folder, finalists)
            ties = tied_with_first(read_distances(stored.folder, finalists))
            additional = stored.additional
            spending = Spending.of(stored)
        except BadInputError as error:
            if name is not None:
                raise
            # A new or damaged search does not hide the others.
            below.append(f"{each} cannot be shown: {error}")
            continue
        summary = summarise(stored.trials)
        runs |= stored.state == "running"
        if stored.state in _STOPPED:
            command = home.command("resume", each)
            below.append(f"{each} {_STOPPED[stored.state]}; resume it with: {command}")
        if summary.prospect_line:
            below.append(f"{each}: {summary.prospect_line}")
        if standing and standing.shortcoming:
            below.append(f"{each}: {standing.shortcoming}")
        if ties:
            below.append(f"{each}: {_tied(finalists, ties)}")
        below += [f"{each}: {describe_additional(result)}" for result in additional]
        if len(names) == 1 or stored.state == "running":
            below += [f"{each}: {line}" for line in spending.lines()]
        if finalists and len(names) == 1:
            below.append(f"Use it: {home.export_command(each)}")
        table.add_row(
            each,
            _trained(summary, stored.experiment.budget.trials),
            f"{summary.running:,}",
            f"{summary.interrupted:,}",
            f"{spending.epochs:,}",
            ", ".join(f"{reason} {n:,}" for reason, n in summary.rejections.items()) or "0",
            summary.savings.total.shown,
            _best(summary),
            _test(finalists),
            f"{standing.baseline.test:.4f}" if standing else "-",
            stored.state,
        )
    console.print(table, highlight=False)
    for line in below:
        say(console, line)
    return runs


def _trained(summary: Summary, most: int) -> str:
    truncated = f" ({summary.truncated} truncated)" if summary.truncated else ""
    return f"{summary.trained:,}/{most:,}{truncated}"


def _test(finalists: Sequence[Finalist]) -> str:
    if not finalists:
        return "-"
    first = finalists[0]
    seeds = f", {len(first.results)} seeds" if len(first.results) > 1 else ""
    return f"{first.shown} (trial {first.number}{seeds})"


def _tied(finalists: Sequence[Finalist], ties: Sequence[int]) -> str:
    """Say which finalists chance does not tell from the first, and their numbers of seeds."""
    tied = {finalists[0].number, *ties}
    shown = [f"{f.number} (seeds: {len(f.results)})" for f in finalists if f.number in tied]
    return (
        f"trials {', '.join(shown[:-1])} and {shown[-1]} are the best finalists within noise, by "
        "validation accuracy"
    )


def _best(summary: Summary) -> str:
    if summary.best is None:
        return "-"
    front = f", front of {len(summary.front)}" if summary.front else ""
    return f"{summary.best.accuracy:.4f} (trial {summary.best.number}{front})"


def show_report(name: str, against: str | None, home: Home, console: Console) -> None:
    """Print the report of a search, optionally compared with another one, and write its page."""
    stored = StoredSearch(home.existing(name))
    gathered = Gathered.of(stored)
    compared = []
    if against is not None:
        other = StoredSearch(home.existing(against))
        compared = [
            comparability((name, gathered.data), (against, other.folder.data)),
            compare((name, stored.trials), (against, other.trials)),
            compare((against, other.trials), (name, stored.trials)),
        ]
    print_report(console, [*gathered.sections(), *compared])
    page = search_page(gathered, compared)
    try:
        stored.folder.report.write_text(page, encoding="utf-8")
    except OSError as error:
        if error.errno in NOT_ALLOWED:
            say(console, f"\nWeb page: not written; {stored.folder.path} is not yours to write")
            return
        problem = f"cannot write the web page ({error.strerror})"
        remedy = "free disk space, or ask the owner of the folder"
        raise BadInputError("NAME", stored.folder.report, problem, remedy) from error
    say(console, f"\nWeb page: {stored.folder.report}")
    if gathered.finalists or gathered.summary.best:
        say(console, f"Use it:   {home.export_command(name)}")


def sync_search(name: str, home: Home, console: Console) -> None:
    """Send the events that have not arrived in MLflow yet."""
    folder = home.existing(name)
    experiment = load_experiment(folder.experiment)
    destination = Destination.of_search(folder, experiment.tracking.experiment)
    before = folder.tracked_at
    if before is not None and before != destination.shown:
        say(console, f"{name} was tracked at {before}; sending it to {destination.shown} as well")
    done = sync(folder.journal, destination, folder.identity)
    say(
        console,
        f"{plural(done.events, 'event')} of {plural(done.runs, 'run')} sent to "
        f"{destination.shown}; "
        f"compare: {ui_command(destination)}",
    )
