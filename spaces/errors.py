"""Errors of the project: invalid user input and invalid draws."""

import re

_PASSWORD = re.compile(
    r"(?<=://)[^\s/@]*:\S*(?=@)|(?:(?<=[?&]password=)|(?<=[?&]sslpassword=))[^\s&]*"
)
"""User and password of a URL, also of a URL that is cut off."""


class BadInputError(ValueError):
    """The user gave a value that cannot be used.

    Every package raises this error for a user's mistake. The command line prints it as one line
    and exits with code 2.

    Args:
        field: name that the user knows (``space.depth``, ``data``, ``--set``).
        value: as given by the user.
        problem: why the value cannot be used.
        remedy: what to do instead.

    Example:
        >>> print(BadInputError("epochs", 0, "is below 1", "use 1 or more"))
        epochs = 0: is below 1; use 1 or more
        >>> print(BadInputError("data", " digits", "is unknown", "remove the blank"))
        data = ' digits': is unknown; remove the blank
    """

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        self.field = field
        self.value = value
        self.problem = problem
        self.remedy = remedy
        super().__init__(field, value, problem, remedy)

    def __str__(self) -> str:
        """Return the message as one line without passwords of URLs."""
        value = str(self.value)
        shown = value if len(value) <= 120 else value[:117] + "..."
        if value != value.strip():
            shown = repr(shown)  # Quotes, so that a user sees the blanks.
        line = f"{self.field} = {shown!s}: {self.problem}; {self.remedy}"
        return _PASSWORD.sub("***", " ".join(line.split()))


class InvalidCandidateError(ValueError):
    """Drawn values are in range, but together do not describe a network.

    A space function raises this error after it has drawn all its values. The search then rejects
    the candidate and reports the violation to the sampler.

    Args:
        detail: the violated rule with its values.
        violation: over 0, and the smaller the nearer the values are to a network.
    """

    def __init__(self, detail: str, violation: float) -> None:
        self.detail = detail
        self.violation = violation
        super().__init__(detail, violation)

    def __str__(self) -> str:
        """Return the detail."""
        return self.detail
