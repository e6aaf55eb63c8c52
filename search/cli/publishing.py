"""The command `reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli.application import app
from search.console import output
from spaces.errors import BadInputError


@app.command(epilog="Example: python search.py reproduce batchnorm_only")
def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name of an experiment; default: list all."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="reduced (two CPU cores) or full (settings of the publication); default: full on "
            "a GPU, else reduced."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[SET=]SOURCE",
            help="Images, such as images:PATH; repeatable, with the name of the set if there are "
            "several (default: download).",
        ),
    ] = None,
    work: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of finished trainings and pages.")
    ] = Path("runs/reproductions"),
    workers: Annotated[
        int | None,
        typer.Option(help="Trainings at a time; default: one per CPU core, or one on a GPU."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    quick: Annotated[
        bool, typer.Option("--quick", help="Check the installation: one epoch on few images.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Train nothing; write the page of finished trainings.")
    ] = False,
    results: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the results as CSV files.")
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Write the page from CSV files; train nothing."),
    ] = None,
) -> int:
    """Reproduce a published experiment, and write a page with measured and published numbers.

    The same command continues an interrupted or killed run.
    """
    try:
        from experiments.reproduction.command import Request, list_experiments
        from experiments.reproduction.command import reproduce as run_experiment
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "experiments":
            raise
        problem = "the folder experiments/ is not installed"
        remedy = "run the command in the root of the repository"
        raise BadInputError("reproduce", name or "", problem, remedy) from None
    if name is None:
        list_experiments()
        return 0
    request = Request(
        name, protocol, tuple(data or ()), work, workers, device, quick, write, results, from_
    )
    output(f"page: {run_experiment(request)}")
    return 0
