"""Training loops to time against each other, each in its own process.

``python benchmarks/loops.py LOOP OPTIONS`` (JSON) prints one number: images per second; ``pairs``
prints three.

- ``ours``: `trainables.training.loop.Training`.
- ``practitioner``: the loop of a careful user: ImageFolder, DataLoader with persistent workers,
  torchvision transforms, float32; same network, optimiser and batch size.
- ``arrays``: the same with images decoded beforehand and held in memory.
- ``bare``: only forward, backward and optimiser step, in our number format, on one batch of noise
  that is already on the device; on a GPU as a CUDA graph like ours.
- ``pairs``: ``ours`` and ``bare`` in turn in one process: their medians, and the median of their
  ratios. Processes differ by more than what this comparison has to resolve.
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
from statistics import median, stdev
from typing import Any

import torch
import torch.nn.functional as F
from harness import Values, last_error
from PIL import Image

from spaces.architecture import Builder
from spaces.candidate import Candidate
from spaces.operations import Activation, Convolution, GlobalPooling, Linear, Norm, Pooling
from spaces.recipe import Recipe
from trainables.builder import Network
from trainables.data import Dataset, load
from trainables.specs import Augmentation, DataSpec
from trainables.training.cuda_graphs import GraphedStep
from trainables.training.device import Device, select_device
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
    return _run(name, options, seconds)[0]


def run_pairs(options: dict[str, Any], seconds: float = 600.0) -> Values:
    """Return medians and ratio of ``pairs``; arguments and errors are those of `run_loop`."""
    ours, bare, ratio = _run("pairs", options, seconds)
    return ours, bare, ratio


def _run(name: str, options: dict[str, Any], seconds: float) -> list[float]:
    command = [sys.executable, __file__, name, json.dumps(options)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    sys.stderr.write(result.stderr)
    if result.returncode != 0:
        raise RuntimeError(last_error(result.stderr))
    return [float(number) for number in result.stdout.splitlines()[-1].split()]


def build_training(options: dict[str, Any]) -> Training:
    return Training(
        candidate(options["net"], options["batch"]),
        dataset(options),
        epochs=options["epochs"] + 1,
        seed=0,
        augmentation=AUGMENTATION,
        device=options["device"],
    )


def measure_ours(options: dict[str, Any]) -> float:
    prepare_process(os.cpu_count() or 1)
    training = build_training(options)
    # This and every other loop leaves out the last images, which fill no batch.
    trained = len(training.dataset.train) // options["batch"] * options["batch"]
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


def bare_step(options: dict[str, Any], device: Device) -> Callable[[], None]:
    """Return the step of ``bare``."""
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

    def step() -> None:
        with device.autocast():
            loss = F.cross_entropy(net(batch), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def measure_bare(options: dict[str, Any]) -> float:
    prepare_process(os.cpu_count() or 1)
    device = select_device(options["device"])
    step = bare_step(options, device)
    steps = options["images"] // options["batch"]
    repeat = GraphedStep(device.device, steps * (options["epochs"] + 1))

    def run_epoch() -> None:
        for _ in range(steps):
            repeat(step)
        synchronize(device.device)

    return images_a_second(run_epoch, steps * options["batch"], options)


def measure_pairs(options: dict[str, Any]) -> Values:
    """Alternate epochs of ``ours`` with as many bare steps, by CPU time of one thread."""
    prepare_process(1)
    step = bare_step(options, select_device("cpu"))
    training = build_training(options)
    rates: list[tuple[float, float]] = []
    for _ in range(options["epochs"] + 1):
        steps = training._order.steps(training.epoch + 1) - training._order.steps(training.epoch)
        started = time.process_time()
        training.run_epoch()
        between = time.process_time()
        for _ in range(steps):
            step()
        ended = time.process_time()
        images = steps * options["batch"]
        rates.append((images / (between - started), images / (ended - between)))
    # The first epoch allocates memory.
    ours, bare = zip(*rates[1:], strict=True)
    ratios = [one / other for one, other in rates[1:]]
    if len(ratios) > 1:
        sys.stderr.write(f"{len(ratios)} pairs: standard deviation {stdev(ratios):.3f}\n")
    return median(ours), median(bare), median(ratios)


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
    """Time some epochs after an uncounted one."""
    epochs: int = options["epochs"]
    run_epoch()
    started = time.perf_counter()
    for _ in range(epochs):
        run_epoch()
    return epochs * images / (time.perf_counter() - started)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


LOOPS: dict[str, Callable[[dict[str, Any]], float | Values]] = {
    "ours": measure_ours,
    "practitioner": measure_practitioner,
    "arrays": lambda options: measure_practitioner(options, in_memory=True),
    "bare": measure_bare,
    "pairs": measure_pairs,
    "shared": measure_shared,
}

if __name__ == "__main__":
    measured = LOOPS[sys.argv[1]](json.loads(sys.argv[2]))
    print(*measured if isinstance(measured, tuple) else [measured])
