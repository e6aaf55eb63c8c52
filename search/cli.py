"""The command line: ``python search.py`` and ``ray submit cluster.yaml search.py``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from search.console import make_console, note, output, warn
from spaces.errors import BadInputError

BAD_INPUT, INTERRUPTED, FAILED = 2, 130, 1
QUICKSTART = Path(__file__).resolve().parent.parent / "experiments" / "quickstart.yaml"

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Search CNN architectures and never train layers that cannot help. "
    "Without a command, run the quickstart: a search on bundled images.",
)

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of all searches (default: BORDERLINE_HOME or runs)."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a field; repeatable, the last counts."
    ),
]
ExperimentArgument = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT.yaml", help="Experiment file.")
]
AddressOption = Annotated[
    str,
    typer.Option(
        envvar="RAY_ADDRESS", help="Ray cluster; local starts a private one on this machine."
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of a search.")]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Bad input prints one line on standard error and returns 2; an interruption returns 130.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    command: Callable[..., Any] = typer.main.get_command(app)
    try:
        result = command(args=arguments, prog_name="search.py", standalone_mode=False)
    except BadInputError as error:
        return _refuse(str(error))
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except RuntimeError as error:
        from search.driver.outcome import SearchFailedError

        if not isinstance(error, SearchFailedError):
            raise
        warn(str(error))
        return FAILED
    except Exception as error:
        # Errors of the parser; not every version of typer exports their class.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        return _refuse(f"{message()} (see: python search.py --help)")
    if result == INTERRUPTED:  # The parser returns this for Ctrl-C, too, but prints nothing.
        note("interrupted")
    return int(result or 0)


def _refuse(line: str) -> int:
    warn(" ".join(line.split()))
    return BAD_INPUT


@app.callback(invoke_without_command=True)
def quickstart(context: typer.Context, home: HomeOption = None) -> int:
    """Search CNN architectures; without a command, run the quickstart."""
    if context.invoked_subcommand is not None:
        if home is not None:
            remedy = f"write search.py {context.invoked_subcommand} --home {home}"
            raise BadInputError("--home", home, "must follow the command", remedy)
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
) -> int:
    """Run a search: draw, screen and train candidates, retrain the finalists, report."""
    from search.experiment.folder import Home
    from search.experiment.loading import load_experiment

    loaded = load_experiment(experiment, set_ or [])
    folder = Home.locate(home).folder(loaded.name)
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


@app.command(epilog="Example: python search.py screen experiments/quickstart.yaml --draws 1000")
def screen(
    experiment: ExperimentArgument,
    set_: SetOption = None,
    draws: Annotated[int, typer.Option(min=1, help="Number of candidates to draw.")] = 1000,
) -> int:
    """Draw random candidates and count rejections, without training."""
    from search.experiment.loading import load_experiment
    from search.reporting.screening import screen_space

    screen_space(load_experiment(experiment, set_ or []), draws, make_console())
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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    fail: Annotated[
        bool,
        typer.Option("--fail-on-unproductive", help="Exit with code 1 if a layer is unproductive."),
    ] = False,
    home: HomeOption = None,
) -> int:
    """Show receptive fields, border layer and remedies of a network, without training."""
    import json

    from search.experiment.folder import Home
    from search.reporting.analyze import analyze_model, border_summary, show_analysis

    document = analyze_model(model, rule, resolution, channels, keep_border, Home.locate(home))
    if as_json:
        output(json.dumps(document))
    else:
        show_analysis(document, make_console())
    if picture is not None:
        from search.reporting.border_plot import draw_analysis

        try:
            files = draw_analysis(document, picture)
        except (OSError, ValueError) as error:
            raise BadInputError("--picture", picture, str(error), "name a file to write") from None
        for file in files:
            note(f"drawn: {file}")
    if fail and document["border"] is not None:
        warn(border_summary(document))
        return FAILED
    return 0


@app.command(epilog="Example: python search.py status quickstart")
def status(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name of a search; default: all."),
    ] = None,
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


@app.command(epilog="Example: python search.py sync quickstart")
def sync(name: NameArgument, home: HomeOption = None) -> int:
    """Send to MLflow what it has not received from the journal of a search."""
    from search.experiment.folder import Home
    from search.reporting.status import sync_search

    sync_search(name, Home.locate(home), make_console())
    return 0


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
