"""Turns one image file into pixels: upright, opaque, and greyscale or RGB.

The module imports only NumPy and Pillow, so that decoding processes start quickly.
"""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from trainables.images.findings import Findings

# Pillow picks the decoder by content, whatever the file is called; this keeps the exotic ones,
# among them EPS that runs Ghostscript, away from files of unknown origin.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF")
# An MPO file is a JPEG photo; its other frames are previews or the second view of a stereo camera.
FRAMES_MATTER_IN = frozenset({"PNG", "GIF", "WEBP", "TIFF"})
GREY_MODES = frozenset({"1", "L", "LA", "La"})
PALETTE_MODES = frozenset({"P", "PA"})
DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
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
# Grey levels of PNG files with less than 8 bits, which Pillow stretches to 0..255.
_STEP = {"L;2": 85, "L;4": 17}
_DEEP_COLOUR = re.compile(r"[A-Za-z]{2,};16[BLN]")
# Pillow's X is a channel that it skips, after grey or colour.
_MORE_CHANNELS = re.compile(r"(?:RGB|L)X+")
# Pillow logs files that it refuses; without a handler, Python prints that to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

Pixels = NDArray[np.uint8]
Values = NDArray[np.floating]


class RangeNeededError(Exception):
    """An image is deep, and the range of its values is not known yet."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides the pixels of an image beside its file.

    Args:
        background: red, green and blue behind transparent pixels, 0..255.
        max_pixels: largest image that is decoded.
        value_range: values of deep images that become 0 and 255; None if not known.
        fit: how an image of other proportions is brought to a size: crop, pad or squash.
        grey: whether colour becomes grey.
    """

    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = 89_478_485
    value_range: tuple[float, float] | None = None
    fit: str = "crop"
    grey: bool = False


