"""What can be looked at without training: spaces, candidates, running and finished searches."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from search.console import say
from search.experiment.folder import Home
from search.experiment.loading import load_experiment
from search.formatting import duration
from search.reporting.report import build_report, compare
from search.reporting.sections import as_html, print_report
from search.reporting.stored_search import SearchView
from search.study.summary import Summary, summarise
from search.tracking.tracker import Destination, sync, ui_command
from spaces.errors import BadInputError

_STOPPED = {"interrupted": "is interrupted", "failed": "has failed"}


def show_status(name: str | None, home: Home, console: Console) -> None:
    """Show how far one search, or every search, is."""
    names = home.names() if name is None else [home.existing(name).name]
    if not names:
        say(console, f"no search in {home.path} yet; start one: python search.py")
        return
    table = Table(box=None, header_style="dim")
    for column in (
        "search",
        "trained",
        "running",
        "interrupted",
        "rejected",
        "saved",
        "best",
        "test accuracy",
        "state",
    ):
        table.add_column(column)
    below: list[str] = []
    for each in names:
        try:
            view = SearchView(home.folder(each))
            finalists = view.finalists
        except BadInputError as error:
            if name is not None:
                raise
            # One search that has only just been made, or is damaged, does not hide the others.
            below.append(f"{each} cannot be shown: {error}")
            continue
        summary = summarise(view.trials)
        test = finalists[0].shown if finalists else "-"
        if view.state in _STOPPED:
            command = home.command("resume", each)
            below.append(f"{each} {_STOPPED[view.state]}; go on with: {command}")
        table.add_row(
            each,
            f"{summary.trained}/{view.experiment.budget.trials}",
            str(summary.running),
            str(summary.interrupted),
            ", ".join(f"{reason} {n}" for reason, n in summary.rejections.items()) or "0",
            duration(summary.savings.total),
            _best(summary),
            test,
            view.state,
        )
    console.print(table, highlight=False)
    for line in below:
        say(console, line)


def _best(summary: Summary) -> str:
    if summary.best is None:
        return "-"
    front = f", front of {len(summary.front)}" if summary.front else ""
    return f"{summary.best.accuracy:.4f} (trial {summary.best.number}{front})"


def show_report(name: str, against: str | None, home: Home, console: Console) -> None:
    """Show what a search has found, and how it differs from another one."""
    view = SearchView(home.existing(name))
    sections = build_report(view.experiment, view.trials, view.finalists, view.space)
    if against is not None:
        other = SearchView(home.existing(against))
        sections += [
            compare((name, view.trials), (against, other.trials)),
            compare((against, other.trials), (name, view.trials)),
        ]
    print_report(console, sections)
    page = as_html(f"Search {name}", sections)
    try:
        view.folder.report.write_text(page, encoding="utf-8")
    except OSError as error:
        problem = f"the page cannot be written there ({error.strerror})"
        remedy = "make room, or ask its owner for one"
        raise BadInputError("NAME", view.folder.report, problem, remedy) from error
    say(console, f"\nAs a page: {view.folder.report}")


def sync_search(name: str, home: Home, console: Console) -> None:
    """Replay what the tracking server has not got yet."""
    view = home.existing(name)
    experiment = load_experiment(view.experiment)
    destination = Destination.from_environment(home.path, experiment.tracking.experiment)
    done = sync(view.journal, destination, view.identity)
    say(
        console,
        f"{done.events} events of {done.runs} runs sent to {destination.shown}; "
        f"compare: {ui_command(destination)}",
    )
