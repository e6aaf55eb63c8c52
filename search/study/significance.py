"""The significance test: is one network better than another, or than a baseline, beyond chance?

Chance enters a comparison on a test split twice: through the images and through the seeds of the
trainings. A test of the images alone takes a lucky seed for progress, and a test of the seeds alone
takes a lucky choice of images for progress. This test includes both, as a crossed design in which
every training sees every image:

    variance = Var(d) / n + s_a^2 / k_a + s_b^2 / k_b

Here d is, for each of n images, the difference between the fractions of correct trainings, and s^2
the variance of the accuracies of k trainings. The interaction of training and image is part of both
terms and counts twice, which makes the test conservative. The degrees of freedom follow Welch
(1947, Biometrika 34) and Satterthwaite (1946, Biometrics Bulletin 2).

A baseline that no seed changes adds no term of its own. A single training is compared with it as it
is, because only the images are left to chance.

No library offers this test; scipy provides the t distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Comparison:
    """The result of comparing a challenger with a champion or a baseline.

    Attributes:
        difference: challenger minus the other, mean accuracies on the same images, -1..1.
        low: lower end of the confidence interval of the difference, at confidence 1 - 2 alpha; it
            is above 0 exactly if `is_better`.
        high: upper end.
        p_value: probability of this or a larger difference if both are equally good.
        alpha: significance level.
    """

    difference: float
    low: float
    high: float
    p_value: float
    alpha: float

    @property
    def is_better(self) -> bool:
        """Tell whether the challenger is significantly better."""
        return self.difference > 0 and self.p_value < self.alpha


@dataclass(frozen=True)
class _Part:
    """A term of the variance and the degrees of freedom of its estimate."""

    variance: float
    freedom: int


def compare(challenger: NDArray[np.bool_], champion: NDArray[np.bool_], alpha: float) -> Comparison:
    """Test whether a challenger is more accurate than a champion, one-sided.

    An arm with a single training takes the spread over seeds from the other arm. If neither arm has
    two trainings, no difference is significant. Without any noise, every gain is significant.

    Args:
        challenger: whether each training classifies each image correctly, bool [trainings, images].
        champion: likewise for the same images in the same order, bool [trainings, images].
        alpha: probability, 0..0.5, of calling an equally good challenger better.

    Raises:
        ValueError: there are no trainings, fewer than two images, or not the same number of them.
    """
    if challenger.shape[1:] != champion.shape[1:] or not len(challenger) or not len(champion):
        raise ValueError(f"cannot compare {challenger.shape} with {champion.shape}")
    images = challenger.shape[1]
    if images < 2:
        raise ValueError("cannot compare on fewer than two images")
    paired = challenger.mean(axis=0) - champion.mean(axis=0)
    seeds = _seed_noise(challenger.mean(axis=1), champion.mean(axis=1))
    if seeds is None:
        return Comparison(float(paired.mean()), -1.0, 1.0, 1.0, alpha)
    return _test(paired, seeds, alpha)


def compare_with_fixed(
    trainings: NDArray[np.bool_], fixed: NDArray[np.bool_], alpha: float
) -> Comparison:
    """Test whether a network is more accurate than a classifier that no seed changes, one-sided.

    Args:
        trainings: whether each training classifies each image correctly, bool [trainings, images].
        fixed: likewise for the classifier and the same images in the same order, bool [images].
        alpha: probability, 0..0.5, of calling an equally good network better.

    Raises:
        ValueError: there are no trainings, fewer than two images, or not the same number of them.
    """
    if trainings.shape[1:] != fixed.shape or not len(trainings):
        raise ValueError(f"cannot compare {trainings.shape} with {fixed.shape}")
    if len(fixed) < 2:
        raise ValueError("cannot compare on fewer than two images")
    several = len(trainings) > 1
    seeds = [_noise_of_mean(trainings.mean(axis=1))] if several else []
    return _test(trainings.mean(axis=0) - fixed, seeds, alpha)


def _test(paired: NDArray[np.float64], seeds: Sequence[_Part], alpha: float) -> Comparison:
    """Test whether the mean of the differences on each image is above 0, given the seeds' noise."""
    # `scipy.stats` calls these functions, but imports for half a second.
    from scipy.special import stdtr, stdtrit  # noqa: PLC0415 - imports slowly

    difference = float(paired.mean())
    parts = [_noise_of_mean(paired), *seeds]
    variance = sum(part.variance for part in parts)
    # Rounding leaves sums of fractions slightly off 0.
    if variance < 1e-24:
        better = difference > 1e-12
        return Comparison(difference, difference, difference, 0.0 if better else 1.0, alpha)
    freedom = variance**2 / sum(part.variance**2 / part.freedom for part in parts)
    error = variance**0.5
    reach = abs(float(stdtrit(freedom, alpha))) * error
    p_value = float(stdtr(freedom, -difference / error))
    return Comparison(difference, difference - reach, difference + reach, p_value, alpha)


def _noise_of_mean(values: NDArray[np.float64]) -> _Part:
    """Return the variance of the mean of several values."""
    return _Part(float(values.var(ddof=1)) / len(values), len(values) - 1)


def _seed_noise(*arms: NDArray[np.float64]) -> list[_Part] | None:
    """Return the terms of the seeds in the variance; None if they cannot be estimated.

    Args:
        arms: accuracies of the trainings of each arm.
    """
    spreads = [float(arm.var(ddof=1)) for arm in arms if len(arm) > 1]
    if not spreads:
        return None
    if len(spreads) == len(arms):
        return [_noise_of_mean(arm) for arm in arms]
    known = max(len(arm) for arm in arms)
    return [_Part(spreads[0] * sum(1 / len(arm) for arm in arms), known - 1)]
