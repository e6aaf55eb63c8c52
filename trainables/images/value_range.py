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
class ValueRange:
    """The range of the values of a data set.

    Args:
        low: becomes black.
        high: becomes white.
        central: the 1st and the 99th percentile.
    """

    low: float
    high: float
    central: tuple[float, float]

    def notes(self) -> list[str]:
        """Return a note if most pixels share few of the 256 levels."""
        low, high = self.central
        levels = 1 + int(255 * (high - low) / (self.high - self.low)) if self.high > self.low else 1
        if levels >= FEW_LEVELS:
            return []
        return [
            f"98 % of the pixels with 16 or 32 bits lie in {low:.10g} to {high:.10g} and share "
            f"{levels} of 256 levels; set decoding.value_range to the values that matter"
        ]


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

        It reaches from the smallest to the largest value. But if the outermost 0.01 % of the
        pixels at an end lie further out than the width of all others, it ends at the others: a
        single hot pixel must not take the contrast from the rest.
        """
        upto = np.cumsum(self._counts)

        def quantile(rank: int) -> float:
            return _value(self._bins[np.searchsorted(upto, rank, side="right")])

        last = self.total - 1
        cut = min(ceil(self.total * OUTERMOST), last // 2)
        low, high = self._least, self._greatest
        inner_low, inner_high = quantile(cut), quantile(last - cut)
        width = inner_high - inner_low
        if width > 0:
            low = low if low >= inner_low - width else inner_low
            high = high if high <= inner_high + width else inner_high
        edge = self.total // 100
        return ValueRange(low, high, (quantile(edge), quantile(last - edge)))


def _value(bin_: np.integer) -> float:
    ordered = np.uint32(bin_) << _DROPPED
    bits = ordered ^ _SIGN if ordered & _SIGN else ~(ordered | np.uint32((1 << 8) - 1))
    return float(np.array(bits, dtype=np.uint32).view(np.float32))
