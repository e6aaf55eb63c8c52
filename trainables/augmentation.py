"""Augmentation of a whole batch at once, on its device, with randomness per sample."""

from __future__ import annotations

import torch
from torch import Tensor


def crop_and_flip(images: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Shift every image by up to ``padding`` pixels (zeros come in) and mirror half of them.

    Equals padding each image on all sides, cropping at random and flipping horizontally; done as
    one gather, so that the batch is copied once.

    Args:
        images: uint8 ``[n, height, width, channels]``.
        padding: largest shift in pixels; 0 leaves the images where they are.
        flip: mirror each image with probability one half.
        generator: source of the randomness, on the CPU.

    Returns:
        A batch of the same shape, type and device.
    """
    if not padding and not flip:
        return images
    count, height, width, _ = images.shape
    device = images.device
    shift = torch.randint(-padding, padding + 1, (2, count, 1), generator=generator).to(device)
    rows = torch.arange(height, device=device) + shift[0]
    columns = torch.arange(width, device=device) + shift[1]
    if flip:
        mirrored = torch.rand((count, 1), generator=generator).to(device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None
    ]
    taken = images[
        torch.arange(count, device=device)[:, None, None],
        rows.clamp(0, height - 1)[:, :, None],
        columns.clamp(0, width - 1)[:, None],
    ]
    return taken * inside[..., None]
