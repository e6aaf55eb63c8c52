"""Describes in a file how images become inputs of an exported model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from spaces.errors import BadInputError
from trainables.colours import rgb
from trainables.export.names import INPUT, PREPROCESSING_FILE, Pixels
from trainables.images.pixels import Rules
from trainables.specs import Decoding, Fit

if TYPE_CHECKING:
    from trainables.data import Dataset

_FILTER = "to the size with Pillow's antialiased bicubic filter"
_RESIZING: dict[Fit, str] = {
    "crop": f"resize the shorter side {_FILTER} and crop the centre",
    "pad": f"resize the longer side {_FILTER} and fill the rest",
    "squash": f"resize both sides {_FILTER}",
}


class Preprocessing(BaseModel):
    """What an exported model does with its input, and what it leaves to the reader of files.

    Attributes:
        input: name of the input.
        pixels: type of the input.
        range: its black and white.
        layout: order of its axes; batch, height and width are free.
        channels: 1 for greyscale, 3 for RGB.
        size: height and width of the images of the network in pixels.
        resizing: what the model does with images of another size.
        mean: of each channel in 0..1, for each network; subtracted by the model.
        std: of each channel, for each network; divided by in the model.
        flip: whether the model averages over each image and its mirror image.
        background: colour that the reader of files puts behind transparent pixels.
        value_range: values that the reader maps to black and white in files with 16 or 32 bits per
            pixel; None if the data had none.
        max_megapixels: largest image that the reader decodes.
        fit: how the model, or the reader before it, brings images of other proportions to the
            size.
        fill: value of each channel around padded images, in 0..255.
        grey: whether the reader converts colour to greyscale.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    input: str
    pixels: Pixels
    range: tuple[int, int]
    layout: Literal["NCHW"] = "NCHW"
    channels: Literal[1, 3]
    size: tuple[int, int]
    resizing: str = _RESIZING["crop"]
    mean: tuple[tuple[float, ...], ...]
    std: tuple[tuple[float, ...], ...]
    flip: bool
    background: str
    value_range: tuple[float, float] | None
    max_megapixels: float
    fit: Fit = "crop"
    fill: tuple[int, ...] = ()
    grey: bool = False

    @classmethod
    def of(
        cls, datasets: Sequence[Dataset], decoding: Decoding, pixels: Pixels, *, flip: bool
    ) -> Self:
        """Return the description of a model.

        Args:
            datasets: images with whose statistics each network was trained.
            decoding: how files became pixels.
            pixels: type of the input.
            flip: whether predictions are averaged over each image and its mirror image.
        """
        height, width, channels = datasets[0].shape
        return cls.model_validate(
            {
                "input": INPUT,
                "pixels": pixels,
                "range": (0, 255) if pixels == "uint8" else (0, 1),
                "channels": channels,
                "size": (height, width),
                "mean": [dataset.mean for dataset in datasets],
                "std": [dataset.std for dataset in datasets],
                "flip": flip,
                "background": decoding.background,
                "value_range": decoding.value_range or datasets[0].value_range,
                "max_megapixels": decoding.max_megapixels,
                "fit": decoding.fit,
                "fill": _fill(decoding.background, channels),
                "grey": decoding.grey,
                "resizing": _RESIZING[decoding.fit],
            }
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the description in an exported folder.

        Raises:
            BadInputError: it is damaged.
        """
        path = folder / PREPROCESSING_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            problem = f"its {PREPROCESSING_FILE} cannot be read"
            raise BadInputError("NETWORK", folder, problem, "export the network again") from None

    def write(self, folder: Path) -> None:
        """Write the description to an exported folder."""
        (folder / PREPROCESSING_FILE).write_text(
            self.model_dump_json(indent=1) + "\n", encoding="utf-8"
        )

    @property
    def rules(self) -> Rules:
        """The rules for reading files."""
        limit = round(self.max_megapixels * 1e6)
        return Rules(rgb(self.background), limit, self.value_range, self.fit, self.grey)


def _fill(background: str, channels: int) -> tuple[int, ...]:
    """Return a colour as the values of an image with 1 or 3 channels."""
    colour = Image.new("RGB", (1, 1), rgb(background))
    return tuple(np.asarray(colour.convert("L") if channels == 1 else colour).ravel().tolist())
