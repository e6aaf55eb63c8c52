"""Augments whole batches on their device, with independent randomness for each image.

`draw_variation` draws the changes of a whole epoch on the CPU. A seed therefore gives the same
changes on every device, and a step waits for nothing. `change`, `erase` and `mix` then change
batches on their device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spaces.errors import BadInputError
from spaces.user_code import RAISED_BY_USERS, defined_at, load_object, place_of, remedy_of
from trainables.specs import Augmentation
from trainables.training import color, geometry, policy

ERASED_AREA = (0.02, 0.33)
"""Minimum and maximum fraction of the image that random erasing removes."""
ERASED_ASPECT = (0.3, 3.3)
"""Minimum and maximum height-to-width ratio of erased rectangles."""
_TRIES = 10
"""Rectangles drawn per image; the first that fits is erased."""
_FLIP_SEED = 0x5EED
_FIELD = "augmentation.function"

Augment: TypeAlias = Callable[[Tensor], Tensor]
"""Changes a batch of images."""


@dataclass(frozen=True)
class Variation:
    """The changes of each image of a batch or an epoch; None for changes that are off.

    The leading dimensions, ``...``, are those of the images.

    Attributes:
        shift: position of the crop in the padded image in rows and columns, int64 ``[..., 2]``,
            from 0 to twice the padding; the padding itself keeps the image in place.
        mirrored: whether the image is mirrored, int64 0 or 1 ``[...]``.
        boxes: erased rectangles, int64 ``[..., k, 4]``: top, bottom, left, right with exclusive
            ends; an empty rectangle erases nothing.
        mixup_lambda: weight of each image, float32 ``[...]``; the rest is the weight of the
            previous image of the batch.
        affine: affine map of each image, float32 ``[..., 2, 3]``; see
            `trainables.training.geometry`. It includes the image's shift and flip, which are then
            None.
        factors: factors of brightness, contrast and saturation, float32 ``[..., 3]``; see
            `trainables.training.color`.
        operation: operation of a policy, int64 ``[...]``; see `trainables.training.policy`.
        magnitude: argument of the operation, float32 ``[...]``.
    """

    shift: Tensor | None = None
    mirrored: Tensor | None = None
    boxes: Tensor | None = None
    mixup_lambda: Tensor | None = None
    affine: Tensor | None = None
    factors: Tensor | None = None
    operation: Tensor | None = None
    magnitude: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Variation:
        """Return a variation with a function applied to every tensor."""
        present = {f.name: getattr(self, f.name) for f in fields(self)}
        changed = {name: change(value) for name, value in present.items() if value is not None}
        return replace(self, **changed)

    def tensors(self) -> list[Tensor]:
        """Return the tensors that are present, always in the same order."""
        return [value for f in fields(self) if (value := getattr(self, f.name)) is not None]


def draw_variation(
    augmentation: Augmentation,
    rows: Tensor,
    shape: tuple[int, int],
    *,
    seed: int,
    passes: Tensor,
    generator: torch.Generator,
) -> Variation:
    """Draw the changes of each image of an epoch.

    Args:
        augmentation: the changes to draw.
        rows: positions of the images in the data set, int64 ``[...]``.
        shape: height and width of the images in pixels.
        seed: seed of the training; determines the first flip of each image if flips alternate.
        passes: number of earlier passes over each image, int64 ``[...]``.
        generator: source of all other randomness, on the CPU.
    """
    size = tuple(rows.shape)
    rectangles = []
    if augmentation.erase:
        rectangles.append(_draw_erasing(augmentation.erase, size, shape, generator))
    if augmentation.cutout:
        rectangles.append(_draw_cutout(augmentation.cutout, size, shape, generator))
    padding = augmentation.padding(*shape)
    variation = Variation(
        shift=_draw_shift(padding, size, generator),
        mirrored=_draw_mirrored(augmentation.flip, rows, seed, passes, generator),
        boxes=torch.stack(rectangles, -2) if rectangles else None,
        mixup_lambda=_draw_lambdas(augmentation.mixup, size, generator)
        if augmentation.mixup
        else None,
    )
    maps = []
    if augmentation.zoom:
        maps.append(geometry.draw_zoom(augmentation.zoom, size, shape, generator))
    if augmentation.rotate:
        maps.append(geometry.draw_rotation(augmentation.rotate, size, generator))
    if augmentation.color:
        factors = color.draw_factors(augmentation.color, size, generator)
        variation = replace(variation, factors=factors)
    operations = None
    if augmentation.policy == "trivial":
        operations = policy.draw_operations(size, shape, generator)
        variation = replace(
            variation,
            factors=operations.factors,
            operation=operations.operation,
            magnitude=operations.magnitude,
        )
    if not maps and operations is None:
        return variation
    if variation.shift is not None:
        maps.append(geometry.translation(variation.shift, padding))
    if variation.mirrored is not None:
        maps.append(geometry.mirroring(variation.mirrored))
    if operations is not None:
        maps.append(operations.affine(shape))
    return replace(variation, shift=None, mirrored=None, affine=reduce(geometry.compose, maps))


def _draw_shift(
    most: tuple[int, int], size: tuple[int, ...], generator: torch.Generator
) -> Tensor | None:
    if not any(most):
        return None
    drawn = [torch.randint(0, 2 * limit + 1, size, generator=generator) for limit in most]
    return torch.stack(drawn, -1)


def _draw_mirrored(
    flip: str, rows: Tensor, seed: int, passes: Tensor, generator: torch.Generator
) -> Tensor | None:
    if flip == "none":
        return None
    if flip == "random":
        return torch.randint(0, 2, tuple(rows.shape), generator=generator)
    # The first flip belongs to the image for the whole training, whatever its batch.
    first = torch.Generator().manual_seed((seed ^ _FLIP_SEED) % 2**63)
    begins = torch.randint(0, 2, (int(rows.max()) + 1,), generator=first)
    return (begins[rows] + passes) % 2


def _draw_erasing(
    probability: float,
    size: tuple[int, ...],
    shape: tuple[int, int],
    generator: torch.Generator,
) -> Tensor:
    """Draw the rectangles of random erasing: the first of several tries that fits the image."""
    height, width = shape
    drawn = torch.rand((5, *size, _TRIES), generator=generator)
    area = height * width * (ERASED_AREA[0] + drawn[0] * (ERASED_AREA[1] - ERASED_AREA[0]))
    low, high = math.log(ERASED_ASPECT[0]), math.log(ERASED_ASPECT[1])
    aspect = torch.exp(low + drawn[1] * (high - low))
    rows = (area * aspect).sqrt().round()
    columns = (area / aspect).sqrt().round()
    fits = (rows < height) & (columns < width) & (rows >= 1) & (columns >= 1)
    top = (drawn[2] * (height - rows + 1)).floor()
    left = (drawn[3] * (width - columns + 1)).floor()
    boxes = torch.stack([top, top + rows, left, left + columns], -1)
    # Without a fitting rectangle, or for a spared image, the rectangle is empty.
    first = fits.int().argmax(-1)[..., None, None].expand(*size, 1, 4)
    erased = fits.any(-1) & (drawn[4, ..., 0] < probability)
    return (boxes.gather(-2, first).squeeze(-2) * erased[..., None]).long()


def _draw_cutout(
    side: int, size: tuple[int, ...], shape: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Draw squares centred on a random pixel, clipped to the image."""
    ends = []
    for length in shape:
        begin = torch.randint(0, length, size, generator=generator) - side // 2
        ends += [begin.clamp(min=0), (begin + side).clamp(max=length)]
    return torch.stack(ends, -1)


