"""Axes of charts: ranges, ticks, and the positions of values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

_TICKS = 6


@dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
        label: text beside it.
        log: whether it is logarithmic; ignored if a value is not above 0.
        fraction: whether its values are fractions such as accuracies, within 0..1.
        low: lower end; None to fit the values.
        high: upper end; None likewise.
        whole: whether only whole numbers are marked.
    """

    label: str
    log: bool = False
    fraction: bool = False
    low: float | None = None
    high: float | None = None
    whole: bool = False


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: its position and text."""

    at: float
    text: str


class Scale:
    """Maps the values of an axis to positions.

    Args:
        axis: its ends, if given, and form.
        values: all that it must include; finite.
        start: position of the lower end.
        end: position of the upper end.
    """

    def __init__(self, axis: Axis, values: Sequence[float], start: float, end: float) -> None:
        if axis.log and any(value <= 0 for value in values):
            axis = replace(axis, log=False)
        self.axis = axis
        self._start, self._end = start, end
        low, high = _range(axis, values)
        self._low = low if axis.low is None else axis.low
        self._high = high if axis.high is None else axis.high

    def __call__(self, value: float) -> float:
        """Return the position of a value; values outside lie on the nearest end."""
        inside = min(max(value, self._low), self._high)
        low, high, at = map(self._inner, (self._low, self._high, inside))
        fraction = (at - low) / (high - low)
        return round(self._start + fraction * (self._end - self._start), 1)

    @property
    def ticks(self) -> list[Tick]:
        """Marks at round values, at most about six."""
        values = (_log_ticks if self.axis.log else _ticks)(self._low, self._high)
        if self.axis.whole:
            values = [value for value in values if value == round(value)]
        return [Tick(self(value), short(value)) for value in values]

    def _inner(self, value: float) -> float:
        return math.log10(value) if self.axis.log else value


def short(value: float) -> str:
    """Return a number as axes and labels show it.

    Example:
        >>> [short(value) for value in (0.25, 1500, 2_500_000, 3e9)]
        ['0.25', '1.5k', '2.5M', '3G']
    """
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{unit}"
    return f"{value:.4g}"


def _range(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if axis.log:
        return low / 1.15, high * 1.15
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    below, above = low - margin, high + margin
    if axis.fraction:
        below, above = max(below, 0.0), min(above, 1.0)
    elif low >= 0:
        below = max(below, 0.0)
    return below, above if above > below else below + margin


def _ticks(low: float, high: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10((high - low) / _TICKS))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 7)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        values = [factor * 10.0**power for power in powers for factor in factors]
        inside = [value for value in values if low <= value <= high]
        if len(inside) <= 2 * _TICKS:
            break
    inside = inside[:: -(-len(inside) // (2 * _TICKS)) or 1]
    # Two ticks need not exist within less than a decade.
    return inside if len(inside) > 1 else [low, *inside, high]
