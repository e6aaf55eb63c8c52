"""Measures speed, accuracy and memory of training: ``python benchmarks/training.py``.

Runs without Ray, on a GPU if there is one, else on the CPU. Images are CIFAR-10's: ``--data
images:PATH`` names a folder or archive; the default is the archive beside the project if it exists,
else torchvision's. Rows (those marked GPU need one):

- images per second against the loop of a practitioner, from JPEG files and from memory;
- images per second against the bare forward, backward and optimiser step on data on the device; on
  a CPU in turn in one process, per second of CPU time of one thread;
- GPU: TFLOP/s of VGG16 at batch 1024 against a large bfloat16 matrix product;
- images per second of several trainings that share the device against one alone; on a GPU also
  under MPS, if ``cluster/mps.sh`` can start it;
- the network of the CIFAR-10 speed record: time to 94 % and accuracy after ten epochs, against a
  plain script of the record (``benchmarks/speed_record.py``); on a CPU a narrow one for an epoch;
- accuracy: on a GPU, the best recipe after 60 seconds with three seeds; on a CPU, whether recipes
  rank as in float32 on a subset;
- time to the first step of ten random networks, one after another: construction, capture and first
  replay; on a CPU without capture;
- predicted against measured peak memory of 30 random candidates;
- GPU: cuDNN timing its kernels (``torch.backends.cudnn.benchmark``) against its default choice, and
  ``compile: true`` against plain training;
- roofline: each kind of layer against the ceilings of the device (``benchmarks/roofline.py``).

Each row is printed, and with ``--json`` written, as soon as it is measured. A failed row shows its
cause, the others continue, and the exit code is 1.

Figures depend on the device: ``sh benchmarks/on_gpu.sh all`` records them with device, versions and
date, and ``benchmarks/results/`` keeps them.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import mean

import torch
from against_record import measure_record
from first_step import measure_first_steps
from gpu_checks.random_networks import compare_memory
from harness import Table, Values, alternate, option_parser
from loops import AUGMENTATION, candidate, network, run_loop, run_pairs
from roofline import measure_roofline
from sharing import measure_sharing
from switches import measure_compile, measure_cudnn

from spaces.errors import BadInputError
from spaces.recipe import Recipe
from spaces.schedules import Constant
from trainables.data import Dataset, load
from trainables.specs import Augmentation, DataSpec
from trainables.training.device import Device, select_device
from trainables.training.loop import Training
from trainables.training.process import prepare_process

HERE = Path(__file__).parent
ARCHIVE = HERE.parent.parent / "shared" / "data" / "cifar10-images.tar.xz"
DEFAULT_DATA = f"images:{ARCHIVE}" if ARCHIVE.exists() else "cifar10"
ROWS = (
    *("record", "accuracy", "first_step", "speed", "utilisation", "sharing", "memory"),
    *("cudnn", "compile", "roofline"),
)
ON_NOISE = {"first_step", "memory", "cudnn", "compile", "roofline"}
"""Rows that need no images."""


def measure_speed(table: Table, given: argparse.Namespace, device: Device, folder: str) -> None:
    """Compare whole loops."""
    on_gpu = device.device.type == "cuda"
    # A GPU needs whole epochs: short ones would measure the pauses between them.
    subset = 1.0 if on_gpu else 0.02 if given.quick else 0.2
    options = {
        "data": given.data,
        "device": device.device.type,
        "subset": subset,
        "batch": 512 if on_gpu else 128,
        "images": round(50_000 * subset),
        "folder": str(Path(folder) / "jpeg"),
    }
    rounds = 1 if given.quick else 3
    # A hung process must not take the time of the other rows.
    limit = 60.0 if given.quick else 600.0
    target = "ratio >= 10" if on_gpu else "ratio >= 3"

    def loop(name: str, net: str, epochs: int) -> float:
        return run_loop(name, options | {"net": net, "epochs": epochs}, limit)

    def compare(net: str, baseline: str) -> Values:
        many = 10 if on_gpu else 1
        few = many if baseline == "bare" else 1 if given.quick or not on_gpu else 5
        return alternate(lambda: loop("ours", net, many), lambda: loop(baseline, net, few), rounds)

    def compare_step(net: str, baseline: str) -> Values:
        if on_gpu:
            return compare(net, baseline)
        pairs = 1 if given.quick else 25 if net == "small" else 9
        return run_pairs(options | {"net": net, "epochs": pairs}, limit)

    practitioner = ("practitioner", "DataLoader from JPEG files, float32", target)
    bare = ("bare", "the bare step on data on the device", f"ratio >= {0.9 if on_gpu else 0.97}")
    arrays = ("arrays", "DataLoader from memory, float32", "-")
    # The most important rows come first, because time may run out.
    for net in ("small",) if given.quick and not on_gpu else ("small", "medium"):
        for baseline, name, wanted in (practitioner, bare):
            figure = f"training a {net} net; against {name}"
            measure = compare_step if baseline == "bare" else compare
            table.measure(figure, wanted, "images/s", partial(measure, net, baseline))
    for net in ("small",) if given.quick else ("small", "medium"):
        baseline, name, wanted = arrays
        figure = f"training a {net} net; against {name}"
        table.measure(figure, wanted, "images/s", partial(compare, net, baseline))


def compare_with_product(given: argparse.Namespace, device: Device) -> Values:
    """Compare VGG16 at batch 1024 with a large matrix product, both in bfloat16."""
    size = 8192

    def product() -> float:
        a, b = (
            torch.randn(size, size, device=device.device, dtype=torch.bfloat16) for _ in range(2)
        )
        for _ in range(3):
            a @ b
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(20):
            a @ b
        torch.cuda.synchronize()
        return 20 * 2 * size**3 / (time.perf_counter() - started) / 1e12

    # A multiply-accumulate is two operations; the backward pass needs twice the forward's.
    flops = 6 * candidate("vgg16", 1024).costs.macs
    options = {"data": given.data, "device": "cuda", "subset": 1.0, "net": "vgg16", "batch": 1024}
    options |= {"epochs": 2 if given.quick else 5}
    rounds = 1 if given.quick else 3
    return alternate(lambda: run_loop("ours", options) * flops / 1e12, product, rounds)


def best_recipe(batch: int) -> tuple[Recipe, Augmentation]:
    recipe = Recipe(0.4, 5e-4, batch, 0.1, 0.9, ema=0.99)
    return recipe, Augmentation(crop=4, flip="alternating", cutout=8)


def accuracy_on_gpu(given: argparse.Namespace) -> Values:
    """Train the best recipe for 60 seconds with three seeds."""
    images = load(DataSpec(given.data, 32, validation=0.02))
    recipe, augmentation = best_recipe(512)
    features = (64, 128, 128, 256, 256, 256, 512, 512)
    chosen = network(features, (2, 4, 6), recipe)
    found = []
    for seed in range(1 if given.quick else 3):
        # Train some epochs in the same process to find how many fit.
        probe = Training(chosen, images, epochs=3, seed=9, augmentation=augmentation)
        lasting = [probe.run_epoch().epoch_seconds for _ in range(3)][-1]
        epochs = max(1, int(55 / lasting))
        del probe
        started = time.perf_counter()
        training = Training(chosen, images, epochs=epochs, seed=seed, augmentation=augmentation)
        for _ in range(epochs):
            training.run_epoch()
        seconds = time.perf_counter() - started
        # A late result does not count.
        found.append(training.score("test")[1] if seconds <= 60 else 0.0)
        print(f"seed {seed}: {epochs} epochs in {seconds:.1f} s: test accuracy {found[-1]:.4f}")
    return mean(found), 0.92, mean(found) / 0.92


def ranking_on_cpu(given: argparse.Namespace) -> Values:
    """Train the same recipes in our number format and in float32, and compare their order."""
    subset = 0.02 if given.quick else 0.06
    images = load(DataSpec(given.data, 32, subset=subset, validation=0.3))
    epochs = 3 if given.quick else 8
    plain, (best, varied) = Recipe(0.1, 5e-4, 64, 0.0, 0.9), best_recipe(64)
    recipes = {
        "one-cycle": (plain, AUGMENTATION),
        "one-cycle, no augmentation": (plain, Augmentation()),
        "constant rate": (replace(plain, schedule=Constant()), AUGMENTATION),
        "rate / 30": (replace(plain, learning_rate=0.1 / 30), AUGMENTATION),
        "AdamW": (replace(plain, optimizer="adamw", learning_rate=2e-3), AUGMENTATION),
        "all of it": (replace(best, learning_rate=0.1), varied),
    }
    seeds = range(1 if given.quick else 2)
    scores: dict[bool, list[float]] = {}
    for low in (True, False):
        scores[low] = [
            mean(score(images, recipe, varied, epochs, seed, low=low) for seed in seeds)
            for recipe, varied in recipes.values()
        ]
    for name, ours, theirs in zip(recipes, scores[True], scores[False], strict=True):
        print(f"  {name:<28} validation {ours:.3f}; in float32 {theirs:.3f}")
    # Pairs that differ by less than their noise have no order.
    pairs = list(combinations(range(len(recipes)), 2))
    clear = [p for p in pairs if abs(scores[False][p[0]] - scores[False][p[1]]) > 0.02]
    kept = [
        p
        for p in clear
        if (scores[True][p[0]] - scores[True][p[1]]) * (scores[False][p[0]] - scores[False][p[1]])
        > 0
    ]
    return len(kept), len(clear), len(kept) / max(1, len(clear))


def score(
    images: Dataset, recipe: Recipe, varied: Augmentation, epochs: int, seed: int, *, low: bool
) -> float:
    """Return the validation accuracy of a whole training."""
    chosen = network((16, 32, 32, 64), (1, 3), recipe)
    training = Training(chosen, images, epochs=epochs, seed=seed, augmentation=varied)
    if not low:
        training._device = replace(training._device, bfloat16=False)
    return [training.run_epoch().validation_accuracy for _ in range(epochs)][-1]


def measure_rows(
    groups: Collection[str], table: Table, given: argparse.Namespace, device: Device
) -> None:
    """Measure groups of rows, each in the order of `ROWS`.

    Args:
        groups: some of `ROWS`.
        table: table for the rows.
        given: ``quick``, and ``data``: the source of the images.
        device: device of the trainings.
    """
    on_gpu = device.device.type == "cuda"
    prepare_process(os.cpu_count() or 1)
    if "record" in groups:
        measure_record(table, given, device)
    if "accuracy" in groups and on_gpu:
        figure = "GPU: test accuracy within 60 s, mean of the seeds; against 0.92"
        table.measure(figure, "ratio >= 1", "accuracy", partial(accuracy_on_gpu, given))
    elif "accuracy" in groups and device.bfloat16:
        figure = "processor: pairs of recipes in the order of float32; against all clear pairs"
        table.measure(figure, "ratio 1", "pairs", partial(ranking_on_cpu, given))
    if "first_step" in groups:
        measure_first_steps(table, device)
    if "speed" in groups:
        with tempfile.TemporaryDirectory() as folder:
            measure_speed(table, given, device, folder)
    if "utilisation" in groups and on_gpu:
        figure = "GPU: VGG16 at batch 1024; against a bfloat16 matrix product"
        compare = partial(compare_with_product, given, device)
        table.measure(figure, "ratio >= 0.30", "TFLOP/s", compare)
    if "sharing" in groups:
        measure_sharing(table, given, on_gpu=on_gpu)
    if "memory" in groups:
        figure = "peak memory predicted within 20 %; against all random candidates"
        table.measure(figure, "ratio 1", "candidates", partial(compare_memory, given, device))
    if "cudnn" in groups and on_gpu:
        measure_cudnn(table, device)
    if "compile" in groups and on_gpu:
        measure_compile(table, device)
    if "roofline" in groups:
        measure_roofline(table, device, quick=given.quick)


def main() -> int:
    parser = option_parser(__doc__)
    parser.add_argument("--data", default=DEFAULT_DATA, help="images:PATH or cifar10")
    parser.add_argument(
        "--rows", default=",".join(ROWS), help=f"which rows, comma separated: {', '.join(ROWS)}"
    )
    given = parser.parse_args()
    asked = given.rows.split(",")
    unknown = set(asked) - set(ROWS)
    if unknown:
        parser.error(f"--rows: unknown are {', '.join(sorted(unknown))}; use {', '.join(ROWS)}")
    # Stopping the benchmark also stops the processes that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    device = select_device()
    on_gpu = device.device.type == "cuda"
    name = torch.cuda.get_device_name() if on_gpu else f"{os.cpu_count()} cores"
    print(f"torch {torch.__version__}, {name}, bfloat16 {device.bfloat16}")
    if set(asked) - ON_NOISE:
        try:
            # Decode once, before timing starts.
            load(DataSpec(given.data, 32, validation=0.002))
        except BadInputError as error:
            parser.error(str(error))
    table = Table(given.json)
    measure_rows(asked, table, given, device)
    return int(table.failed)


if __name__ == "__main__":
    sys.exit(main())
