"""Moves the pixels of each image of a batch by one affine map with bilinear sampling.

A map is float32 ``[..., 2, 3]``. It takes a pixel (x, y) of the result to its place in the original
image; both are measured in pixels from the centre of the image, to the right and down. Several
changes of an image become one map, so the image is sampled once, and parts that one change moves
out of view come back into view if another one moves them there.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ZOOM_ASPECT = (3 / 4, 4 / 3)
"""Minimum and maximum width-to-height ratio of zoomed windows, relative to the image's own."""


def affine_maps(rows: tuple[tuple[Tensor | float, ...], ...], size: tuple[int, ...]) -> Tensor:
    """Return maps from two rows of three coefficients, each a number or a tensor of this size."""
    return torch.stack(
        [
            torch.stack([torch.as_tensor(each).float().expand(size) for each in row], -1)
            for row in rows
        ],
        -2,
    )


def draw_zoom(
    area: tuple[float, float],
    size: tuple[int, ...],
    shape: tuple[int, int],
    generator: torch.Generator,
) -> Tensor:
    """Draw random resized crops: windows of the image that are enlarged to all of it.

    The area is uniform and the aspect log-uniform, as by torchvision's ``RandomResizedCrop``. The
    aspect is drawn from those for which the window fits, so no window is drawn twice.

    Args:
        area: minimum and maximum fraction of the image's area, above 0 and at most 1.
        size: number of images in each dimension.
        shape: height and width of the images in pixels.
        generator: source of randomness.
    """
    height, width = shape
    drawn = torch.rand((4, *size), generator=generator)
    fraction = area[0] + drawn[0] * (area[1] - area[0])
    low = fraction.clamp(min=ZOOM_ASPECT[0]).log()
    high = (1 / fraction).clamp(max=ZOOM_ASPECT[1]).log()
    aspect = torch.exp(low + drawn[1] * (high - low))
    across = (fraction * aspect).sqrt().clamp(max=1)
    down = (fraction / aspect).sqrt().clamp(max=1)
    left = (drawn[2] - 0.5) * (1 - across) * width
    top = (drawn[3] - 0.5) * (1 - down) * height
    return affine_maps(((across, 0.0, left), (0.0, down, top)), size)


def draw_rotation(degrees: float, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw rotations around the centre, uniform up to this angle in either direction."""
    return rotation((2 * torch.rand(size, generator=generator) - 1) * degrees)


def rotation(degrees: Tensor) -> Tensor:
    """Return maps that rotate clockwise around the centre by these angles."""
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    return affine_maps(((cos, sin, 0.0), (-sin, cos, 0.0)), tuple(degrees.shape))


def translation(shift: Tensor, padding: tuple[int, int]) -> Tensor:
    """Return the maps of shifts; see `trainables.training.augmentation.Variation`."""
    down, across = shift[..., 0] - padding[0], shift[..., 1] - padding[1]
    return affine_maps(((1.0, 0.0, across), (0.0, 1.0, down)), tuple(down.shape))


def mirroring(mirrored: Tensor) -> Tensor:
    """Return the maps of horizontal flips, where 1 mirrors an image and 0 does not."""
    return affine_maps(((1 - 2 * mirrored, 0.0, 0.0), (0.0, 1.0, 0.0)), tuple(mirrored.shape))


def compose(first: Tensor, then: Tensor) -> Tensor:
    """Return the map of one change of an image followed by another."""
    composed = (first[..., :, :2, None] * then[..., None, :, :]).sum(-2)
    return torch.cat([composed[..., :2], composed[..., 2:] + first[..., 2:]], -1)


def sample(images: Tensor, affine: Tensor) -> Tensor:
    """Return the images changed by their maps, black where a map leaves the image.

    Args:
        images: ``[n, height, width, channels]``.
        affine: a map for each image, ``[n, 2, 3]``.

    Returns:
        Images of the same shape, float32.
    """
    height, width = images.shape[1:3]
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2
    # Explicit sums: a matrix product may have reduced precision on a GPU.
    across, down = (
        row[:, 0, None, None] * x + row[:, 1, None, None] * y + row[:, 2, None, None]
        for row in affine.unbind(1)
    )
    places = [across / (width / 2), down / (height / 2)]
    grid = torch.stack(places, -1)
    inside = [(place >= -1) & (place < 1) for place in places]
    pixels = images.permute(0, 3, 1, 2).float()
    # Samples within half a pixel of the edge would otherwise be mixed with black.
    sampled = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return (sampled * (inside[0] & inside[1])[:, None]).permute(0, 2, 3, 1)