def read_pixels(
    content: bytes | Pixels, fitted: tuple[int, int] | None, rules: Rules
) -> tuple[Pixels, Findings]:
    """Return an image as [height, width, channels], resized and cropped if asked.

    Transparent pixels and deep values are resolved before resizing, so that neither the colour
    of invisible pixels nor an outlier spreads to their neighbours.

    Args:
        content: content of an image file, or pixels [h, w] or [h, w, 3].
        fitted: (width, height) to resize and crop to; None keeps the size.
        rules: see :class:`Rules`.

    Raises:
        RangeNeededError: the image is deep and ``rules`` have no range.
        Exception: Pillow cannot decode it.
    """
    with _opened(content) as image:
        raw = _raw_mode(image)
        frames = _has_more_frames(image)
        full_size = image.size
        if fitted is not None:
            # Decodes a JPEG at 1/2, 1/4 or 1/8 of its size, but at least at twice the wanted size,
            # so that the following resize stays accurate.
            image.draft(None, (2 * fitted[0], 2 * fitted[1]))
        image.load()
        if isinstance(content, bytes) and _ends_early(image, content, full_size):
            raise ValueError("truncated: its pixels end early, and the rest would be grey")
        opaque, found = _opaque(image, raw, rules)
        plain = _upright(opaque, image)
        if rules.grey and plain.mode == "RGB":
            plain = plain.convert("L")
        if fitted is not None:
            plain = _fit(plain, fitted, rules)
        if plain.mode == "F":
            pixels = np.rint(np.asarray(plain)).clip(0, 255).astype(np.uint8)
        else:
            pixels = np.array(plain, dtype=np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    found += Findings(images=1, with_frames=int(frames))
    if image.format == "TIFF" and (match := _MORE_CHANNELS.match(raw)):
        channels = len(match[0])
        found += Findings(many_channels=1, channels=channels)
    if _DEEP_COLOUR.fullmatch(raw):
        found += Findings(deep_colour=1, colour_levels=(int(pixels.min()), int(pixels.max())))
    return pixels, found


def read_deep_values(content: bytes | Pixels) -> Values | None:
    """Return the values of the visible pixels of a deep image, [k]; None for another image."""
    with _opened(content) as image:
        if image.mode not in DEEP_MODES:
            return None
        raw = _raw_mode(image)
        image.load()
        values, hidden = _deep_values(image, raw)
        return values.ravel() if hidden is None else values[~hidden]


@contextmanager
def _opened(content: bytes | Pixels) -> Iterator[Image.Image]:
    if isinstance(content, np.ndarray):
        yield Image.fromarray(content)
        return
    try:
        opened = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        if content.startswith(_TIFF_STARTS):
            kinds = "such as one with 64 bits"
            if (channels := _tiff_channels(content)) > 3:
                raise ValueError(
                    f"it has {channels} channels, save the 3 or 1 that matter"
                ) from None
            raise ValueError(f"damaged, or a kind of TIFF that is not read, {kinds}") from None
        raise
    with opened as image:
        yield image


def _tiff_channels(content: bytes) -> int:
    """Return the number of channels of a TIFF file, 0 if unknown."""
    with suppress(Exception):
        file = io.BytesIO(content)
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        return int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
    return 0


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's name for the layout of the pixels in the file; it is known until loading."""
    for tile in getattr(image, "tile", ()):
        arguments = tile[3]
        first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        if isinstance(first, str):
            return first
    return ""


def _has_more_frames(image: Image.Image) -> bool:
    # The first frame may be fine although a later one is damaged.
    with suppress(Exception):
        return image.format in FRAMES_MATTER_IN and bool(getattr(image, "is_animated", False))
    return False


def _ends_early(image: Image.Image, content: bytes, full_size: tuple[int, int]) -> bool:
    """Tell whether the data of a JPEG end before its pixels do.

    If only the mark of the end follows, libjpeg fills the remaining pixels with grey and Pillow
    reports nothing. But then more data before the mark change the pixels, which they do not in a
    complete image.
    """
    if image.format not in ("JPEG", "MPO"):
        return False
    last = image.getpixel((image.width - 1, image.height - 1))
    # Pillow inverts CMYK.
    if not {128, 127}.issuperset(last if isinstance(last, tuple) else (last,)):
        return False
    end = content.rfind(b"\xff\xd9")
    # At most 32 bytes for each of three blocks of 8x8 pixels.
    more = b"\x55" * (full_size[0] * full_size[1] * 3 // 2 + 1024)
    with _opened(content[:end] + more + content[end:]) as longer:
        longer.draft(None, image.size)
        longer.load()
        return longer.tobytes() != image.tobytes()


def _upright(pixels: Image.Image, original: Image.Image) -> Image.Image:
    orientation = None
    # Ignore unreadable metadata; the pixels may be fine.
    with suppress(Exception):
        orientation = original.getexif().get(ExifTags.Base.Orientation)
    method = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return pixels if method is None else pixels.transpose(method)


def _opaque(image: Image.Image, raw: str, rules: Rules) -> tuple[Image.Image, Findings]:
    """Return an image in the mode L, RGB, or F for deep values scaled to 0..255."""
    if image.mode in DEEP_MODES:
        return _scaled(image, raw, rules)
    if image.has_transparency_data:
        flat, found = _composited(image, raw, rules.background)
    else:
        flat, found = _grey_or_rgb(image), Findings()
    return _grey_if_palette_is(flat, image), found


def _composited(
    image: Image.Image, raw: str, background: tuple[int, int, int]
) -> tuple[Image.Image, Findings]:
    """Return an image with transparency on the background, in the mode L or RGB."""
    if image.mode == "RGB" and _DEEP_COLOUR.fullmatch(raw):
        # Pillow keeps the upper 8 bits only, so that other pixels may look like this colour.
        raise ValueError("one of its 16-bit colours is transparent, only alpha channels are read")
    if image.mode == "L" and raw in _STEP:
        image.info["transparency"] *= _STEP[raw]
    straight = image.convert("LA" if image.mode in GREY_MODES else "RGBA")
    # Pillow reads 16-bit greyscale with alpha as colour.
    is_grey = image.mode in GREY_MODES or raw.startswith("LA;")
    alpha = straight.getchannel("A")
    colour = straight.getchannel(0) if is_grey else straight.convert("RGB")
    found = Findings(transparent=int(not _is_opaque(alpha)))
    return _composed(colour, alpha, background), found


def _grey_if_palette_is(flat: Image.Image, image: Image.Image) -> Image.Image:
    """Return greyscale for an image with a palette that uses only grey entries."""
    if image.mode in PALETTE_MODES:
        red, green, blue = flat.split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            return red
    return flat


def _composed(
    colour: Image.Image, alpha: Image.Image, background: tuple[int, int, int]
) -> Image.Image:
    """Composite a picture in mode L or RGB on the background; grey on grey stays grey."""
    if _is_opaque(alpha):
        return colour
    if colour.mode == "L" and len(set(background)) == 1:
        return Image.composite(colour, Image.new("L", colour.size, background[0]), alpha)
    return Image.composite(colour.convert("RGB"), Image.new("RGB", colour.size, background), alpha)


def _is_opaque(alpha: Image.Image) -> bool:
    return alpha.getextrema()[0] == 255


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode in GREY_MODES:
        return image.convert("L")
    return image.convert("RGB")


def _scaled(image: Image.Image, raw: str, rules: Rules) -> tuple[Image.Image, Findings]:
    """Map the values of a deep image to 0..255 by the range of the data set."""
    if rules.value_range is None:
        raise RangeNeededError
    values, hidden = _deep_values(image, raw)
    visible = values if hidden is None else values[~hidden]
    low, high = rules.value_range
    clipped = 0
    if visible.size and (visible.min() < low or visible.max() > high):
        clipped = int(((visible < low) | (visible > high)).sum())
    found = Findings(
        deep=1,
        deep_pixels=visible.size,
        clipped=clipped,
        transparent=int(visible.size < values.size),
    )
    # A range of one value has no contrast; all of it becomes black.
    levels = (values - low) * (255 / (high - low) if high > low else 1.0)
    np.clip(levels, 0, 255, out=levels)
    if hidden is not None and len(set(rules.background)) > 1:
        grey = Image.fromarray(np.rint(levels).astype(np.uint8))
        alpha = Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))
        return _composed(grey, alpha, rules.background), found
    if hidden is not None:
        levels[hidden] = rules.background[0]
    return Image.fromarray(levels.astype(np.float32, copy=False)), found


