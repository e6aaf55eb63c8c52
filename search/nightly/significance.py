"""Whether one network is truly better than another, or was only luckier.

Two things are drawn by chance when trainings are compared on a test split: the images in it, and
the seeds of the trainings. A test that knows the images alone takes a lucky seed for progress; one
that knows the seeds alone does the same with a lucky choice of images. Here both count, each as it
is in a crossed design, in which every training sees every image:

    variance = Var(d) / n + s_a^2 / k_a + s_b^2 / k_b

with d the difference, for each of n images, between the shares of the trainings that are right, and
s^2 the variance over k trainings of their accuracies. What is special to one training on one image
is part of both and is counted twice: the test errs towards saying no. Its degrees of freedom are
those of Welch (1947, Biometrika 34) and Satterthwaite (1946, Biometrics Bulletin 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True)
class Comparison:
    """What a challenger is worth against a champion.

    Attributes:
        difference: of their mean accuracies on the same images, in -1..1; over 0 where the
            challenger is better.
        low: lower end of the interval that holds the true difference with a confidence of
            1 - 2 alpha; it is over 0 exactly when the challenger is better (`is_better`).
        high: upper end.
        p_value: probability of such a difference or a larger one between equals.
        alpha: largest `p_value` that is taken for proof.
    """

    difference: float
    low: float
    high: float
    p_value: float
    alpha: float

    @property
    def is_better(self) -> bool:
        """Tell whether the challenger is better by more than chance explains."""
        return self.difference > 0 and self.p_value < self.alpha


@dataclass(frozen=True)
class _Part:
    """One part of a variance, with the degrees of freedom that it was estimated with."""

    variance: float
    freedom: int


def compare(challenger: NDArray[np.bool_], champion: NDArray[np.bool_], alpha: float) -> Comparison:
    """Test whether a challenger is more accurate than a champion, one-sided.

    Of an arm with a single training nothing tells how far seeds spread: the spread of the other arm
    stands for it. Where neither arm has two, nothing is proven, whatever the difference. Where no
    noise at all is seen, a difference is taken as it is.

    Args:
        challenger: whether each training is right about each image, bool [trainings, images].
        champion: likewise, of the same images in the same order, bool [trainings, images].
        alpha: probability, in 0..0.5, of calling a challenger better that is only as good.

    Raises:
        ValueError: there are no trainings, fewer than two images, or not the same number of them.
    """
    if challenger.shape[1:] != champion.shape[1:] or not len(challenger) or not len(champion):
        raise ValueError(f"cannot compare {challenger.shape} with {champion.shape}")
    images = challenger.shape[1]
    if images < 2:
        raise ValueError("cannot compare on fewer than two images")
    paired = challenger.mean(axis=0) - champion.mean(axis=0)
    difference = float(paired.mean())
    seeds = _seed_noise(challenger.mean(axis=1), champion.mean(axis=1))
    if seeds is None:
        return Comparison(difference, -1.0, 1.0, 1.0, alpha)
    parts = [_Part(float(paired.var(ddof=1)) / images, images - 1), *seeds]
    variance = sum(part.variance for part in parts)
    # Sums of shares differ from 0 in their last digits.
    if variance < 1e-24:
        better = difference > 1e-12
        return Comparison(difference, difference, difference, 0.0 if better else 1.0, alpha)
    freedom = variance**2 / sum(part.variance**2 / part.freedom for part in parts)
    error = variance**0.5
    reach = float(stats.t.isf(alpha, freedom)) * error
    p_value = float(stats.t.sf(difference / error, freedom))
    return Comparison(difference, difference - reach, difference + reach, p_value, alpha)


def _seed_noise(*arms: NDArray[np.float64]) -> list[_Part] | None:
    """Return what the seeds add to the variance of the difference; None if nothing tells it.

    Args:
        arms: the accuracies of the trainings of each of two arms.
    """
    spreads = [float(arm.var(ddof=1)) for arm in arms if len(arm) > 1]
    if not spreads:
        return None
    if len(spreads) == len(arms):
        return [_Part(float(arm.var(ddof=1)) / len(arm), len(arm) - 1) for arm in arms]
    known = max(len(arm) for arm in arms)
    return [_Part(spreads[0] * sum(1 / len(arm) for arm in arms), known - 1)]
