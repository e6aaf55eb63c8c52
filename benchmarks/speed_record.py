"""Trains the CIFAR-10 speed record as a plain script: ``python benchmarks/speed_record.py``.

The network and recipe of airbench94 (Jordan 2024, arXiv 2404.00498), written from the paper with
nothing of this project: a fixed whitening convolution, three blocks, biases that learn 64 times as
fast, identity kernels, SGD with Nesterov momentum, a triangular schedule, lookahead, alternating
flips, shifts by two pixels, label smoothing, and six views of each image at test time. The paper
reports 94.0 % after 9.9 epochs in 3.8 s on an A100.

On a GPU it computes in float16, as the paper does; on a CPU in float32, which takes many minutes.
``benchmarks/training.py --rows record`` trains the same network with our `Training` beside it.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 1024
EPOCHS = 9.9
WIDTHS = (64, 256, 256)
MOMENTUM = 0.85
RATE = 1.5
"""Peak learning rate for the mean loss: the paper's 11.5 for 1024 images with its momentum."""
DECAY = 0.002
"""What a step at the peak rate takes from each weight, relative to the weight."""
BIAS_FACTOR = 64
"""Learning rate of batch-norm biases relative to all others."""
SMOOTHING = 0.2
SHIFT = 2
WHITENING_IMAGES = 5000
WHITENING_BIAS_EPOCHS = 3
LOOKAHEAD_STEPS = 5


@dataclass(frozen=True)
class Split:
    """Images, uint8 ``[n, height, width, 3]``, and classes, int64 ``[n]``, on one device."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Run:
    """Accuracy of a training on the test images, and its duration in seconds."""

    accuracy: float
    seconds: float


class Scaled(nn.Module):
    """Multiplies the logits by a constant."""

    def forward(self, logits: Tensor) -> Tensor:
        """Return the scaled logits."""
        return logits / 9


def build(widths: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return the network for images of 32x32 pixels."""
    whitening = nn.Conv2d(3, 24, 2)
    layers: list[nn.Module] = [whitening, nn.GELU()]
    before = 24
    for width in widths:
        layers += [kernel(before, width), nn.MaxPool2d(2), norm(width), nn.GELU()]
        layers += [kernel(width, width), norm(width), nn.GELU()]
        before = width
    head = nn.Linear(before, classes, bias=False)
    return nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), head, Scaled())


def kernel(inputs: int, outputs: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[:inputs])
    return layer


