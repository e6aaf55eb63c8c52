"""Turns images of any size into the probability of each class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn


def load(network: type[nn.Module], folder: str | Path | None = None) -> Classifier:
    """Return the classifier of an exported folder, ready to predict.

    Args:
        network: class of the networks, from ``model.py``.
        folder: of ``model.safetensors`` and ``preprocess.json``; None for that of this file.
    """
    from safetensors.torch import load_file

    place = Path(__file__).parent if folder is None else Path(folder)
    described = json.loads((place / "preprocess.json").read_text(encoding="utf-8"))
    weights = load_file(place / "model.safetensors")
    networks = [network() for _ in described["mean"]]
    for index, each in enumerate(networks):
        # The weights of an ensemble are numbered.
        number = f"{index}." if len(networks) > 1 else ""
        mine = {name: tensor for name, tensor in weights.items() if name.startswith(number)}
        each.load_state_dict({name[len(number) :]: tensor for name, tensor in mine.items()})
    size, mean, std = described["size"], described["mean"], described["std"]
    mode, fill = described["fit"], described["fill"]
    return Classifier(networks, tuple(size), mean, std, described["flip"], mode, fill).eval()


class Classifier(nn.Module):
    """Resizes and normalises images, and averages the predictions of networks.

    Args:
        networks: take normalised images ``[n, channels, height, width]`` and return logits
            ``[n, classes]``.
        size: height and width of their images in pixels.
        mean: of each channel in 0..1, for each network.
        std: of each channel in units of 0..1, for each network.
        flip: whether to average over each image and its mirror image.
        mode: how images of other proportions get the size: crop, pad or squash.
        fill: value of each channel around padded images, in 0..255.
    """

    scale: Tensor
    offset: Tensor
    fill: Tensor

    def __init__(
        self,
        networks: Sequence[nn.Module],
        size: tuple[int, int],
        mean: Sequence[Sequence[float]],
        std: Sequence[Sequence[float]],
        flip: bool = False,
        mode: str = "crop",
        fill: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.size = size
        self.flip = flip
        self.mode = mode
        means, stds = (torch.tensor(values)[:, None, :, None, None] for values in (mean, std))
        self.register_buffer("scale", 1 / (255 * stds), persistent=False)
        self.register_buffer("offset", -means / stds, persistent=False)
        colour = torch.tensor(fill, dtype=torch.float32)[:, None, None]
        self.register_buffer("fill", colour, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities ``[n, classes]``.

        Args:
            images: ``[n, channels, height, width]`` of any height and width: uint8 in 0..255, or
                floats in 0..1.
        """
        rounded = images.dtype == torch.uint8
        pixels = images.float() if rounded else 255 * images
        pixels = fit(pixels, self.size, rounded, self.mode, self.fill)
        predicted = [
            self.predict(network, pixels * self.scale[index] + self.offset[index])
            for index, network in enumerate(self.networks)
        ]
        return torch.stack(predicted).mean(0)

    def predict(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return the probabilities ``[n, classes]`` of one network for normalised images."""
        probabilities: Tensor = network(images).softmax(1)
        if self.flip:
            probabilities = (probabilities + network(images.flip(3)).softmax(1)) / 2
        return probabilities


def fit(
    pixels: Tensor,
    size: tuple[int, int],
    rounded: bool,
    mode: str = "crop",
    fill: Tensor | None = None,
) -> Tensor:
    """Bring images to a size as Pillow's antialiased bicubic filter does.

    Pillow squashes much narrower images in another order, which differs by the rounding between.

    Args:
        pixels: float ``[n, channels, height, width]`` in 0..255.
        size: wanted height and width.
        rounded: whether to round to integers after each of both passes, as Pillow does.
        mode: ``crop`` resizes the shorter side and crops the centre, ``pad`` resizes the longer
            side and fills the rest, ``squash`` resizes both sides.
        fill: of padding, ``[channels, 1, 1]`` in 0..255.
    """
    height, width = pixels.shape[2:]
    device = pixels.device
    if mode == "pad" and fill is not None:
        rows, in_rows = padding(height, size[0], width, size[1], device)
        columns, in_columns = padding(width, size[1], height, size[0], device)
        inside = in_rows[:, None] & in_columns
        return torch.where(inside, resize(pixels, rows, columns, rounded), fill)
    down = torch.scalar_tensor(height, device=device) / size[0]
    across = torch.scalar_tensor(width, device=device) / size[1]
    if mode == "crop":
        down = across = torch.minimum(down, across)
    rows = resampling(height, torch.arange(size[0], device=device), size[0], down)
    columns = resampling(width, torch.arange(size[1], device=device), size[1], across)
    return resize(pixels, rows, columns, rounded)


def resize(pixels: Tensor, rows: Tensor, columns: Tensor, rounded: bool) -> Tensor:
    """Return images whose pixels are weighted sums, first along rows and then along columns."""
    pixels = pixels @ columns.T
    if rounded:
        pixels = (pixels + 0.5).floor().clamp(0, 255)
    pixels = rows @ pixels
    return ((pixels + 0.5).floor() if rounded else pixels).clamp(0, 255)


def padding(
    side: int, wanted: int, other: int, other_wanted: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the weights of a padded side ``[wanted, side]``, and which wanted pixels it covers.

    Args:
        side: number of pixels.
        wanted: number of wanted pixels.
        other: number of pixels of the other side.
        other_wanted: number of wanted pixels of the other side.
        device: of the result.
    """
    # Python's precision: another rounding would move the image by a pixel.
    given = torch.scalar_tensor(side, dtype=torch.float64)
    others = torch.scalar_tensor(other, dtype=torch.float64)
    scale = torch.maximum(given / wanted, others / other_wanted)
    covered = (given / scale).round().clamp(min=1).float().to(device)
    index = torch.arange(wanted, device=device) - ((wanted - covered) / 2).floor()
    inside = (index >= 0) & (index < covered)
    index = torch.minimum(index.clamp(min=0), covered - 1)
    # A tensor: Python's number over a tensor would be rounded twice.
    return resampling(side, index, covered, given.float().to(device) / covered), inside


def resampling(side: int, index: Tensor, wanted: Tensor | int, scale: Tensor) -> Tensor:
    """Return the weight of each pixel of a side in each wanted pixel, ``[index, side]``.

    Args:
        side: number of pixels.
        index: of each wanted pixel.
        wanted: number of pixels that the resized centre of the side has.
        scale: pixels per wanted pixel.
    """
    device = scale.device
    centres = scale * (index + 0.5) + (side - wanted * scale) / 2
    positions = torch.arange(side, device=device) + 0.5
    distance = (positions - centres[:, None]).abs() / scale.clamp(min=1.0)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    zero = torch.zeros_like(distance)
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, zero))
    return weights / weights.sum(1, keepdim=True)
