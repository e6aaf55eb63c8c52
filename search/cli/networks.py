"""The commands about networks: `screen`, `analyze` and `probe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from search.cli.application import (
    FAILED,
    ExperimentArgument,
    HomeOption,
    JsonOption,
    SetOption,
    app,
    as_json,
)
from search.console import make_console, note
from spaces.errors import BadInputError


@app.command(epilog="Example: python search.py screen experiments/quickstart.yaml --draws 1000")
def screen(
    experiment: ExperimentArgument,
    set_: SetOption = None,
    draws: Annotated[int, typer.Option(min=1, help="Number of candidates to draw.")] = 1000,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Train three networks for an epoch to predict the time."),
    ] = False,
    json_: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Draw random candidates and count rejections, without a search.

    Refuses what `run` would refuse, and shows the images, every option of the space, and the range
    of sizes. --measure predicts time and money on this machine.
    """
    from search.experiment.folder import Home
    from search.experiment.loading import load_experiment
    from search.reporting.screening import screen_space

    loaded, console = load_experiment(experiment, set_ or []), make_console()

    def check(prepared: Any, dataset: Any) -> None:
        from search.driver.warm_start import read_warm_start

        completed = prepared.experiment
        data = dataset.identify(completed.decoding)
        place = Home.locate(home)
        read_warm_start(place, completed, data, prepared.space, prepared.screens, note)

    screen_space(loaded, draws, console, check, as_json=json_, measured=measure)
    return 0


@app.command(epilog="Example: python search.py analyze torchvision:resnet18 --resolution 32")
def analyze(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="Named network (vgg16), SEARCH:TRIAL, torchvision:NAME, module:Class, or the "
            "JSON file of a candidate.",
        ),
    ],
    resolution: Annotated[
        str | None, typer.Option(metavar="PIXELS", help="Size of the images, such as 32 or 64x48.")
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Number of image channels.")] = 3,
    rule: Annotated[
        str, typer.Option(help="Border rule: previous-conv, direct-input or non-strict.")
    ] = "previous-conv",
    keep_border: Annotated[
        bool, typer.Option("--keep-border", help="Keep the border layer when truncating.")
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="STEM", help="Plot receptive fields to STEM.png and STEM.svg."),
    ] = None,
    effective: Annotated[
        bool,
        typer.Option("--effective", help="Measure effective receptive fields, too."),
    ] = False,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights for --effective: state dict, safetensors."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Images for --effective, such as images:PATH; default: noise."),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a remedied network as Python code."),
    ] = None,
    remedy: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Number of this remedy in the table; default: 1."),
    ] = None,
    json_: JsonOption = False,
    fail: Annotated[
        bool,
        typer.Option("--fail-on-unproductive", help="Exit with code 1 if a layer is unproductive."),
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Known unproductive layers, which do not fail."),
    ] = None,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Write the unproductive layers to --baseline.")
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(metavar="OLD", help="Compare with another network, or a file of --json."),
    ] = None,
    sarif: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write findings as SARIF.")
    ] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Print findings as an annotation of GitHub.")
    ] = False,
    home: HomeOption = None,
) -> int:
    """Show receptive fields, border layer and remedies of a network, without training."""
    from search.experiment.folder import Home
    from search.reporting.analysis.checking import CheckOptions, check_document
    from search.reporting.analysis.comparing import show_comparison
    from search.reporting.analysis.effective import EffectiveOptions
    from search.reporting.analysis.models import ModelReference, parse_resolution, parse_rule
    from search.reporting.analysis.table import show_analysis
    from search.reporting.analysis.writing import RemedyChoice
    from search.reporting.analyze import AnalyzeRequest, analyze_model

    for option, value in (("--weights", weights), ("--data", data)):
        if value is not None and not effective:
            raise BadInputError(option, value, "is only for --effective", "add --effective")
    if remedy is not None and write is None:
        raise BadInputError("--remedy", remedy, "is only for --write", "add --write FILE")
    size = None if resolution is None else parse_resolution(resolution)
    request = AnalyzeRequest(
        ModelReference(model, size, channels),
        parse_rule(rule),
        keep_border,
        EffectiveOptions(weights, data) if effective else None,
        None if write is None else RemedyChoice(1 if remedy is None else remedy, write),
        compare,
    )
    checks = CheckOptions(fail, baseline, update_baseline, sarif, github)
    checks.refuse_contradictions(as_json=json_)
    console = make_console()
    document = analyze_model(request, Home.locate(home), make_console(stderr=True))
    if json_:
        as_json(document.plain())
    else:
        show_analysis(document, console)
        show_comparison(document, console)
    if picture is not None:
        from search.reporting.analysis.picture import draw_analysis

        try:
            files = draw_analysis(document, picture)
        except (OSError, ValueError) as error:
            raise BadInputError("--picture", picture, str(error), "name a file to write") from None
        for file in files:
            note(f"drawn: {file}")
    return FAILED if check_document(document, request.reference, checks) else 0


@app.command(epilog="Example: python search.py probe quickstart")
def probe(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="NAME (best finalist of a search), NAME:TRIAL, NAME:champion (of its nights), "
            "or your own trained network as module:function or torchvision:NAME.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Images for your own network, such as images:PATH or digits."),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(metavar="PIXELS", min=1, help="Side of these images.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights of your own network: state dict, safetensors."),
    ] = None,
    normalize: Annotated[
        str, typer.Option(help="Normalisation for your own network: data, imagenet or none.")
    ] = "data",
    images: Annotated[int, typer.Option(min=2, help="Most images of each split.")] = 1000,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="PROBES",
            help="Some of saturation, probe, triviality, disabled, field, with commas between.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of picture and data; default: of the search."),
    ] = None,
    json_: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the data to FILE.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu or cuda; default: of the search.")
    ] = None,
    home: HomeOption = None,
) -> int:
    """Measure what each convolution of a trained network contributes, over its depth."""
    from search.experiment.folder import Home
    from search.nightly.champion_probe import is_champion, probe_champion
    from search.reporting.probe import ProbeRequest, probe_own, probe_search

    place, console = Home.locate(home), make_console()
    request = ProbeRequest(network, images, only, out, json_, device)
    if request.is_own_network(place):
        probe_own(request, data, resolution, weights, normalize, console)
        return 0
    request.refuse_options_of_own_networks(data, resolution, weights, normalize)
    if is_champion(network):
        probe_champion(request, place, console)
    else:
        probe_search(request, place, console)
    return 0
