"""The commands that read stored searches, such as `status`, `report` and `compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from search.cli.application import (
    HomeOption,
    JsonOption,
    NameArgument,
    OptionalNameArgument,
    app,
    as_json,
)
from search.console import make_console, output, say
from spaces.errors import BadInputError


@app.command("list", epilog="Example: python search.py list --json")
def list_(json_: JsonOption = False, home: HomeOption = None) -> int:
    """List all searches with their folders, without reading their trials."""
    from search.experiment.folder import Home
    from search.reporting.documents import list_documents
    from search.reporting.status import show_list

    place = Home.locate(home)
    if json_:
        as_json(list_documents(place))
    else:
        show_list(place, make_console())
    return 0


@app.command(epilog="Example: python search.py status quickstart --watch")
def status(
    name: OptionalNameArgument = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every few seconds while a search runs.")
    ] = False,
    json_: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Show the progress of one or all searches; they may be running."""
    from search.experiment.folder import Home
    from search.reporting.status import show_status, watch_status

    place = Home.locate(home)
    if watch and json_:
        raise BadInputError("--watch", "with --json", "are two forms", "use one of the two")
    if watch:
        watch_status(name, place, make_console())
    elif json_:
        from search.reporting.documents import status_document, status_documents
        from search.reporting.stored_search import StoredSearch

        if name is None:
            as_json(status_documents(place.names(), place))
        else:
            as_json(status_document(StoredSearch(place.existing(name))))
    else:
        show_status(name, place, make_console())
    return 0


@app.command(epilog="Example: python search.py report quickstart --against no-border")
def report(
    name: NameArgument,
    against: Annotated[
        str | None, typer.Option(metavar="OTHER", help="Search to compare with.")
    ] = None,
    json_: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Show the leaderboard, finalists, rejections and savings of a search."""
    from search.experiment.folder import Home
    from search.reporting.status import show_report

    place = Home.locate(home)
    if json_:
        from search.reporting.documents import report_document
        from search.reporting.stored_search import StoredSearch

        if against is not None:
            remedy = "leave out one of the two"
            raise BadInputError("--against", against, "is not part of the JSON document", remedy)
        as_json(report_document(StoredSearch(place.existing(name))))
    else:
        show_report(name, against, place, make_console())
    return 0


@app.command(epilog="Example: python search.py compare quickstart no-border")
def compare(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME ..", help="Searches, or nights as NAME:NIGHT; two or more."),
    ],
    json_: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Compare searches or nights with the first: settings, accuracies, costs, and time.

    Writes a page with curves beside the searches; it overwrites no file.
    """
    from search.experiment.folder import Home
    from search.nightly.arms import arm_of
    from search.reporting.compare.comparison import build, document, page_line
    from search.reporting.rendering import print_report

    if len(set(names)) < 2 or len(set(names)) < len(names):
        problem = "compares a search with itself" if len(names) > 1 else "is a single search"
        raise BadInputError("compare", names[-1], problem, "name two or more different searches")
    place = Home.locate(home)
    arms = [arm_of(place, name) for name in names]
    sections = build(arms)
    if json_:
        as_json(document(arms, sections))
        return 0
    console = make_console()
    print_report(console, sections)
    say(console, f"\n{page_line(place, arms, sections)}")
    return 0


@app.command(epilog="Example: python search.py trials quickstart --csv")
def trials(
    name: NameArgument,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header instead.")] = False,
    json_: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """List every candidate of a search with its values, costs and outcome."""
    from search.experiment.folder import Home
    from search.reporting.stored_search import StoredSearch
    from search.reporting.trial_table import as_csv, print_trials, trial_rows

    if csv and json_:
        raise BadInputError("--csv", "with --json", "are two forms", "use one of the two")
    stored = StoredSearch(Home.locate(home).existing(name))
    rows = trial_rows(stored.experiment, stored.trials)
    if csv:
        output(as_csv(rows).rstrip("\n"))
    elif json_:
        as_json(rows)
    else:
        print_trials(rows, make_console())
    return 0


@app.command(epilog="Example: python search.py explain quickstart:3")
def explain(
    trial: Annotated[
        str, typer.Argument(metavar="NAME:TRIAL", help="A search and the number of a trial.")
    ],
    json_: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Explain why a trial was rejected, stopped or failed, with the value and the limit."""
    from search.experiment.folder import Home
    from search.reporting.explanation import explain_trial

    found = explain_trial(trial, Home.locate(home))
    if json_:
        as_json(found.document())
        return 0
    console = make_console()
    say(console, f"{found.trial}: {found.outcome}")
    for sentence in found.sentences:
        say(console, sentence)
    return 0
