"""How the readers of image data say that the data cannot be used."""


class UnusableDataError(Exception):
    """Something in the data source cannot be used.

    Readers deep inside an archive do not know what the user wrote; :func:`trainables.data.load`
    does, and turns this into the :class:`spaces.errors.BadInputError` that the user reads.

    Args:
        problem: why the data cannot be used.
        remedy: what to do instead.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(problem, remedy)


def printable(text: str) -> str:
    """Return text with whatever a terminal would not print as it is escaped.

    Names of files are whatever an archive says: terminal escapes, line breaks, even bytes that
    are not text at all.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def shown(name: str, longest: int = 120) -> str:
    """Return the name of a file for a message: printable, and of a long one only the end."""
    text = printable(name)
    return text if len(text) <= longest else "..." + text[3 - longest :]


def brief(text: str, longest: int = 200) -> str:
    """Return what another library says for a message: printable, and of a long one the start."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= longest else line[: longest - 3] + "..."


def cause(error: BaseException) -> str:
    """Return what an error says as one short line, or its kind where it says nothing."""
    return brief(str(error)) or type(error).__name__
