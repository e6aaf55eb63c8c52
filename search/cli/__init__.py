"""The command line: ``borderline``, ``python search.py`` and ``ray submit cluster.yaml search.py``.

Each module of this package defines a group of commands; `main` runs one of them.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

import typer

from cluster.launched import join_own_cluster

from search.cli import running, networks, reading, using, upkeep, files, publishing  # isort: skip
from search.cli.application import BAD_INPUT, FAILED, INTERRUPTED, app
from search.console import is_verbose, note, program, program_name, set_verbose, warn
from spaces.errors import BadInputError

__all__ = ["BAD_INPUT", "FAILED", "INTERRUPTED", "app", "main", "start"]

COMMANDS = (running, networks, reading, using, upkeep, files, publishing)
"""Modules with commands, in the order of the help."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Bad input prints one line on standard error and returns 2; an interruption returns 130.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    set_verbose(False)
    try:
        result = _command()(args=arguments, prog_name=program_name(), standalone_mode=False)
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
        _trace()
        warn(str(error))
        return FAILED
    except Exception as error:
        # Errors of the parser; not every version of typer exports their class.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        return _refuse(f"{message()} (see: {program()} --help)")
    if result == INTERRUPTED:  # The parser returns this for Ctrl-C, too, but prints nothing.
        note("interrupted")
    return int(result or 0)


def start() -> int:
    """Run the installed command: on the head of a launched cluster, it joins this cluster."""
    join_own_cluster(Path.home() / "search.py")
    return main()


def _command() -> Any:
    """Return the parser, in which --verbose may also follow the command."""
    group: Any = typer.main.get_command(app)
    (verbose,) = (each for each in group.params if each.name == "verbose")
    for command in group.commands.values():
        command.params.append(verbose)
        command.epilog = (command.epilog or "").replace("python search.py", program())
    return group


def _refuse(line: str) -> int:
    _trace()
    warn(" ".join(line.split()))
    return BAD_INPUT


def _trace() -> None:
    """Print the traceback of the current error if the user asked for it."""
    if is_verbose():
        note(traceback.format_exc().rstrip())