def _draw_lambdas(alpha: float, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw from Beta(alpha, alpha) with NumPy; torch only offers its global generator."""
    seed = int(torch.randint(2**62, (), generator=generator))
    drawn = np.random.default_rng(seed).beta(alpha, alpha, size)
    return torch.from_numpy(drawn.astype(np.float32))


def change(images: Tensor, variation: Variation, padding: tuple[int, int]) -> Tensor:
    """Change position and colour of the pixels of every image.

    Args:
        images: uint8 ``[n, height, width, channels]``.
        variation: changes of the images.
        padding: see `move`.

    Returns:
        Images of the same shape, uint8, or float32 0..255 after changes other than shifts and
        flips.
    """
    images = move(images, variation.shift, variation.mirrored, padding)
    if variation.affine is not None:
        images = geometry.sample(images, variation.affine)
    if variation.factors is not None:
        images = color.adjust(images, variation.factors)
    if variation.operation is not None and variation.magnitude is not None:
        operations = policy.Operations(variation.operation, variation.magnitude)
        images = policy.look_up(policy.sharpen(images, operations), operations)
    return images


def move(
    images: Tensor, shift: Tensor | None, mirrored: Tensor | None, padding: tuple[int, int]
) -> Tensor:
    """Crop every image from its copy padded with black, then mirror it if asked.

    Args:
        images: uint8 ``[n, height, width, channels]``.
        shift: see `Variation`.
        mirrored: see `Variation`; applies to the crop.
        padding: rows and columns added on each side.

    Returns:
        A batch of the same shape, type and device.
    """
    if shift is not None:
        images = _cropped(images, shift, padding)
    return images if mirrored is None else _mirrored(images, mirrored)


def _cropped(images: Tensor, shift: Tensor, padding: tuple[int, int]) -> Tensor:
    """Crop every image from its padded copy, by whole rows of pixels: they stay contiguous."""
    count, height, width, channels = images.shape
    down, across = padding
    rows, columns = height + 2 * down, width + 2 * across
    padded = images.new_zeros((count, rows, columns, channels))
    padded[:, down : down + height, across : across + width] = images
    # One window for each pixel at which a row of a crop can start.
    windows = padded.as_strided(
        (count * rows * columns - width + 1, width * channels), (channels, 1)
    )
    number, row = (torch.arange(size, device=images.device) for size in (count, height))
    corner = columns * (rows * number + shift[:, 0]) + shift[:, 1]
    starts = corner[:, None] + columns * row
    return windows.index_select(0, starts.flatten()).view(images.shape)


def _mirrored(images: Tensor, mirrored: Tensor) -> Tensor:
    """Select each image or its mirror image by a whole copy: selecting pixels takes longer."""
    count = len(images)
    both = torch.cat([images, images.flip(2)])
    number = torch.arange(count, device=images.device)
    return both.index_select(0, number + count * mirrored)


def erase(images: Tensor, boxes: Tensor) -> Tensor:
    """Set rectangles of normalised images to zero, the mean colour, in place.

    Args:
        images: ``[n, channels, height, width]``.
        boxes: see `Variation`.
    """
    height, width = images.shape[-2:]
    row = torch.arange(height, device=images.device)
    column = torch.arange(width, device=images.device)
    top, bottom, left, right = boxes[..., None].unbind(-2)
    inside = ((row >= top) & (row < bottom))[..., :, None] & ((column >= left) & (column < right))[
        ..., None, :
    ]
    return images.masked_fill_(inside.any(1)[:, None], 0)


def user_augmentation(reference: str | None, folders: Sequence[str]) -> Augment | None:
    """Return the user's function as one of batches as the training holds them.

    The user's function takes and returns images, float32 ``[n, channels, height, width]`` in 0..1
    on the device of the training.

    Args:
        reference: ``module:function``; None for none.
        folders: absolute folders of users' modules.

    Returns:
        A function of images ``[n, height, width, channels]`` in 0..255 of any type, to float32. It
        raises `BadInputError` with file and line if the user's function fails or returns something
        else.

    Raises:
        BadInputError: the function cannot be imported.
    """
    if reference is None:
        return None
    function = load_object(_FIELD, reference, folders)
    if not callable(function):
        raise BadInputError(_FIELD, reference, "is not a function", "name a function(images)")

    def augment(images: Tensor) -> Tensor:
        given = images.permute(0, 3, 1, 2).float() / 255
        try:
            found = function(given)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except RAISED_BY_USERS as error:
            problem = f"raised {type(error).__name__}: {error}{place_of(error)}"
            remedy = remedy_of(error, "fix it to return changed images")
            raise BadInputError(_FIELD, reference, problem, remedy) from error
        if not isinstance(found, Tensor) or found.shape != given.shape:
            was = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            problem = f"returned {was} for images {list(given.shape)}{defined_at(function)}"
            remedy = "return images of the same shape"
            raise BadInputError(_FIELD, reference, problem, remedy)
        return found.to(given.device, torch.float32).permute(0, 2, 3, 1) * 255

    return augment


def check_user_augmentation(
    reference: str | None, folders: Sequence[str], images: NDArray[np.uint8]
) -> None:
    """Call the user's function once, before anything is trained.

    Args:
        reference: see `user_augmentation`.
        folders: likewise.
        images: some of the search, uint8 ``[n, height, width, channels]``.

    Raises:
        BadInputError: it fails, or returns something else than finite images of the same shape.
    """
    augment = user_augmentation(reference, folders)
    if augment is not None and not augment(torch.from_numpy(images.copy())).isfinite().all():
        problem = "returned values that are not finite"
        raise BadInputError(_FIELD, reference, problem, "return images in 0..1")


def mix(images: Tensor, mixup_lambda: Tensor) -> Tensor:
    """Mix every image with the previous image of the batch.

    Args:
        images: ``[n, channels, height, width]``.
        mixup_lambda: see `Variation`.
    """
    return torch.lerp(images.roll(1, 0), images, mixup_lambda.view(-1, 1, 1, 1).to(images.dtype))
