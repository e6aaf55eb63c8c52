"""Prints lines for people: results to standard output, notes and warnings to standard error.

These lines are no log: MLflow's and Ray's clients reconfigure and silence loggers, and a line for
the user must appear all the same. Every function returns normally if nobody reads the output any
more, because a search must not end with its terminal.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 140
"""Columns of tables in a file or a log; rich would assume a terminal of 80."""


_SCRIPT, _COMMAND = "search.py", "borderline"
_state = {"verbose": False}


def program() -> str:
    """Return how to call this program from the current folder, for commands that can be copied.

    This is ``borderline`` where the user typed that, else ``python`` and the path of search.py.
    """
    typed = _typed()
    if typed.name == _COMMAND:
        return _COMMAND if shutil.which(_COMMAND) else shlex.quote(str(typed))
    if typed.name != _SCRIPT:
        return f"python {_SCRIPT}"  # Not the command line, but Python of the user.
    script = _SCRIPT if Path(_SCRIPT).resolve() == typed.resolve() else str(typed)
    return f"python {shlex.quote(script)}"


def program_name() -> str:
    """Return the name with which the program speaks: search.py, or borderline."""
    return _COMMAND if _typed().name == _COMMAND else _SCRIPT


def _typed() -> Path:
    return Path(sys.argv[0] if sys.argv else "")


def set_verbose(verbose: bool = True) -> None:
    """Print details from here on, or none."""
    _state["verbose"] = verbose


def is_verbose() -> bool:
    """Tell whether the user asked for details."""
    return _state["verbose"]


def detail(line: str) -> None:
    """Print a line to standard error if the user asked for details."""
    if is_verbose():
        note(line)


def make_console(*, stderr: bool = False) -> Console:
    """Return the console of a command.

    Args:
        stderr: whether it prints to standard error: standard output is for other programs then.
    """
    # Modules that only print notes do without rich.
    from rich.console import Console  # noqa: PLC0415

    class SearchConsole(Console):
        """A console that falls silent on a closed pipe, where rich would exit the process."""

        def on_broken_pipe(self) -> None:
            """Write nothing from here on: Ctrl-C also ends the `tee` that a search is piped to."""
            self.quiet = True
            _discard(sys.stderr if stderr else sys.stdout)

    console = SearchConsole(stderr=stderr)
    return console if console.is_terminal else SearchConsole(width=_WIDTH, stderr=stderr)


def say(console: Console, line: str) -> None:
    """Print a line as it is: without markup, highlighting or line breaks of rich's own.

    Commands and paths in it can be copied from the terminal.
    """
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def output(text: str) -> None:
    """Print what another program may read to standard output."""
    print(text)  # noqa: T201


def note(line: str, source: str = "") -> None:
    """Print a line to standard error.

    Args:
        line: to print.
        source: part of the program that the line comes from; printed before it.
    """
    try:
        print(f"{source}: {line}" if source else line, file=sys.stderr, flush=True)  # noqa: T201
    except BrokenPipeError:
        _discard(sys.stderr)
    except (OSError, ValueError):  # A full disk, or a closed stream.
        return


def warn(line: str) -> None:
    """Print a warning or an error of the command to standard error."""
    note(line, program_name())


def _discard(stream: TextIO) -> None:
    """Redirect a stream without a reader to the null device: it would change the exit code."""
    with suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
