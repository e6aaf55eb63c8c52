"""Turns images of any size into the probability of each class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn


def load(network: type[nn.Module], folder: str | Path = ".") -> Classifier:
    """Return the classifier of an exported folder, ready to predict.

    Args:
        network: class of the networks, from ``model.py``.
        folder: of ``model.safetensors`` and ``preprocess.json``.
    """
    from safetensors.torch import load_file

    described = json.loads((Path(folder) / "preprocess.json").read_text(encoding="utf-8"))
    weights = load_file(Path(folder) / "model.safetensors")
    networks = [network() for _ in described["mean"]]
    for index, each in enumerate(networks):
        # The weights of an ensemble are numbered.
        number = f"{index}." if len(networks) > 1 else ""
        mine = {name: tensor for name, tensor in weights.items() if name.startswith(number)}
        each.load_state_dict({name[len(number) :]: tensor for name, tensor in mine.items()})
    size, mean, std = described["size"], described["mean"], described["std"]
    return Classifier(networks, tuple(size), mean, std, described["flip"]).eval()


class Classifier(nn.Module):
    """Resizes and normalises images, and averages the predictions of networks.

    Args:
        networks: take normalised images ``[n, channels, height, width]`` and return logits
            ``[n, classes]``.
        size: height and width of their images in pixels.
        mean: of each channel in 0..1, for each network.
        std: of each channel in units of 0..1, for each network.
        flip: whether to average over each image and its mirror image.
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        networks: Sequence[nn.Module],
        size: tuple[int, int],
        mean: Sequence[Sequence[float]],
        std: Sequence[Sequence[float]],
        flip: bool = False,
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.size = size
        self.flip = flip
        means, stds = (torch.tensor(values)[:, None, :, None, None] for values in (mean, std))
        self.register_buffer("scale", 1 / (255 * stds), persistent=False)
        self.register_buffer("offset", -means / stds, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities ``[n, classes]``.

        Args:
            images: ``[n, channels, height, width]`` of any height and width: uint8 in 0..255, or
                floats in 0..1.
        """
        if images.dtype == torch.uint8:
            pixels = fit(images.float(), self.size, rounded=True)
        else:
            pixels = fit(255 * images, self.size, rounded=False)
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


def fit(pixels: Tensor, size: tuple[int, int], rounded: bool) -> Tensor:
    """Resize the shorter side of images and crop the centre: Pillow's antialiased bicubic filter.

    Args:
        pixels: float ``[n, channels, height, width]`` in 0..255.
        size: wanted height and width.
        rounded: whether to round to integers after each of both passes, as Pillow does.
    """
    height, width = pixels.shape[2:]
    device = pixels.device
    scale = torch.minimum(
        torch.scalar_tensor(height, device=device) / size[0],
        torch.scalar_tensor(width, device=device) / size[1],
    )
    pixels = pixels @ resampling(width, size[1], scale).T
    if rounded:
        pixels = (pixels + 0.5).floor().clamp(0, 255)
    pixels = resampling(height, size[0], scale) @ pixels
    return ((pixels + 0.5).floor() if rounded else pixels).clamp(0, 255)


def resampling(side: int, wanted: int, scale: Tensor) -> Tensor:
    """Return the weight of each pixel of a side in each wanted pixel, ``[wanted, side]``.

    Args:
        side: number of pixels.
        wanted: number of wanted pixels.
        scale: pixels per wanted pixel; the centre is cropped.
    """
    device = scale.device
    centres = scale * (torch.arange(wanted, device=device) + 0.5) + (side - wanted * scale) / 2
    positions = torch.arange(side, device=device) + 0.5
    distance = (positions - centres[:, None]).abs() / scale.clamp(min=1.0)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    zero = torch.zeros_like(distance)
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, zero))
    return weights / weights.sum(1, keepdim=True)