def _deep_values(image: Image.Image, raw: str) -> tuple[Values, NDArray[np.bool_] | None]:
    """Return the values of a deep image [h, w], and which pixels are transparent (None if none)."""
    stored = np.asarray(image)
    inverted = False
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        unsigned = tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0] == 1
        if image.mode == "I" and unsigned and raw.startswith("I;32"):
            stored = stored.view(np.uint32)
        inverted = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    if inverted and not image.mode.startswith("I;16"):
        raise ValueError("zero is white in it and its pixels are 32-bit, so that black is unknown")
    # 32 bits of floats hold every 16-bit value exactly.
    values: Values = stored.astype(np.float32 if stored.dtype.itemsize == 2 else np.float64)
    if inverted:
        values = 65535 - values
    if image.mode == "F" and (lost := int((~np.isfinite(values)).sum())):
        raise ValueError(f"{lost} of its pixels are infinite or not a number")
    transparent = image.info.get("transparency")
    if transparent is None:
        return values, None
    hidden: NDArray[np.bool_] = np.equal(stored, transparent)
    return values, hidden if hidden.any() else None


def _fit(image: Image.Image, size: tuple[int, int], rules: Rules) -> Image.Image:
    """Return an image of a size (width, height), antialiased, as `Rules.fit` says."""
    if rules.fit == "squash":
        return image.resize(size, Image.Resampling.BICUBIC)
    if rules.fit == "pad":
        return _padded(image, size, rules.background)
    # In one step: resize so that the image covers the size, and keep the centre.
    scale = min(image.width / size[0], image.height / size[1])
    width, height = size[0] * scale, size[1] * scale
    left, top = (image.width - width) / 2, (image.height - height) / 2
    return image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))


def _padded(
    image: Image.Image, size: tuple[int, int], background: tuple[int, int, int]
) -> Image.Image:
    """Resize an image so that it fits into a size (width, height), in the middle of background."""
    scale = max(image.width / size[0], image.height / size[1])
    inner = (max(1, round(image.width / scale)), max(1, round(image.height / scale)))
    resized = image.resize(inner, Image.Resampling.BICUBIC)
    around: float | tuple[int, ...] = background
    if image.mode != "RGB":
        around = Image.new("RGB", (1, 1), background).convert("L").getpixel((0, 0))  # type: ignore[assignment]
    padded = Image.new(image.mode, size, around)
    padded.paste(resized, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return padded
