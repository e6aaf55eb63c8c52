"""Describes a sequence of any length by a fixed number of values along its relative depth."""

from __future__ import annotations

from collections.abc import Sequence

POINTS = 8
"""Relative depths at which a profile is read: the middles of eight equal parts."""


def interpolate(values: Sequence[float]) -> list[float]:
    """Return a sequence at `POINTS` relative depths, linear between its values.

    Value i of n lies at relative depth (i + 1/2) / n; the ends continue outwards.

    Args:
        values: one value per layer; none gives zeros.

    Example:
        >>> interpolate([3.0])
        [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]
        >>> interpolate([0.0, 1.0])
        [0.0, 0.0, 0.125, 0.375, 0.625, 0.875, 1.0, 1.0]
    """
    if not values:
        return [0.0] * POINTS
    last = len(values) - 1
    found = []
    for place in range(POINTS):
        at = (place + 0.5) * (last + 1) / POINTS - 0.5
        if at <= 0:
            found.append(values[0])
        elif at >= last:
            found.append(values[last])
        else:
            low = int(at)
            found.append(values[low] + (at - low) * (values[low + 1] - values[low]))
    return found


def average(values: Sequence[float]) -> list[float]:
    """Return the mean of each of `POINTS` equal parts of a sequence.

    A value counts for a part by the length that both share, so no value is skipped, however long
    the sequence is.

    Args:
        values: one value per layer; none gives zeros.

    Example:
        >>> average([0.0, 8.0])
        [0.0, 0.0, 0.0, 0.0, 8.0, 8.0, 8.0, 8.0]
        >>> average([float(i) for i in range(16)])[:3]
        [0.5, 2.5, 4.5]
    """
    if not values:
        return [0.0] * POINTS
    # In units of 1 / (values * POINTS), borders are whole numbers, and the sums exact.
    width = len(values)
    found = []
    for place in range(POINTS):
        start, end = place * width, (place + 1) * width
        total = 0.0
        for index in range(start // POINTS, (end - 1) // POINTS + 1):
            shared = min(end, (index + 1) * POINTS) - max(start, index * POINTS)
            total += shared * values[index]
        found.append(total / width)
    return found
