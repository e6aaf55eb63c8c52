"""Compares a search of few photos with simpler ways: ``benchmarks/small_data.py --data images:..``.

For each seed, draws 255 photos of five classes (51 each) and searches them with the settings of
``experiments/images.yaml``, whose validation split leaves 215 photos to train on. The result of the
search is the mean test accuracy of its first finalist, on 5,000 other photos of these classes. Two
baselines are scored on the same photos:

- logistic regression on the pixels, which every search computes;
- ResNet18 (He et al. 2016, with the 3x3 stem for small images) by the classic recipe: 100 epochs of
  SGD with momentum 0.9 and learning rate 0.1, divided by 10 after 50 and 75 epochs, weight decay
  5e-4, batches of 32, random crops with 4 pixels of padding, and mirror images. It trains on the
  training split of the search.

A figure is a mean over the seeds; the lines before it show each seed. ``--data`` names a folder
with ``train/CLASS`` and ``test/CLASS``, such as CIFAR-10 in files; without it, random noise shows
that the benchmark runs. ``--home FOLDER`` keeps photos, searches and the accuracy of ResNet18, and
a second run continues there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

import numpy as np
from harness import Figure, Table, option_parser
from PIL import Image

from search.experiment.folder import SearchFolder
from search.experiment.training_spec import describe_task
from search.reporting.stored_search import StoredSearch
from spaces.candidate import Candidate
from spaces.named import named
from spaces.recipe import Recipe
from spaces.schedules import MultiStep
from trainables.data import load
from trainables.specs import Augmentation, DataSpec
from trainables.training.loop import Training
from trainables.training.process import prepare_process

ROOT = Path(__file__).resolve().parents[1]
CLASSES = 5
EACH, TESTED = 51, 1_000
"""Photos of each class to search, and to test."""
RESOLUTION = 32
EPOCHS = 100
"""Of ResNet18."""


class Args(argparse.Namespace):
    """The options."""

    data: str
    home: Path | None
    seeds: list[int]


@dataclass(frozen=True)
class Seed:
    """What one seed gave: test accuracies, 0..1."""

    search: float
    regression: float
    resnet: float


def draw_photos(source: Path, target: Path, seed: int, each: int, tested: int) -> None:
    """Copy random photos of random classes to ``train/CLASS`` and ``test/CLASS`` of a folder."""
    generator = np.random.default_rng(seed)
    classes = sorted(place.name for place in (source / "train").iterdir() if place.is_dir())
    for name in generator.choice(classes, min(CLASSES, len(classes)), replace=False):
        for split, count in (("train", each), ("test", tested)):
            photos = sorted((source / split / name).iterdir())
            (target / split / name).mkdir(parents=True)
            for photo in generator.permutation(np.array(photos, dtype=object))[:count]:
                shutil.copy(photo, target / split / name)


def write_noise(folder: Path) -> None:
    """Write random images in two classes."""
    generator = np.random.default_rng(0)
    for split, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
        place = folder / split / name
        place.mkdir(parents=True)
        for number, pixels in enumerate(generator.integers(0, 256, (30, 8, 8, 3), np.uint8)):
            Image.fromarray(pixels).save(place / f"{number}.png")


def search(home: Path, photos: Path, seed: int, settings: list[str]) -> SearchFolder:
    """Run or continue the search of the photos."""
    folder = SearchFolder(home / f"photos-{seed}")
    if folder.path.exists():
        command = ["resume", folder.name]
    else:
        given = [f"name={folder.name}", f"data=images:{photos}", f"seed={seed}", *settings]
        command = ["run", "experiments/images.yaml"]
        for setting in given:
            command += ["--set", setting]
    environment = os.environ | {"BORDERLINE_HOME": str(home), "MLFLOW_TRACKING_URI": ""}
    log = home / f"{folder.name}.log"
    with log.open("a", encoding="utf-8") as output:
        subprocess.run(
            [sys.executable, "search.py", *command],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=True,
        )
    return folder


def train_resnet(photos: Path, seed: int, epochs: int) -> float:
    """Return the test accuracy of ResNet18 by the classic recipe."""
    dataset = load(DataSpec(f"images:{photos}", RESOLUTION, split_seed=seed))
    drops = MultiStep((max(1, epochs // 2), max(2, 3 * epochs // 4)), 0.1)
    recipe = Recipe(0.1, 5e-4, min(32, len(dataset.train)), 0.0, 0.9, schedule=drops)
    training = Training(
        Candidate(named("resnet18c", describe_task(dataset)), recipe),
        dataset,
        epochs=epochs,
        seed=seed,
        augmentation=Augmentation(crop=4, flip="random"),
    )
    for _ in range(epochs):
        training.run_epoch()
    return training.score("test")[1]


def measure(source: Path, home: Path, seed: int, *, quick: bool) -> Seed:
    """Search the photos of one seed and train the baselines, unless they are stored."""
    stored = home / f"photos-{seed}.json"
    if stored.exists():
        return Seed(**json.loads(stored.read_text(encoding="utf-8")))
    photos = home / f"photos-{seed}"
    if not photos.exists():
        draw_photos(source, photos, seed, 8 if quick else EACH, 20 if quick else TESTED)
    settings = ["tracking.enabled=false"]
    if quick:
        settings += ["epochs=1", "budget.trials=2", "finalists.count=1", "finalists.seeds=1"]
        settings += ["space.depth=[3, 3]", "space.features=[4, 8]"]
    folder = search(home / "runs", photos, seed, settings)
    baseline = folder.baseline
    finalists = StoredSearch(folder).finalists
    if baseline is None or not finalists:
        raise RuntimeError(f"the search of seed {seed} has no result; see {home}")
    baseline_file = home / f"photos-{seed}-resnet.json"
    if not baseline_file.exists():
        baseline_file.write_text(json.dumps(train_resnet(photos, seed, 3 if quick else EPOCHS)))
    resnet = float(json.loads(baseline_file.read_text(encoding="utf-8")))
    found = Seed(finalists[0].test_accuracy[0], baseline.test, resnet)
    stored.write_text(json.dumps(asdict(found)), encoding="utf-8")
    return found


@contextmanager
def kept(home: Path | None) -> Iterator[Path]:
    if home is not None:
        (home / "runs").mkdir(parents=True, exist_ok=True)
        yield home.absolute()
        return
    with TemporaryDirectory() as folder:
        (Path(folder) / "runs").mkdir()
        yield Path(folder)


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--data", default="", help="images:FOLDER with train/ and test/")
    parser.add_argument("--home", type=Path, help="folder that keeps photos and searches")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args(namespace=Args())
    prepare_process(os.cpu_count() or 1)
    with kept(args.home) as home:
        source = Path(args.data.removeprefix("images:"))
        if not args.data:
            source = home / "noise"
            write_noise(source)
        found = []
        for seed in args.seeds[:1] if args.quick else args.seeds:
            found.append(measure(source, home, seed, quick=args.quick))
            print(
                f"seed {seed}: search {found[-1].search:.4f}, "
                f"logistic regression {found[-1].regression:.4f}, ResNet18 {found[-1].resnet:.4f}",
                flush=True,
            )
    table = Table(args.json)
    ours = [each.search for each in found]
    for name, values in (
        ("logistic regression", [each.regression for each in found]),
        ("ResNet18", [each.resnet for each in found]),
    ):
        gains = [mine - other for mine, other in zip(ours, values, strict=True)]
        spread = f" ± {stdev(gains):.3f}" if len(gains) > 1 else ""
        better = sum(gain > 0 for gain in gains)
        table.add(
            Figure(
                f"test accuracy of a search of few photos; against {name}: {mean(gains):+.3f}"
                f"{spread}, better with {better} of {len(gains)} seeds",
                mean(ours),
                mean(values),
                mean(ours) / mean(values),
                "above 1",
                "fraction",
            )
        )


if __name__ == "__main__":
    main()
