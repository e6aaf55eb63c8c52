"""Which arms of a comparison have comparable accuracies, and why others have not."""

from __future__ import annotations

from collections.abc import Sequence

from search.reporting.compare.arm import Arm
from search.reporting.rendering import Section


def obstacle(first: Arm, other: Arm) -> str:
    """Return why the accuracies of two arms cannot be compared; empty if they can.

    Example: ``other data: 2 images more``.
    """
    for arm in (first, other):
        if arm.data is None:
            return f"the data of {arm.name} are not recorded"
    if first.data is not None and other.data is not None:
        differences = first.data.difference(other.data)
        if differences:
            return f"other data: {'; '.join(differences)}"
    return ""


def comparable(arms: Sequence[Arm]) -> list[Arm]:
    """Return the first arm, and those whose accuracies compare with it."""
    return [arms[0], *(arm for arm in arms[1:] if not obstacle(arms[0], arm))]


def comparability_section(arms: Sequence[Arm]) -> Section:
    """Say which arms can be compared with the first."""
    first, found = arms[0], comparable(arms)
    sentences = []
    if len(found) > 1:
        names = ", ".join(arm.name for arm in found[1:])
        sentences.append(f"Comparable with {first.name}, on the same images and splits: {names}.")
    sentences += [
        f"Not comparable with {first.name}: {arm.name}. Reason: {reason}."
        for arm in arms[1:]
        if (reason := obstacle(first, arm))
    ]
    if len(found) < len(arms):
        sentences.append(
            "Their accuracies stand in the tables below, but no difference is computed, and their "
            "curves are left out."
        )
    return Section("Comparable", tuple(sentences))
