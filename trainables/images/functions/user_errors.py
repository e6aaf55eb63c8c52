"""Turns errors in the user's code into messages of one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from spaces.errors import BadInputError
from spaces.user_code import RAISED_BY_USERS, place_of, remedy_of
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
    except RAISED_BY_USERS as error:
        raise UnusableDataError(
            f"{what} raised {type(error).__name__}: {cause(error)}{place_of(error)}",
            remedy_of(error, "fix the function"),
        ) from error
