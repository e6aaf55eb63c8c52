"""Converts an image of the user's data set for decoding."""

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trainables.images.decoding import Content
from trainables.images.errors import UnusableDataError, cause

# Modes whose pixels NumPy reads as they are.
_PLAIN_MODES = frozenset({"L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})


def content_of(name: str, image: Any) -> Content:
    """Return an image for decoding; files are read by the decoding processes.

    Args:
        name: of the item, for messages.
        image: that the user's data set gives.

    Raises:
        UnusableDataError: it is no image.
    """
    if isinstance(image, str | os.PathLike):
        return str(Path(image).expanduser().absolute())
    return image if isinstance(image, bytes) else _pixels(name, image)


def size_of(content: Content) -> int:
    """Return the size of an image in bytes: of the file, or of its pixels."""
    if isinstance(content, str):
        return os.path.getsize(content) if os.path.isfile(content) else 0
    return len(content) if isinstance(content, bytes) else content.nbytes


def _pixels(name: str, image: Any) -> NDArray[np.uint8]:
    """Return an image as an array for decoding: [h, w] or [h, w, c]."""
    if isinstance(image, Image.Image):
        return _from_pillow(name, image)
    channels_first = hasattr(image, "detach")
    pixels = image.detach().cpu().numpy() if channels_first else image
    if not isinstance(pixels, np.ndarray):
        raise UnusableDataError(
            f"the image of {name} is {type(image).__name__}",
            "return an image of Pillow, an array, a tensor, or the path of a file",
        )
    if channels_first and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if not pixels.size or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] <= 4)):
        shape, layout = ("[c, h, w]", "1 to 4") if channels_first else ("[h, w, c]", "1 to 4")
        raise UnusableDataError(
            f"the image of {name} has the shape {tuple(image.shape)}",
            f"return [h, w] or {shape} with {layout} channels",
        )
    return np.ascontiguousarray(_bytes(name, pixels))


def _from_pillow(name: str, image: Image.Image) -> NDArray[np.uint8]:
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("L", "RGB") and upright.has_transparency_data:
            upright = upright.convert(f"{upright.mode}A")
        elif upright.mode == "1":
            upright = upright.convert("L")
        elif upright.mode not in _PLAIN_MODES:
            upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        return np.asarray(upright)
    except Exception as error:  # Pillow reads files late, and raises many undocumented types.
        raise UnusableDataError(
            f"the image of {name} cannot be read ({cause(error)})", "remove or repair it"
        ) from error


def _bytes(name: str, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert pixels to 8 bits; 16-bit greyscale is left to the decoding."""
    kind = pixels.dtype.kind
    if pixels.dtype == np.uint8 or (pixels.dtype == np.uint16 and pixels.ndim == 2):
        return cast("NDArray[np.uint8]", pixels)
    if kind == "b":
        return np.where(pixels, np.uint8(255), np.uint8(0))
    low, high = (pixels.min(), pixels.max()) if kind in "iuf" else (np.nan, np.nan)
    if kind in "iu" and low >= 0 and high <= 255:
        return pixels.astype(np.uint8)
    if kind == "f" and low >= 0 and high <= 1:
        scaled: NDArray[np.float64] = np.rint(pixels * 255.0)
        return scaled.astype(np.uint8)
    raise UnusableDataError(
        f"the pixels of {name} are {pixels.dtype} from {low:g} to {high:g}",
        "return uint8 from 0 to 255 or floats from 0 to 1, without normalisation",
    )
