"""The effective receptive field: the pixels that move the centre of a layer's output.

The mass of a pixel is the magnitude of the gradient of the output's centre with respect to it
(Luo et al. 2016, arXiv 1701.04128), averaged over images and channels of the layer. Statistics of
norms and gates count as constants, as in theoretical fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, hypot

import torch
from torch import Tensor

from spaces.operation_base import Pair
from trainables.probes.constant_statistics import ConstantStatistics
from trainables.probes.subject import Subject

MASS = 0.95
"""Fraction of the mass within the effective radius."""
PASSES = 8
"""Channels for which the gradient of each image is computed."""


@dataclass(frozen=True)
class EffectiveField:
    """Where the mass of a layer's gradient lies.

    Attributes:
        extent: rows and columns of the smallest rectangle with all the mass; 0 without any.
        radius: distance from the centre of mass within which 95 % of it lies, in pixels; None
            without any mass.
        within: fraction of the mass within 0, 1, 2, .. pixels.
        side: side of the smallest square around the centre of mass with 95 % of the mass, in
            pixels; at most the extent. None without any mass.
    """

    extent: Pair
    radius: float | None
    within: tuple[float, ...]
    side: float | None = None


def measure_masses(subject: Subject, images: Tensor) -> list[Tensor]:
    """Return the mass of each pixel for every convolution, float64 ``[h, w]`` on the CPU.

    Layers with up to 8 channels use all of them. For others, each image uses 8, and the images
    take the channels in turn.

    Args:
        subject: the network.
        images: float32 ``[n, c, h, w]`` on its device.
    """
    count, _, height, width = images.shape
    masses = [torch.zeros(height, width, dtype=torch.float64) for _ in subject.layers]
    centres: dict[int, Tensor] = {}

    def keep(index: int, output: Tensor) -> None:
        # A copy: the next layer may work in place.
        centres[index] = output[:, :, output.shape[2] // 2, output.shape[3] // 2].clone()

    leaf = images.clone().requires_grad_()
    with torch.enable_grad(), subject.listening(keep), ConstantStatistics():
        # A copy: the network may work in place, which a leaf refuses.
        subject.network(leaf.clone())
    for index, centre in centres.items():
        channels = centre.shape[1]
        passes = min(PASSES, channels)
        for step in range(passes):
            # Every channel is used equally often if the number of channels divides that of pairs.
            taken = (torch.arange(count, device=centre.device) * passes + step) % channels
            chosen = centre.gather(1, taken[:, None]).sum()
            if not chosen.requires_grad:
                break
            (gradient,) = torch.autograd.grad(chosen, leaf, retain_graph=True, allow_unused=True)
            if gradient is None:
                break
            masses[index] += gradient.double().abs().sum(dim=(0, 1)).cpu() / (count * passes)
    return masses


def describe_mass(mass: Tensor) -> EffectiveField:
    """Return extent, radius and profile of a mass ``[h, w]``."""
    total = float(mass.sum())
    if not 0 < total < float("inf"):
        return EffectiveField((0, 0), None, ())
    rows, columns = (torch.nonzero(mass.sum(dim=axis)).flatten() for axis in (1, 0))
    extent = (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)
    height, width = mass.shape
    down = torch.arange(height, dtype=torch.float64)
    across = torch.arange(width, dtype=torch.float64)
    middle_row = float((mass.sum(dim=1) * down).sum()) / total
    middle_column = float((mass.sum(dim=0) * across).sum()) / total
    # Rounding of the centre must not separate pixels of equal distance.
    offsets = (down[:, None] - middle_row, across[None, :] - middle_column)
    distance = torch.hypot(*offsets).round(decimals=6)
    square = torch.maximum(offsets[0].abs(), offsets[1].abs()).round(decimals=6)
    within = [
        float(mass[distance <= limit].sum()) / total for limit in range(ceil(hypot(*extent)) + 1)
    ]
    whole = next((i for i, share in enumerate(within) if share >= 1 - 1e-9), len(within) - 1)
    return EffectiveField(
        extent,
        _reach(mass, distance),
        tuple(within[: whole + 1]),
        min(2 * _reach(mass, square) + 1, max(extent)),
    )


def _reach(mass: Tensor, distance: Tensor) -> float:
    """Return the smallest distance within which `MASS` of the mass lies."""
    order = distance.flatten().argsort(stable=True)
    held = mass.flatten()[order].cumsum(0) / mass.sum()
    first = int((held < MASS * (1 - 1e-9)).sum())
    return float(distance.flatten()[order][min(first, len(held) - 1)])
