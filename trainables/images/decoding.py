"""Decodes image files to arrays of one size; runs in the decoding processes.

The module imports only NumPy and Pillow, so that decoding processes start quickly.
"""

import hashlib
import re
import signal
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from trainables.images.findings import Findings
from trainables.images.pixels import RangeNeededError, Rules, read_deep_values, read_pixels
from trainables.images.similarity import Thumbnails, thumbnails
from trainables.images.value_range import Counts, count_values

Content = bytes | str | NDArray[np.uint8]
"""An image: content or path of an image file, or pixels [h, w] or [h, w, 3]."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Images to decode together.

    Args:
        rows: rows of the images in the data set.
        names: names for messages.
        contents: the images.
        size: required (width, height) in pixels; None for the size of the first image.
        fit: whether images of another size are resized and cropped to ``size``.
        rules: what else decides the pixels.
        survey: count the values of the deep images instead of decoding all images.
    """

    rows: tuple[int, ...]
    names: tuple[str, ...]
    contents: tuple[Content, ...]
    size: tuple[int, int] | None
    fit: bool
    rules: Rules = field(default_factory=Rules)
    survey: bool = False


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels of one chunk.

    Args:
        rows: rows of the images in the data set, [k].
        images: uint8 [k, height, width, channels]; one channel if all images are greyscale.
        moments: see :func:`moments`.
        digests: see :func:`digest`; uint64 [k].
        thumbnails: see :func:`trainables.images.similarity.thumbnails`.
        found: what reading changed or left out.
    """

    rows: NDArray[np.int64]
    images: NDArray[np.uint8]
    moments: NDArray[np.int64]
    digests: NDArray[np.uint64]
    thumbnails: Thumbnails
    found: Findings


@dataclass(frozen=True, slots=True)
class Surveyed:
    """The values of the deep images of one chunk of ``images`` images."""

    images: int
    values: Counts


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The first image of a chunk that Pillow cannot decode, and the cause."""

    name: str
    cause: str


@dataclass(frozen=True, slots=True)
class Misfit:
    """The first image of a chunk with the wrong (width, height)."""

    name: str
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The first image of a chunk with more pixels than allowed."""

    name: str
    pixels: int


@dataclass(frozen=True, slots=True)
class RangeNeeded:
    """The first deep image of a chunk whose rules have no range of values."""

    name: str


Outcome = Decoded | Surveyed | Unreadable | Misfit | TooLarge | RangeNeeded


def process(chunk: Chunk) -> Outcome:
    """Decode or survey the images of a chunk, or return the first unusable image.

    A bad image is a return value, not an exception, because it crosses processes.
    """
    return _survey(chunk) if chunk.survey else _decode(chunk)


def _decode(chunk: Chunk) -> Outcome:
    size = chunk.size
    pictures: list[NDArray[np.uint8]] = []
    digests: list[int] = []
    found = Findings()
    with _limited(chunk.rules.max_pixels):
        for name, content in zip(chunk.names, chunk.contents, strict=True):
            try:
                held = _read(content)
                picture, changed = read_pixels(held, size if chunk.fit else None, chunk.rules)
            except RangeNeededError:
                return RangeNeeded(name)
            except Exception as error:  # Decoders raise a dozen undocumented types for bad bytes.
                return _unusable(name, error)
            height, width, _ = picture.shape
            if size is None:
                size = (width, height)
            if size != (width, height):
                return Misfit(name, (width, height))
            pictures.append(picture)
            digests.append(digest(held))
            found += changed
    images = np.stack(_same_channels(pictures))
    found += Findings(levels=(int(images.min()), int(images.max())))
    return Decoded(
        np.array(chunk.rows, dtype=np.int64),
        images,
        moments(images),
        np.array(digests, dtype=np.uint64),
        thumbnails(images),
        found,
    )


def _survey(chunk: Chunk) -> Outcome:
    values: list[NDArray[np.floating]] = []
    with _limited(chunk.rules.max_pixels):
        for name, content in zip(chunk.names, chunk.contents, strict=True):
            try:
                deep = read_deep_values(_read(content))
            except Exception as error:  # As above.
                return _unusable(name, error)
            if deep is not None:
                values.append(deep)
    together = np.concatenate(values) if values else np.zeros(0, dtype=np.float32)
    return Surveyed(len(chunk.rows), count_values(together))


@contextmanager
def _limited(max_pixels: int) -> Iterator[None]:
    """Let Pillow ignore odd metadata, but refuse images with more pixels."""
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _unusable(name: str, error: Exception) -> Unreadable | TooLarge:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning) and (
        pixels := re.search(r"\((\d+) pixels\)", str(error))
    ):
        return TooLarge(name, int(pixels[1]))
    return Unreadable(name, _why(error))


def digest(content: bytes | NDArray[np.uint8]) -> int:
    """Return a digest of 64 bits of the bytes of an image file, or of pixels and their shape.

    Equal digests mean equal content: among a million images, two different ones have the same
    digest with a probability of 3e-8.
    """
    hashed = hashlib.blake2b(digest_size=8)
    if isinstance(content, np.ndarray):
        hashed.update(repr(content.shape).encode("ascii"))
        hashed.update(np.ascontiguousarray(content).data)
    else:
        hashed.update(content)
    return int.from_bytes(hashed.digest(), "little")


def moments(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the sum and the sum of squares of the pixels of each image and channel.

    The sums are exact. Adding them gives the mean and deviation of any subset without reading
    pixels again.

    Args:
        images: [n, height, width, channels].

    Returns:
        [n, channels, 2].
    """
    count, height, width, channels = images.shape
    flat = images.reshape(count, height * width, channels)
    sums = np.einsum("npc->nc", flat, dtype=np.int64)
    squares = np.einsum("npc,npc->nc", flat, flat, dtype=np.int64)
    return np.stack([sums, squares], axis=-1)


def serve(descriptor: int) -> None:
    """Decode chunks from a connection until the other end closes it.

    The connection also closes when the other process is killed, so no decoding process outlives
    its parent.

    Args:
        descriptor: an open socket inherited from the starting process.
    """
    # Ctrl-C reaches the whole process group; the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    try:
        while True:
            connection.send(process(connection.recv()))
    except (EOFError, ConnectionError):
        return


def _read(content: Content) -> bytes | NDArray[np.uint8]:
    if isinstance(content, str):
        with open(content, "rb") as file:
            return file.read()
    return content


def _same_channels(pictures: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    if len({picture.shape[2] for picture in pictures}) == 1:
        return pictures
    return [np.broadcast_to(picture, (*picture.shape[:2], 3)) for picture in pictures]


def _why(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        # Pillow's message contains a memory address.
        return "not in a known image format"
    if isinstance(error, struct.error | IndexError | KeyError | TypeError | SyntaxError):
        return f"damaged: {error}"
    return str(error) or type(error).__name__
