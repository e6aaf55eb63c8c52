"""Changes brightness, contrast and saturation of each image of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 255.0
"""Value of white."""


def draw_factors(strength: float, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw factors of brightness, contrast and saturation, uniform in 1 - strength..1 + strength.

    Returns:
        float32 ``[*size, 3]``.
    """
    return 1 + strength * (2 * torch.rand((*size, 3), generator=generator) - 1)


def adjust(images: Tensor, factors: Tensor) -> Tensor:
    """Return images with other brightness, then contrast, then saturation.

    Contrast is relative to the image's mean grey, and saturation to the grey of each pixel.
    Greyscale images have no saturation.

    Args:
        images: ``[n, height, width, channels]``, 0..255.
        factors: see `draw_factors`, ``[n, 3]``; a factor of 1 changes nothing.

    Returns:
        Images of the same shape, float32.
    """
    brightness, contrast, saturation = factors[..., None, None, None].unbind(1)
    images = (images * brightness).clamp(0, LARGEST)
    images = blend(_grey(images).mean((1, 2, 3), keepdim=True), images, contrast)
    return images if images.shape[-1] == 1 else blend(_grey(images), images, saturation)


def blend(without: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """Return images between (factor below 1) or beyond (above 1) their versions without a trait."""
    return torch.lerp(without.expand_as(images), images, factor).clamp(0, LARGEST)


def _grey(images: Tensor) -> Tensor:
    """Return the luma (ITU-R 601) with one channel."""
    if images.shape[-1] == 1:
        return images
    red, green, blue = images.unbind(-1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue)[..., None]
