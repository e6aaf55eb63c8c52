"""How trials share a cluster: the CPUs and the share of a GPU that each of them asks for."""

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
    # It reads YAML, for which a machine that only trains may lack the package.
    from cluster.launched import NodeType

DEFAULT_FRACTION = 0.25
"""Share of a GPU a trial gets where the memory of the GPUs is not known."""

Node = Mapping[str, float]
"""What one node of a cluster has, by Ray's names."""


@dataclass(frozen=True)
class Packing:
    """What trials ask of a cluster.

    Attributes:
        cpus: CPUs, and threads, of each trial.
        fixed: share of a GPU that every trial gets, 0 for none; None: by its predicted memory.
        smallest: the GPU with the least memory, None where it is not known. A trial may come to
            any of them.
        largest: that with the most.
        bfloat16: whether all of them calculate in bfloat16.
        image_bytes: size of all images, which a training keeps on its GPU if they fit well.
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
        """Tell whether trials get a share that has nothing to do with their memory."""
        return self.fixed is None and self.smallest is None

    @property
    def smallest_fraction(self) -> float:
        """The least share of a GPU that a trial may ask for."""
        if self.fixed is not None:
            return self.fixed
        return DEFAULT_FRACTION if self.smallest is None else GPU_FRACTIONS[0]

    def gpu_fraction(self, candidate: Candidate) -> float:
        """Return the share of a GPU that the training of a candidate asks for."""
        if self.fixed is not None:
            return self.fixed
        if self.smallest is None:
            return DEFAULT_FRACTION
        memory = self.smallest.memory
        predicted = self.predict(candidate)
        lean = gpu_fraction_for(predicted, memory)
        if self.image_bytes > RESIDENT_FRACTION * memory_limit(lean, memory):
            return lean  # The images are brought batch by batch.
        return gpu_fraction_for(predicted + self.image_bytes, memory)

    def device_fraction(self, candidate: Candidate) -> float:
        """Return the share of a device that a training occupies; without GPUs it has its own."""
        return self.gpu_fraction(candidate) or 1.0

    @property
    def largest_training(self) -> int | None:
        """Bytes that a training may be predicted to take; None where no limit is known."""
        if not self.on_gpus or self.largest is None:
            return None
        gpu_fraction, memory = self.fixed or 1.0, self.largest.memory
        resident = self.image_bytes <= RESIDENT_FRACTION * memory_limit(gpu_fraction, memory)
        return max(
            1, largest_prediction(gpu_fraction, memory) - (self.image_bytes if resident else 0)
        )

    def predict(self, candidate: Candidate) -> int:
        """Return the bytes that training a candidate on a GPU is predicted to take there."""
        return predicted_memory(candidate, self.latency_batch, bfloat16=self.bfloat16)


def predicted_memory(candidate: Candidate, latency_batch: int = 0, *, bfloat16: bool) -> int:
    """Return the bytes that training a candidate on a GPU is predicted to take there.

    A step that is replayed as a CUDA graph keeps its memory, so that what scoring takes between
    epochs comes on top.

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
    """Return the most CPUs that each of so many trials can have at a time, at least 1."""
    cpus = [floor(node.get("CPU", 0)) for node in nodes]
    for threads in range(sum(cpus) // concurrent, 1, -1):
        if sum(each // threads for each in cpus) >= concurrent:
            return threads
    return 1


def reachable_nodes(nodes: Sequence[Node], types: Sequence[NodeType]) -> list[Node]:
    """Return the nodes that a cluster has once it has grown as far as it can.

    Args:
        nodes: those that are alive.
        types: what its autoscaler can start; what is alive of a type counts towards its number.
    """
    reachable = list(nodes)
    for kind in types:
        if kind.resources:
            there = sum(_is_of(node, kind) for node in nodes)
            reachable += [kind.resources] * max(0, kind.most - there)
    return reachable


def _is_of(node: Node, kind: NodeType) -> bool:
    return all(node.get(name, 0) == kind.resources.get(name, 0) for name in ("CPU", "GPU"))


def fitting_trials(nodes: Sequence[Node], cpus: float, gpus: float) -> int:
    """Return how many trials that ask for this fit on the nodes at a time.

    A share is always a share of one GPU; it cannot be put together from several.
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
