"""Finds images that are almost the same pixel by pixel, such as one photo saved twice.

Small thumbnails propose pairs; the correlation of all pixels decides. Images that are shifted,
cropped, mirrored or strongly changed are not found, so the pairs are a lower bound.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Thumbnails = NDArray[np.uint8]
"""Grey thumbnails, [n, 8, 9]."""

THUMBNAIL = (8, 9)
"""Height and width of a thumbnail."""

SMALLEST = 16
"""Shorter side in pixels of images that are compared; smaller ones are alike by chance."""

# Different digits of MNIST reach 0.989; photos saved again as JPEG of quality 75 exceed 0.996.
_CORRELATION = 0.99
_THUMBNAIL_CORRELATION = 0.98
# Standard deviation in grey levels below which an image counts as blank.
_CONTRAST = 4.0
# Neighbours in each bucket of equal hashes to compare with; bounds the time for sets such as MNIST.
_NEIGHBOURS = 4
# Difference in grey levels that counts as a step, so that flat areas give stable hashes.
_STEP = 3
# Larger images are compared on a grid of about that many pixels per side.
_SIDE = 64
_AT_ONCE = 2**24


def thumbnails(images: NDArray[np.uint8]) -> Thumbnails:
    """Return grey thumbnails, in which each pixel is the mean of an area.

    Args:
        images: [n, height, width, channels].
    """
    count, height, width, channels = images.shape
    rows, columns = THUMBNAIL
    across = np.repeat(_areas(width, columns), channels, axis=0) / channels
    flat = images.reshape(count * height, width * channels)
    narrow = (flat.astype(np.float32) @ across).reshape(count, height, columns)
    means: NDArray[np.float32] = _areas(height, rows).T @ narrow
    return np.rint(means).astype(np.uint8)


def similar_pairs(thumbs: Thumbnails, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return pairs of rows with almost the same pixels, [m, 2], the lower row first.

    Args:
        thumbs: thumbnail of each image, [n, 8, 9].
        images: [n, height, width, channels]; exact copies are better left out, since each image is
            compared with few others.
    """
    _, height, width, _ = images.shape
    if min(height, width) < SMALLEST or not len(thumbs):
        return np.empty((0, 2), dtype=np.int64)
    pairs = np.unique(np.concatenate(list(_candidates(thumbs))), axis=0)
    return _correlated(images, _correlated(thumbs, pairs, _THUMBNAIL_CORRELATION), _CORRELATION)


def _areas(size: int, count: int) -> NDArray[np.float32]:
    """Return weights [size, count] that average ``size`` pixels over ``count`` equal areas."""
    edges = np.linspace(0, size, count + 1)
    pixels = np.arange(size)[:, np.newaxis]
    covered = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    weights: NDArray[np.float32] = (np.maximum(covered, 0) * count / size).astype(np.float32)
    return weights


def _candidates(thumbs: Thumbnails) -> Iterator[NDArray[np.int64]]:
    """Yield pairs of rows that share one half of their difference hash."""
    levels = thumbs.astype(np.int16)
    bits = (levels[:, :, 1:] - levels[:, :, :-1] >= _STEP).reshape(len(thumbs), -1)
    for half in (0, 1):
        # Alternate bits, so that an empty border does not fill a half.
        own, other = (
            np.packbits(bits[:, start::2], axis=1).view(np.uint32).ravel().astype(np.uint64)
            for start in (half, 1 - half)
        )
        order = np.argsort((own << np.uint64(32)) | other, kind="stable")
        for step in range(1, _NEIGHBOURS + 1):
            one, two = order[:-step], order[step:]
            equal = own[one] == own[two]
            yield np.sort(np.stack([one[equal], two[equal]], axis=1), axis=1)


def _correlated(
    images: NDArray[np.uint8], pairs: NDArray[np.int64], lowest: float
) -> NDArray[np.int64]:
    """Return the pairs whose pixels correlate at least that much; blank images never do."""
    step = max(1, min(images.shape[1:3]) // _SIDE)
    images = images[:, ::step, ::step]
    size = int(np.prod(images.shape[1:]))
    parts = np.array_split(pairs, len(pairs) * size // _AT_ONCE + 1)
    return np.concatenate([part[_correlate(images, part, size) >= lowest] for part in parts])


def _correlate(
    images: NDArray[np.uint8], pairs: NDArray[np.int64], size: int
) -> NDArray[np.float32]:
    """Return the correlation of the pixels of each pair, less if an image is blank."""
    one, two = (
        images[rows].reshape(len(rows), size).astype(np.float32)
        for rows in (pairs[:, 0], pairs[:, 1])
    )
    one -= one.mean(axis=1, keepdims=True)
    two -= two.mean(axis=1, keepdims=True)
    deviations = np.sqrt(np.einsum("np,np->n", one, one) * np.einsum("np,np->n", two, two))
    products = np.einsum("np,np->n", one, two)
    correlations: NDArray[np.float32] = products / np.maximum(deviations, size * _CONTRAST**2)
    return correlations
