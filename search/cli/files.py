"""The commands that print or write files to start from: `schema` and `new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search.cli.application import app, as_json
from search.console import note, output, program
from spaces.errors import BadInputError


@app.command(epilog="Example: python search.py schema > experiment.schema.json")
def schema() -> int:
    """Print the JSON Schema of the experiment file, by which an editor completes and checks it."""
    from search.experiment.json_schema import experiment_schema

    as_json(experiment_schema())
    return 0


_KINDS = "space, data, metric or augmentation."


@app.command(epilog="Example: python search.py new space my_space.py")
def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=_KINDS)],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE.py", help="File to write; default: my_KIND.py."),
    ] = None,
) -> int:
    """Write a module of your own to start from, such as a space or a metric."""
    from search.templates.modules import KINDS, new_module

    if kind not in KINDS:
        raise BadInputError("KIND", kind, "there is no such template", f"use {', '.join(KINDS)}")
    path = file or Path(f"my_{kind}.py")
    if path.suffix != ".py" or not path.stem.isidentifier():
        remedy = f"write e.g. my_{kind}.py"
        raise BadInputError("FILE.py", path, "is no name of a module of Python", remedy)
    try:
        with path.open("x", encoding="utf-8") as opened:
            opened.write(new_module(kind, path.stem, program()))
    except FileExistsError:
        raise BadInputError("FILE.py", path, "exists", "name another file") from None
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise BadInputError("FILE.py", path, problem, "name another file") from None
    output(str(path))
    note(f"use it with: {KINDS[kind].format(module=path.stem)}")
    return 0
