"""Finds the range of values of deep images: those with 16 or 32 bits per pixel.

Such images rarely use their full range. A thermal camera writes 16 bits, but a scene spans a few
hundred values. So the range of a whole data set is stretched to 0..255.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from trainables.images.findings import FEW_LEVELS

OUTERMOST = 1e-4
"""Fraction of the pixels, at each end, that the range may leave out."""

# An extreme value stands for missing data if more than this fraction of the pixels has it. The
# others must be enough pixels and values, so that labels and sparse images keep their background.
_MISSING_FRACTION = 1e-3
_OTHERS_FRACTION = 1e-2
_OTHER_VALUES = 16

# A bin holds the floats that agree in their upper 24 bits: sign, exponent and 15 bits of the
# significand. Each 16-bit integer has a bin of its own; other values are rounded by 1/65536.
_DROPPED = np.uint32(8)
_SIGN = np.uint32(1 << 31)


@dataclass(frozen=True, slots=True)
class Counts:
    """A sparse histogram: ``counts`` [k] of values in the ``bins`` [k], and the exact ends."""

    bins: NDArray[np.uint32]
    counts: NDArray[np.int64]
    least: float
    greatest: float


@dataclass(frozen=True, slots=True)
class Missing:
    """A value that stands for missing data, and the fraction of the pixels that have it."""

    value: float
    fraction: float

    def note(self) -> str:
        """Return the note on the value."""
        return (
            f"{self.value:.10g} is in {100 * self.fraction:.2g} % of the pixels with 16 or 32 bits "
            "and far from all others: it is left out of the range as a value for missing data "
            "(decoding.value_range)"
        )


@dataclass(frozen=True, slots=True)
class Crowd:
    """Pixels that share few of the 256 levels.

    Args:
        low: their smallest value.
        high: their largest value.
        levels: number of levels that they use.
        fraction: text for their fraction of the pixels.
        aside: smallest and largest value of the fullest level, if its pixels are not counted.
    """

    low: float
    high: float
    levels: int
    fraction: str
    aside: tuple[float, float] | None = None

    def note(self) -> str:
        """Return the note on the pixels."""
        but = ""
        if self.aside is not None:
            first, last = self.aside
            but = f" other than {first:.10g}" + (f" to {last:.10g}" if last > first else "")
        return (
            f"{self.fraction} of the pixels with 16 or 32 bits{but} lie in {self.low:.10g} to "
            f"{self.high:.10g} and share {self.levels} of 256 levels; set decoding.value_range to "
            "the values that matter"
        )


@dataclass(frozen=True, slots=True)
class ValueRange:
    """The range of the values of a data set.

    Args:
        low: becomes black.
        high: becomes white.
        missing: the values for missing data, which are left out.
        crowd: pixels that share few levels; None if the levels are well used.
    """

    low: float
    high: float
    missing: tuple[Missing, ...] = ()
    crowd: Crowd | None = None

    def notes(self) -> list[str]:
        """Return a note on each value for missing data, and one if pixels share few levels."""
        lines = [missing.note() for missing in self.missing]
        return lines if self.crowd is None else [*lines, self.crowd.note()]


def count_values(values: NDArray[np.floating]) -> Counts:
    """Return the histogram of finite values."""
    bits = values.astype(np.float32).view(np.uint32)
    # Flipping bits sorts floats like unsigned integers.
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN) >> _DROPPED
    bins, counts = np.unique(ordered, return_counts=True)
    least, greatest = (values.min(), values.max()) if values.size else (np.inf, -np.inf)
    return Counts(bins, counts.astype(np.int64), float(least), float(greatest))


class Histogram:
    """A histogram of all values of a data set."""

    def __init__(self) -> None:
        self._bins = np.zeros(0, dtype=np.uint32)
        self._counts = np.zeros(0, dtype=np.int64)
        self._least, self._greatest = np.inf, -np.inf

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self._counts.sum())

    def add(self, part: Counts) -> None:
        """Add the histogram of a part."""
        counts = np.concatenate([self._counts, part.counts])
        self._bins, places = np.unique(np.concatenate([self._bins, part.bins]), return_inverse=True)
        self._counts = np.zeros(len(self._bins), dtype=np.int64)
        np.add.at(self._counts, places, counts)
        self._least = min(self._least, part.least)
        self._greatest = max(self._greatest, part.greatest)

    def value_range(self) -> ValueRange:
        """Return the range of the values.

        It reaches from the smallest to the largest value, with two exceptions:

        - If the outermost 0.01 % of the pixels at an end lie further out than the width of all
          others, it ends at the others: a single hot pixel must not take the contrast from the
          rest.
        - An extreme value of more than 0.1 % of the pixels that lies further out than the width of
          all others stands for missing data and is left out.
        """
        values = _values(self._bins)
        values[0], values[-1] = self._least, self._greatest
        found = _Values(values, self._counts)
        rest, missing = _without_missing(found)
        low = self._least if rest.values[0] == values[0] else float(rest.values[0])
        high = float(rest.values[-1])
        first, last = rest.ends()
        inner_low, inner_high = float(rest.values[first]), float(rest.values[last])
        width = inner_high - inner_low
        if width > 0:
            low = low if low >= inner_low - width else inner_low
            high = high if high <= inner_high + width else inner_high
        return ValueRange(low, high, missing, _crowd(rest, low, high))


@dataclass(frozen=True, slots=True)
class _Values:
    """Ascending values [k], and the number of pixels with each, [k]."""

    values: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def part(self, chosen: slice | NDArray[np.bool_]) -> "_Values":
        return _Values(self.values[chosen], self.counts[chosen])

    def ends(self, fraction: float = OUTERMOST) -> tuple[int, int]:
        """Return the indices of the ends without the outermost fraction of the pixels at each."""
        last = self.total - 1
        cut = min(ceil(self.total * fraction), last // 2)
        upto = np.cumsum(self.counts)
        first, final = np.searchsorted(upto, [cut, last - cut], side="right")
        return int(first), int(final)

    def is_far(self, value: float) -> bool:
        """Tell whether a value lies further out than the width of these."""
        first, last = self.ends()
        low, high = float(self.values[first]), float(self.values[last])
        return high > low and not low - (high - low) <= value <= high + (high - low)


def _without_missing(found: _Values) -> tuple[_Values, tuple[Missing, ...]]:
    """Return the values without those that stand for missing data, and the latter."""
    total = found.total
    first, last = found.ends()
    for outer, chosen in (
        ((first,), slice(first + 1, None)),
        ((last,), slice(0, last)),
        ((first, last), slice(first + 1, last)),
    ):
        rest = found.part(chosen)
        if (
            len(rest.values) >= _OTHER_VALUES
            and rest.total >= total * _OTHERS_FRACTION
            and all(found.counts[at] > total * _MISSING_FRACTION for at in outer)
            and all(rest.is_far(float(found.values[at])) for at in outer)
        ):
            missing = [
                Missing(float(found.values[at]), float(found.counts[at] / total)) for at in outer
            ]
            left, more = _without_missing(rest)
            return left, (*missing, *more)
    return found, ()


def _crowd(found: _Values, low: float, high: float) -> Crowd | None:
    """Return pixels that share fewer than :data:`FEW_LEVELS` levels of a range.

    Looks at 98 % of the pixels, at 98 % of those outside the fullest level, and at all. Pixels with
    fewer different values than that lose nothing and do not count.
    """
    scale = 255 / (high - low) if high > low else 0.0
    levels = np.rint((found.values.clip(low, high) - low) * scale).astype(np.int64)
    is_full = levels == np.bincount(levels, found.counts).argmax()
    full = found.values[is_full]
    everything = np.ones(len(levels), dtype=bool)
    for chosen, edge, fraction, aside in (
        (everything, 1e-2, "98 %", None),
        (~is_full, 1e-2, "98 %", (float(full[0]), float(full[-1]))),
        (everything, 0.0, "100 %", None),
    ):
        part = found.part(chosen)
        if part.total == 0:
            continue
        first, last = part.ends(edge)
        used = len(np.unique(levels[chosen][first : last + 1]))
        if used < min(FEW_LEVELS, last - first + 1):
            first_value, last_value = float(part.values[first]), float(part.values[last])
            return Crowd(first_value, last_value, used, fraction, aside)
    return None


def _values(bins: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Return the value of each bin, [k]."""
    ordered = bins << _DROPPED
    bits = np.where(ordered & _SIGN, ordered ^ _SIGN, ~(ordered | np.uint32((1 << 8) - 1)))
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)
