"""TrivialAugment: one random operation with a random strength for each image.

Mueller & Hutter 2021 (arXiv 2103.10158), with the 14 operations and the ranges of its wide space.
Batches are not divided by operation, because the host would have to wait for the sizes of the
groups. Instead, each kind of operation is applied to all images, with parameters that leave the
others unchanged: one affine map, factors of colour, a factor of sharpness, and a table of values.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from trainables.training.color import blend
from trainables.training.geometry import affine_maps, rotation


class Operation(IntEnum):
    """The operations of TrivialAugment."""

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    ROTATE = 5
    BRIGHTNESS = 6
    CONTRAST = 7
    SATURATION = 8
    SHARPNESS = 9
    POSTERIZE = 10
    SOLARIZE = 11
    AUTOCONTRAST = 12
    EQUALIZE = 13


STRENGTHS = 31
"""Number of equally likely strengths of an operation, from none to the largest."""
SHEAR, PIXELS, DEGREES, FACTOR, BITS = 0.99, 32, 135.0, 0.99, 6
"""Largest shear, translation (at most the side of the image), rotation, change of a factor of
colour or sharpness, and number of removed bits."""
_LEVELS = 256


@dataclass(frozen=True)
class Operations:
    """The operation of each image.

    Attributes:
        operation: see `Operation`, int64 ``[...]``.
        magnitude: its argument, float32 ``[...]``: shear, pixels, degrees, difference of a factor
            from 1, number of removed bits or smallest inverted value; 0 for other operations.
    """

    operation: Tensor
    magnitude: Tensor

    def affine(self, shape: tuple[int, int]) -> Tensor:
        """Return the affine map of each image; see `trainables.training.geometry`.

        Shears keep the top left corner in place, as in the published code.

        Args:
            shape: height and width of the images in pixels.
        """
        height, width = shape
        across, down = self._of(Operation.SHEAR_X), self._of(Operation.SHEAR_Y)
        moved = affine_maps(
            (
                (1.0, across, across * height / 2 + self._of(Operation.TRANSLATE_X)),
                (down, 1.0, down * width / 2 + self._of(Operation.TRANSLATE_Y)),
            ),
            tuple(self.operation.shape),
        )
        rotated = (self.operation == Operation.ROTATE)[..., None, None]
        return torch.where(rotated, rotation(self._of(Operation.ROTATE)), moved)

    @property
    def factors(self) -> Tensor:
        """The factors of colour of each image; see `trainables.training.color`."""
        kinds = (Operation.BRIGHTNESS, Operation.CONTRAST, Operation.SATURATION)
        return 1 + torch.stack([self._of(kind) for kind in kinds], -1)

    def _of(self, kind: Operation) -> Tensor:
        """Return the magnitudes of this kind of operation, and 0 for others."""
        return torch.where(self.operation == kind, self.magnitude, 0.0)


def draw_operations(
    size: tuple[int, ...], shape: tuple[int, int], generator: torch.Generator
) -> Operations:
    """Draw operations and strengths, all equally likely.

    Args:
        size: number of images in each dimension.
        shape: height and width of the images in pixels.
        generator: source of randomness.
    """
    operation = torch.randint(0, len(Operation), size, generator=generator)
    strength = torch.randint(0, STRENGTHS, size, generator=generator) / (STRENGTHS - 1)
    sign = 2 * torch.randint(0, 2, size, generator=generator) - 1
    height, width = shape
    largest = dict.fromkeys(Operation, 0.0) | {
        Operation.SHEAR_X: SHEAR,
        Operation.SHEAR_Y: SHEAR,
        Operation.TRANSLATE_X: float(min(PIXELS, width)),
        Operation.TRANSLATE_Y: float(min(PIXELS, height)),
        Operation.ROTATE: DEGREES,
        Operation.BRIGHTNESS: FACTOR,
        Operation.CONTRAST: FACTOR,
        Operation.SATURATION: FACTOR,
        Operation.SHARPNESS: FACTOR,
    }
    magnitude = torch.tensor(list(largest.values()))[operation] * strength * sign
    magnitude = torch.where(operation == Operation.POSTERIZE, (BITS * strength).round(), magnitude)
    threshold = (_LEVELS - 1) * (1 - strength)
    magnitude = torch.where(operation == Operation.SOLARIZE, threshold, magnitude)
    return Operations(operation, magnitude)


def sharpen(images: Tensor, operations: Operations) -> Tensor:
    """Return the images; those with the operation of sharpness are sharpened or smoothed.

    Args:
        images: float32 ``[n, height, width, channels]``, 0..255.
        operations: ``[n]``.
    """
    height, width = images.shape[1:3]
    if min(height, width) < 3:
        return images
    # The filter of Pillow: weight 5 in the centre and 1 around it, and edges stay as they are.
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    around = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    smooth = images.clone()
    smooth[:, 1:-1, 1:-1] = (around + 4 * images[:, 1:-1, 1:-1]) / 13
    sharpness = operations.operation == Operation.SHARPNESS
    factor = torch.where(sharpness, 1 + operations.magnitude, 1.0)
    return blend(smooth, images, factor.view(-1, 1, 1, 1))


def look_up(images: Tensor, operations: Operations) -> Tensor:
    """Return the images; those with one of the last four operations have other values.

    These operations replace each of 256 values by another, from a table per image and channel.

    Args:
        images: float32 ``[n, height, width, channels]``, 0..255.
        operations: ``[n]``.
    """
    count, height, width, channels = images.shape
    pixels = images.round().long().view(count, -1, channels).transpose(1, 2)
    kind = operations.operation[:, None, None]
    magnitude = operations.magnitude[:, None, None].to(torch.int64)
    value = torch.arange(_LEVELS, device=images.device).expand(count, channels, -1)
    bits = torch.where(kind == Operation.POSTERIZE, magnitude, 0)
    table = value >> bits << bits
    inverted = (kind == Operation.SOLARIZE) & (value >= operations.magnitude[:, None, None])
    table = torch.where(inverted, _LEVELS - 1 - value, table)
    table = torch.where(kind == Operation.AUTOCONTRAST, _stretched(pixels, value), table)
    table = torch.where(kind == Operation.EQUALIZE, _equalised(pixels, value), table)
    changed = table.gather(2, pixels).transpose(1, 2).view(count, height, width, channels)
    return torch.where((kind >= Operation.POSTERIZE)[..., None], changed, images)


def _stretched(pixels: Tensor, value: Tensor) -> Tensor:
    """Return tables that stretch the values of each channel to 0..255.

    Args:
        pixels: values of the pixels, int64 ``[n, channels, pixels]``.
        value: the values of each table, int64 ``[n, channels, 256]``.
    """
    lowest, highest = pixels.aminmax(dim=2, keepdim=True)
    table = (value - lowest) * (_LEVELS - 1) // (highest - lowest).clamp(min=1)
    return torch.where(highest > lowest, table, value)


def _equalised(pixels: Tensor, value: Tensor) -> Tensor:
    """Return tables that make the values of each channel as equally frequent as Pillow does."""
    one = torch.ones((), dtype=torch.int64, device=pixels.device)
    counts = torch.zeros_like(value).scatter_add_(2, pixels, one.expand_as(pixels))
    below = counts.cumsum(2) - counts
    # All pixels but those of the highest value.
    step = below.gather(2, pixels.amax(2, keepdim=True)) // (_LEVELS - 1)
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=_LEVELS - 1)
    return torch.where(step > 0, table, value)
