"""Decodes image files to arrays of one size; runs in the decoding processes.

The module imports only NumPy and Pillow, so that decoding processes start quickly.
"""

import hashlib
import io
import signal
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

Content = bytes | str | NDArray[np.uint8]
"""An image: content or path of an image file, or pixels [h, w] or [h, w, 3]."""

# Pillow picks the decoder by content, whatever the file is called; this keeps the exotic ones,
# among them EPS that runs Ghostscript, away from files of unknown origin.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF")
GREY_MODES = frozenset({"1", "L", "LA", "La"})
SIXTEEN_BIT_GREY_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
# Undoes each value of the EXIF orientation tag.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# 32-bit integers and floats have no defined white, so scaling to 0..255 would be a guess.
UNSCALABLE_MODES = frozenset({"I", "F"})


@dataclass(frozen=True, slots=True)
class Chunk:
    """Images to decode together.

    Args:
        rows: rows of the images in the data set.
        names: names for messages.
        contents: the images.
        size: required (width, height) in pixels; None for the size of the first image.
        fit: whether images of another size are resized and cropped to ``size``.
    """

    rows: tuple[int, ...]
    names: tuple[str, ...]
    contents: tuple[Content, ...]
    size: tuple[int, int] | None
    fit: bool


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels of one chunk.

    Args:
        rows: rows of the images in the data set, [k].
        images: uint8 [k, height, width, channels]; one channel if all images are greyscale.
        moments: see :func:`moments`.
        digests: see :func:`digest`; uint64 [k].
    """

    rows: NDArray[np.int64]
    images: NDArray[np.uint8]
    moments: NDArray[np.int64]
    digests: NDArray[np.uint64]


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


def decode(chunk: Chunk) -> Decoded | Unreadable | Misfit:
    """Decode the images of a chunk, or return the first unusable image.

    A bad image is a return value, not an exception, because it crosses processes.
    """
    size = chunk.size
    pictures: list[NDArray[np.uint8]] = []
    digests: list[int] = []
    with warnings.catch_warnings():
        # Ignore warnings about odd metadata, but refuse images so large that they may be
        # decompression bombs.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for name, content in zip(chunk.names, chunk.contents, strict=True):
            try:
                held = _read(content)
                picture = _pixels(held, size if chunk.fit else None)
            except Exception as error:  # Decoders raise a dozen undocumented types for bad bytes.
                return Unreadable(name, _why(error))
            height, width, _ = picture.shape
            if size is None:
                size = (width, height)
            if size != (width, height):
                return Misfit(name, (width, height))
            pictures.append(picture)
            digests.append(digest(held))
    images = np.stack(_same_channels(pictures))
    return Decoded(
        np.array(chunk.rows, dtype=np.int64),
        images,
        moments(images),
        np.array(digests, dtype=np.uint64),
    )


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
            connection.send(decode(connection.recv()))
    except (EOFError, ConnectionError):
        return


def _read(content: Content) -> bytes | NDArray[np.uint8]:
    if isinstance(content, str):
        with open(content, "rb") as file:
            return file.read()
    return content


def _pixels(
    content: bytes | NDArray[np.uint8], fitted: tuple[int, int] | None
) -> NDArray[np.uint8]:
    """Return an image as [height, width, channels], resized and cropped if asked."""
    with _opened(content) as image:
        if fitted is not None:
            # Decodes a JPEG at 1/2, 1/4 or 1/8 of its size, but at least at twice the wanted size,
            # so that the following resize stays accurate.
            image.draft(None, (2 * fitted[0], 2 * fitted[1]))
        image.load()
        plain = _grey_or_rgb(_upright(image))
        if fitted is not None:
            plain = _fit(plain, fitted)
        pixels = np.array(plain, dtype=np.uint8)
    return pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels


@contextmanager
def _opened(content: bytes | NDArray[np.uint8]) -> Iterator[Image.Image]:
    if isinstance(content, np.ndarray):
        yield Image.fromarray(content)
        return
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        yield image


def _upright(image: Image.Image) -> Image.Image:
    orientation = None
    # Ignore unreadable metadata; the pixels may be fine.
    with suppress(Exception):
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    method = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode in UNSCALABLE_MODES:
        raise ValueError(f"its pixels are 32-bit ({image.mode}), only 8 and 16 bits are read")
    if image.mode in SIXTEEN_BIT_GREY_MODES:
        # 65535 / 257 = 255 maps the full 16-bit range to the full 8-bit range.
        deep = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    if image.mode in GREY_MODES:
        return image.convert("L")
    return image.convert("RGB")


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize the shorter side to ``size`` and crop the centre, in one antialiased step."""
    scale = min(image.width / size[0], image.height / size[1])
    width, height = size[0] * scale, size[1] * scale
    left, top = (image.width - width) / 2, (image.height - height) / 2
    return image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))


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
