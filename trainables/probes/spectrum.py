"""Saturation: how many principal components a layer's activations need."""

from __future__ import annotations

import torch
from torch import Tensor

HELD = 0.99
"""Fraction of the variance that the counted components hold."""
_ROUNDING = 1e-9
_VALUES = 1 << 24
"""Most values that are converted to float64 at once: 128 MiB."""


class Covariance:
    """The covariance of samples that arrive in parts.

    One pass in float64: each part is centred on its own mean and merged (Chan, Golub & LeVeque
    1979), so a large mean costs no digits.

    Args:
        channels: number of values of a sample.
        device: of the samples.
    """

    def __init__(self, channels: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self._mean = torch.zeros(channels, dtype=torch.float64, device=device)
        self._scatter = torch.zeros(channels, channels, dtype=torch.float64, device=device)

    def add(self, samples: Tensor) -> None:
        """Add samples ``[n, channels]`` of any float type."""
        for part in torch.split(samples, max(1, _VALUES // len(self._mean))):
            self._merge(part.double())

    def _merge(self, part: Tensor) -> None:
        if not len(part):
            return
        mean = part.mean(dim=0)
        centred = part - mean
        both = self.count + len(part)
        apart = mean - self._mean
        self._scatter += centred.T @ centred
        self._scatter += torch.outer(apart, apart) * (self.count * len(part) / both)
        self._mean += apart * (len(part) / both)
        self.count = both

    @property
    def matrix(self) -> Tensor:
        """The covariance, float64 ``[channels, channels]``, divided by the number of samples."""
        return self._scatter / max(self.count, 1)


def count_components(variances: Tensor, held: float = HELD) -> int:
    """Return the smallest number of components that hold a fraction of the variance.

    Args:
        variances: variance of each component, in any order; rounding may make them negative.
        held: fraction in 0..1.

    Returns:
        0 if there is no variance.
    """
    largest_first = variances.double().clamp(min=0).sort(descending=True).values
    needed = held * largest_first.sum()
    if needed <= 0:
        return 0
    return int((largest_first.cumsum(0) < needed * (1 - _ROUNDING)).sum()) + 1


def saturation(covariance: Tensor) -> float | None:
    """Return the saturation of a layer (Richter et al. 2021, arXiv 2106.12307).

    The smallest number of principal components with 99 % of the variance, divided by the number
    of channels. The published tool miscounts; this function follows the definition.

    Args:
        covariance: float64 ``[channels, channels]``.

    Returns:
        0..1; 0 for constant activations, None for activations that are not finite.
    """
    if not covariance.isfinite().all():
        return None
    return count_components(torch.linalg.eigvalsh(covariance)) / len(covariance)
