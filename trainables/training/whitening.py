"""Whitening filters: a first convolution that decorrelates the patches of the images.

Source: Page 2018 (https://myrtle.ai/learn/how-to-train-your-resnet-8-bag-of-tricks/) and Jordan
2024 (arXiv 2404.00498). The filters are the eigenvectors of the covariance of the patches, each
divided by the root of its eigenvalue, so that their outputs are uncorrelated and have about unit
variance. The kernel stays as it starts; a bias of the convolution and a norm after it are trained.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from spaces.architecture import Architecture
from spaces.errors import BadInputError
from spaces.operations import Convolution
from trainables.builder import Network
from trainables.data import Dataset

EPSILON = 5e-4
"""Added to each eigenvalue; pixels of normalised images have a mean variance of 1."""
PIXELS = 1 << 19
"""Approximate number of pixels of the images that give patches."""
LEAST_IMAGES = 64
PATCHES = 1 << 14
"""Approximate number of patches."""


@torch.no_grad()
def whiten_first_layer(network: Network, architecture: Architecture, dataset: Dataset) -> None:
    """Set the kernel of the first convolution to whitening filters, and freeze it.

    Args:
        network: on the CPU, built from the architecture.
        architecture: its first convolution takes the image.
        dataset: the images; only a sample of the training split is read.

    Raises:
        BadInputError: the first convolution does not take the whole image.
    """
    convolution = _first_convolution(network, architecture)
    patches = _sample_patches(convolution, _sample_images(dataset))
    convolution.weight.copy_(
        whitening_filters(patches, len(convolution.weight)).view_as(convolution.weight)
    )
    convolution.weight.requires_grad_(False)


def _first_convolution(network: Network, architecture: Architecture) -> nn.Conv2d:
    for index, (operation, inputs, *_) in enumerate(architecture.layers):
        if type(operation) is Convolution:
            module = network.layers[index]
            if inputs == (0,) and operation.groups == 1 and isinstance(module, nn.Conv2d):
                return module
            break
    problem = "the first convolution does not take all channels of the image itself"
    raise BadInputError("recipe.first_layer", "whitening", problem, "use standard")


def _sample_images(dataset: Dataset) -> Tensor:
    """Return evenly spaced training images as a network sees them, float32 ``[n, c, h, w]``."""
    height, width, _ = dataset.shape
    count = min(max(LEAST_IMAGES, PIXELS // (height * width)), len(dataset.train))
    rows = dataset.train[np.linspace(0, len(dataset.train) - 1, count).astype(np.int64)]
    images: NDArray[np.uint8] = dataset.images[rows]
    mean, std = (torch.tensor(each, dtype=torch.float32) for each in (dataset.mean, dataset.std))
    return ((torch.from_numpy(images).float() / 255 - mean) / std).permute(0, 3, 1, 2)


def _sample_patches(convolution: nn.Conv2d, images: Tensor) -> Tensor:
    """Return a sample of the patches that a convolution sees, ``[patches, values]``.

    Patches on the border of the image are left out unless there are no others.
    """
    (down, right), (dilated_down, dilated_right) = convolution.kernel_size, convolution.dilation
    spans = (down - 1) * dilated_down + 1, (right - 1) * dilated_right + 1
    if spans[0] > images.shape[2] or spans[1] > images.shape[3]:
        assert not isinstance(convolution.padding, str)  # noqa: S101 - numbers in an architecture
        rows, columns = convolution.padding
        images = F.pad(images, (columns, columns, rows, rows))
    windows = images
    for dimension, span, stride in zip((2, 3), spans, convolution.stride, strict=True):
        windows = windows.unfold(dimension, span, stride)
    windows = windows[..., ::dilated_down, ::dilated_right]
    count = windows.shape[0] * windows.shape[2] * windows.shape[3]
    step = max(1, round((count / PATCHES) ** 0.5))
    windows = windows[:, :, ::step, ::step]
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)


def whitening_filters(patches: Tensor, count: int) -> Tensor:
    """Return whitening filters ``[count, values]``.

    They come in pairs: a filter and its negative, in the order of decreasing variance. If there are
    fewer than two per value, those of the smallest variances are missing. Filters beyond that are
    random combinations of all, with the same variance, from torch's global generator.

    Args:
        patches: ``[patches, values]``.
        count: number of filters.
    """
    values = patches.shape[1]
    covariance = torch.cov(patches.double().T).view(values, values)
    variances, directions = torch.linalg.eigh(covariance)
    # Eigenvectors have no sign: let the largest value of each be positive.
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    directions = directions * largest.sign()
    whitening = (directions / (variances.clamp(min=0) + EPSILON).sqrt()).T.flip(0)
    filters = torch.stack([whitening, -whitening], dim=1).flatten(0, 1)
    if count > len(filters):
        mixed = F.normalize(torch.randn(count - len(filters), len(whitening)).double())
        filters = torch.cat([filters, mixed @ whitening])
    return filters[:count].float()
