"""The commands that use a trained network: `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli.application import FAILED, HomeOption, app
from search.console import make_console, warn

TrainedArgument = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        help="NAME (best finalist of a search), NAME:TRIAL, or NAME:champion (of its nights).",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="To train a trial again: auto, cpu or cuda; default: of the search."),
]


@app.command(epilog="Example: python search.py export quickstart --to my-model")
def export(
    network: TrainedArgument,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder of the files.")],
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Average the networks of all seeds.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the network (default: the best on validation)."),
    ] = None,
    pixels: Annotated[
        str,
        typer.Option("--input", metavar="TYPE", help="uint8 in 0..255, or float in 0..1."),
    ] = "uint8",
    int8: Annotated[bool, typer.Option(help="Also write a quantised model.")] = True,
    images: Annotated[
        int, typer.Option(min=1, help="Most test images on which the files are checked.")
    ] = 2000,
    device: DeviceOption = None,
    home: HomeOption = None,
) -> int:
    """Export a trained network to files that need nothing of Borderline."""
    from search.experiment.folder import Home
    from search.nightly.champion_probe import load_named
    from search.reporting.exporting import ExportRequest, export_networks
    from search.reporting.trained_networks import SearchNetworks
    from trainables.export.checking import DifferentAnswersError

    request = ExportRequest(to, ensemble, seed, pixels, int8, images)
    request.check()
    console = make_console()
    networks = SearchNetworks(Home.locate(home), network, console, device)
    try:
        export_networks(networks, load_named(networks, request.choose), request, console)
    except DifferentAnswersError as error:
        warn(str(error))
        return FAILED
    return 0
