"""Turns errors in the user's code into messages of one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from spaces.errors import BadInputError
from spaces.user_code import place_of
from trainables.images.errors import UnusableDataError, cause


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Report an error in the user's code with its file and line.

    Args:
        what: the subject of the message, such as ``the function``.

    Raises:
        UnusableDataError: the user's code raised an error or ended the process.
    """
    try:
        yield
    except (UnusableDataError, BadInputError):
        raise
    except (Exception, SystemExit) as error:
        exits = isinstance(error, SystemExit)
        raise UnusableDataError(
            f"{what} raised {type(error).__name__}: {cause(error)}{place_of(error)}",
            "call neither sys.exit nor argparse in it" if exits else "fix the function",
        ) from error