def norm(width: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad_(False)
    return layer


@torch.no_grad()
def whiten(layer: nn.Conv2d, images: Tensor) -> None:
    """Let the kernels be the scaled principal components of patches, with both signs."""
    patches = F.unfold(images.float(), 2).transpose(1, 2).flatten(0, 1)
    covariance = (patches.T @ patches / len(patches)).cpu()
    values, vectors = torch.linalg.eigh(covariance)
    kernels = (vectors / torch.sqrt(values + 5e-4)).T.reshape(-1, 3, 2, 2)
    layer.weight.copy_(torch.cat([kernels, -kernels]))
    layer.weight.requires_grad_(False)
    assert layer.bias is not None
    layer.bias.zero_()


def normalised(images: Tensor, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``[n, 3, height, width]`` with mean 0 and deviation 1 over the images ``like``."""
    reference = like.float() / 255
    std, mean = torch.std_mean(reference, (0, 1, 2))
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).to(dtype)


def shifted(padded: Tensor, side: int) -> Tensor:
    """Return a random crop of each image ``[n, 3, side + 2 * SHIFT, ..]``."""
    count = len(padded)
    device = padded.device
    place = torch.randint(0, 2 * SHIFT + 1, (2, count, 1), device=device)
    rows, columns = place + torch.arange(side, device=device)
    number = torch.arange(count, device=device)
    # Channels last: the indices around the channels come first.
    taken = padded[number[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return taken.permute(0, 3, 1, 2)


def triangle(position: float) -> float:
    """Return the learning rate relative to its peak, for a position in the training, 0..1."""
    start, peak, end = 0.2, 0.23, 0.07
    if position < peak:
        return start + (1 - start) * position / peak
    return 1 - (1 - end) * (position - peak) / (1 - peak)


def optimizer_of(network: nn.Module) -> torch.optim.SGD:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    biases = {id(layer.bias) for layer in norms}
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = []
    for factor, chosen in (
        (BIAS_FACTOR, [p for p in trained if id(p) in biases]),
        (1, [p for p in trained if id(p) not in biases]),
    ):
        # The loss is a sum over the batch, so that float16 holds its gradients.
        rate = factor * RATE / BATCH
        groups.append({"params": chosen, "lr": rate, "peak": rate, "weight_decay": DECAY / rate})
    return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)


@torch.no_grad()
def pull(slow: list[Tensor], fast: list[Tensor], weight: float) -> None:
    """Move slow weights towards fast ones, and the fast ones there."""
    for ours, theirs in zip(slow, fast, strict=True):
        ours.lerp_(theirs, weight)
        theirs.copy_(ours)


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Return the classes by the mean of six views: three crops, each also mirrored."""

    def both(views: Tensor) -> Tensor:
        own, mirrored = network(views), network(views.flip(3))
        return own.float() + mirrored.float()  # type: ignore[no-any-return]

    found = []
    for batch in torch.split(images, 2000):
        padded = F.pad(batch, (1, 1, 1, 1), "reflect")
        corners = both(padded[:, :, :-2, :-2]) + both(padded[:, :, 2:, 2:])
        found.append((both(batch) / 2 + corners / 4).argmax(1))
    return torch.cat(found)


def train(
    train_split: Split,
    test_split: Split,
    *,
    seed: int,
    epochs: float = EPOCHS,
    batch: int = BATCH,
    widths: tuple[int, ...] = WIDTHS,
) -> Run:
    """Train once; the time includes everything from uint8 images to the test accuracy."""
    device = train_split.images.device
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    torch.manual_seed(seed)
    wait(device)
    started = time.perf_counter()
    images = normalised(train_split.images, train_split.images, dtype)
    labels, side = train_split.labels, images.shape[-1]
    network = build(widths, 10).to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in network:
        if isinstance(module, nn.BatchNorm2d):
            module.float()
    first = network[0]
    assert isinstance(first, nn.Conv2d)
    whiten(first, images[:WHITENING_IMAGES])
    optimizer = optimizer_of(network)
    fast = [value for value in network.state_dict().values() if value.is_floating_point()]
    slow = [value.clone() for value in fast]
    mirrored = torch.rand(len(images), device=device) < 0.5
    padded = F.pad(images, (SHIFT,) * 4, "reflect")
    each = len(images) // batch
    total = math.ceil(epochs * each)
    step = 0
    network.train()
    while step < total:
        views = shifted(padded, side)
        views = torch.where(mirrored[:, None, None, None], views.flip(3), views)
        # Each image is mirrored in every other epoch.
        mirrored = ~mirrored
        order = torch.randperm(len(images), device=device)
        for rows in torch.split(order, batch)[: min(each, total - step)]:
            if step == WHITENING_BIAS_EPOCHS * each and first.bias is not None:
                first.bias.requires_grad_(False)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * triangle(step / total)
            logits = network(views[rows].contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(
                logits.float(), labels[rows], label_smoothing=SMOOTHING, reduction="sum"
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            if step % LOOKAHEAD_STEPS == 0:
                pull(slow, fast, 1 - 0.95**LOOKAHEAD_STEPS * (step / total) ** 3)
    pull(slow, fast, 0.0)
    network.eval()
    tested = normalised(test_split.images, train_split.images, dtype)
    right = predict(network, tested.contiguous(memory_format=torch.channels_last))
    accuracy = (right == test_split.labels).float().mean().item()
    return Run(accuracy, time.perf_counter() - started)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Train with some seeds on CIFAR-10, which torchvision downloads."""
    import torchvision  # noqa: PLC0415 - only here

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default="cifar10", help="folder of torchvision's CIFAR-10")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    splits = []
    for training in (True, False):
        data = torchvision.datasets.CIFAR10(given.folder, train=training, download=True)
        images, labels = torch.from_numpy(data.data), torch.tensor(data.targets)
        splits.append(Split(images.to(device), labels.to(device)))
    # The first run only warms up.
    for seed in range(given.seeds + 1):
        run = train(splits[0], splits[1], seed=seed)
        print(f"accuracy {run.accuracy:.4f} in {run.seconds:.2f} s")


if __name__ == "__main__":
    main()
