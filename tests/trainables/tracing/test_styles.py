"""Ten networks in the styles of public code: counts are torch's, measured extents lie within."""

from math import inf

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spaces import costs, receptive_fields
from spaces.operations import CONVOLUTIONS
from trainables.tracing import load_model, measure, trace

IMAGE = (3, 64, 64)


def block(taken: int, features: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(taken, features, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(features), nn.ReLU(inplace=True))


class LeNet(nn.Module):
    """A tutorial's network, with functional calls and a flattening view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(16 * 13 * 13, 20), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.dropout(F.relu(self.fc1(x.view(x.size(0), -1))), training=self.training))


class UNet(nn.Module):
    """Skip connections that are padded to fit and concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([block(3, 4), block(4, 8), block(8, 8)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(8, 8, 2, 2), nn.ConvTranspose2d(4, 4, 2, 2)])
        self.merge = nn.ModuleList([block(16, 4), block(8, 4)])
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for number, part in enumerate(self.down):
            x = part(x if number == 0 else F.max_pool2d(x, 2))
            kept.append(x)
        for up, merge, skip in zip(self.up, self.merge, kept[-2::-1], strict=True):
            x = up(x)
            rows, columns = skip.size(2) - x.size(2), skip.size(3) - x.size(3)
            x = F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
            x = merge(torch.cat([skip, x], dim=1))
        return torch.sigmoid(self.out(x))


class Siamese(nn.Module):
    """The same branch for an image and its mirror image, compared by their distance."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(block(3, 4, 2), block(4, 8, 2), nn.AdaptiveAvgPool2d(1))
        self.score = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.branch(x).flatten(1), self.branch(torch.flip(x, dims=[3])).flatten(1)
        return self.score(torch.abs(one - other)).squeeze(-1)


class Detector(nn.Module):
    """A pyramid whose levels share the convolutions of the head."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([block(3, 8, 2), block(8, 8, 2), block(8, 8, 2)])
        self.lateral = nn.ModuleList([nn.Conv2d(8, 4, 1) for _ in range(3)])
        self.tower = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU())
        self.classes, self.boxes = nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        levels = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = stage(x)
            levels.append(lateral(x))
        for coarse in (2, 1):
            finer = levels[coarse - 1]
            levels[coarse - 1] = finer + F.interpolate(levels[coarse], finer.shape[-2:])
        scores, boxes = [], []
        for level in levels:
            features = self.tower(level)
            scores.append(self.classes(features).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 5))
            boxes.append(self.boxes(features).exp().flatten(2).transpose(1, 2))
        return {"scores": torch.cat(scores, 1), "boxes": torch.cat(boxes, 1)}


class TextReader(nn.Module):
    """Convolutions, then an LSTM over the columns."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(block(3, 4), nn.MaxPool2d(2), block(4, 8))
        self.lstm = nn.LSTM(8 * 32, 6, bidirectional=True, batch_first=True)
        self.out = nn.Linear(12, 11)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        n, channels, rows, columns = x.shape
        x = x.permute(0, 3, 1, 2).reshape(n, columns, channels * rows)
        return F.log_softmax(self.out(self.lstm(x)[0]), dim=-1)


class Gated(nn.Module):
    """Squeeze and excitation, then spatial attention, as in CBAM."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.spatial = block(3, 8, 2), nn.Conv2d(2, 1, 7, padding=3)
        self.mlp = nn.Sequential(nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 8))
        self.out = nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        average, largest = x.mean(dim=[2, 3]), x.view(*x.shape[:2], -1).max(dim=-1)[0]
        x = x * torch.sigmoid(self.mlp(average) + self.mlp(largest))[:, :, None, None]
        looks = torch.cat([x.max(1, keepdim=True)[0], x.mean(1, keepdim=True)], dim=1)
        return self.out(x * self.spatial(looks).sigmoid())


class Patches(nn.Module):
    """Axes rearranged as by einops: patches, mixing within each, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.LayerNorm(8)
        self.within, self.out = nn.Linear(16, 16), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, c, h, w = x.shape
        y = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = y.reshape(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c, 16)
        y = self.within(y).reshape(b, h // 4, w // 4, c, 4, 4).permute(0, 3, 1, 4, 2, 5)
        return self.out(x + y.reshape(b, c, h, w))


class Ghost(nn.Module):
    """Half of the channels are computed, half derived, and then they are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.primary, self.cheap = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.out = nn.Conv2d(16, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(x)
        x = torch.cat((x, self.cheap(x)), dim=1)
        n, c, h, w = x.shape
        x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).flatten(1, 2)
        left, right = x.chunk(2, 1)
        return self.out(torch.cat([F.silu(left), right], 1))


class SuperResolution(nn.Module):
    """Scaled residual blocks in a loop, global shortcut, pixel shuffle."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)])
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.4))
        self.tail = nn.Conv2d(8, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = start = self.head(x - self.mean)
        for part in self.body:
            x = x + 0.1 * F.leaky_relu(part(x), 0.2)
        return F.pixel_shuffle(self.tail(x + start), 2) + self.mean


def cifar_resnet() -> nn.Module:
    """A network of torchvision with a small stem, without its pooling and with another head."""
    net = load_model("torchvision:resnet18", initialised=True)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    net.layer2 = net.layer3 = net.layer4 = nn.Identity()
    net.fc = nn.Sequential(nn.Dropout(), nn.Linear(64, 10))
    return net


STYLES = {
    "functional calls": (LeNet, (14, 14)),
    "U-Net": (UNet, (5, 26)),
    "siamese": (Siamese, (7, 7)),
    "shared detection head": (Detector, (47, 47)),
    "LSTM on features": (TextReader, (8, inf)),
    "CBAM": (Gated, (7, 7)),
    "axes rearranged": (Patches, (3, inf)),
    "ghost and shuffle": (Ghost, (3, 5)),
    "super resolution": (SuperResolution, (5, 11)),
    "torchvision with another stem": (cifar_resnet, (7, 11)),
}
"""Networks, with the smallest and largest field of their last convolution."""


@pytest.mark.parametrize("name", STYLES)
def test_counts_are_torchs_and_measured_extents_lie_within(name):
    build, expected = STYLES[name]
    module = build().eval()
    architecture = trace(module, IMAGE)
    fields = receptive_fields(architecture)
    with_gates = receptive_fields(architecture, include_gates=True)
    largest: dict[str, tuple[float, float]] = {}
    for index in architecture.indices(*CONVOLUTIONS):
        known = largest.get(architecture.layers[index].name, (0, 0))
        height, width = with_gates[index].largest
        largest[architecture.layers[index].name] = max(known[0], height), max(known[1], width)
    measured = measure(module, IMAGE, reference="own")
    extents = receptive_fields(measured)
    # On the CPU, torch's counter misses the fused LSTM.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.to("meta")(torch.empty(1, *IMAGE, device="meta"))

    assert costs(architecture).params == sum(p.numel() for p in module.parameters())
    assert 2 * costs(architecture).macs == counter.get_total_flops()
    for index in measured.indices(*CONVOLUTIONS):
        both = zip(extents[index].largest, largest[measured.layers[index].name], strict=True)
        assert all(extent <= field for extent, field in both)
    last = fields[architecture.indices(*CONVOLUTIONS)[-1]]
    assert (last.smallest[0], last.largest[0]) == expected
