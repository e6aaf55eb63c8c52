"""Random candidates of all families: their memory against its prediction."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from statistics import median
from typing import Any

from harness import Values
from loops import noise
from optuna.samplers import RandomSampler

from cluster.sizing import FRAGMENTATION
from search.loop.packing import predicted_memory
from search.study.study import Study
from spaces.architecture import CollapsedLayerError
from spaces.candidate import FAMILIES, Candidate, CandidateSpace
from spaces.task import Task
from trainables.data import Dataset
from trainables.training.device import Device
from trainables.training.loop import Training
from trainables.training.peak_memory import measure_peak


def compare_memory(given: argparse.Namespace, device: Device) -> Values:
    """Compare predicted and measured peak memory of random candidates."""
    on_gpu = device.device.type == "cuda"
    wanted = (10 if on_gpu else 6) if given.quick else 30
    sizes = ((128, 256, 512), inf) if on_gpu else ((16, 32), 3e8)
    errors = []
    for chosen in random_candidates(wanted, *sizes):
        # On a GPU enough steps for a CUDA graph, which keeps its memory during scoring.
        images = noise((24 if on_gpu else 2) * chosen.recipe.batch_size)

        def work(chosen: Candidate = chosen, images: Dataset = images) -> None:
            Training(chosen, images, epochs=1, seed=0, device=device.device.type).run_epoch()

        # The first training copies the images to the device for both, so the measurement of the
        # second covers only the network, like the prediction.
        work()
        measured = measure_peak(work, device.device)
        # A GPU reports reserved memory; libraries hold workspaces since the first training.
        predicted = (
            (1 + FRAGMENTATION) * predicted_memory(chosen, bfloat16=device.bfloat16)
            if on_gpu
            else chosen.training_memory(bfloat16=device.bfloat16)
        )
        errors.append(predicted / measured - 1)
    errors.sort()
    worst = max(errors, key=abs)
    print(f"  predicted against measured: median {median(errors):+.1%}, worst {worst:+.1%}")
    within = sum(abs(error) <= 0.2 for error in errors)
    return within, wanted, within / wanted


def random_candidates(count: int, batches: Sequence[int], most: float = inf) -> list[Candidate]:
    """Draw candidates of all families in turn, with relevant weights and activations.

    Args:
        count: number of candidates.
        batches: batch sizes, used in turn.
        most: maximum number of multiply-accumulates per image.
    """
    task = Task(3, 32, 32, 10)
    spaces = [CandidateSpace(task, family, {}, {}) for family in FAMILIES]
    studies = [Study(space.name, RandomSampler(seed=0)) for space in spaces]
    found: list[Candidate] = []
    while len(found) < count:
        place = len(found) % len(spaces)
        drawn = spaces[place].draw(studies[place].ask())
        try:
            macs = drawn.costs.macs
        except CollapsedLayerError:
            continue
        if macs > most:
            continue
        round_ = len(found) // len(spaces)
        changed: dict[str, Any] = {
            "batch_size": batches[round_ % len(batches)],
            "optimizer": ("sgd", "adamw")[round_ % 2],
            "ema": (0.0, 0.99)[round_ // 2 % 2],
        }
        found.append(replace(drawn, recipe=replace(drawn.recipe, **changed)))
    return found
