"""The commands that read stored searches: `status`, `report`."""

from __future__ import annotations

from typing import Annotated

import typer

from search.cli.application import HomeOption, NameArgument, OptionalNameArgument, app
from search.console import make_console


@app.command(epilog="Example: python search.py status quickstart")
def status(
    name: OptionalNameArgument = None,
    home: HomeOption = None,
) -> int:
    """Show the progress of one or all searches; they may be running."""
    from search.experiment.folder import Home
    from search.reporting.status import show_status

    show_status(name, Home.locate(home), make_console())
    return 0


@app.command(epilog="Example: python search.py report quickstart --against no-border")
def report(
    name: NameArgument,
    against: Annotated[
        str | None, typer.Option(metavar="OTHER", help="Search to compare with.")
    ] = None,
    home: HomeOption = None,
) -> int:
    """Show the leaderboard, finalists, rejections and savings of a search."""
    from search.experiment.folder import Home
    from search.reporting.status import show_report

    show_report(name, against, Home.locate(home), make_console())
    return 0
