"""Training loops to time against each other, each in its own process.

``python benchmarks/loops.py LOOP OPTIONS`` (JSON) prints one number: images per second.

- ``ours``: `trainables.training.loop.Training`.
- ``practitioner``: the loop of a careful user: ImageFolder, DataLoader with persistent workers,
  torchvision transforms, float32; same network, optimiser and batch size.
- ``arrays``: the same with images decoded beforehand and held in memory.
- ``bare``: only forward, backward and optimiser step, in our number format, on one batch of noise
  that is already on the device; on a GPU as a CUDA graph like ours.
- ``shared``: ``ours`` for a fixed time, started by a signal: several of them share a device.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from harness import last_error
from PIL import Image

from spaces.architecture import Builder
from spaces.candidate import Candidate
from spaces.operations import Activation, Convolution, GlobalPooling, Linear, Norm, Pooling
from spaces.recipe import Recipe
from trainables.builder import Network
from trainables.data import Dataset, load
from trainables.specs import Augmentation, DataSpec
from trainables.training.cuda_graphs import GraphedStep
from trainables.training.device import select_device
from trainables.training.loop import Training
from trainables.training.optimization import Rates, build_optimizer
from trainables.training.process import prepare_process

AUGMENTATION = Augmentation(crop=4, flip="random")
FEATURES = {
    "small": (16, 16, 32, 32, 64, 64),
    "medium": (32, 32, 64, 64, 128, 128),
}
"""Feature amounts of the plain networks: 10 and 39 million multiply-accumulates per image."""
VGG16 = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def network(features: tuple[int, ...], pools: tuple[int, ...], recipe: Recipe) -> Candidate:
    """Return a plain network for 32x32 colour images and ten classes."""
    builder = Builder((3, 32, 32))
    x = builder.image
    for number, amount in enumerate(features, start=1):
        x = builder.add(Norm(), builder.add(Convolution(amount), x))
        x = builder.add(Activation(), x)
        if number in pools:
            x = builder.add(Pooling("max"), x)
    builder.add(Linear(10), builder.add(GlobalPooling(), x))
    return Candidate(builder.build(), recipe)


def candidate(name: str, batch: int) -> Candidate:
    recipe = Recipe(0.1, 5e-4, batch, 0.0, 0.9)
    if name == "vgg16":
        return network(VGG16, (2, 4, 7, 10, 13), recipe)
    return network(FEATURES[name], (2, 4), recipe)


def dataset(options: dict[str, Any]) -> Dataset:
    return load(DataSpec(options["data"], 32, subset=options["subset"], validation=0.002))


def noise(count: int, side: int = 32) -> Dataset:
    """Return random training images, and ten each for validation and test."""
    generator = torch.Generator().manual_seed(0)
    size = (count + 10, side, side, 3)
    images = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    rows = torch.arange(count + 10)
    few = rows[count:].numpy()
    classes = tuple(map(str, range(10)))
    return Dataset(images.numpy(), (rows % 10).numpy(), classes, rows[:count].numpy(), few, few)


def run_loop(name: str, options: dict[str, Any], seconds: float = 600.0) -> float:
    """Return the images per second of a loop in its own process.

    Raises:
        RuntimeError: the process failed; the message is its printed error.
        subprocess.TimeoutExpired: the process exceeded the time limit.
    """
    command = [sys.executable, __file__, name, json.dumps(options)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    sys.stderr.write(result.stderr)
    if result.returncode != 0:
        raise RuntimeError(last_error(result.stderr))
    return float(result.stdout.split()[-1])


def measure_ours(options: dict[str, Any]) -> float:
    prepare_process(options.get("threads") or os.cpu_count() or 1)
    images = dataset(options)
    training = Training(
        candidate(options["net"], options["batch"]),
        images,
        epochs=options["epochs"] + 1,
        seed=0,
        augmentation=AUGMENTATION,
        device=options["device"],
    )
    # This and every other loop leaves out the last images, which fill no batch.
    trained = len(images.train) // options["batch"] * options["batch"]
    return images_a_second(training.run_epoch, trained, options)


def measure_practitioner(options: dict[str, Any], *, in_memory: bool = False) -> float:
    import torchvision  # noqa: PLC0415 - ours does not import it
    from torchvision.transforms import v2  # noqa: PLC0415

    images = dataset(options)
    torch.set_num_threads(os.cpu_count() or 1)
    device = select_device(options["device"]).device
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(images.mean, images.std),
        ]
    )
    if in_memory:
        data: Any = Arrays(images, transform)
    else:
        data = torchvision.datasets.ImageFolder(
            as_folder(images, Path(options["folder"])), transform
        )
    loader = torch.utils.data.DataLoader(
        data,
        options["batch"],
        shuffle=True,
        drop_last=True,
        num_workers=min(os.cpu_count() or 1, 16),
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )
    recipe = Recipe(0.1, 5e-4, options["batch"], 0.0, 0.9)
    net = Network(candidate(options["net"], options["batch"]).architecture).to(device).train()
    optimizer = torch.optim.SGD(
        net.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
    )

    def run_epoch() -> None:
        for batch, labels in loader:
            logits = net(batch.to(device, non_blocking=True))
            loss = F.cross_entropy(logits, labels.to(device, non_blocking=True))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        synchronize(device)

    trained = len(loader) * options["batch"]
    return images_a_second(run_epoch, trained, options)


class Arrays(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Decoded images in memory, as in torchvision's CIFAR10."""

    def __init__(self, images: Dataset, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self._images = images.images[images.train]
        self._labels = images.labels[images.train].tolist()
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), self._labels[index]


