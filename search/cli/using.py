"""The commands that use a trained network: `export`, `predict` and `retrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli.application import (
    FAILED,
    INTERRUPTED,
    AddressOption,
    HomeOption,
    JsonOption,
    SetOption,
    app,
    as_json,
)
from search.console import make_console, output, warn
from spaces.errors import BadInputError

TrainedArgument = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        help="NAME (best finalist of a search), NAME:TRIAL, NAME:TRIAL@LABEL (retrained), or "
        "NAME:champion (of its nights).",
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


@app.command(epilog="Example: python search.py predict quickstart photos/")
def predict(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="NAME (best finalist of a search), NAME:TRIAL, NAME:TRIAL@LABEL (retrained), "
            "NAME:champion, or an exported folder.",
        ),
    ],
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH..", help="Images, and folders of images.")
    ],
    top: Annotated[int, typer.Option(min=1, help="Number of classes in the table.")] = 1,
    csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV with a column for each class instead.")
    ] = False,
    json_: JsonOption = False,
    device: DeviceOption = None,
    home: HomeOption = None,
) -> int:
    """Print the class of images; exit with code 1 if one cannot be read."""
    from search.experiment.folder import Home
    from search.nightly.champion_probe import load_named
    from search.reporting import predicting
    from search.reporting.trained_networks import SearchNetworks, best_seed

    if csv and json_:
        raise BadInputError("--csv", "--json", "are two formats", "use one of the two")
    files = predicting.find_files(paths)
    # Notes of a search are no part of a table for other programs.
    console = make_console(stderr=csv or json_)
    if predicting.is_exported(network):
        predictor = predicting.open_exported(Path(network))
    else:
        networks = SearchNetworks(Home.locate(home), network, console, device)
        predictor = predicting.predictor_of(networks, load_named(networks, best_seed))
    found = predicting.predict_files(predictor, files, console)
    if json_:
        as_json(found.as_document())
    elif csv:
        output(found.as_csv())
    else:
        predicting.show_predictions(found, top, console)
    return FAILED if found.unreadable else 0


@app.command(epilog="Example: python search.py retrain quickstart:3 --epochs 200")
def retrain(
    trial: Annotated[
        str,
        typer.Argument(
            metavar="NAME:TRIAL",
            help="A trained trial of a search, or NAME:TRIAL@LABEL to go on from a retraining.",
        ),
    ],
    epochs: Annotated[
        str | None,
        typer.Option(
            metavar="LENGTH", help="Epochs, or such as '2000 steps' (default: as the search)."
        ),
    ] = None,
    set_: SetOption = None,
    from_weights: Annotated[
        bool, typer.Option("--from-weights", help="Start from the weights of the finalist.")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Number of seeds (default: as each finalist).")
    ] = None,
    as_: Annotated[
        str | None,
        typer.Option("--as", metavar="LABEL", help="Label (default: names the changes)."),
    ] = None,
    home: HomeOption = None,
    address: AddressOption = "local",
) -> int:
    """Train a trial longer or otherwise as a finalist of its own, and compare it with the trial.

    --set changes epochs, augmentation, balance, recipe, test_time_flip or compile. The same command
    again continues a retraining that was interrupted.
    """
    from search.driver.retrain import RetrainRequest, retrain_trial
    from search.experiment.folder import Home

    request = RetrainRequest(trial, epochs, tuple(set_ or ()), from_weights, as_, seeds)
    outcome = retrain_trial(request, Home.locate(home), make_console(), address)
    return INTERRUPTED if outcome.interrupted else 0
