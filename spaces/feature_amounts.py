"""Feature amounts that follow a skew-normal density over depth.

Mundt et al. 2018, "Rethinking Layer-wise Feature Amounts in Convolutional Neural Network
Architectures", arXiv 1812.05836: three numbers shape the whole network, and its total amount of
features stays what it is.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from math import ceil, erf, exp, inf, pi, sqrt

from optuna.trial import BaseTrial

from spaces.errors import InvalidCandidateError
from spaces.options import FloatRange, IntRange, draw_float, draw_int

SAMPLES = 100
"""Points per layer at which the density is taken, as in the published code."""
LEAST_SCALE = 1 / SAMPLES
"""What is narrower falls between the points."""
LEAST_MASS = 0.95
LEAST_FEATURES = 2
_FARTHEST = 40.0
"""So many scales from its location a normal density is 0 in floating point."""


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
    """Return the share of all features that each layer gets.

    The density over ``[l, l + 1)`` by the trapezoid rule over 100 points a hundredth apart: as in
    the published code, which so leaves out the last hundredth of each layer, about 1 %.
    """
    shares = []
    for layer in range(layers):
        values = [skew_normal(layer + i / SAMPLES, location, scale, skew) for i in range(SAMPLES)]
        shares.append(sum(a + b for a, b in pairwise(values)) / (2 * SAMPLES))
    return tuple(shares)


def skew_normal_amounts(
    location: float, scale: float, skew: float, total: int, layers: int
) -> tuple[int, ...] | None:
    """Distribute features over layers.

    Args:
        location: xi, in layers from the first.
        scale: omega, in layers.
        skew: alpha; 0 is a normal distribution.
        total: N, features to distribute.
        layers: L, how many layers share them.

    Returns:
        The feature amount of each layer, ``ceil(share * total)``; None for a distribution that is
        not valid: (next to) no scale, under 95 % of the mass within the layers, or a layer with
        fewer than two features.
    """
    if scale < LEAST_SCALE:
        return None
    shares = layer_fractions(location, scale, skew, layers)
    amounts = tuple([ceil(share * total) for share in shares])
    return None if sum(shares) <= LEAST_MASS or min(amounts) < LEAST_FEATURES else amounts


def violation(location: float, scale: float, skew: float, total: int, layers: int) -> float:
    """Return how far a distribution is from a valid one.

    See `skew_normal_amounts` for the arguments.

    Returns:
        0 for a valid distribution; else the mass that is missing within the layers plus what the
        layers, on average, lack of the one feature that is rounded up to two.
    """
    if scale < LEAST_SCALE:
        return 2.0
    if skew_normal_amounts(location, scale, skew, total, layers) is not None:
        return 0.0
    shares = layer_fractions(location, scale, skew, layers)
    lacking = sum([max(0.0, 1 - share * total) for share in shares]) / layers
    # On the limit itself a distribution is not valid either.
    return max(0.0, LEAST_MASS - sum(shares)) + lacking or 1e-9


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
        trial: what draws (or replays) the values.
        layers: how many layers share the features.
        total: N, features to distribute.
        location: xi, in layers from the first; None: anywhere from the first to behind the last.
        scale: omega, in layers; None: 0.2 to 0.4 of the depth, outside of which hardly a
            distribution is valid.
        skew: alpha.

    Raises:
        BadInputError: an option is out of range.
        InvalidCandidateError: the distribution that was drawn is not valid.
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
