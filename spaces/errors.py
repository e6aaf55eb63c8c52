"""The errors of the project: what a user got wrong, and draws that describe no network."""

import re

_PASSWORD = re.compile(
    r"(?<=://)[^\s/@]*:\S*(?=@)|(?:(?<=[?&]password=)|(?<=[?&]sslpassword=))[^\s&]*"
)
"""User and password of an address; cut-off values may lack what would tell them from others."""


class BadInputError(ValueError):
    """A value given by the user that cannot be used.

    Every package raises this for mistakes that are the user's; the command line prints it as one
    line and exits with code 2.

    Args:
        field: what was given, by the name the user knows (``space.depth``, ``data``, ``--set``).
        value: what it was, as given.
        problem: why it cannot be used.
        remedy: what to do instead.
    """

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        self.field = field
        self.value = value
        self.problem = problem
        self.remedy = remedy
        super().__init__(field, value, problem, remedy)

    def __str__(self) -> str:
        """Return the one line that the user reads, without the password of an address in it."""
        value = str(self.value)
        shown = value if len(value) <= 120 else value[:117] + "..."
        line = f"{self.field} = {shown!s}: {self.problem}; {self.remedy}"
        return _PASSWORD.sub("***", " ".join(line.split()))


class InvalidCandidateError(ValueError):
    """Values that were drawn in range but together describe no network.

    A space function raises it after it has drawn all its values; the search then rejects the
    candidate and tells the sampler how far off it was.

    Args:
        detail: what is wrong, in words.
        violation: over 0, and the smaller the nearer the values are to a network.
    """

    def __init__(self, detail: str, violation: float) -> None:
        self.detail = detail
        self.violation = violation
        super().__init__(detail, violation)

    def __str__(self) -> str:
        """Return what is wrong."""
        return self.detail
