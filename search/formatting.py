"""Formats quantities and errors for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a duration such as 42s, 3m05s or 2h10m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def plural(count: int, noun: str) -> str:
    """Return a number with its noun, such as 1 trial or 2,000 trials."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def are(count: int, noun: str) -> str:
    """Return a number with its noun and verb, such as 1 trial is or 2 trials are."""
    return f"{plural(count, noun)} {'is' if count == 1 else 'are'}"


def root_cause(error: BaseException) -> str:
    """Return the message of the first error in a chain of causes, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__
