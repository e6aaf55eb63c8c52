"""Sides of the smaller images with which a training begins (progressive resizing).

Source: Howard 2018 (https://www.fast.ai/posts/2018-08-10-fastai-diu-imagenet.html). Small images
cost less per step; the last epochs train at the full side, at which all images are scored.
"""

from __future__ import annotations

import logging

import torch.nn.functional as F
from torch import Tensor

from spaces.architecture import Architecture, CollapsedLayerError, Layer
from spaces.errors import BadInputError
from spaces.operations import Input

_log = logging.getLogger(__name__)


def with_image_size(architecture: Architecture, height: int, width: int) -> Architecture:
    """Return the same layers for images of another height and width in pixels."""
    channels, _, _ = architecture.layers[0].operation.output_shape(())
    image = Layer(Input(channels, height, width), (), architecture.layers[0].name)
    return Architecture((image, *architecture.layers[1:]))


def small_image_size(architecture: Architecture, side: float) -> tuple[int, int]:
    """Return the smallest size of images, from a fraction of the full one, that a network takes.

    Args:
        architecture: for images of full size.
        side: wanted height and width, as a fraction of the full ones.

    Returns:
        Height and width in pixels. They are the full ones, and a warning says so, if a feature map
        has no pixels left with any smaller images.

    Raises:
        BadInputError: the weights of the network depend on the size of its images.
    """
    _, full_height, full_width = architecture.layers[0].operation.output_shape(())
    depends = False
    for height in range(max(1, round(side * full_height)), full_height):
        width = max(1, round(full_width * height / full_height))
        smaller = with_image_size(architecture, height, width)
        try:
            if _same_weights(architecture, smaller):
                return height, width
        except CollapsedLayerError:
            continue
        except ValueError:
            pass
        depends = True
    if depends:
        problem = "the network takes images of one size only"
        remedy = "set recipe.small_images to 0, or pool globally before the first linear layer"
        raise BadInputError("recipe.small_side", side, problem, remedy)
    _log.warning(
        "small_images: the network takes no images under %dx%d pixels, so all epochs have these",
        full_height,
        full_width,
    )
    return full_height, full_width


def _same_weights(architecture: Architecture, other: Architecture) -> bool:
    """Tell whether the weights of one architecture fit the other."""
    before, after = architecture.shapes, other.shapes
    for operation, inputs, *_ in architecture.layers:
        ours, theirs = (tuple([shapes[i] for i in inputs]) for shapes in (before, after))
        if operation.params(ours) != operation.params(theirs):
            return False
    return before[-1] == after[-1]


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return smaller images, ``[n, c, h, w]``: bilinear, with antialiasing."""
    return F.interpolate(images, size, mode="bilinear", antialias=True)
