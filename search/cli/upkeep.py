"""The commands that change stored searches: `sync`."""

from __future__ import annotations

from search.cli.application import HomeOption, NameArgument, app
from search.console import make_console


@app.command(epilog="Example: python search.py sync quickstart")
def sync(name: NameArgument, home: HomeOption = None) -> int:
    """Send to MLflow what it has not received from the journal of a search."""
    from search.experiment.folder import Home
    from search.reporting.status import sync_search

    sync_search(name, Home.locate(home), make_console())
    return 0
