"""The application: exit codes, the arguments that commands share, and the global options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from search.console import output, set_verbose

BAD_INPUT, INTERRUPTED, FAILED = 2, 130, 1

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Search CNN architectures and never train layers that cannot help. "
    "Without a command, run the quickstart: a search on bundled images.",
)


def _names(incomplete: str) -> list[str]:
    """Return the searches that a shell may complete."""
    from search.experiment.folder import Home
    from spaces.errors import BadInputError

    try:
        return [name for name in Home.locate().names() if name.startswith(incomplete)]
    except BadInputError:
        return []


def _home(context: typer.Context, value: Path | None) -> Path | None:
    """Return --home of the command, or else the one before the command."""
    before = context.parent.params.get("home") if context.parent is not None else None
    return before if value is None else value


def _verbose(value: bool) -> None:
    # Before and after the command: either one counts.
    if value:
        set_verbose()


def _version(value: bool) -> None:
    if value:
        output(f"borderline {version()}")
        raise typer.Exit


def version() -> str:
    """Return the version of the installed project, or of the source that runs."""
    import tomllib
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("borderline")
    except PackageNotFoundError:
        source = Path(__file__).resolve().parents[2] / "pyproject.toml"
        return str(tomllib.loads(source.read_text(encoding="utf-8"))["project"]["version"])


HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        callback=_home,
        help="Folder of all searches (default: BORDERLINE_HOME or runs).",
    ),
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose",
        callback=_verbose,
        expose_value=False,
        help="Also print details, and the traceback of an error.",
    ),
]
VersionOption = Annotated[
    bool,
    typer.Option(
        "--version",
        callback=_version,
        is_eager=True,
        expose_value=False,
        help="Print the version.",
    ),
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
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of a search.", autocompletion=_names)
]
OptionalNameArgument = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="Name of a search; default: all.", autocompletion=_names),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]


def as_json(document: Any) -> None:
    """Print a document for other programs."""
    import json

    output(json.dumps(document, allow_nan=False))
