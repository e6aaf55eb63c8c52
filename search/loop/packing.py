"""How trials share a cluster: the CPUs and the fraction of a GPU that each requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING

from cluster.sizing import (
    GPU_FRACTIONS,
    RESIDENT_FRACTION,
    Gpu,
    evaluation_batch,
    gpu_fraction_for,
    largest_prediction,
    memory_limit,
)
from spaces.candidate import Candidate

if TYPE_CHECKING:
    # Imports PyYAML, which a machine that only trains may lack.
    from cluster.launched import NodeType

DEFAULT_FRACTION = 0.25
"""Fraction of a GPU for each trial if the memory of the GPUs is unknown."""

Node = Mapping[str, float]
"""Resources of one node of a cluster, by Ray's names."""


@dataclass(frozen=True)
class Packing:
    """The resources that trials request from a cluster.

    Attributes:
        cpus: CPUs, and threads, of each trial.
        fixed: fraction of a GPU for every trial, 0 for none; None derives it from the predicted
            memory of each trial.
        smallest: the GPU with the least memory, None if unknown; a trial may run on any GPU.
        largest: the GPU with the most memory.
        bfloat16: whether all GPUs calculate in bfloat16.
        image_bytes: size of all images; a training copies them to its GPU if they fit well.
        latency_batch: images in the largest batch whose latency is measured; 0 for none.
    """

    cpus: int
    fixed: float | None
    smallest: Gpu | None = None
    largest: Gpu | None = None
    bfloat16: bool = False
    image_bytes: int = 0
    latency_batch: int = 0

    @property
    def on_gpus(self) -> bool:
        """Tell whether trials run on GPUs."""
        return self.fixed != 0

    @property
    def is_guessed(self) -> bool:
        """Tell whether the fraction of a GPU is unrelated to the memory that trials need."""
        return self.fixed is None and self.smallest is None

    @property
    def smallest_fraction(self) -> float:
        """The smallest fraction of a GPU that a trial may request."""
        if self.fixed is not None:
            return self.fixed
        return DEFAULT_FRACTION if self.smallest is None else GPU_FRACTIONS[0]

    def gpu_fraction(self, candidate: Candidate) -> float:
        """Return the fraction of a GPU that the training of a candidate requests."""
        if self.fixed is not None:
            return self.fixed
        if self.smallest is None:
            return DEFAULT_FRACTION
        memory = self.smallest.memory
        predicted = self.predict(candidate)
        without_images = gpu_fraction_for(predicted, memory)
        if self.image_bytes > RESIDENT_FRACTION * memory_limit(without_images, memory):
            return without_images  # The images are copied to the GPU batch by batch.
        return gpu_fraction_for(predicted + self.image_bytes, memory)

    def device_fraction(self, candidate: Candidate) -> float:
        """Return the fraction of a device that a training occupies: all of it without GPUs."""
        return self.gpu_fraction(candidate) or 1.0

    @property
    def largest_training(self) -> int | None:
        """Largest predicted memory, in bytes, that fits on a GPU; None if unknown."""
        if not self.on_gpus or self.largest is None:
            return None
        gpu_fraction, memory = self.fixed or 1.0, self.largest.memory
        resident = self.image_bytes <= RESIDENT_FRACTION * memory_limit(gpu_fraction, memory)
        return max(
            1, largest_prediction(gpu_fraction, memory) - (self.image_bytes if resident else 0)
        )

    def predict(self, candidate: Candidate) -> int:
        """Return the predicted memory, in bytes, of training a candidate on a GPU."""
        return predicted_memory(candidate, self.latency_batch, bfloat16=self.bfloat16)


def predicted_memory(candidate: Candidate, latency_batch: int = 0, *, bfloat16: bool) -> int:
    """Return the predicted memory, in bytes, of training a candidate on a GPU.

    A CUDA graph holds the memory of its step, so evaluation between epochs needs memory on top.

    Args:
        candidate: architecture and recipe.
        latency_batch: images in the largest batch whose latency is measured.
        bfloat16: see `spaces.costs.Costs.training_memory`.
    """
    scored = max(evaluation_batch(candidate.recipe.batch_size), latency_batch)
    return candidate.training_memory(bfloat16=bfloat16) + candidate.costs.evaluation_memory(
        scored, bfloat16=bfloat16
    )


def fair_threads(nodes: Sequence[Node], concurrent: int) -> int:
    """Return the most CPUs, at least 1, that each of ``concurrent`` trials can have at a time."""
    cpus = [floor(node.get("CPU", 0)) for node in nodes]
    for threads in range(sum(cpus) // concurrent, 1, -1):
        if sum(each // threads for each in cpus) >= concurrent:
            return threads
    return 1


def reachable_nodes(nodes: Sequence[Node], types: Sequence[NodeType]) -> list[Node]:
    """Return the nodes of a cluster that its autoscaler has grown to the limit.

    Args:
        nodes: that are alive.
        types: that the autoscaler can start; live nodes of a type count towards its limit.
    """
    reachable = list(nodes)
    for kind in types:
        if kind.resources:
            there = sum(_has_type(node, kind) for node in nodes)
            reachable += [kind.resources] * max(0, kind.most - there)
    return reachable


def _has_type(node: Node, kind: NodeType) -> bool:
    return all(node.get(name, 0) == kind.resources.get(name, 0) for name in ("CPU", "GPU"))


def fitting_trials(nodes: Sequence[Node], cpus: float, gpus: float) -> int:
    """Return how many trials with these requests fit on the nodes at a time.

    A fraction of a GPU always lies on one GPU.
    """
    fitting = 0
    for node in nodes:
        by_cpu = floor(node.get("CPU", 0) / cpus)
        if not gpus:
            fitting += by_cpu
        elif gpus < 1:
            fitting += min(by_cpu, floor(node.get("GPU", 0)) * floor(1 / gpus))
        else:
            fitting += min(by_cpu, floor(node.get("GPU", 0) / gpus))
    return fitting
