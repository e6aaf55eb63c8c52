"""Measures what each augmentation costs on one CPU thread: ``python benchmarks/augmentation.py``.

A figure is the CPU time per image to draw the random numbers and to prepare batches of 32x32 colour
images; the baseline is the same without augmentation. ``--picture FILE`` instead draws examples of
each augmentation on the two photographs of scikit-learn.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from harness import Table, alternate, option_parser
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps
from sklearn.datasets import load_sample_images

from trainables.data import Dataset
from trainables.specs import Augmentation
from trainables.training.augmentation import draw_variation
from trainables.training.batches import Batches

CASES = {
    "crop: 4": Augmentation(crop=4),
    "translate: 0.2": Augmentation(translate=0.2),
    "flip: random": Augmentation(flip="random"),
    "zoom: [0.3, 1.0]": Augmentation(zoom=(0.3, 1.0)),
    "rotate: 30": Augmentation(rotate=30.0),
    "zoom, rotate, crop and flip": Augmentation(
        zoom=(0.3, 1.0), rotate=30.0, crop=4, flip="random"
    ),
    "color: 0.4": Augmentation(color=0.4),
    "policy: trivial": Augmentation(policy="trivial"),
    "erase: 0.5": Augmentation(erase=0.5),
    "cutout: 8": Augmentation(cutout=8),
    "mixup: 0.4": Augmentation(mixup=0.4),
}
BATCH = 50
CPU = torch.device("cpu")
EXAMPLES, SIDE, MARGIN = 8, 48, 150
"""Examples in each row of the picture, side of an image and width of the labels in pixels."""


class Args(argparse.Namespace):
    """The options."""

    quick: bool
    json: Path | None
    picture: Path | None


def dataset_of(images: NDArray[np.uint8]) -> Dataset:
    rows = np.arange(len(images))
    return Dataset(images, np.zeros(len(images), np.int64), ("any",), rows, rows[:0], rows[:0])


def seconds(dataset: Dataset, augmentation: Augmentation) -> float:
    """Return the CPU time to draw and prepare one epoch."""
    batches = Batches(dataset, augmentation, BATCH, CPU)
    rows = torch.from_numpy(dataset.train).view(-1, BATCH)
    began = time.process_time()
    variation = draw_variation(
        augmentation,
        rows,
        dataset.shape[:2],
        seed=0,
        passes=torch.zeros_like(rows),
        generator=torch.Generator().manual_seed(0),
    )
    for step, _ in enumerate(batches.feed(rows.unbind())):
        batches.current(rows[step], variation.map(itemgetter(step)))
    return time.process_time() - began


def measure(table: Table, images: int, rounds: int) -> None:
    numbers = np.random.default_rng(0)
    dataset = dataset_of(numbers.integers(0, 256, (images, 32, 32, 3), np.uint8))

    def microseconds(augmentation: Augmentation) -> float:
        return 1e6 / images * seconds(dataset, augmentation)

    baseline = partial(microseconds, Augmentation())
    for name, augmentation in CASES.items():
        work = partial(alternate, partial(microseconds, augmentation), baseline, rounds)
        table.measure(f"{name} against none", "", "us/image", work)


def draw(file: Path) -> None:
    """Draw a row of examples for each augmentation, with few colours to keep the file small."""
    photographs = [
        np.asarray(ImageOps.fit(Image.fromarray(each), (SIDE, SIDE)))
        for each in load_sample_images().images
    ]
    dataset = dataset_of(np.stack(photographs))
    rows = torch.arange(EXAMPLES) % 2
    cases = {"none": Augmentation()} | CASES
    picture = Image.new("RGB", (MARGIN + EXAMPLES * SIDE, len(cases) * SIDE), "white")
    pen = ImageDraw.Draw(picture)
    for line, (name, augmentation) in enumerate(cases.items()):
        pen.text((4, line * SIDE + SIDE // 2 - 6), name, fill="black")
        numbers = torch.Generator().manual_seed(1)
        variation = draw_variation(
            augmentation,
            rows,
            (SIDE, SIDE),
            seed=0,
            passes=torch.zeros_like(rows),
            generator=numbers,
        )
        images, _ = Batches(dataset, augmentation, EXAMPLES, CPU).current(rows, variation)
        restored = images.permute(0, 2, 3, 1) * torch.tensor(dataset.std)
        pixels = (255 * (restored + torch.tensor(dataset.mean))).round().clamp(0, 255).byte()
        for column, image in enumerate(pixels):
            place = (MARGIN + column * SIDE, line * SIDE)
            picture.paste(Image.fromarray(image.numpy()), place)
    picture.quantize(96).save(file, optimize=True)


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw examples instead")
    args = parser.parse_args(namespace=Args())
    torch.set_num_threads(1)
    if args.picture is not None:
        draw(args.picture)
        return
    images, rounds = (500, 2) if args.quick else (5_000, 5)
    measure(Table(args.json), images, rounds)


if __name__ == "__main__":
    main()