def as_folder(images: Dataset, folder: Path) -> Path:
    """Write the training images as JPEG files in class folders, unless they exist."""
    if not folder.exists():
        for row in images.train:
            place = folder / images.classes[images.labels[row]]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.images[row]).save(place / f"{row}.jpg", quality=95)
    return folder


def measure_bare(options: dict[str, Any]) -> float:
    prepare_process(options.get("threads") or os.cpu_count() or 1)
    device = select_device(options["device"])
    chosen = candidate(options["net"], options["batch"])
    torch.manual_seed(0)
    built = Network(chosen.architecture)
    net = built.to(device.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    rates = Rates(1.0, device.device)
    rates.set(torch.full((), 0.01, device=device.device))
    optimizer = build_optimizer(net, chosen.recipe, rates)
    batch = torch.randn(options["batch"], 3, 32, 32)
    batch = batch.to(device.device, memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (options["batch"],)).to(device.device)
    steps = options["images"] // options["batch"]
    repeat = GraphedStep(device.device, steps * (options["epochs"] + 1))

    def step() -> None:
        with device.autocast():
            loss = F.cross_entropy(net(batch), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def run_epoch() -> None:
        for _ in range(steps):
            repeat(step)
        synchronize(device.device)

    return images_a_second(run_epoch, steps * options["batch"], options)


def measure_shared(options: dict[str, Any]) -> float:
    """Train for some seconds after a line on standard input, at the same time as others."""
    prepare_process(options["threads"], options["share"])
    images = dataset(options)
    training = Training(
        candidate(options["net"], options["batch"]),
        images,
        epochs=100_000,
        seed=os.getpid(),
        augmentation=AUGMENTATION,
        device=options["device"],
    )
    training.run_epoch()
    print("ready", flush=True)
    sys.stdin.readline()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < options["seconds"]:
        training.run_epoch()
        done += len(images.train) // options["batch"] * options["batch"]
    return done / (time.perf_counter() - started)


def images_a_second(run_epoch: Callable[[], object], images: int, options: dict[str, Any]) -> float:
    """Time some epochs after an uncounted one; with ``cpu_time``, other processes matter less."""
    clock = time.process_time if options.get("cpu_time") else time.perf_counter
    epochs: int = options["epochs"]
    run_epoch()
    started = clock()
    for _ in range(epochs):
        run_epoch()
    return epochs * images / (clock() - started)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


LOOPS: dict[str, Callable[[dict[str, Any]], float]] = {
    "ours": measure_ours,
    "practitioner": measure_practitioner,
    "arrays": lambda options: measure_practitioner(options, in_memory=True),
    "bare": measure_bare,
    "shared": measure_shared,
}

if __name__ == "__main__":
    print(LOOPS[sys.argv[1]](json.loads(sys.argv[2])))
