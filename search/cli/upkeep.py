"""The commands that change stored searches: `sync` and `delete`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from search.cli.application import FAILED, HomeOption, NameArgument, app
from search.console import make_console, note, output
from spaces.errors import BadInputError


@app.command(epilog="Example: python search.py sync quickstart")
def sync(name: NameArgument, home: HomeOption = None) -> int:
    """Send to MLflow what it has not received from the journal of a search."""
    from search.experiment.folder import Home
    from search.reporting.status import sync_search

    sync_search(name, Home.locate(home), make_console())
    return 0


@app.command(epilog="Example: python search.py delete quickstart-2 --yes")
def delete(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before deleting.")] = False,
    keep_runs: Annotated[
        bool, typer.Option("--keep-runs", help="Leave the runs in MLflow.")
    ] = False,
    home: HomeOption = None,
) -> int:
    """Delete a search: its folder, study, copy in a bucket and runs in MLflow.

    Prints what is deleted, and asks before it deletes anything.
    """
    from search.driver.deletion import plan_deletion
    from search.experiment.folder import Home

    deletion = plan_deletion(Home.locate(home), name, keep_runs=keep_runs)
    output(f"delete search {name}:")
    for line in deletion.describe():
        output(f"  {line}")
    if not yes:
        if not sys.stdin.isatty():
            raise BadInputError("--yes", "missing", "nobody can be asked", "add --yes to delete")
        if not typer.confirm("Delete?"):
            note("nothing was deleted")
            return FAILED
    deletion.carry_out()
    output("deleted")
    return 0
