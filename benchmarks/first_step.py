"""Time to the first step of new networks, one after another in a warm process."""

from __future__ import annotations

import gc
import time
from functools import lru_cache
from math import inf
from statistics import median

from gpu_checks.inside import take_first_steps
from gpu_checks.random_networks import random_candidates
from harness import Table, Values
from loops import AUGMENTATION, noise

from spaces.candidate import FAMILIES, Candidate
from trainables.data import Dataset
from trainables.training.device import Device
from trainables.training.loop import Training
from trainables.training.process import release_memory

NETWORKS = 10
GOAL = 0.5
"""Seconds from the architecture to the first step at full speed."""
SMALL = 3e7
"""Maximum number of multiply-accumulates per image on a CPU."""
_noise = lru_cache(noise)


def seconds_to_first_step(chosen: Candidate, images: Dataset, device: str) -> float:
    """Return the time of construction, warm-up, capture and first replay.

    On a CPU, the time of construction and first step.
    """
    started = time.perf_counter()
    training = Training(chosen, images, epochs=1, seed=0, augmentation=AUGMENTATION, device=device)
    take_first_steps(training)
    return time.perf_counter() - started


def all_seconds(device: Device, count: int = NETWORKS) -> list[float]:
    """Return the time to the first step of random networks, after one of each family."""
    on_gpu = device.device.type == "cuda"
    # A step of a large network alone takes seconds on a CPU.
    sizes = ((128, 256, 512), inf) if on_gpu else ((16, 32), SMALL)
    candidates = random_candidates(len(FAMILIES) + count, *sizes)
    most = max(chosen.recipe.batch_size for chosen in candidates)
    # Enough steps for a capture. All networks share the images, as in a search.
    images = _noise(24 * most)
    found = []
    for chosen in candidates:
        found.append(seconds_to_first_step(chosen, images, str(device.device)))
        # As between two trials.
        gc.collect()
        release_memory()
    return found[len(FAMILIES) :]


def measure_first_steps(table: Table, device: Device) -> None:
    """Compare the median and the worst time with the goal."""
    on_gpu = device.device.type == "cuda"
    first = f"{'GPU' if on_gpu else 'processor'}: first step of a new network"
    found: list[float] = []

    def middle() -> Values:
        found.extend(all_seconds(device))
        return median(found), GOAL, GOAL / median(found)

    def worst() -> Values:
        if not found:
            raise RuntimeError("the first steps could not be measured")
        return max(found), GOAL, GOAL / max(found)

    table.measure(f"{first}, median of {NETWORKS}; against the goal", "ratio >= 1", "s", middle)
    table.measure(f"{first}, worst of {NETWORKS}; against the goal", "ratio >= 1", "s", worst)
