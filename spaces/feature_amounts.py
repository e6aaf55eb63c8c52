"""Distributes feature amounts over depth by a skew-normal density.

Mundt et al. 2018, "Rethinking Layer-wise Feature Amounts in Convolutional Neural Network
Architectures", arXiv 1812.05836. Three numbers shape the network; the total number of features is
fixed.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from math import ceil, erf, exp, inf, pi, sqrt

from optuna.trial import BaseTrial

from spaces.errors import InvalidCandidateError
from spaces.options import FloatRange, IntRange, draw_float, draw_int

SAMPLES = 100
"""Samples of the density per layer, as in the published code."""
LEAST_SCALE = 1 / SAMPLES
"""A narrower density falls between the samples."""
LEAST_MASS = 0.95
LEAST_FEATURES = 2
_FARTHEST = 40.0
"""At this many scales from its location, a normal density is 0 in floating point."""


def skew_normal(x: float, location: float, scale: float, skew: float) -> float:
    """Return the density ``2/scale * phi(z) * Phi(skew * z)``, ``z = (x - location) / scale``."""
    z = (x - location) / scale
    if abs(z) > _FARTHEST:
        return 0.0
    bell = exp(-z * z / 2) / sqrt(2 * pi)
    cumulative = (1 + erf(skew * z / sqrt(2))) / 2
    return 2 / scale * bell * cumulative


@lru_cache(maxsize=4096)
def layer_fractions(location: float, scale: float, skew: float, layers: int) -> tuple[float, ...]:
    """Return the fraction of all features for each layer.

    Integrates the density over ``[l, l + 1)`` by the trapezoid rule over 100 samples. Like the
    published code, this omits the last hundredth of each layer, about 1 %.
    """
    fractions = []
    for layer in range(layers):
        values = [skew_normal(layer + i / SAMPLES, location, scale, skew) for i in range(SAMPLES)]
        fractions.append(sum(a + b for a, b in pairwise(values)) / (2 * SAMPLES))
    return tuple(fractions)


def skew_normal_amounts(
    location: float, scale: float, skew: float, total: int, layers: int
) -> tuple[int, ...] | None:
    """Distribute features over layers.

    Args:
        location: xi, in layers from the first.
        scale: omega, in layers.
        skew: alpha; 0 is a normal distribution.
        total: N, number of features to distribute.
        layers: L, number of layers.

    Returns:
        The feature amount of each layer, ``ceil(fraction * total)``; None if the distribution is
        invalid: a scale near 0, at most 95 % of the mass within the layers, or a layer with fewer
        than two features.
    """
    if scale < LEAST_SCALE:
        return None
    fractions = layer_fractions(location, scale, skew, layers)
    amounts = tuple([ceil(fraction * total) for fraction in fractions])
    return None if sum(fractions) <= LEAST_MASS or min(amounts) < LEAST_FEATURES else amounts


def violation(location: float, scale: float, skew: float, total: int, layers: int) -> float:
    """Return the distance of a distribution from a valid one.

    See `skew_normal_amounts` for the arguments.

    Returns:
        0 for a valid distribution; else the mass missing within the layers, plus the average
        deficit of the layers below one feature.
    """
    if scale < LEAST_SCALE:
        return 2.0
    if skew_normal_amounts(location, scale, skew, total, layers) is not None:
        return 0.0
    fractions = layer_fractions(location, scale, skew, layers)
    lacking = sum([max(0.0, 1 - fraction * total) for fraction in fractions]) / layers
    # A distribution exactly on the limit is invalid, too.
    return max(0.0, LEAST_MASS - sum(fractions)) + lacking or 1e-9


def draw_skew_normal(
    trial: BaseTrial,
    layers: int,
    *,
    total: IntRange,
    location: FloatRange | None,
    scale: FloatRange | None,
    skew: FloatRange,
) -> tuple[int, ...]:
    """Draw the feature amount of each layer from a skew-normal distribution.

    Draws ``total_features`` (on a logarithmic scale), ``location``, ``scale`` and ``skew``.

    Args:
        trial: suggests or replays the values.
        layers: number of layers.
        total: N, number of features to distribute.
        location: xi, in layers from the first; None: from 0 to the number of layers.
        scale: omega, in layers; None: 0.2 to 0.4 of the depth, because few other scales are valid.
        skew: alpha.

    Raises:
        BadInputError: an option is out of range.
        InvalidCandidateError: the drawn distribution is invalid.
    """
    total_drawn = draw_int(trial, "total_features", total, field="space.total_features", log=True)
    drawn = (
        draw_float(
            trial,
            "location",
            (0.0, layers) if location is None else location,
            field="space.location",
            minimum=-inf,
        ),
        draw_float(
            trial,
            "scale",
            (0.2 * layers, 0.4 * layers) if scale is None else scale,
            field="space.scale",
        ),
        draw_float(trial, "skew", skew, field="space.skew", minimum=-inf),
    )
    amounts = skew_normal_amounts(*drawn, total_drawn, layers)
    if amounts is None:
        detail = (
            f"{total_drawn} features over {layers} layers by a skew-normal distribution of "
            f"location {drawn[0]:.3g}, scale {drawn[1]:.3g}, skew {drawn[2]:.3g}: under "
            f"{LEAST_MASS:.0%} of them, or a layer with fewer than {LEAST_FEATURES}"
        )
        raise InvalidCandidateError(detail, violation(*drawn, total_drawn, layers))
    return amounts
