"""Confidence intervals of accuracies, and ranks that differ only beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95
"""Confidence of every interval in a report."""
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class Interval:
    """A confidence interval of an accuracy, or of the difference of two.

    Attributes:
        low: lower end.
        high: upper end.
    """

    low: float
    high: float

    def __str__(self) -> str:
        decimals = next((n for n in (2, 3) if self.high - self.low >= 5 * 10**-n), 4)
        return f"{self.low:.{decimals}f}-{self.high:.{decimals}f}"


def wilson(accuracy: float, images: int) -> Interval:
    """Return the score interval of an accuracy, see Wilson 1927 (JASA 22).

    It stays within 0..1, and suits few images and accuracies near 0 or 1 (Brown, Cai & DasGupta
    2001, Statistical Science 16).

    Args:
        accuracy: fraction of the images that are classified correctly, 0..1.
        images: number of images, at least 1.

    Example:
        >>> str(wilson(0.3, 40))
        '0.18-0.45'
        >>> str(wilson(0.3, 4000))
        '0.286-0.314'
    """
    scale = 1 + _Z**2 / images
    centre = (accuracy + _Z**2 / (2 * images)) / scale
    variance = accuracy * (1 - accuracy) / images + _Z**2 / (4 * images**2)
    reach = _Z * variance**0.5 / scale
    # Rounding must not exclude the accuracy itself at 0 and 1.
    return Interval(
        max(0.0, min(accuracy, centre - reach)), min(1.0, max(accuracy, centre + reach))
    )


def difference(one: float, other: float, images: int) -> Interval:
    """Return the interval of the difference of two accuracies, see Newcombe 1998.

    It is method 10 of "Interval estimation for the difference between independent proportions"
    (Statistics in Medicine 17), which combines two score intervals. Two networks are often right
    about the same images, so the true interval on the same images is narrower.

    Args:
        one: first accuracy, 0..1.
        other: second accuracy, 0..1.
        images: number of images of each.
    """
    mine, its = wilson(one, images), wilson(other, images)
    below = ((one - mine.low) ** 2 + (its.high - other) ** 2) ** 0.5
    above = ((mine.high - one) ** 2 + (other - its.low) ** 2) ** 0.5
    return Interval(one - other - below, one - other + above)


def ties_with_first(accuracies: Sequence[float], images: int) -> int:
    """Return how many of the first accuracies do not differ from the first beyond chance.

    Args:
        accuracies: best first.
        images: number of images of each.

    Example:
        >>> ties_with_first([0.9, 0.8, 0.4], images=50)
        2
    """
    for place, accuracy in enumerate(accuracies):
        if difference(accuracies[0], accuracy, images).low > 0:
            return place
    return len(accuracies)
