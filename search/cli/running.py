"""The commands that search: the quickstart, `run`, `resume` and `nightly`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from search import templates
from search.cli.application import (
    INTERRUPTED,
    AddressOption,
    ExperimentArgument,
    HomeOption,
    NameArgument,
    SetOption,
    VerboseOption,
    VersionOption,
    app,
)
from search.console import make_console

QUICKSTART = Path(templates.__file__).resolve().parent / "quickstart.yaml"
"""A link to ``experiments/quickstart.yaml``, because experiments are not installed."""


@app.callback(invoke_without_command=True)
def quickstart(
    context: typer.Context,
    home: HomeOption = None,
    verbose: VerboseOption = False,
    version: VersionOption = False,
) -> int:
    """Search CNN architectures; without a command, run the quickstart."""
    if context.invoked_subcommand is not None:
        return 0
    from search.experiment.folder import Home

    # Each run of the quickstart takes the next free name.
    taken = Home.locate(home)
    name, number = "quickstart", 1
    while taken.folder(name).path.exists():
        number += 1
        name = f"quickstart-{number}"
    address = os.environ.get("RAY_ADDRESS") or "local"
    return run(QUICKSTART, [f"name={name}"], home, address)


@app.command(
    epilog="Example: python search.py run experiments/quickstart.yaml --set budget.trials=50"
)
def run(
    experiment: ExperimentArgument,
    set_: SetOption = None,
    home: HomeOption = None,
    address: AddressOption = "local",
    resume_: Annotated[
        bool, typer.Option("--resume", help="Resume the search of that name if it exists.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything and predict time and money; write and train nothing.",
        ),
    ] = False,
) -> int:
    """Run a search: draw, screen and train candidates, retrain the finalists, report."""
    from search.experiment.folder import Home
    from search.experiment.loading import load_experiment

    loaded = load_experiment(experiment, set_ or [])
    folder = Home.locate(home).folder(loaded.name)
    if dry_run:
        from search.driver.dry_run import preview_search

        preview_search(loaded, Home.locate(home), make_console(), address)
        return 0
    if resume_ and not folder.experiment.exists():
        _restore(loaded.name, loaded.storage, home)
    resuming = resume_ and folder.experiment.exists()
    if resuming:
        from search.driver.resume import as_resumed

        loaded = as_resumed(folder, loaded)
    from search.driver.run import (
        run_search,  # Takes seconds; the file is valid by now.
    )

    outcome = run_search(
        loaded, Home.locate(home), make_console(), address=address, resume=resuming
    )
    return INTERRUPTED if outcome.interrupted else 0


@app.command(epilog="Example: python search.py resume quickstart --set budget.trials=+100")
def resume(
    name: NameArgument,
    set_: SetOption = None,
    home: HomeOption = None,
    address: AddressOption = "local",
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="s3://BUCKET/PREFIX",
            help="Backup of the search; restores the search if its folder is missing "
            "(default: BORDERLINE_STORAGE).",
        ),
    ] = None,
) -> int:
    """Resume a search that was interrupted or killed, or whose budget grows."""
    from search.driver.resume import load_resumed
    from search.experiment.folder import Home

    place = Home.locate(home)
    changes = list(set_ or [])
    if place.folder(name).experiment.exists():
        changes += [] if storage is None else [f"storage={storage}"]
    else:
        _restore(name, storage, home)
    loaded = load_resumed(place.existing(name), changes)
    from search.driver.run import run_search

    outcome = run_search(loaded, place, make_console(), address=address, resume=True)
    return INTERRUPTED if outcome.interrupted else 0


def _restore(name: str, storage: str | None, home: Path | None) -> None:
    """Restore a search from its backup, if it has one."""
    from search.backup.restore import restore_missing
    from search.experiment.folder import Home, check_location, default_storage

    storage = default_storage() if storage is None else check_location(storage, "--storage")
    restore_missing(Home.locate(home), name, storage)


@app.command(epilog="Example: python search.py nightly experiments/nightly.yaml")
def nightly(
    experiment: ExperimentArgument,
    set_: SetOption = None,
    home: HomeOption = None,
    address: AddressOption = "local",
    install: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Install a timer instead: systemd or cron."),
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Print a timer instead: systemd, cron, ray-job or kubernetes.",
        ),
    ] = None,
    at: Annotated[
        str, typer.Option(metavar="HH:MM", help="Time at which the timer starts a night.")
    ] = "01:30",
) -> int:
    """Run one night: continue the search, compare its best network with the champion, report.

    The budget of the experiment is that of one night. The first night starts the search. With
    --install systemd --at 01:30, a timer runs a night every day.
    """
    from search.experiment.folder import Home

    place = Home.locate(home)
    if install is not None or show is not None:
        from search.nightly.timers import install_timer, show_timer

        if install is not None:
            install_timer(install, at, experiment, set_ or [], place, address)
        if show is not None:
            show_timer(show, at, experiment, set_ or [], place, address)
        return 0
    from search.nightly.night import run_night

    interrupted = run_night(experiment, set_ or [], place, make_console(), address)
    return INTERRUPTED if interrupted else 0
